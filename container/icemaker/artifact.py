"""The model directory: weights and all that serving needs to know, flat, without pickle and without torch.

Knows nothing of tasks: what a model is, its metadata says.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from icemaker.errors import UserError

SCHEMA_VERSION = 1
_MODEL_JSON_LIMIT_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Artifact:
    """What a model directory holds."""

    metadata: dict[str, Any]  #: model.json
    weights: dict[str, NDArray[Any]]  #: model.safetensors


def save(
    folder: Path, *, metadata: Mapping[str, Any], weights: Mapping[str, NDArray[Any]], metrics: Mapping[str, float]
) -> None:
    """Write model.safetensors, metrics.json and, last, model.json with the sha256 of the others.

    Each file appears whole under its name, or not at all.

    Raises:
        OSError: The disk is full or the folder cannot be written; what was half-written is gone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").unlink(missing_ok=True)  # while the other files change there is no model
    digests = {
        "model.safetensors": _write(folder / "model.safetensors", lambda path: _save_weights(weights, path)),
        "metrics.json": _write(folder / "metrics.json", lambda path: path.write_text(_as_json(metrics))),
    }
    complete = {"schema_version": SCHEMA_VERSION, **metadata, "metrics": dict(metrics), "sha256": digests}
    _write(folder / "model.json", lambda path: path.write_text(_as_json(complete)))


def load(folder: Path) -> Artifact:
    """Read and verify a model directory.

    Raises:
        UserError: A file is missing or changed, or the schema is another version's.
    """
    metadata = _read_metadata(folder / "model.json")
    if metadata.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{folder / 'model.json'} has schema_version {metadata.get('schema_version')!r}; this version of Icemaker "
            f"reads {SCHEMA_VERSION}. Use the image that trained the model."
        )
    for name, expected in metadata.get("sha256", {}).items():
        path = folder / Path(name).name
        if not path.is_file():
            raise UserError(f"{path} is missing, which model.json names. Copy the whole model directory.")
        if (actual := sha256(path)) != expected:
            raise UserError(
                f"{path} has sha256 {actual}, but model.json says {expected}. The file was changed or cut short; "
                "copy the model directory again."
            )
    try:
        return Artifact(metadata, load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / 'model.safetensors'} cannot be read: {error}. Copy the model again.") from error


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MODEL_JSON_LIMIT_BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes; a model.json has at most 16 MiB.")
        metadata = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        names = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        raise UserError(
            f"{path.parent} holds no model.json, but {names[:5]}. It must be a model directory that Icemaker's "
            "training wrote, its files at the top."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}. Copy the model directory again.") from error
    if not isinstance(metadata, dict):
        raise UserError(f"{path} holds a {type(metadata).__name__}; a model.json is an object.")
    return metadata


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _save_weights(weights: Mapping[str, NDArray[Any]], path: Path) -> None:
    contiguous = {name: np.asarray(array, order="C") for name, array in weights.items()}
    try:
        save_file(contiguous, path)
    except SafetensorError as error:  # the library hides the system's error
        usage = os.statvfs(path.parent)
        size = sum(array.nbytes for array in contiguous.values())
        if usage.f_bavail * usage.f_frsize < size:
            raise OSError(28, os.strerror(28), str(path)) from error
        raise OSError(f"{path} could not be written: {error}") from error


def _write(path: Path, write: Any) -> str:
    """Write beside the file, on its own file system, then rename; returns the sha256."""
    part = path.with_name(f".icemaker-{path.name}")
    try:
        write(part)
        digest = sha256(part)
        part.chmod(0o644)
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return digest


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
