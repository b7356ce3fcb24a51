"""A seeded, stratified split into training and validation. Knows labels and file names, no boxes and no files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from icemaker.data.annotations.table import AnnotationTable
from icemaker.errors import UserError


def stratified_split(
    table: AnnotationTable, *, validation_fraction: float, seed: int, groups: Iterable[Sequence[int]] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the images so that each class keeps its share on both sides, rare classes first.

    The same images fall on the same sides for the same seed, whatever the order of the table and wherever it lies.
    A class of at least two images comes on both sides wherever that is possible; one of a single image is trained on.

    Args:
        validation_fraction: Share of the images for validation, in (0, 1).
        groups: Images that must stay together (indices), for example byte-identical ones; disjoint.

    Returns:
        Indices of the training images and of the validation images: int64, ascending; neither is empty.

    Raises:
        UserError: The fraction is out of range, or fewer than two images can be told apart.

    Source: iterative stratification, Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011.
    """
    if not 0 < validation_fraction < 1:
        raise UserError(
            f"Hyperparameter 'validation_fraction' has value {validation_fraction!r}. Allowed are numbers above 0 and "
            "below 1."
        )
    units = _units(table, seed, groups)
    if len(units) < 2:
        raise UserError(
            f"A split needs at least 2 different images; there are {len(units)}. Add images, or give a validation "
            "channel."
        )
    weights = np.array([len(unit) for unit in units], np.int64)
    has_class = _classes_of_units(table, units)
    is_validation = _assign(has_class, weights, validation_fraction)
    _repair(has_class, weights, is_validation)
    in_validation = np.zeros(len(table), bool)
    in_validation[[index for unit, v in zip(units, is_validation, strict=True) if v for index in unit]] = True
    return np.flatnonzero(~in_validation), np.flatnonzero(in_validation)


def _units(table: AnnotationTable, seed: int, groups: Iterable[Sequence[int]]) -> list[list[int]]:
    """Images that stay together, in an order drawn from the seed and the file names alone."""
    names = table.names()
    grouped = [sorted(group, key=lambda i: names[i]) for group in groups]
    together = {index for group in grouped for index in group}
    units = grouped + [[index] for index in range(len(table)) if index not in together]

    def rank(unit: list[int]) -> bytes:
        return hashlib.sha256(f"{seed}\n{names[unit[0]]}".encode("utf-8", "surrogateescape")).digest()

    return sorted(units, key=rank)


def _classes_of_units(table: AnnotationTable, units: list[list[int]]) -> NDArray[np.bool_]:
    """bool, (U, C + 1): column k - 1 tells whether a unit has a box of label k; the last, whether it has none."""
    unit_of_image = np.empty(len(table), np.int64)
    unit_of_image[[index for unit in units for index in unit]] = np.repeat(
        np.arange(len(units)), [len(unit) for unit in units]
    )
    has_class = np.zeros((len(units), len(table.class_names) + 1), bool)
    has_class[unit_of_image[table.box_images()], table.labels - 1] = True
    has_class[:, -1] = ~has_class.any(axis=1)
    return has_class


def _assign(has_class: NDArray[np.bool_], weights: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Give the units of the rarest class to the side that misses it most, then those of the next rarest, ..."""
    totals = weights @ has_class
    counts = has_class.sum(axis=0)
    # One image on each side where a class has two: 0.2 of 2 images is 0.4, which must not become none.
    wanted = np.clip(totals * fraction, np.minimum(1, counts - 1), np.maximum(totals - 1, 0))
    wanted_images = float(np.clip(weights.sum() * fraction, 1, weights.sum() - 1))
    missing = [(totals - wanted).tolist(), wanted.tolist()]
    missing_images = [float(weights.sum()) - wanted_images, wanted_images]
    classes = [np.flatnonzero(row).tolist() for row in has_class]
    side_of = np.full(len(weights), -1, np.int8)
    remaining = counts.copy()
    while remaining.any():
        label = int(np.argmin(np.where(remaining > 0, remaining, np.iinfo(np.int64).max)))
        units = np.flatnonzero(has_class[:, label] & (side_of < 0))
        for unit in units.tolist():
            lacks = [(missing[side][label], missing_images[side]) for side in (0, 1)]
            side = int(lacks[1] > lacks[0])
            side_of[unit] = side
            missing_images[side] -= float(weights[unit])
            for other in classes[unit]:
                missing[side][other] -= float(weights[unit])
        remaining = remaining - has_class[units].sum(axis=0)
    return side_of == 1


def _repair(has_class: NDArray[np.bool_], weights: NDArray[np.int64], is_validation: NDArray[np.bool_]) -> None:
    """Move single units so that a class of two units or more is on both sides, where no other class loses by it."""
    counts = np.stack([has_class[~is_validation].sum(axis=0), has_class[is_validation].sum(axis=0)])
    classes = has_class.shape[1] - 1  # images without boxes need not be on both sides
    for side in (0, 1):
        for label in range(classes):
            if counts[side, label] > 0 or counts[1 - side, label] < 2:
                continue
            there = np.flatnonzero(has_class[:, label] & (is_validation != bool(side)))
            harmless = ~(has_class[there] & ((counts[1 - side] < 2) & (np.arange(classes + 1) < classes))).any(axis=1)
            there = there[harmless]
            if len(there):
                unit = int(there[np.argmin(weights[there])])
                is_validation[unit] = bool(side)
                counts[side] += has_class[unit]
                counts[1 - side] -= has_class[unit]
    for side in (0, 1):
        if (is_validation == bool(side)).sum() == 0:
            is_validation[int(np.argmin(weights))] = bool(side)
