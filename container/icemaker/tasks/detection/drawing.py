"""Boxes, labels and masks drawn on an image so that a person can read them. Knows nothing of files."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from icemaker.tasks.detection.prediction import Prediction

#: Colours that differ for most eyes (Okabe and Ito's, jfly.uni-koeln.de/color), by label.
_COLOURS = ((230, 159, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (240, 228, 66))

#: A picture is at most so many times as tall as it may be wide.
_MAX_TALL = 2


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def colour_of(label: int) -> tuple[int, int, int]:
    """RGB of a label, 1..C; colours come again after seven."""
    return _COLOURS[(label - 1) % len(_COLOURS)]


def draw(
    image: NDArray[np.uint8],
    found: Prediction,
    class_names: Sequence[str],
    *,
    width_px: int | None = None,
    show_scores: bool = True,
) -> NDArray[np.uint8]:
    """The image with its objects: a box each in its class's colour, and the name (and score) on a ground of it.

    Args:
        image: uint8, (height, width, 3), RGB, of the size that the boxes are meant for.
        width_px: Width of the picture, less for a very tall one; a small image is enlarged before drawing, so that its
            labels can be read.

    Returns:
        uint8, RGB, a new image.
    """
    if width_px is not None:
        height, width = image.shape[:2]
        image, found = _resize(image, found, min(width_px / width, _MAX_TALL * width_px / height))
    if found.masks is not None:
        image = _tint(image, found)
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    side = max(canvas.size)
    font = _font(max(9, round(side / 40)))
    line_width = max(1, round(side / 200))
    for row in np.argsort(found.scores, kind="stable"):  # the best on top
        label = int(found.labels[row])
        x1, y1, x2, y2 = (float(value) for value in found.boxes[row])
        colour = colour_of(label)
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line_width)
        text = class_names[label - 1] + (f" {found.scores[row]:.2f}" if show_scores else "")
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        width, height = right - left + 4, bottom - top + 4
        x = min(max(0.0, x1), max(0.0, canvas.width - width))
        y = y1 - height if y1 >= height else y1
        pen.rectangle((x, y, x + width, y + height), fill=colour)
        dark_text = sum(colour) > 380
        pen.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0) if dark_text else (255, 255, 255), font=font)
    return np.asarray(canvas)


def _resize(image: NDArray[np.uint8], found: Prediction, scale: float) -> tuple[NDArray[np.uint8], Prediction]:
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    boxes = (found.boxes * scale).astype(np.float32)
    picture = cast(NDArray[np.uint8], cv2.resize(image, size, interpolation=interpolation))
    return picture, replace(found, boxes=boxes)


def _tint(image: NDArray[np.uint8], found: Prediction) -> NDArray[np.uint8]:
    tinted = image.astype(np.float32)
    for row, label in enumerate(found.labels):
        mask = found.mask(row, image.shape[1::-1])
        tinted[mask] = 0.6 * tinted[mask] + 0.4 * np.array(colour_of(int(label)), np.float32)
    return tinted.astype(np.uint8)
