"""Byte-identical files."""

from pathlib import Path

import pytest

from icemaker.data.annotations.duplicates import identical_files
from icemaker.errors import StopRequested


def find(paths: list[Path], sizes: list[int] | None = None) -> list[list[int]]:
    return identical_files([str(p) for p in paths], sizes or [p.stat().st_size for p in paths])


def test_equal_files_are_grouped(tmp_path: Path) -> None:
    """Small ones, large ones, and large ones that differ only between the samples."""
    large = bytes(range(256)) * 200
    other = bytearray(large)
    other[6000] ^= 1
    contents = [b"a", b"b", b"a", large, bytes(other), large, b"", b"", b"a", b"c" * 4096, b"c" * 4097, b"c" * 4096]
    paths = []
    for index, content in enumerate(contents):
        path = tmp_path / str(index)
        path.write_bytes(content)
        paths.append(path)
    assert find(paths) == [[0, 2, 8], [3, 5], [6, 7], [9, 11]]


def test_files_of_one_size_are_not_read(tmp_path: Path) -> None:
    """A size that only one file has needs no reading: this one does not exist."""
    assert find([tmp_path / "a", tmp_path / "b"], [1, 2]) == []


def test_unreadable_files_are_equal_to_none(tmp_path: Path) -> None:
    """Not even to each other."""
    assert find([tmp_path / "a", tmp_path / "b"], [5, 5]) == []
    assert find([tmp_path / "a", tmp_path / "b"], [5000, 5000]) == []


def test_comparing_stops_when_asked(tmp_path: Path) -> None:
    """The stop request comes through."""
    with pytest.raises(StopRequested):
        identical_files([str(tmp_path / "a")] * 2, [1, 1], should_stop=lambda: True)
