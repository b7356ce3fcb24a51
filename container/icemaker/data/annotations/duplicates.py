"""Byte-identical images, found without reading more than needed. Knows no annotations."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence

from icemaker.data.parallel import map_files, never_stop

_SAMPLE = 4096


def identical_files(
    paths: Sequence[str], sizes: Sequence[int], *, should_stop: Callable[[], bool] = never_stop
) -> list[list[int]]:
    """Groups of at least two files of equal content.

    Only files of equal size are read: three samples of each, then all of those whose samples are equal.

    Args:
        sizes: Bytes of each file.

    Returns:
        Indices into ``paths``, ascending within a group; groups by their first index. Unreadable files are in none.

    Raises:
        StopRequested: ``should_stop`` returned true.
    """
    keys: list[tuple[int, bytes]] = [(size, b"") for size in sizes]
    for digest in (_sample, _content):
        candidates = [index for group in _groups(keys) for index in group]
        files = [(paths[index], sizes[index]) for index in candidates]
        found = map_files(digest, files, should_stop=should_stop)
        for index, value in zip(candidates, found, strict=True):
            # A file that cannot be read is equal to none.
            keys[index] = (sizes[index], value) if value else (-1, str(index).encode())
    return _groups(keys)


def _groups(keys: Sequence[tuple[int, bytes]]) -> list[list[int]]:
    groups: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _sample(file_and_size: tuple[str, int]) -> bytes:
    """Digest of the start, the middle and the end; of everything when the file is small."""
    path, size = file_and_size
    starts = [0] if size <= _SAMPLE else [0, size // 2, size - _SAMPLE]
    try:
        with open(path, "rb", buffering=0) as file:
            digest = hashlib.sha256()
            for start in starts:
                file.seek(start)
                digest.update(file.read(_SAMPLE))
            return digest.digest()
    except OSError:
        return b""


def _content(file_and_size: tuple[str, int]) -> bytes:
    path, size = file_and_size
    if size <= _SAMPLE:
        return _sample(file_and_size)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""
