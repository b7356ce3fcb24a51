"""What was found and mended, as a dictionary for data_report.json and as log lines for a person."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations.channel import ReadAnnotations, quoted
from icemaker.data.annotations.check import MAX_NAMES, Mended
from icemaker.data.annotations.table import AnnotationTable

SCHEMA_VERSION = 1
# COCO's limits of small and medium objects, in square pixels.
_SMALL, _MEDIUM = 32.0**2, 96.0**2
_FORMATS = {"coco": "COCO", "voc": "Pascal VOC"}
_MAX_CLASSES = 20


def make_report(
    reads: Mapping[str, ReadAnnotations],
    mended: Mapping[str, Mended],
    split: dict[str, Any],
    train: AnnotationTable,
    validation: AnnotationTable,
    leaks: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """The report, ready for JSON.

    Args:
        reads: What was read, by channel.
        mended: What was mended, by channel or list.
        split: How the images were split: ``method`` is channel, lists or fraction.
        leaks: Byte-identical images on both sides: names in training and in validation.
    """
    fixes = [read.counts for read in reads.values()] + [part.fixes for part in mended.values()]
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "annotations": {
            name: {
                "format": read.format,
                "source": read.source,
                "images": len(read.table),
                "boxes": len(read.table.labels),
            }
            for name, read in reads.items()
        },
        "class_names": list(train.class_names),
        "split": split,
        "train": _side(train),
        "validation": _side(validation),
        "image_kinds": _sum([part.kinds for part in mended.values()]),
        "fixes": _sum(fixes),
        "problems": {name: part.problems for name, part in mended.items() if part.problems},
        "leaks": {"count": len(leaks), "images": [list(pair) for pair in leaks[:MAX_NAMES]]},
    }
    of_readers = [warning for read in reads.values() for warning in read.warnings]
    report["warnings"] = [*of_readers, *_warnings(report)]
    return report


def _sum(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def _side(table: AnnotationTable) -> dict[str, Any]:
    num_labels = len(table.class_names) + 1
    boxes = np.bincount(table.labels, minlength=num_labels)[1:]
    # Each pair of an image and a label once.
    pairs = np.unique(table.box_images() * num_labels + table.labels)
    images = np.bincount(pairs % num_labels, minlength=num_labels)[1:]
    return {
        "fingerprint": table.fingerprint,
        "images": len(table),
        "images_without_boxes": int((np.diff(table.box_offsets) == 0).sum()),
        "boxes": len(table.labels),
        "crowd_boxes": int(table.is_crowd.sum()),
        "boxes_per_class": dict(zip(table.class_names, boxes.tolist(), strict=True)),
        "images_per_class": dict(zip(table.class_names, images.tolist(), strict=True)),
        "image_width_px": _spread(table.widths),
        "image_height_px": _spread(table.heights),
        "box_sizes": {
            "small": int((table.areas < _SMALL).sum()),
            "medium": int(((table.areas >= _SMALL) & (table.areas < _MEDIUM)).sum()),
            "large": int((table.areas >= _MEDIUM).sum()),
        },
    }


def _spread(values: NDArray[np.int32]) -> dict[str, float]:
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}


def _warnings(report: dict[str, Any]) -> list[str]:
    """What the user can act on. Boxes without area are only counted: every large data set has some."""
    sentences = [
        f"{part}: {found['count']:,} images: {name} ({found['consequence']}), for example "
        f"{quoted(found['images'][:3])}."
        for part, problems in report["problems"].items()
        for name, found in problems.items()
        if name != "boxes without area"
    ]
    train, validation = (report[side]["boxes_per_class"] for side in ("train", "validation"))
    without = [name for name, count in train.items() if not count]
    if without:
        sentences.append(f"No training image has a box of {quoted(without, limit=10)}: that cannot be learnt.")
    missing = [name for name, count in validation.items() if not count and train[name]]
    if missing:
        sentences.append(f"No validation image has a box of {quoted(missing, limit=10)}: that is not measured.")
    leaks = report["leaks"]
    if leaks["count"]:
        in_train, in_validation = leaks["images"][0]
        sentences.append(
            f"{leaks['count']:,} validation images are byte-identical to training images, so the validation metrics "
            f"will be too good: {in_validation!r} is {in_train!r}, for example."
        )
    return sentences


def report_lines(report: dict[str, Any]) -> list[tuple[int, str]]:
    """About a dozen log lines: level (of logging) and text. A warning is something the user can act on."""
    lines = [
        f"Channel {name!r}: {_FORMATS[found['format']]} annotations in {found['source']!r}, {found['images']:,} "
        f"images, {found['boxes']:,} boxes."
        for name, found in report["annotations"].items()
    ]
    split = report["split"]
    if split["method"] == "channel":
        lines.append(f"Validation images: channel {split['source']!r}.")
    elif split["method"] == "lists":
        lines.append(
            f"Validation images: as listed in {split['source']!r}; {split['images_in_neither']:,} images are in "
            "neither list and are not used."
        )
    else:
        lines.append(
            f"Validation images: a stratified share of {split['validation_fraction']}, drawn with seed {split['seed']}."
        )
    for side, title in (("train", "Training"), ("validation", "Validation")):
        found = report[side]
        width, height, sizes = found["image_width_px"], found["image_height_px"], found["box_sizes"]
        lines.append(
            f"{title}: {found['images']:,} images ({found['images_without_boxes']:,} without boxes), "
            f"{found['boxes']:,} boxes ({sizes['small']:,} small, {sizes['medium']:,} medium, {sizes['large']:,} "
            f"large), widths {width['min']}-{width['max']} px, heights {height['min']}-{height['max']} px."
        )
    train, validation = (report[side]["boxes_per_class"] for side in ("train", "validation"))
    # A line break in a name must not begin a log line.
    classes = [
        f"{name if name.isprintable() else repr(name)} {count:,} / {validation[name]:,}"
        for name, count in train.items()
    ]
    more = f" and {len(classes) - _MAX_CLASSES} more classes" if len(classes) > _MAX_CLASSES else ""
    lines.append(f"Boxes of each class, training / validation: {', '.join(classes[:_MAX_CLASSES])}{more}.")
    for title, counts in (("Found and mended", report["fixes"]), ("Kinds of images", report["image_kinds"])):
        if counts:
            listed = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items())
            lines.append(f"{title}: {listed}.")
    return [(logging.INFO, line) for line in lines] + [(logging.WARNING, text) for text in report["warnings"]]
