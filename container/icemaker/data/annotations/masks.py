"""COCO segmentations <-> the run-length masks of the table. The only module that uses pycocotools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from icemaker.data.annotations.coco_fields import shown
from icemaker.data.annotations.table import AnnotationTable
from icemaker.data.image_files import inspect_all
from icemaker.data.parallel import never_stop
from icemaker.errors import StopRequested, UserError

_ALLOWED = (
    "Allowed are polygons ([[x1, y1, x2, y2, x3, y3, ...], ...]) and run-length masks "
    '({"size": [height, width], "counts": ...}) of the size of their image.'
)
_STOP_EVERY = 1000


def add_masks(
    table: AnnotationTable,
    annotations: Sequence[dict[str, Any]],
    where: str,
    *,
    should_stop: Callable[[], bool] = never_stop,
) -> AnnotationTable:
    """The table with the masks of ``annotations``, one for each of its boxes.

    Images without a size in the json get that of their file.

    Raises:
        UserError: A segmentation is missing or damaged; the text names the annotation.
        StopRequested: ``should_stop`` returned true.
    """
    sizes = np.stack([table.heights, table.widths], axis=1).astype(np.int64)
    unsized = np.flatnonzero((sizes <= 0).any(axis=1))
    infos = inspect_all([str(table.path(row)) for row in unsized.tolist()], should_stop=should_stop)
    sizes[unsized] = np.array([(info.height, info.width) for info in infos], np.int64).reshape(-1, 2)
    table = table.replace(heights=sizes[:, 0], widths=sizes[:, 1])
    counts = []
    for box, (image, annotation) in enumerate(zip(table.box_images().tolist(), annotations, strict=True)):
        if box % _STOP_EVERY == 0 and should_stop():
            raise StopRequested("Stopped while reading masks.")
        height, width = sizes[image].tolist()
        segmentation = annotation.get("segmentation")
        encoded = _encode(segmentation, height, width) if height and width else b""  # a missing image is left out later
        if encoded is None:
            raise UserError(
                f"Annotation {shown(annotation.get('id'))} in {where} has segmentation {shown(segmentation)}, in an "
                f"image of {width} x {height} pixels. {_ALLOWED}"
            )
        counts.append(encoded)
    return table.replace(**mask_columns(counts))


def fit_masks(table: AnnotationTable, new: AnnotationTable, orientation: NDArray[np.int64]) -> AnnotationTable:
    """The masks of ``table`` in the sizes of ``new``: turned by EXIF ``orientation`` (N,), else cut or extended."""
    same = (table.widths == new.widths) & (table.heights == new.heights) & (orientation == 1)
    if same.all():
        return new
    images = table.box_images()
    counts = []
    for box, image in enumerate(images.tolist()):
        rle = table.mask_rle(box)
        if not same[image] and rle["counts"] and new.widths[image]:  # 0: a missing image, left out later
            turned = _turn(coco_mask.decode(rle), int(orientation[image]))
            fitted = np.zeros((new.heights[image], new.widths[image]), np.uint8, order="F")
            height, width = (min(a, b) for a, b in zip(fitted.shape, turned.shape, strict=True))
            fitted[:height, :width] = turned[:height, :width]
            rle = coco_mask.encode(fitted)
        counts.append(rle["counts"])
    return new.replace(**mask_columns(counts))


def mask_columns(counts: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """``mask_bytes`` and ``mask_offsets`` of compressed counts."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum([len(part) for part in counts], out=offsets[1:])
    return {"mask_bytes": np.frombuffer(b"".join(counts), np.uint8), "mask_offsets": offsets}


def _turn(mask: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A mask of the stored pixels -> of the upright ones."""
    if orientation >= 5:
        mask = mask.T
    if orientation in (2, 3, 6, 7):
        mask = mask[:, ::-1]
    return mask[::-1] if orientation in (3, 4, 7, 8) else mask


def _encode(segmentation: Any, height: int, width: int) -> bytes | None:
    """Compressed counts, or None if it is no segmentation of an image of this size."""
    try:
        if isinstance(segmentation, dict):
            return _encode_runs(segmentation, height, width)
        polygons = [np.asarray(polygon, np.float64) for polygon in segmentation]
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    if not all(p.ndim == 1 and len(p) % 2 == 0 and np.isfinite(p).all() for p in polygons):
        return None
    # Fewer than three points are no polygon, and four numbers would be taken for a box.
    polygons = [p for p in polygons if len(p) >= 6]
    if not polygons:
        return None
    limits = (width, height)
    # pycocotools walks along every edge: a point a billion pixels away would exhaust the memory.
    clipped = [np.clip(p.reshape(-1, 2), 0, limits).ravel().tolist() for p in polygons]
    counts: bytes = coco_mask.merge(coco_mask.frPyObjects(clipped, height, width))["counts"]
    return counts


def _encode_runs(segmentation: dict[str, Any], height: int, width: int) -> bytes | None:
    if list(segmentation["size"]) != [height, width]:
        return None
    counts = segmentation["counts"]
    if isinstance(counts, str):
        data = counts.encode("ascii")
        return data if _num_pixels(data) == height * width else None
    runs = np.asarray(counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        return None
    encoded: bytes = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)["counts"]
    return encoded


def _num_pixels(data: bytes) -> int:
    """Sum of the runs of compressed counts, -1 if they are damaged: pycocotools itself checks nothing.

    Each run is written in groups of five bits, lowest first, bit 5 meaning "more follow", offset by 48; from the fourth
    run on it is the difference to the run two before.
    """
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return -1
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 35 bits
        return -1
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    runs = values.copy()
    odd, even = runs[1::2], runs[2::2]
    odd[:] = np.cumsum(odd)
    even[:] = np.cumsum(even)
    return int(runs.sum()) if (runs >= 0).all() else -1
