"""Mend a table that was read: hold it against the image files, leave out what cannot be used, and count it all.

Knows no annotation format and no split.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations.boxes import TOLERANCE, mend_boxes, refuse_other_forms, turn_upright
from icemaker.data.annotations.channel import ReadAnnotations, quoted
from icemaker.data.annotations.table import AnnotationTable
from icemaker.data.image_files import ImageInfo
from icemaker.errors import UserError

#: Names of images given in the report, of each problem.
MAX_NAMES = 20
_ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Mended:
    """A table that holds.

    Attributes:
        table: Upright sizes of the files, boxes inside their images, no box without area, no box twice.
        infos: Of the table's images, in its order.
        fixes: What was mended, by name: a count each.
        problems: What the user should look at, by name: ``count``, ``images`` (the first 20 names), ``consequence``.
        kinds: Images that are not plain upright RGB, by name: a count each.
    """

    table: AnnotationTable
    infos: list[ImageInfo]
    fixes: dict[str, int] = field(default_factory=dict)
    problems: dict[str, dict[str, Any]] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)


def mend(read: ReadAnnotations, infos: Sequence[ImageInfo], *, max_bad_images: float) -> Mended:
    """Hold a table against its files.

    The size of the file counts. Where the annotated size is that of the image before its EXIF rotation, the boxes are
    turned with it. Where it is another, the image is left out if its boxes were made for that other size (they reach
    out of the file's image, or both sizes have one aspect ratio, as after resizing), and else kept and named.

    Args:
        infos: Of each image of the table.
        max_bad_images: Share of the images, 0..1, that may be left out.

    Raises:
        UserError: More images than that cannot be used, or the boxes are in another form.
    """
    sized = _take_file_sizes(read.table, infos)
    reasons = [info.problem for info in infos]
    for row in sized.resized.tolist():
        said = f"{read.table.widths[row]} x {read.table.heights[row]}"
        file = f"{infos[row].width} x {infos[row].height}"
        reasons[row] = reasons[row] or f"resized after annotation: annotated at {said} pixels, the file has {file}"
    bad = np.array([reason is not None for reason in reasons], bool)
    problems = _left_out(read.table, reasons)
    if bad.sum() > max_bad_images * len(bad):
        _refuse(read, problems, int(bad.sum()), max_bad_images)
    other_size = sized.other_size[~bad[sized.other_size]]
    problems |= _problem("annotated at another size", _names(read.table, other_size), "kept: the file's size counts")

    table = sized.table.select(~bad)
    refuse_other_forms(table, read)
    kept = [info for info, is_bad in zip(infos, bad, strict=True) if not is_bad]
    mended, removed, without_area, outside = mend_boxes(table)
    problems |= _problem("boxes without area", _names(table, without_area), "the boxes are left out")
    problems |= _problem("boxes outside the image", _names(table, outside), "the boxes are left out")
    fixes = {"images_left_out": int(bad.sum()), "images_with_boxes_turned_upright": sized.num_turned, **removed}
    return Mended(mended, kept, {name: count for name, count in fixes.items() if count}, problems, _kinds(kept))


@dataclass(frozen=True)
class _Sized:
    """A table at the upright sizes of its files; rows of the images whose annotated size is another."""

    table: AnnotationTable
    num_turned: int
    resized: NDArray[np.int64]
    other_size: NDArray[np.int64]


def _take_file_sizes(table: AnnotationTable, infos: Sequence[ImageInfo]) -> _Sized:
    columns = np.array([info[:5] for info in infos], np.int64).reshape(-1, 5)
    upright, stored, orientation = columns[:, :2], columns[:, 2:4], columns[:, 4]
    said = np.stack([table.widths, table.heights], axis=1).astype(np.int64)
    differs = (said > 0).all(axis=1) & (upright > 0).all(axis=1) & (said != upright).any(axis=1)
    # Of a square image, or one turned by 180 degrees, both sizes are equal: its boxes are taken as upright.
    turned = differs & (said == stored).all(axis=1)
    differs &= ~turned & (np.abs(said - upright) > TOLERANCE).any(axis=1)
    orientation = np.where(turned, orientation, 1)

    images = table.box_images()
    boxes = turn_upright(table.boxes, orientation[images], stored[images])
    is_far = ((boxes < -TOLERANCE) | (boxes > np.tile(upright, 2)[images] + TOLERANCE)).any(axis=1)
    has_far = np.bincount(images, weights=is_far, minlength=len(table)) > 0
    scale = upright / np.maximum(said, 1)
    same_aspect = np.abs(scale[:, 0] - scale[:, 1]) <= _ASPECT_TOLERANCE * scale[:, 1]
    resized = differs & (has_far | same_aspect)
    new = table.replace(boxes=boxes, widths=upright[:, 0], heights=upright[:, 1])
    if table.mask_bytes is not None:
        from icemaker.data.annotations.masks import fit_masks

        new = fit_masks(table, new, orientation)
    return _Sized(new, int(turned.sum()), np.flatnonzero(resized), np.flatnonzero(differs & ~resized))


def _left_out(table: AnnotationTable, reasons: Sequence[str | None]) -> dict[str, dict[str, Any]]:
    names: dict[str, list[str]] = {}
    for row, reason in enumerate(reasons):
        if reason is not None:
            head, _, value = reason.partition(": ")  # the value differs from image to image
            names.setdefault(head, []).append(f"{table.name(row)} ({value})" if value else table.name(row))
    problems: dict[str, dict[str, Any]] = {}
    for head, listed in names.items():
        problems |= _problem(head, listed, "left out")
    return problems


def _problem(name: str, images: Sequence[str], consequence: str) -> dict[str, dict[str, Any]]:
    """One entry of the problems, or none if no image has it."""
    found = {"count": len(images), "images": list(images[:MAX_NAMES]), "consequence": consequence}
    return {name: found} if images else {}


def _names(table: AnnotationTable, rows: Iterable[int]) -> list[str]:
    return [table.name(int(row)) for row in rows]


def _refuse(read: ReadAnnotations, problems: dict[str, dict[str, Any]], num_bad: int, max_bad_images: float) -> None:
    listed = "; ".join(
        f"{found['count']:,} {name}: {quoted(found['images'], limit=3)}" for name, found in problems.items()
    )
    hint = ""
    if "missing" in problems:
        hint = f" Images were looked for in {quoted(read.searched)} of the channel"
        base = posixpath.basename(problems["missing"]["images"][0])
        like = sorted(file for file in read.channel.files if posixpath.basename(file).lower() == base.lower())
        same = [posixpath.dirname(file) for file in like if posixpath.basename(file) == base]
        if same:
            hint += f"; {same[0]!r} has a file {base!r}: the hyperparameter 'images' can name that folder"
        elif like:
            hint += f"; there is {like[0]!r}, but capitals and small letters differ"
        hint += "."
    raise UserError(
        f"{num_bad:,} of {len(read.table):,} images of channel {read.channel.name!r} cannot be used: {listed}.{hint} "
        f"The hyperparameter 'max_bad_images' allows a share of {max_bad_images}. Correct the data, or raise it."
    )


def _kinds(infos: Sequence[ImageInfo]) -> dict[str, int]:
    kinds = {"exif_rotated": sum(info.orientation != 1 for info in infos)}
    for info in infos:
        if info.kind != "rgb":
            kinds[info.kind] = kinds.get(info.kind, 0) + 1
    return {kind: count for kind, count in kinds.items() if count}
