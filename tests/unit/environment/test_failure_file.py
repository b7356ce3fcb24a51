"""The failure file: written once, whole, valid, and on a full disk too."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from icemaker import environment
from icemaker.environment import failure


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder of a job."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


def test_the_first_line_is_the_cause(output: Path) -> None:
    """Any failure leaves a UTF-8 file that begins with the cause, and nothing beside it."""
    environment.reserve_failure_file()
    assert environment.write_failure("Channel 'tr\u00e4in' has no files.\n\nTraceback ...")
    assert (output / "failure").read_text(encoding="utf-8") == "Channel 'tr\u00e4in' has no files.\n\nTraceback ...\n"
    assert environment.failure_cause() == "Channel 'tr\u00e4in' has no files."
    assert os.listdir(output) == ["failure"]


def test_an_existing_failure_file_is_not_overwritten(output: Path) -> None:
    """A pre-existing failure file stays, byte by byte."""
    (output / "failure").write_bytes(b"first\xff")
    environment.reserve_failure_file()
    assert not environment.write_failure("second")
    assert (output / "failure").read_bytes() == b"first\xff"


def test_of_two_failing_processes_the_first_one_tells(output: Path) -> None:
    """The second finds no reserved room, and changes nothing."""
    environment.reserve_failure_file()
    assert environment.write_failure("first")
    assert not environment.write_failure("second")
    assert environment.failure_cause() == "first"


def test_without_reserved_room_or_folder_it_is_written_too(output: Path) -> None:
    """A tool on a laptop has no PID 1."""
    output.rmdir()
    assert environment.write_failure("no room reserved")
    assert environment.failure_cause() == "no room reserved"


@pytest.mark.parametrize("character", ["x", "\u00e9", "\u6f22", "\U0001f600"])
def test_a_long_text_is_cut_on_a_characters_border(output: Path, character: str) -> None:
    """The file is valid UTF-8 of at most 8 KiB."""
    environment.reserve_failure_file()
    environment.write_failure("cause\n" + character * 9000)
    data = (output / "failure").read_bytes()
    assert failure.RESERVED_BYTES - 4 < len(data) <= failure.RESERVED_BYTES
    assert data.decode("utf-8").startswith("cause\n" + character)


def test_text_that_utf8_cannot_hold_is_escaped(output: Path) -> None:
    """A file name that is no UTF-8 reaches us with surrogates; null characters go."""
    environment.write_failure("no such file: \udcff.jpg\0")
    assert environment.failure_cause() == r"no such file: \udcff.jpg"


def test_an_empty_text_still_says_something(output: Path) -> None:
    """The platform shows the first line, so there is one."""
    environment.write_failure("  \n")
    assert environment.failure_cause() == "The run failed without a message."


def test_a_clean_end_leaves_nothing_and_a_stale_reserve_goes(output: Path) -> None:
    """What an earlier start reserved is taken over; releasing removes it and never the failure file."""
    (output / ".icemaker-failure-77").write_text("stale")
    environment.reserve_failure_file()
    assert os.listdir(output) == [".icemaker-failure"]
    assert (output / ".icemaker-failure").stat().st_size == failure.RESERVED_BYTES
    environment.release_failure_file()
    assert os.listdir(output) == []


def test_an_output_that_is_a_file_raises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fails already is not stopped by a second failure."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    (tmp_path / "output").write_text("x")
    assert not environment.write_failure("cause")
    environment.release_failure_file()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """The output folder on a file system of 64 KiB."""
    output = tmp_path / "output"
    output.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs {output} 2>/dev/null") != 0:  # noqa: S605
        pytest.skip("a small file system can be mounted by root only")
    yield output
    os.system(f"umount {output}")  # noqa: S605


def test_a_full_disk_does_not_prevent_the_failure_file(full_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk full while saving: the reserved room still takes 8 KiB of cause."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(full_disk.parent))
    environment.reserve_failure_file()
    with pytest.raises(OSError, match="No space left"), (full_disk / "big").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1024)
    text = "The disk is full.\n" + "x" * 6000
    assert environment.write_failure(text)
    assert (full_disk / "failure").read_text() == text + "\n"
