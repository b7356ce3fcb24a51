"""Log lines: human ones with a level, machine ones as `word name=value ...`. Knows nothing of what they say."""

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import TextIO

logger = logging.getLogger("icemaker")


def set_up(stream: TextIO | None = None) -> None:
    """Send our lines to standard output."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def quiet_libraries() -> None:
    """Keep the libraries' advertisements and chatter out of the log. Some set their level at import: call it after."""
    for name in ("pytorch_lightning", "lightning_fabric", "torch", "matplotlib", "PIL", "timm", "fsspec"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(?!icemaker)")


def machine_line(word: str, values: Mapping[str, object]) -> str:
    """`metrics epoch=3 train_loss=0.5312`: plain decimals, None and values that are not finite left out.

    Raises:
        ValueError: A text value with white space, which would break the line's form.
    """
    return " ".join([word, *(f"{name}={text}" for name, value in values.items() if (text := _plain(value)))])


def print_machine_line(word: str, values: Mapping[str, object]) -> None:
    """Print a machine line, complete and flushed."""
    print(machine_line(word, values), flush=True)  # noqa: T201


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return ""
        # 0.00001234 keeps its digits, 12.5 stays short, and there is no exponent.
        return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.10f}".rstrip("0")
    text = str(value)
    if not text or any(character.isspace() for character in text):
        raise ValueError(f"A machine line cannot hold the value {text!r}.")
    return text
