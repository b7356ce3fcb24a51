"""COCO json -> table. Looks at no image, save for masks whose image has no size in the json."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations import coco_fields as fields
from icemaker.data.annotations.boxes import LARGEST
from icemaker.data.annotations.channel import Channel, ReadAnnotations, image_folders, quoted, relative_name
from icemaker.data.annotations.coco_fields import Row, shown
from icemaker.data.annotations.lists import read_indices
from icemaker.data.annotations.table import AnnotationTable, encode_names, group_by_image
from icemaker.data.parallel import never_stop
from icemaker.errors import UserError

# Annotations of images that the json does not list teach nothing wrong, but many hint at a wrong file.
MAX_ORPHAN_FRACTION = 0.05
_BACKGROUND_NAMES = {"background", "_background_", "__background__"}


def read_coco(
    channel: Channel,
    source: str,
    *,
    images: str | None = None,
    with_masks: bool = False,
    should_stop: Callable[[], bool] = never_stop,
) -> ReadAnnotations:
    """Read one COCO json.

    Categories become 1..C by ascending id. Without ``images``, files are looked up relative to the folder of the json,
    the folder "images" beside it, the channel and the channel's folder "images".

    Args:
        source: The json, relative to the channel.
        images: Folder of the images, relative to the channel.

    Raises:
        UserError: The json is damaged or contradicts itself; the text names the entry.
        StopRequested: ``should_stop`` returned true.
    """
    where = f"{source!r} of channel {channel.name!r}"
    document = fields.parse(channel.path / source, where)
    image_rows, annotations, categories = (
        fields.section(document, key, where) for key in ("images", "annotations", "categories")
    )
    folders = image_folders(channel, posixpath.dirname(source), ["images"], images)
    counts: dict[str, int] = {}
    warnings: list[str] = []
    row_of_id, names, sizes, image_ids = _read_images(channel, image_rows, folders, where, counts)
    kept, rows = _rows_of_boxes(annotations, row_of_id, where, counts, warnings)
    labels, class_names = _labels(categories, annotations, where, counts, warnings)
    xywh = fields.boxes_xywh(annotations, where)
    xyxy = np.clip(np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), -LARGEST, LARGEST)

    offsets, order = group_by_image(rows, len(names))
    order = kept[order]
    path_bytes, path_offsets = encode_names(names)
    table = AnnotationTable(
        class_names=class_names,
        root=str(channel.path),
        path_bytes=path_bytes,
        path_offsets=path_offsets,
        image_ids=image_ids,
        widths=sizes[:, 0],
        heights=sizes[:, 1],
        box_offsets=offsets,
        boxes=xyxy[order].astype(np.float32),
        labels=labels[order].astype(np.int32),
        is_crowd=fields.crowds(annotations, where)[order],
        areas=fields.object_areas(annotations, xywh)[order],
    )
    if with_masks and any(annotation.get("segmentation") for annotation in annotations):
        # pycocotools costs a tenth of a second to import, and boxes do not need it.
        from icemaker.data.annotations.masks import add_masks

        table = add_masks(table, [annotations[i] for i in order.tolist()], where, should_stop=should_stop)
    return ReadAnnotations(
        channel=channel,
        table=table,
        format="coco",
        source=source,
        lists=read_indices(channel, posixpath.dirname(source), row_of_id),
        counts=counts,
        warnings=tuple(warnings),
        searched=tuple(folder or "." for folder in folders),
    )


def _read_images(
    channel: Channel, rows: list[Row], folders: list[str], where: str, counts: dict[str, int]
) -> tuple[dict[int | str, int], list[str], NDArray[np.int32], NDArray[np.int64]]:
    """Table row of each id; file name, size (width, height; 0 unknown) and integer id of each table row.

    Entries that name the same file become one row: as two, one image could come on both sides of a split.
    """
    keys = fields.ids(rows, "images", where)
    row_of_id: dict[int | str, int] = {}
    row_of_name: dict[str, int] = {}
    first: list[int] = []  # entry of each table row
    file_names = fields.column(rows, "file_name", "images", where)
    for number, (key, file_name) in enumerate(zip(keys, file_names, strict=True)):
        name = relative_name(file_name) if isinstance(file_name, str) else None
        if not name:
            raise UserError(
                f"Image {key!r} in {where} has file_name {shown(file_name)}. It must be a path inside the channel, "
                "relative to the folder of the images and without '..'."
            )
        name = channel.find(name, folders) or posixpath.join(folders[0], name)
        row = row_of_name.setdefault(name, len(first))
        if row_of_id.setdefault(key, row) != row:
            other = rows[first[row_of_id[key]]]["file_name"]
            raise UserError(f"Two images in {where} have id {key!r}: {other!r} and {file_name!r}. Make the ids unique.")
        if row == len(first):
            first.append(number)
    if len(first) < len(rows):
        counts["repeated_image_entries"] = len(rows) - len(first)
    sizes = np.stack([fields.numbers([rows[i].get(key) for i in first]) for key in ("width", "height")], axis=1)
    sizes = np.where((sizes >= 1) & (sizes < 1 << 31), sizes, 0)
    ids = [keys[i] for i in first]
    fits = all(type(key) is int and -(1 << 63) <= key < 1 << 63 for key in ids)
    image_ids = np.array(ids if fits else range(1, len(ids) + 1), np.int64)
    return row_of_id, list(row_of_name), sizes.astype(np.int32), image_ids


def _rows_of_boxes(
    annotations: list[Row], row_of_id: dict[int | str, int], where: str, counts: dict[str, int], warnings: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the annotations whose image is listed, and the table row of each of these."""
    rows = fields.look_up(fields.column(annotations, "image_id", "annotations", where), row_of_id)
    orphans = np.flatnonzero(rows < 0)
    if len(orphans):
        example = annotations[int(orphans[0])]
        text = (
            f"{len(orphans):,} of {len(annotations):,} annotations in {where} belong to images that it does not list, "
            f"for example annotation {shown(example.get('id'))} with image_id {shown(example['image_id'])}."
        )
        if len(orphans) > MAX_ORPHAN_FRACTION * len(annotations):
            raise UserError(f"{text} List these images, or remove the annotations.")
        counts["annotations_without_image"] = len(orphans)
        warnings.append(f"{text} They are left out.")
    kept = np.flatnonzero(rows >= 0)
    return kept, rows[kept]


def _labels(
    categories: list[Row], annotations: list[Row], where: str, counts: dict[str, int], warnings: list[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Label of each annotation, 1..C by ascending category id, and the class names."""
    keys = fields.ids(categories, "categories", where)
    names: list[Any] = fields.column(categories, "name", "categories", where)
    for key, name in zip(keys, names, strict=True):
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"Category {key!r} in {where} has name {shown(name)}. A name is a text that is not empty.")
    position = {key: i for i, key in enumerate(keys)}
    if len(position) < len(keys):
        raise UserError(f"Two categories in {where} have id {_first_repeated(keys)!r}. Make the ids unique.")
    positions = fields.look_up(fields.column(annotations, "category_id", "annotations", where), position)
    unknown = np.flatnonzero(positions < 0)
    if len(unknown):
        example = annotations[int(unknown[0])]
        raise UserError(
            f"{len(unknown):,} annotations in {where} have a category that 'categories' does not list, for example "
            f"annotation {shown(example.get('id'))} with category_id {shown(example['category_id'])}. "
            f"Listed are {quoted(keys, limit=10) or 'none'}."
        )
    kept = sorted(range(len(keys)), key=lambda i: _rank(keys[i]))
    dropped = _dropped(categories, names, np.bincount(positions, minlength=len(keys)))
    if dropped:
        counts["dropped_categories"] = len(dropped)
        warnings.append(
            f"{where} has categories without annotations that are only the group of others, or the background: "
            f"{quoted([names[i] for i in sorted(dropped)])}. They are not made classes."
        )
        kept = [i for i in kept if i not in dropped]
    kept_names = [names[i] for i in kept]
    if len(set(kept_names)) < len(kept_names):
        name = _first_repeated(kept_names)
        same = quoted([keys[i] for i in kept if names[i] == name])
        raise UserError(f"Categories {same} in {where} have the same name, {name!r}. Merge them, or name them apart.")
    if not kept:
        raise UserError(f"{where} has no categories. {fields.EXPECTED}")
    labels = np.zeros(len(keys), np.int64)
    labels[kept] = np.arange(1, len(kept) + 1)
    return labels[positions], tuple(kept_names)


def _dropped(categories: list[Row], names: list[str], num_boxes: NDArray[np.int64]) -> set[int]:
    """Categories that are no classes: Roboflow writes a root that is but the supercategory of the others."""
    groups = [category.get("supercategory") for category in categories]
    return {
        i
        for i in np.flatnonzero(num_boxes == 0).tolist()
        if names[i].lower() in _BACKGROUND_NAMES or any(group == names[i] for j, group in enumerate(groups) if j != i)
    }


def _rank(key: int | str) -> tuple[int, int, str]:
    """Numbers and texts of numbers by value, then other texts."""
    text = str(key)
    is_number = isinstance(key, int) or (text.isdecimal() and len(text) < 20)
    return (0, int(key), text) if is_number else (1, 0, text)


def _first_repeated(values: list[Any]) -> Any:
    return next(value for number, value in enumerate(values) if value in values[:number])
