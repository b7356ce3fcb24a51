"""Encoded images -> pixels: the one way in which training, validation and serving read them.

Knows nothing of annotations or models, and imports no torch.
"""

from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

_JPEG_MAGIC = b"\xff\xd8"
#: OpenCV decodes a JPEG at 1/2, 1/4 or 1/8 at a fraction of the cost of the whole.
_REDUCED = {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}


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
    reduction = 0
    if longest_side is not None and data[:2] == _JPEG_MAGIC:
        for divisor, reduced in _REDUCED.items():
            if max(size) >= divisor * longest_side:
                reduction = reduced
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | reduction)
    except cv2.error as error:
        raise UndecodableImageError(f"cannot be decoded ({error.err})") from error
    if image is None:
        raise UndecodableImageError("cannot be decoded")
    return cast(NDArray[np.uint8], image)


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
