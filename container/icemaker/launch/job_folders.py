"""The folders a job writes to: made, tried and cleaned before it, readable for everybody after it.

Temporary files of ours begin with `.icemaker-`; nothing else is ever removed. Knows nothing of what is written.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from icemaker.errors import UserError

TEMPORARY_PREFIX = ".icemaker-"


def prepare(folders: list[Path]) -> None:
    """Make the folders, remove what a killed run left half-made in them, and try to write.

    Raises:
        UserError: A folder cannot be made or written to, with the reason.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_half_made(folder)
            trial = folder / f"{TEMPORARY_PREFIX}trial-{os.getpid()}"
            trial.write_bytes(b"trial")
            trial.unlink()
        except OSError as error:
            raise UserError(
                f"Folder {folder} cannot be written to: {error.strerror}. "
                "Mount it writable, with free room, and run as a user who may write there."
            ) from error


def open_to_readers(folders: list[Path], base_dir: Path) -> None:
    """What this user wrote below the folders gets mode a+rX and, written by root, the owner of the folder or its base.

    So whoever mounted a folder of theirs can read, upload and delete what a container left in it.
    """
    for top in folders:
        with suppress(OSError):
            owner = top.stat() if top.stat().st_uid != 0 else base_dir.stat()
            for folder, _, names in os.walk(top):
                for path in [Path(folder), *(Path(folder) / name for name in names)]:
                    with suppress(OSError):
                        _open_path(path, owner)


def _open_path(path: Path, owner: os.stat_result) -> None:
    status = path.lstat()
    if path.is_symlink() or status.st_uid != os.geteuid():
        return
    wanted = 0o555 if path.is_dir() or status.st_mode & 0o111 else 0o444
    if status.st_mode & wanted != wanted:
        path.chmod((status.st_mode & 0o7777) | wanted)
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _remove_half_made(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
