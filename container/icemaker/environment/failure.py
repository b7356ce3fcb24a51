"""The failure file: how a run tells its platform, in output/failure, why it failed.

Written once, whole, and never over an existing one; works on a full disk, for its room is reserved at the start.
Knows nothing of causes.
"""

import os
from contextlib import suppress
from pathlib import Path

RESERVED_BYTES = 8192
_NAME = "failure"
_RESERVED_NAME = ".icemaker-failure"


def reserve(output_dir: Path) -> None:
    """Take the room of a failure file now, so that a full disk cannot prevent one later.

    Raises:
        OSError: The folder cannot be written to.
    """
    release(output_dir)
    file = os.open(output_dir / _RESERVED_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _write_all(file, b" " * RESERVED_BYTES)
        os.fsync(file)  # some file systems give out blocks only now
    finally:
        os.close(file)


def release(output_dir: Path) -> None:
    """Remove what `reserve` made, also that of an earlier start. Never touches a failure file."""
    with suppress(OSError):
        for path in output_dir.glob(f"{_RESERVED_NAME}*"):
            path.unlink(missing_ok=True)


def write(output_dir: Path, text: str) -> bool:
    """Write the failure file unless there is one; the first line of `text` is the cause.

    Returns:
        Whether this call wrote it. Nothing is raised: the caller is failing already.
    """
    target = output_dir / _NAME
    own = output_dir / f"{_RESERVED_NAME}-{os.getpid()}"
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            return False
        # The rename makes the reserved room this process's own: of several failing processes one has it.
        with suppress(FileNotFoundError):
            (output_dir / _RESERVED_NAME).rename(own)
        _overwrite(own, _encode(text))
        return _move_unless_exists(own, target)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            own.unlink(missing_ok=True)


def first_line(output_dir: Path) -> str | None:
    """The cause that a failure file tells, None where there is no such file."""
    try:
        with (output_dir / _NAME).open("rb") as file:
            return file.read(RESERVED_BYTES).decode("utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return None


def _overwrite(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _write_all(file, data)
        os.ftruncate(file, len(data))
        os.fsync(file)
    finally:
        os.close(file)


def _move_unless_exists(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)  # unlike a rename, refuses to replace
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links, or without room for a second name
        if os.path.lexists(target):
            return False
        source.rename(target)
    return True


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _encode(text: str) -> bytes:
    """Valid UTF-8 of at most the reserved size, cut on a character's border."""
    text = text.replace("\0", "").strip() or "The run failed without a message."
    data = (text + "\n").encode("utf-8", errors="backslashreplace")[:RESERVED_BYTES]
    return data.decode("utf-8", errors="ignore").encode("utf-8")
