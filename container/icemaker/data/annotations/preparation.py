"""From channels to two checked tables and a report: read, hold against the files, split. Knows no format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations.channel import ReadAnnotations, quoted
from icemaker.data.annotations.check import Mended, mend
from icemaker.data.annotations.duplicates import identical_files
from icemaker.data.annotations.read import read_annotations
from icemaker.data.annotations.report import make_report
from icemaker.data.annotations.split import stratified_split
from icemaker.data.annotations.table import AnnotationTable
from icemaker.data.image_files import inspect_all
from icemaker.data.parallel import never_stop
from icemaker.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """What a detection training starts from; both tables have the same classes, and boxes.

    Attributes:
        report: Ready for JSON; ``report_lines`` tells it to a person.
    """

    train: AnnotationTable
    validation: AnnotationTable
    report: dict[str, Any]


def prepare(
    training: Path,
    validation: Path | None,
    *,
    training_name: str = "training",
    validation_name: str = "validation",
    annotations: str | None = None,
    images: str | None = None,
    with_masks: bool = False,
    validation_fraction: float,
    seed: int,
    max_bad_images: float,
    num_classes: int | None = None,
    should_stop: Callable[[], bool] = never_stop,
) -> Prepared:
    """Read, check and split the annotations of a detection job.

    Validation images are those of the validation channel; without it, those of the lists in the data (indices.json, or
    ImageSets/Main/train.txt and val.txt); without these, a stratified share.

    Args:
        training: Folder of the training channel.
        validation: Folder of the validation channel, or None.
        annotations: The COCO json, or the folder of Pascal VOC files, relative to each channel. A validation channel in
            which it is not there has its only annotations read, whatever their name.
        images: Folder of the images, relative to each channel; in a validation channel without it, the usual places.
        with_masks: Read the segmentations as well, where there are any.
        validation_fraction: Share of the images, in (0, 1), used when there is neither channel nor list.
        seed: Of that share.
        max_bad_images: Share of the images of a channel, 0..1, that may be missing or damaged; they are left out.
        num_classes: The number of classes the user expects, with the background; None does not check.
        should_stop: Asked every 64 files.

    Raises:
        UserError: The data cannot be trained on; the text says why and what to do.
        StopRequested: ``should_stop`` returned true.
    """
    options: dict[str, Any] = {"annotations": annotations, "images": images, "with_masks": with_masks}
    read = read_annotations(training, channel_name=training_name, should_stop=should_stop, **options)
    _check_classes(read, num_classes)
    reads = {training_name: read}
    split: dict[str, Any]

    def hold_against_files(part: ReadAnnotations) -> Mended:
        infos = inspect_all(part.table.paths(), should_stop=should_stop)
        return mend(part, infos, max_bad_images=max_bad_images)

    if validation is not None:
        other = read_annotations(
            validation, channel_name=validation_name, optional_settings=True, should_stop=should_stop, **options
        )
        other = reads[validation_name] = _with_classes_of(other, read)
        mended = {training_name: hold_against_files(read), validation_name: hold_against_files(other)}
        train, held_out = mended.values()
        split = {"method": "channel", "source": validation_name}
    elif read.lists is not None:
        rows = (read.lists.train, read.lists.validation)
        train, held_out = (hold_against_files(replace(read, table=read.table.select(part))) for part in rows)
        mended = {f"{training_name} (train)": train, f"{training_name} (val)": held_out}
        split = {
            "method": "lists",
            "source": read.lists.source,
            "images_in_neither": len(read.table) - sum(map(len, rows)),
        }
    else:
        whole = hold_against_files(read)
        groups = identical_files(*_files(whole), should_stop=should_stop)
        train, held_out = (
            _select(whole, part)
            for part in stratified_split(whole.table, validation_fraction=validation_fraction, seed=seed, groups=groups)
        )
        mended = {training_name: whole}
        split = {
            "method": "fraction",
            "validation_fraction": validation_fraction,
            "seed": seed,
            "identical_images_kept_together": sum(map(len, groups)),
        }
    _check_boxes(train.table, held_out.table, read)
    leaks = _leaks(train, held_out, should_stop) if split["method"] != "fraction" else []
    report = make_report(reads, mended, split, train.table, held_out.table, leaks)
    return Prepared(train.table, held_out.table, report)


def _select(mended: Mended, rows: NDArray[np.int64]) -> Mended:
    return replace(mended, table=mended.table.select(rows), infos=[mended.infos[row] for row in rows.tolist()])


def _files(mended: Mended) -> tuple[list[str], list[int]]:
    """Paths and sizes in bytes."""
    return mended.table.paths(), [info.size_bytes for info in mended.infos]


def _check_classes(read: ReadAnnotations, num_classes: int | None) -> None:
    names = read.table.class_names
    where = f"{read.source!r} of channel {read.channel.name!r}"
    if not len(read.table.labels):
        raise UserError(f"{where} has no boxes ({len(read.table):,} images). Training needs annotated images.")
    if num_classes is not None and num_classes != len(names) + 1:
        raise UserError(
            f"Hyperparameter 'num_classes' has value {num_classes}, but {where} has {len(names)} classes "
            f"({quoted(names, limit=20)}), which makes {len(names) + 1} with the background. Set it to "
            f"{len(names) + 1}, or leave it out."
        )


def _with_classes_of(read: ReadAnnotations, training: ReadAnnotations) -> ReadAnnotations:
    """The validation annotations with the training's classes: ids may differ, names count."""
    table, names = read.table, training.table.class_names
    label_of = {name: label for label, name in enumerate(names, start=1)}
    used = set(np.unique(table.labels).tolist())
    unknown = [name for label, name in enumerate(table.class_names, 1) if label in used and name not in label_of]
    if unknown:
        raise UserError(
            f"Channel {read.channel.name!r} has boxes of classes that channel {training.channel.name!r} does not have: "
            f"{quoted(unknown)}. The classes there are {quoted(names, limit=20)}. Give the classes the same names."
        )
    labels = np.array([0] + [label_of.get(name, 0) for name in table.class_names], np.int32)
    return replace(read, table=table.replace(class_names=names, labels=labels[table.labels]))


def _check_boxes(train: AnnotationTable, validation: AnnotationTable, read: ReadAnnotations) -> None:
    for table, title in ((train, "training"), (validation, "validation")):
        if table.is_crowd.all():  # also without any box
            raise UserError(
                f"The {len(table):,} images for {title} have no boxes that can be used (training channel "
                f"{read.channel.name!r}, {read.source!r}). Both sides need annotated images."
            )


def _leaks(train: Mended, validation: Mended, should_stop: Callable[[], bool]) -> list[tuple[str, str]]:
    """File names (training, validation) of byte-identical images on both sides."""
    paths, sizes = _files(train)
    more_paths, more_sizes = _files(validation)
    groups = identical_files(paths + more_paths, sizes + more_sizes, should_stop=should_stop)
    names, num_train = train.table.names() + validation.table.names(), len(paths)
    return [(names[group[0]], names[index]) for group in groups for index in group if group[0] < num_train <= index]
