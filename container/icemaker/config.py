"""Hyperparameter strings -> checked, frozen settings.

Holds what every task shares; a task adds its own in a subclass beside it, which is handed to `parse`.
Knows nothing of files, of the environment, or of any task.
"""

import ast
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from icemaker.errors import UserError

_SPELLED_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


class Settings(BaseModel):
    """What every task's training shares. Every default stands here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    #: Other spellings of a name that users bring along.
    aliases: typing.ClassVar[dict[str, str]] = {}

    task: str = Field("detection", description="What is trained.")
    seed: int = Field(1, ge=0, lt=2**31, description="Seeds every random source; equal seeds give equal runs.")

    epochs: int = Field(30, ge=1, le=100_000, description="Passes over the training set.")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many optimizer steps.")
    max_duration_seconds: float | None = Field(
        None, gt=0, description="Wall-clock budget of the training loop in seconds; the best model so far is kept."
    )
    validate_every_epochs: int = Field(1, ge=1, description="Epochs from one validation to the next.")

    batch_size: int = Field(8, ge=1, le=4096, description="Images a step, per process.")
    accumulate_batches: int = Field(1, ge=1, description="Batches whose gradients make one optimizer step.")
    num_workers: int | Literal["auto"] = Field(
        "auto", description="Processes that load images, 0 to 256; auto takes the CPUs less one, at most 8."
    )

    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="The optimizer.")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd; adamw's first beta.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Weight decay; not applied to biases and norms.")
    schedule: Literal["cosine", "multistep", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warmup."
    )
    milestones: tuple[float, ...] = Field(
        (0.7, 0.9), description="multistep: fractions of the run, 0 to 1, after which the rate is a tenth."
    )
    warmup_steps: int | Literal["auto"] = Field(
        "auto", description="Steps of linear warmup; auto takes a twentieth of the run, at most 500."
    )
    gradient_clip_norm: float = Field(10.0, ge=0, description="Largest norm of the gradient; 0 does not clip.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU that has it, else fp16 on a GPU, fp32 on a CPU."
    )
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="Decay per step of the averaged weights that are validated and saved; 0: off."
    )

    monitor: str = Field("val_loss", description="The validation metric that chooses the best weights.")
    early_stopping_patience: int = Field(
        0, ge=0, description="Stop after so many validations without a better monitor value; 0: never."
    )
    early_stopping_min_delta: float = Field(0.0, ge=0, description="What counts as better, in the monitor's unit.")

    pretrained: Literal["auto", "true", "false"] = Field(
        "auto", description="Start from the weights in the pretrained channel: auto, if there is one; true, or fail."
    )
    allow_download: bool = Field(False, description="Let pretrained=true fetch published weights from the internet.")
    freeze_backbone: bool = Field(False, description="Train the head only.")

    training_channel: str = Field("auto", description="Channel of the training set; auto: training or train.")
    validation_channel: str = Field(
        "auto", description="Channel of the validation set; auto: validation or val, if there is one."
    )
    pretrained_channel: str = Field("pretrained", description="Channel of the weights to start from.")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="Without a validation set: the share of images that becomes one."
    )
    max_bad_images: float = Field(
        0.05, ge=0, le=1, description="The share of unreadable images above which the job fails, 0 to 1."
    )
    log_every_seconds: float = Field(10.0, gt=0, description="Seconds from one progress line to the next.")

    @field_validator("num_workers")
    @classmethod
    def _worker_range(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 0 <= value <= 256:
            raise ValueError("Allowed: 0 to 256, or 'auto'.")
        return value

    @field_validator("warmup_steps")
    @classmethod
    def _warmup_range(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError("Allowed: a whole number, at least 0, or 'auto'.")
        return value

    @field_validator("milestones")
    @classmethod
    def _fractions(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < milestone < 1 for milestone in value):
            raise ValueError("Allowed: a list of fractions between 0 and 1, for example [0.7, 0.9].")
        return value


SettingsT = TypeVar("SettingsT", bound=Settings)


def parse(raw: Mapping[str, str], settings_class: type[SettingsT]) -> SettingsT:
    """Check the hyperparameters of a job and turn them into settings.

    Args:
        raw: Name to string, in any of the four dialects in which SageMaker's clients write values: as the user typed
            them (`adam`), Python's str (`True`, `None`, `[1, 2]`), JSON (`true`, `"adam"`), and JSON in JSON.

    Raises:
        UserError: An unknown name, a name given twice, or a value out of range; all of them in one message.
    """
    fields = settings_class.model_fields
    values: dict[str, Any] = {}
    problems: list[str] = []
    for raw_name, text in raw.items():
        name = raw_name.strip().replace("-", "_")
        name = settings_class.aliases.get(name, name)
        if name not in fields:
            problems.append(_unknown_name(raw_name, fields))
            continue
        if name in values:
            problems.append(f"Hyperparameter '{name}' is given twice (also as '{raw_name}'). Keep one of them.")
            continue
        value = _decode(text, fields[name].annotation)
        if value is None and not _accepts_none(fields[name].annotation):
            continue  # a client's None means: not set
        values[name] = value
    if not problems:
        try:
            return settings_class(**values)
        except ValidationError as error:
            problems = [_describe(item, values, settings_class) for item in error.errors()]
    raise UserError("\n".join(problems))


def parse_text(text: str) -> str:
    """One text value in any dialect: `detection`, `"detection"`."""
    return str(_decode(text, str))


def _unknown_name(name: str, fields: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), fields, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"Hyperparameter '{name}' is unknown.{hint} `train --help` lists all of them."


def _accepts_none(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _kinds(annotation: Any) -> set[Any]:
    """int | Literal["auto"] -> {int, Literal}; tuple[float, ...] -> {tuple}."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_kinds(member) for member in typing.get_args(annotation)))
    return {origin or annotation}


def _choices(annotation: Any) -> set[Any]:
    """Literal["a", "b"] | int -> {"a", "b"}."""
    if typing.get_origin(annotation) is Literal:
        return set(typing.get_args(annotation))
    return set().union(*(_choices(member) for member in typing.get_args(annotation)))


def _decode(text: Any, annotation: Any) -> Any:
    """The value that a string stands for, given the declared type of its field; a string that fits nothing stays."""
    if not isinstance(text, str):
        text = json.dumps(text)
    kinds = _kinds(annotation)
    stripped = text.strip()
    if stripped in _choices(annotation):  # also where a choice is called none or true
        return stripped
    value = _loads(stripped)
    if isinstance(value, str) and value != stripped:  # '"adam"', '"\"256\""': quotes that a client added
        return _decode(value, annotation)
    if value is None:
        return None
    if tuple in kinds:
        return _decode_sequence(stripped, value)
    if isinstance(value, bool) and bool in kinds:
        return value
    if bool in kinds and stripped in ("0", "1"):
        return stripped == "1"
    if isinstance(value, (int, float)) and not isinstance(value, bool) and kinds & {int, float}:
        is_whole = isinstance(value, float) and math.isfinite(value) and value.is_integer()
        return int(value) if is_whole and float not in kinds else value
    return stripped.lower() if isinstance(value, bool) and Literal in kinds else stripped


def _decode_sequence(text: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return list(value)
    items = [item.strip() for item in text.strip("[]() ").split(",") if item.strip()]
    return [_loads(item) for item in items]


def _loads(text: str) -> Any:
    """JSON, else Python's spelling, else the text itself."""
    if text.lower() in _SPELLED_CONSTANTS:
        return _SPELLED_CONSTANTS[text.lower()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if text[:1] in "[('\"":
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return text


def _describe(error: Any, values: Mapping[str, Any], settings_class: type[Settings]) -> str:
    """One pydantic error as: the name, the value, what is allowed."""
    if not error["loc"]:
        return str(error["ctx"]["error"])  # a rule over several fields words itself
    name = str(error["loc"][0])
    if error["type"] == "value_error":
        return f"Hyperparameter '{name}' has value {values.get(name)!r}. {error['ctx']['error']}"
    return f"Hyperparameter '{name}' has value {values.get(name)!r}. Allowed: {allowed(settings_class, name)}."


def allowed(settings_class: type[Settings], name: str) -> str:
    """What a hyperparameter may be, for a person: `a whole number, at least 1`, `'adamw' or 'sgd'`."""
    field = settings_class.model_fields[name]
    bounds = []
    for rule in field.metadata:
        for attribute, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            if (bound := getattr(rule, attribute, None)) is not None:
                bounds.append(f"{words} {bound:g}" if bound < 1e6 else f"{words} {bound}")
    return ", ".join([_name_type(field.annotation), *bounds])


def _name_type(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name_type(member) for member in arguments)
    if origin is tuple:
        return f"a list, each {_name_type(arguments[0])}"
    names: dict[Any, str] = {
        int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"
    }  # fmt: skip
    return names[annotation]


def describe_settings(settings_class: type[Settings]) -> list[tuple[str, str, str, str]]:
    """Rows (name, allowed, default, description) of every hyperparameter, in their order."""
    return [
        (name, allowed(settings_class, name), _spell(field.default), field.description or "")
        for name, field in settings_class.model_fields.items()
    ]


def _spell(value: Any) -> str:
    return re.sub(r"^\"|\"$", "", json.dumps(value))
