"""The stratified split: a function of seed and names, fair to every class."""

from typing import Any

import numpy as np
import pytest

from icemaker.data.annotations.split import stratified_split
from icemaker.data.annotations.table import AnnotationTable, encode_names
from icemaker.errors import UserError


def make_table(
    labels: list[list[int]], names: list[str] | None = None, num_classes: int | None = None
) -> AnnotationTable:
    """One image for each list of labels."""
    path_bytes, path_offsets = encode_names(names or [f"{index:05d}.jpg" for index in range(len(labels))])
    flat = [label for image in labels for label in image]
    return AnnotationTable(
        class_names=tuple(f"class_{k}" for k in range(num_classes or max(flat, default=1))),
        root="/data",
        path_bytes=path_bytes,
        path_offsets=path_offsets,
        image_ids=np.arange(len(labels)),
        widths=np.full(len(labels), 10, np.int32),
        heights=np.full(len(labels), 10, np.int32),
        box_offsets=np.concatenate([[0], np.cumsum([len(image) for image in labels])]).astype(np.int64),
        boxes=np.tile(np.array([0, 0, 5, 5], np.float32), (len(flat), 1)),
        labels=np.array(flat, np.int32),
        is_crowd=np.zeros(len(flat), bool),
        areas=np.full(len(flat), 25, np.float32),
    )


def random_labels(num_images: int, num_classes: int, seed: int = 0) -> list[list[int]]:
    """Long-tailed: class k has about 1 / k of the boxes; some images have none."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, num_classes + 1)
    return [
        (1 + rng.choice(num_classes, size=int(rng.integers(0, 5)), p=shares / shares.sum())).tolist()
        for _ in range(num_images)
    ]


def split(table: AnnotationTable, **options: Any) -> tuple[list[int], list[int]]:
    train, validation = stratified_split(table, **({"validation_fraction": 0.2, "seed": 0} | options))
    assert train.dtype == validation.dtype == np.int64
    assert sorted([*train, *validation]) == list(range(len(table)))
    assert len(train) > 0 < len(validation)
    return train.tolist(), validation.tolist()


def names_of(table: AnnotationTable, rows: list[int]) -> set[str]:
    return {table.name(row) for row in rows}


def test_the_split_is_a_function_of_seed_and_names() -> None:
    """The same seed splits alike, another one otherwise; the order of the table does not matter."""
    table = make_table(random_labels(300, 8))
    train, validation = split(table)
    assert split(table) == (train, validation)
    assert split(table, seed=1) != (train, validation)
    order = np.random.default_rng(1).permutation(300)
    shuffled = table.select(order)
    assert names_of(shuffled, split(shuffled)[1]) == names_of(table, validation)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_every_class_keeps_its_share(fraction: float, seed: int) -> None:
    """Counted in images, each class and the negatives deviate by few images, and so does the whole."""
    labels = random_labels(1000, 12, seed)
    _, validation = split(make_table(labels), validation_fraction=fraction, seed=seed)
    assert abs(len(validation) - 1000 * fraction) <= 20
    for label in range(13):
        images = [i for i, image in enumerate(labels) if (label in image if label else not image)]
        found = len(set(images) & set(validation))
        assert abs(found - len(images) * fraction) <= max(3, 0.05 * len(images)), label


@pytest.mark.parametrize("seed", range(20))
def test_a_class_of_two_images_is_on_both_sides(seed: int) -> None:
    """Rare classes are dealt out first; a class of one image is trained on."""
    labels = [[1]] * 40 + [[1, 2], [1, 2], [3], [1, 3], [3, 4, 4], [1, 4], [5, 1]]
    train, validation = split(make_table(labels), seed=seed, validation_fraction=0.1)
    for label in (1, 2, 3, 4):
        for side in (train, validation):
            assert any(label in labels[index] for index in side), label
    assert any(5 in labels[index] for index in train)


def test_rare_classes_are_on_both_sides_of_a_long_tail() -> None:
    """Of 200 classes, every one with at least two images."""
    labels = random_labels(1500, 200, seed=3)
    train, validation = split(make_table(labels, num_classes=200), validation_fraction=0.1)
    for label in range(1, 201):
        images = [i for i, image in enumerate(labels) if label in image]
        if len(images) > 1:
            assert set(images) & set(train), label
            assert set(images) & set(validation), label


@pytest.mark.parametrize("fraction", [0.001, 0.2, 0.999])
def test_both_sides_have_an_image(fraction: float) -> None:
    """However small the share and the set."""
    for labels in ([[1], [1]], [[], []], [[1], []], [[1], [2]], [[1], [1], [1]], [[1, 2], [1, 2], []]):
        split(make_table(labels, num_classes=2), validation_fraction=fraction)


@pytest.mark.parametrize("seed", range(10))
def test_groups_stay_together(seed: int) -> None:
    """Images of a group are on one side."""
    table = make_table(random_labels(60, 4))
    groups = [[3, 50, 7], [10, 11], [20, 30, 40, 59]]
    _, validation = split(table, seed=seed, groups=groups, validation_fraction=0.4)
    for group in groups:
        assert len({index in validation for index in group}) == 1


def test_a_class_of_one_group_is_trained_on() -> None:
    """Copies of one image are no reason to validate on them."""
    train, _ = split(make_table([[1], [1], [2], [2]]), groups=[[2, 3]], validation_fraction=0.5)
    assert {2, 3} <= set(train)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_outside_of_0_to_1_is_refused(fraction: float) -> None:
    """The hyperparameter and its value are told."""
    with pytest.raises(UserError, match=r"Hyperparameter 'validation_fraction' has value .* above 0 and below 1"):
        split(make_table([[1], [1]]), validation_fraction=fraction)


def test_one_image_cannot_be_split() -> None:
    """Neither can copies of one image."""
    with pytest.raises(UserError, match=r"at least 2 different images; there are 1. Add images, or give a validation"):
        split(make_table([[1]]))
    with pytest.raises(UserError, match=r"at least 2 different images; there are 1"):
        split(make_table([[1], [1]]), groups=[[0, 1]])
