"""Arithmetic on the boxes of a table: turn, clip, remove, and tell other forms of boxes. Knows no files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations.channel import ReadAnnotations
from icemaker.data.annotations.table import AnnotationTable
from icemaker.errors import UserError

#: A box narrower than this (pixels) has no area; real boxes of less than a pixel are kept.
MIN_SIDE = 1e-3
#: Annotation tools round; a size or a box may be this far off (pixels) without being that of another image.
TOLERANCE = 2.0
#: Coordinates beyond this (pixels) are clipped to it: no image is larger, and float32 holds the area of such a box.
LARGEST = 1e9


def turn_upright(
    boxes: NDArray[np.float32], orientation: NDArray[np.int64], stored: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Boxes in stored pixels -> in upright pixels, xyxy.

    Args:
        orientation: EXIF orientation of the image of each box: 5..8, which exchange the sides; others turn nothing.
        stored: Width and height of the image of each box, as stored: (M, 2).
    """
    width, height = stored[:, :1].astype(np.float32), stored[:, 1:].astype(np.float32)
    x, y = boxes[:, 0::2], boxes[:, 1::2]
    new_x = np.where(np.isin(orientation, (6, 7))[:, None], height - y[:, ::-1], y)
    new_y = np.where(np.isin(orientation, (7, 8))[:, None], width - x[:, ::-1], x)
    turned = np.stack([new_x, new_y], axis=2).reshape(-1, 4)
    return np.where((orientation >= 5)[:, None], turned, boxes).astype(np.float32)


def refuse_other_forms(table: AnnotationTable, read: ReadAnnotations) -> None:
    """Refuse boxes that are plainly not in pixels, or not [x, y, width, height] in COCO.

    Raises:
        UserError: They are in another form.
    """
    boxes = table.boxes
    if not len(boxes):
        return
    where = f"{read.source!r} of channel {read.channel.name!r}"
    if boxes.min() >= 0 and 0 < boxes.max() <= 1 and table.widths.min() > TOLERANCE:
        raise UserError(f"All boxes in {where} lie between 0 and 1. Boxes are in pixels, not in shares of the image.")
    limits = np.stack([table.widths, table.heights], axis=1)[table.box_images()] + TOLERANCE
    reaches_out = (boxes[:, 2:] > limits).any(axis=1)
    sides = boxes[:, 2:] - boxes[:, :2]
    fits_as_corners = ((sides > boxes[:, :2]) & (sides <= limits)).all(axis=1)
    if read.format == "coco" and len(boxes) >= 10 and reaches_out.mean() > 0.25 and fits_as_corners.mean() > 0.99:
        raise UserError(
            f"The boxes in {where} look like [x1, y1, x2, y2]: taken as COCO's [x, y, width, height], "
            f"{int(reaches_out.sum()):,} of {len(boxes):,} reach out of their images. Convert them."
        )


def mend_boxes(
    table: AnnotationTable,
) -> tuple[AnnotationTable, dict[str, int], NDArray[np.int64], NDArray[np.int64]]:
    """Remove what is no box, clip the rest to the images.

    Returns:
        The mended table; counts by name; rows of the images that had boxes without area, and boxes outside of them.
    """
    boxes, images = table.boxes, table.box_images()
    limits = np.stack([table.widths, table.heights] * 2, axis=1)[images]
    clipped = np.clip(boxes, 0, limits).astype(np.float32) + np.float32(0)  # + 0 makes -0 a 0
    has_area = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(axis=1)
    is_inside = ((clipped[:, 2:] - clipped[:, :2]) >= MIN_SIDE).all(axis=1)
    outside = has_area & ~is_inside
    keep = has_area & is_inside
    was_clipped = keep & (np.abs(clipped - boxes) > MIN_SIDE).any(axis=1)
    repeated = keep & _repeated(images, table.labels, table.is_crowd, clipped)
    box_areas = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1)
    areas = np.where(was_clipped, np.minimum(table.areas, box_areas), table.areas)
    counts = {
        "boxes_without_area_removed": int((~has_area).sum()),
        "boxes_outside_image_removed": int(outside.sum()),
        "boxes_clipped_to_image": int((was_clipped & ~repeated).sum()),
        "repeated_boxes_removed": int(repeated.sum()),
    }
    mended = table.replace(boxes=clipped, areas=areas).select_boxes(keep & ~repeated)
    return mended, counts, np.unique(images[~has_area]), np.unique(images[outside])


def _repeated(
    images: NDArray[np.int64], labels: NDArray[np.int32], is_crowd: NDArray[np.bool_], boxes: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """bool, (M,): whether an equal box of the same label and image stands before."""
    order = np.lexsort((*boxes.T, is_crowd, labels, images))
    equal = (boxes[order][1:] == boxes[order][:-1]).all(axis=1)
    for column in (images, labels, is_crowd):
        equal &= column[order][1:] == column[order][:-1]
    repeated = np.zeros(len(boxes), bool)
    repeated[order[1:]] = equal  # lexsort is stable: the first of equal ones comes first
    return repeated
