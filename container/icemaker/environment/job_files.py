"""The files of input/config, read and checked: hyperparameters, channels, hosts, folders.

Every file and every key may be absent. A message names the file and the kind of what is wrong, never a value: values
may be secrets. Knows neither where the files lie nor what a hyperparameter means.
"""

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icemaker.errors import UserError

# The largest that the platform can write is about 1.6 MB: 100 hyperparameters of 2,500 characters, each escaped.
LARGEST_FILE_BYTES = 4 * 1024 * 1024
_CHANNEL_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
_HOST_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,253}")
_CHANNELS_OF_PLATFORM = ("code", "sm_drivers")  # the Python SDK ships its own files in these
_HYPERPARAMETERS_OF_PLATFORM = ("_tuning_objective_metric", "mp_parameters", "default_user_module_name")
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Channel:
    """One input of the job: a folder of files. FastFile mode is "File" here, as the platform writes it."""

    name: str
    path: Path
    input_mode: str = "File"
    distribution: str = "FullyReplicated"
    content_type: str | None = None


def hyperparameters(config_dir: Path) -> dict[str, str]:
    """The job's hyperparameters as text, without the platform's own.

    The platform writes strings only; other JSON, as a person writes it on a laptop, becomes its JSON text.
    """
    content = read_object(config_dir / "hyperparameters.json") or {}
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in content.items()
        if not name.startswith("sagemaker_") and name not in _HYPERPARAMETERS_OF_PLATFORM
    }


def channels(config_dir: Path, input_data_dir: Path) -> dict[str, Channel]:
    """The job's channels by name, as declared; taken from the folders there are only where no declaration exists."""
    file = config_dir / "inputdataconfig.json"
    content = read_object(file)
    if content is None:
        return {name: Channel(name, input_data_dir / name) for name in _folder_names(input_data_dir)}
    found = {}
    for name, entry in content.items():
        if name in _CHANNELS_OF_PLATFORM:
            continue
        if not _CHANNEL_NAME.fullmatch(name):
            raise UserError(
                f"{file} declares channel {name[:80]!r}. A name has 1 to 64 of the characters A-Z a-z 0-9 . _ - "
                "Rename the channel."
            )
        if entry is None:
            entry = {}
        if not isinstance(entry, dict):
            raise UserError(_wrong_kind(file, f"channel '{name}'", entry, "an object"))
        found[name] = Channel(
            name=name,
            path=input_data_dir / name,
            input_mode=_text(file, entry, "TrainingInputMode") or "File",
            distribution=_text(file, entry, "S3DistributionType") or "FullyReplicated",
            content_type=_text(file, entry, "ContentType"),
        )
    return found


def hosts(config_dir: Path) -> tuple[tuple[str, ...], str, str | None]:
    """Names of the job's hosts, sorted; of this host; and of the network interface between them, if one is named."""
    file = config_dir / "resourceconfig.json"
    content = read_object(file) or {}
    current = _text(file, content, "current_host")
    names = content.get("hosts")
    if names is None:
        names = [current or "algo-1"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file}: key 'hosts' is not a list of host names. Give names, or leave the key out.")
    if current is None and len(names) == 1:
        current = str(names[0])
    if current is None or current not in names:
        raise UserError(
            f"{file}: key 'current_host' is {current!r}, which is not among 'hosts' ({', '.join(map(repr, names))}). "
            "Name this host in both."
        )
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise UserError(
                f"{file}: key 'hosts' holds {name[:80]!r}. A host name has the characters A-Z a-z 0-9 . _ -"
            )
    return tuple(sorted(set(names))), current, _text(file, content, "network_interface_name")


def local_path(file: Path) -> Path | None:
    """Value of the key LocalPath, None where the file or the key is absent."""
    text = _text(file, read_object(file) or {}, "LocalPath")
    if text is None:
        return None
    if not text.startswith("/"):
        raise UserError(
            f"{file}: key 'LocalPath' is {text!r}. It must be an absolute path, such as /opt/ml/checkpoints."
        )
    return Path(text)


def folder_problem(channel: Channel) -> str | None:
    """What prevents the use of a channel's folder, None when there is a file in it; stops at the first file."""
    if not channel.path.exists():
        return "has no folder"
    if not channel.path.is_dir():
        return "is a file, not a folder"
    errors: list[OSError] = []
    for folder, folders, files in os.walk(channel.path, onerror=errors.append):
        if files or any((Path(folder) / name).is_symlink() for name in folders):
            return None
    if errors:
        return f"cannot be listed: {errors[0].strerror}"
    if channel.distribution == "ShardedByS3Key":
        return "has no files on this host (S3DistributionType is 'ShardedByS3Key', which gives each host a share)"
    return "has no files"


def read_object(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None where there is no file.

    Raises:
        UserError: The file cannot be read, is too large, is not UTF-8 JSON or holds no object.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{file} is not a regular file. Put a JSON object there, or remove it.")
        if status.st_size > LARGEST_FILE_BYTES:
            raise UserError(
                f"{file} has {status.st_size} bytes. At most {LARGEST_FILE_BYTES} are read. "
                "Give large settings in a file of a channel."
            )
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}. Make it readable, or remove it.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file} is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno}). "
            "It must hold one JSON object."
        ) from error
    except (RecursionError, ValueError) as error:
        raise UserError(
            f"{file} is not JSON that can be read: it nests too deep or holds a number too long."
        ) from error
    if not isinstance(content, dict):
        raise UserError(_wrong_kind(file, "the file", content, "one JSON object"))
    return content


def _folder_names(folder: Path) -> list[str]:
    try:
        entries = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return []
    return [
        name
        for name in entries
        if _CHANNEL_NAME.fullmatch(name) and name[0] != "." and name not in _CHANNELS_OF_PLATFORM
    ]


def _text(file: Path, content: dict[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(_wrong_kind(file, f"key '{key}'", value, "a string"))
    return value or None


def _wrong_kind(file: Path, what: str, value: object, expected: str) -> str:
    return f"{file}: {what} holds {_KINDS.get(type(value), 'a number')}. It must hold {expected}."
