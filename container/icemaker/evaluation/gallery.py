"""Images side by side: what there is, and what the model sees."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

#: Width of one picture of a pair, in pixels.
WIDTH_PX = 560
_GAP_PX, _TITLE_PX = 8, 30


def save_gallery(
    pairs: Sequence[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]],
    titles: tuple[str, str],
    font: Path,
    path: Path,
) -> None:
    """Write a PNG of rows (name, left, right) under two titles; the pictures are RGB, at most `WIDTH_PX` wide."""
    rows = [(name, Image.fromarray(left), Image.fromarray(right)) for name, left, right in pairs]
    height = _TITLE_PX + sum(left.height + _TITLE_PX + _GAP_PX for _, left, _ in rows)
    canvas = Image.new("RGB", (2 * WIDTH_PX + 3 * _GAP_PX, height), "white")
    pen = ImageDraw.Draw(canvas)
    bold, plain = ImageFont.truetype(font, 18), ImageFont.truetype(font, 13)
    columns = (_GAP_PX, 2 * _GAP_PX + WIDTH_PX)
    for x, title in zip(columns, titles, strict=True):
        pen.text((x, 5), title, fill="black", font=bold)
    y = _TITLE_PX
    for name, left, right in rows:
        pen.text((columns[0], y + 8), name, fill="#444444", font=plain)
        y += _TITLE_PX
        for x, picture in zip(columns, (left, right), strict=True):
            canvas.paste(picture, (x, y))
        y += left.height + _GAP_PX
    canvas.save(path, format="PNG")
