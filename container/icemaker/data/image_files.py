"""What an image file is, from its header and its tail: size, orientation, kind of pixels, and what is wrong with it.

Decodes no pixels and knows nothing of annotations. Sizes and orientation are those with which OpenCV decodes a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from icemaker.data.image_headers import BLOCK, HeaderError, Kind, read_header
from icemaker.data.parallel import map_files, never_stop

# Pillow refuses to decode more by default, as a decompression bomb.
MAX_PIXELS = 178_956_970
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


class ImageInfo(NamedTuple):
    """One image file.

    Attributes:
        width, height: Upright pixels, as shown and as decoded (EXIF orientation obeyed); 0 when unknown.
        stored_width, stored_height: Pixels as stored, before EXIF orientation.
        orientation: EXIF orientation, 1..8; 1 is upright.
        kind: What the pixels are.
        size_bytes: Size of the file.
        problem: Why the image cannot be used, for a person; what differs from file to file stands after ": ". None when
            nothing was found.
    """

    width: int = 0
    height: int = 0
    stored_width: int = 0
    stored_height: int = 0
    orientation: int = 1
    kind: Kind = "unknown"
    size_bytes: int = 0
    problem: str | None = None


def inspect_all(paths: Sequence[Path | str], *, should_stop: Callable[[], bool] = never_stop) -> list[ImageInfo]:
    """``inspect`` of every file, in threads, in order.

    Raises:
        StopRequested: ``should_stop`` returned true; it is asked every 64 files.
    """
    return map_files(inspect, paths, should_stop=should_stop)


def inspect(path: Path | str) -> ImageInfo:
    """Read the header and the tail of an image file. Never raises: what is wrong is in ``problem``."""
    try:
        # Opening a named pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return ImageInfo(problem="missing")
    except (OSError, ValueError) as error:
        return ImageInfo(problem=_unreadable(error))
    size = 0
    try:
        status = os.fstat(descriptor)
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            return ImageInfo(problem="not a file")
        width, height, orientation, kind, end, start = read_header(descriptor, size)
        upright = (height, width) if orientation >= 5 else (width, height)
        if width * height > MAX_PIXELS:
            problem = f"too large: {width} x {height} pixels, more than {MAX_PIXELS:,}"
        elif end is not None and not _ends_with(descriptor, size, end, start):
            problem = "truncated"
        else:
            problem = None
        return ImageInfo(*upright, width, height, orientation, kind, size, problem)
    except HeaderError as error:
        return ImageInfo(size_bytes=size, problem=str(error))
    except OSError as error:
        return ImageInfo(size_bytes=size, problem=_unreadable(error))
    finally:
        os.close(descriptor)


def _unreadable(error: Exception) -> str:
    return f"unreadable ({getattr(error, 'strerror', None) or error})"


def _ends_with(descriptor: int, size: int, end: bytes, start: int) -> bool:
    """Whether ``end`` stands after ``start``; looked for from the back, as some cameras append to their files."""
    stop = size
    length = 4 * len(end)
    while stop > start:
        position = max(start, stop - length)
        if end in os.pread(descriptor, stop - position, position):
            return True
        if position == start:
            break
        stop = position + len(end) - 1  # the marker may lie across two blocks
        length = BLOCK if length < BLOCK else 16 * BLOCK
    return False
