"""What lies in a channel: its files by name, listed once, and what a reader of annotations finds in it.

Knows no annotation format.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations.table import AnnotationTable
from icemaker.errors import UserError

# Nearly every name; what it does not match is taken apart.
_PLAIN_NAME = re.compile(r"[\w-][\w .-]*", re.ASCII)


@dataclass(frozen=True)
class Channel:
    """A folder of input data.

    Attributes:
        name: As the job calls it, for messages.
        path: Absolute.
        files: Names of all files, relative, with forward slashes. Hidden folders are left out.
        folders: Names of all folders that hold a file; the channel itself is "".
    """

    name: str
    path: Path
    files: frozenset[str]
    folders: frozenset[str]

    @staticmethod
    def scan(path: Path, name: str) -> Channel:
        """List a channel.

        Raises:
            UserError: There is no such folder, or nothing in it.
        """
        path = Path(os.path.abspath(path))
        if not path.is_dir():
            raise UserError(
                f"Channel {name!r} is not there ({path} is no folder). Check the names of the job's channels."
            )
        files: set[str] = set()
        folders: set[str] = set()
        seen: set[tuple[int, int]] = set()
        pending = [""]
        try:
            while pending:
                folder = pending.pop()
                status = os.stat(path / folder)
                if (status.st_dev, status.st_ino) in seen:  # a link to a folder above it
                    continue
                seen.add((status.st_dev, status.st_ino))
                prefix = f"{folder}/" if folder else ""
                with os.scandir(path / folder) as entries:
                    for entry in entries:
                        name_in_channel = prefix + entry.name
                        if not entry.is_dir():
                            files.add(name_in_channel)
                            folders.add(folder)
                        elif not entry.name.startswith(".") and entry.name != "__MACOSX":
                            pending.append(name_in_channel)
        except OSError as error:
            raise UserError(
                f"Channel {name!r} cannot be listed: {error}. Check the permissions of its files."
            ) from error
        if not files:
            raise UserError(
                f"Channel {name!r} has no files ({path}). Check the channel name, its S3 URI and the role's read "
                "permission."
            )
        return Channel(name, path, frozenset(files), frozenset(folders))

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Names of the files with one of the (lower case) suffixes, sorted, without hidden ones."""
        found = [file for file in self.files if file.lower().endswith(suffixes)]
        return sorted(file for file in found if not posixpath.basename(file).startswith("."))

    def has_folder(self, name: str) -> bool:
        """Whether ``name`` is a folder that holds something, at any depth."""
        return name == "" or name in self.folders or any(folder.startswith(f"{name}/") for folder in self.folders)

    def contents(self) -> str:
        """A few names of the top level, for messages."""
        tops = sorted({file.split("/", 1)[0] + ("/" if "/" in file else "") for file in self.files})
        return quoted(tops, limit=8)

    @cached_property
    def _composed(self) -> dict[str, str]:
        return {unicodedata.normalize("NFC", file): file for file in self.files if not file.isascii()}

    def find(self, name: str, folders: Iterable[str]) -> str | None:
        """The first file called ``name`` (relative to one of the folders), or None."""
        for folder in folders:
            candidate = f"{folder}/{name}" if folder else name
            if candidate in self.files:
                return candidate
        if not name.isascii():
            # macOS writes file names decomposed; annotation tools write them composed.
            for folder in folders:
                candidate = f"{folder}/{name}" if folder else name
                found = self._composed.get(unicodedata.normalize("NFC", candidate))
                if found is not None:
                    return found
        return None

    def setting_path(self, setting: str, value: str) -> str:
        """A hyperparameter's path, relative to the channel and normalised; "" is the channel itself.

        Raises:
            UserError: It leads out of the channel.
        """
        name = relative_name(value)
        if name is None:
            raise UserError(
                f"Hyperparameter {setting!r} has value {value!r}. It is a path inside channel {self.name!r}: "
                "relative, without '..'."
            )
        return name


@dataclass(frozen=True)
class SplitLists:
    """The split that the data itself carries: rows of the table, int64, disjoint; ``source`` names the file."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    source: str


@dataclass(frozen=True)
class ReadAnnotations:
    """What stands in the annotation files, before any image was looked at.

    Attributes:
        channel: Where it was read.
        table: As annotated: sizes as said (0 where not), boxes unclipped.
        format: The annotation format.
        source: The json, or the folder of the xml files, relative to the channel; "." is the channel.
        lists: The split the data carries, or None.
        counts: What the reader passed over or mended, by name.
        warnings: Sentences for the user.
        searched: Folders in which images were looked for, relative to the channel.
    """

    channel: Channel
    table: AnnotationTable
    format: Literal["coco", "voc"]
    source: str
    lists: SplitLists | None = None
    counts: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()


def image_folders(channel: Channel, base: str, names: Iterable[str], images: str | None) -> list[str]:
    """Folders in which images are looked for, in order, relative to the channel; at least one.

    Args:
        base: Folder of the annotations.
        names: What a folder of images may be called, beside the annotations and in the channel.
        images: The hyperparameter; when given, its folder is the only one.

    Raises:
        UserError: The folder of the hyperparameter is not there.
    """
    if images is None:
        tried = dict.fromkeys([base, *(posixpath.join(base, name) for name in names), "", *names])
        return [folder for folder in tried if channel.has_folder(folder)]
    folder = channel.setting_path("images", images)
    if not channel.has_folder(folder):
        raise UserError(
            f"Hyperparameter 'images' has value {images!r}, but channel {channel.name!r} has no such folder. "
            f"It holds {channel.contents()}."
        )
    return [folder]


def relative_name(name: str) -> str | None:
    """``name`` with forward slashes and without "." parts; None if it leads out of its folder or is no file name."""
    if "\\" in name:
        name = name.replace("\\", "/")
    if _PLAIN_NAME.fullmatch(name):
        return name
    if name.startswith("/") or "\0" in name or "://" in name or re.match(r"[A-Za-z]:/", name):
        return None
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts else "/".join(parts)


def quoted(names: Iterable[object], *, limit: int = 5) -> str:
    """'a', 'b' and 3 more."""
    names = list(names)
    text = ", ".join(repr(name) for name in names[:limit])
    return text if len(names) <= limit else f"{text} and {len(names) - limit:,} more"
