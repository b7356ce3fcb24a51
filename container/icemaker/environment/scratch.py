"""The scratch folder of a run, in the system's folder for temporary files, and the removal of those left by runs that
were killed. A run in progress holds a lock in its folder. Knows nothing of what lies inside."""

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from icemaker.errors import UserError

_PREFIX = "icemaker-"
_LOCK_NAME = ".lock"
_made: list[tuple[Path, int, int]] = []  # folder, file descriptor of its lock, process that made it


def make() -> Path:
    """Make a folder that only this user can enter; removed at the end of this process.

    Raises:
        UserError: There is no room or no right to make it.
    """
    try:
        # Locked before it takes a name under which another run would look for folders to remove.
        new = Path(tempfile.mkdtemp(prefix=f".new-{_PREFIX}"))
        lock = os.open(new / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: then nothing is ever removed there but by its owner
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = new.with_name(new.name.removeprefix(".new-"))
        new.rename(folder)
    except OSError as error:
        raise UserError(
            f"No scratch folder can be made: {error.strerror or error}. Free some room for temporary files, or set "
            "TMPDIR to a folder with room."
        ) from error
    if not _made:
        atexit.register(remove)
    _made.append((folder, lock, os.getpid()))
    return folder


def remove() -> None:
    """Remove every folder that this process made; those of a parent process are left alone."""
    while _made:
        folder, lock, process = _made.pop()
        if process == os.getpid():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                os.close(lock)


def remove_left_over() -> None:
    """Remove the folders of runs that ended without removing theirs."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def reserve_file(path: Path) -> None:
    """Make a hidden empty file beside `path`, so that `make_reserved_file` needs no room on a full disk."""
    _reserved(path).touch()


def make_reserved_file(path: Path) -> None:
    """Make an empty file at `path`; harmless when it exists already."""
    try:
        _reserved(path).rename(path)
    except FileNotFoundError:
        path.touch()


def _reserved(path: Path) -> Path:
    return path.with_name(f".{path.name}-reserved")
