"""Encoded images -> pixels: the one way in which training, validation and serving read them.

Knows nothing of annotations or models, and imports no torch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from icemaker.data.image_headers import exif_orientation

_JPEG_MAGIC = b"\xff\xd8"
_EXIF_MARK = b"Exif\0\0"
_EXIF_LIMIT_BYTES = 1 << 16  # an EXIF segment is shorter, and stands at the front
_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
#: EXIF orientation -> what turns the stored pixels upright; 0 stands for none given.
_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    0: lambda image: image,
    1: lambda image: image,
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.transpose(cv2.rotate(image, cv2.ROTATE_180)),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


class UndecodableImageError(ValueError):
    """The bytes are no image that can be decoded."""


def decode_image(data: bytes, *, size: tuple[int, int], longest_side: int | None = None) -> NDArray[np.uint8]:
    """Decode an image, upright (EXIF orientation obeyed), to 8-bit RGB; grey, CMYK, 16-bit and alpha are converted.

    Args:
        size: Width and height of the upright image in pixels, from its header.
        longest_side: Pixels of the longest side that will be used. A JPEG that is at least twice as large is decoded
            at a half, a quarter or an eighth of its size. None decodes the whole.

    Returns:
        uint8, shape (height, width, 3), RGB; smaller than `size` only as `longest_side` allows.

    Raises:
        UndecodableImageError: The bytes are damaged, empty or no image.
    """
    divisor = 1
    if data[:2] == _JPEG_MAGIC:
        if longest_side is not None:
            divisor = max(step for step in _REDUCED if step == 1 or max(size) >= step * longest_side)
        image = _decode_jpeg(data, size, divisor)
        if image is not None:
            return image
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | _REDUCED[divisor])
    except cv2.error as error:
        raise UndecodableImageError(f"cannot be decoded ({error.err})") from error
    if decoded is None:
        raise UndecodableImageError("cannot be decoded")
    return cast(NDArray[np.uint8], decoded)


def _decode_jpeg(data: bytes, size: tuple[int, int], divisor: int) -> NDArray[np.uint8] | None:
    """The pixels that OpenCV gives, at three fifths of the time; None for what this decoder does not take."""
    orientation = _orientation(data)
    stored = size[::-1] if orientation >= 5 else size
    width, height = (-(-side // divisor) for side in stored)
    try:
        image = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height, min_factor=divisor)
    except ValueError as error:
        if "premature end" in str(error).lower():  # OpenCV would fill the rest with grey, and say nothing
            raise UndecodableImageError(f"cannot be decoded ({error})") from error
        return None  # CMYK, or a fault that costs no pixels: OpenCV takes more
    return cast(NDArray[np.uint8], _UPRIGHT[orientation](image))


def _orientation(jpeg: bytes) -> int:
    """EXIF orientation, 1..8, or 0 for none."""
    position = jpeg.find(_EXIF_MARK, 0, _EXIF_LIMIT_BYTES)
    return 0 if position < 0 else exif_orientation(jpeg[position + len(_EXIF_MARK) :][:_EXIF_LIMIT_BYTES])


def read_image(path: Path, *, size: tuple[int, int], longest_side: int | None = None) -> NDArray[np.uint8]:
    """`decode_image` of a file.

    Raises:
        UndecodableImageError: The file cannot be read or decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UndecodableImageError(f"cannot be read ({error.strerror})") from error
    return decode_image(data, size=size, longest_side=longest_side)
