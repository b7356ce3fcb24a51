"""Weights of a channel -> a model's starting point, by name and shape. Opens no pickle, and nothing of the network."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from icemaker.errors import UserError
from icemaker.log import logger

_SUFFIXES = (".safetensors", ".pth", ".pt")


def load_pretrained(model: nn.Module, folder: Path, channel: str) -> None:
    """Copy what fits from the one weights file of a channel into `model`, and say what did.

    The names may stand for the whole model or for its backbone alone, as published weights do.

    Raises:
        UserError: No file, several, one that is no plain weights, or nothing in it fits.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    if len(files) != 1:
        raise UserError(
            f"Channel '{channel}' holds {len(files)} weights files ({[path.name for path in files[:5]]}) in {folder}. "
            f"It must hold exactly one, ending in {', '.join(_SUFFIXES)}."
        )
    source = read_weights(files[0])
    own = model.state_dict()
    best: dict[str, Tensor] = {}
    for prefix in sorted({"", *_prefixes(own)}):
        fitting = {
            prefix + name: tensor
            for name, tensor in source.items()
            if prefix + name in own and own[prefix + name].shape == tensor.shape
        }
        if len(fitting) > len(best):
            best = fitting
    if not best:
        raise UserError(
            f"Nothing in {files[0].name} of channel '{channel}' fits the model: it has {len(source)} tensors such as "
            f"{list(source)[:2]}, the model {len(own)} such as {list(own)[:2]}. Use weights of the same model_type and "
            "backbone."
        )
    model.load_state_dict(best, strict=False)
    left_out = sorted({name.split(".")[0] for name in source} - {name.split(".")[0] for name in best})
    logger.info(
        "Pretrained: %d of the model's %d tensors come from %s of channel '%s'; others of its %d do not fit%s.",
        len(best), len(own), files[0].name, channel, len(source), f" ({', '.join(left_out[:5])})" if left_out else "",
    )  # fmt: skip


def _prefixes(names: dict[str, Tensor]) -> set[str]:
    """`a.b.weight` -> `a.`, `a.b.`: all places where weights of a part could belong."""
    prefixes = set()
    for name in names:
        parts = name.split(".")
        prefixes |= {".".join(parts[:count]) + "." for count in range(1, min(len(parts), 5))}
    return prefixes


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or weights_only file by name, out of a wrapping `state_dict` or `model` if any.

    Raises:
        UserError: The file is damaged, or holds more than plain tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{path.name} cannot be read as weights: {_first_line(error)}. Copy it again.") from error
    except Exception as error:  # torch wraps the unpickler's refusal in types of its own
        raise UserError(
            f"{path.name} holds more than plain tensors, which is not opened for safety ({_first_line(error)}). "
            "Save the state_dict alone, or as safetensors."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(f"{path.name} holds a {type(content).__name__}, not a state_dict. Save the state_dict alone.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _first_line(error: BaseException) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch colours its advice
    return (text.splitlines() or [type(error).__name__])[0].split(". ")[0][:200]
