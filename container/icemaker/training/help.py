"""What `train --help` and docs/hyperparameters.md say, from the settings themselves."""

import importlib
import textwrap

from icemaker.config import Settings, describe_settings
from icemaker.tasks import TASKS

_INTRODUCTION = """\
Usage: train [--help]

Trains what /opt/ml/input describes and writes the model to /opt/ml/model (SAGEMAKER_BASE_DIR replaces /opt/ml).
Hyperparameters come from input/config/hyperparameters.json, a JSON object of names and values:
"""


def settings_classes() -> dict[str, type[Settings]]:
    """Task name -> its settings, without importing torch."""
    classes = {}
    for name, path in TASKS.items():
        folder = path.split(":")[0].rpartition(".")[0]
        module = importlib.import_module(f"{folder}.settings")
        found = [
            value for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Settings) and value is not Settings
        ]  # fmt: skip
        classes[name] = found[0]
    return classes


def text() -> str:
    """The page for a terminal."""
    lines = [_INTRODUCTION]
    for task, settings_class in settings_classes().items():
        lines.append(f"task={task}\n")
        for name, allowed, default, description in describe_settings(settings_class):
            lines.append(f"  {name} (default: {default})")
            lines += textwrap.wrap(description, 108, initial_indent="      ", subsequent_indent="      ")
            lines += textwrap.wrap(f"Allowed: {allowed}.", 108, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/hyperparameters.md."""
    lines = [
        "# Hyperparameters",
        "",
        "Written by `python -m icemaker.training --hyperparameters-page` from the settings themselves. SageMaker sends",
        "every value as a string; `-` and `_` in a name are the same. A name that is not here is refused.",
        "",
    ]
    for task, settings_class in settings_classes().items():
        lines += [f"## task={task}", "", "| name | default | allowed | meaning |", "|---|---|---|---|"]
        for name, allowed, default, description in describe_settings(settings_class):
            lines.append(f"| `{name}` | `{default}` | {allowed} | {description} |".replace("||", "|"))
        lines.append("")
    return "\n".join(lines)
