"""Samples are a function of (seed, epoch, index), and keep boxes, labels and masks together."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from annotated_images import write_coco
from icemaker.config import parse
from icemaker.data.annotations import AnnotationTable, prepare
from icemaker.tasks.detection.augmentation import compose
from icemaker.tasks.detection.dataset import DetectionDataset, collate
from icemaker.tasks.detection.settings import DetectionSettings


def settings(**raw: str) -> DetectionSettings:
    return parse({"img_size": "128", **raw}, DetectionSettings)


def test_same_position_gives_the_same_sample_whatever_came_before(table: AnnotationTable) -> None:
    """Two datasets asked in other orders agree, so neither workers nor a restart matter."""
    first = DetectionDataset(table, settings(), training=True, with_masks=False)
    second = DetectionDataset(table, settings(), training=True, with_masks=False)
    for key in [(1, 2), (0, 1), (3, 0)]:
        second[key]
    for key in [(0, 0), (0, 1), (1, 0)]:
        a, b = first[key], second[key]
        assert a["image"] is not None
        assert b["image"] is not None
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["boxes"], b["boxes"])


def test_epochs_and_seeds_augment_differently(table: AnnotationTable) -> None:
    """The next epoch and another seed change what a sample looks like."""
    one = DetectionDataset(table, settings(), training=True, with_masks=False)
    other = DetectionDataset(table, settings(seed="2"), training=True, with_masks=False)
    images = [one[(0, 0)]["image"], one[(1, 0)]["image"], one[(2, 0)]["image"], other[(0, 0)]["image"]]
    distinct = {image.tobytes() for image in images if image is not None}
    assert len(distinct) >= 3


def test_global_random_state_changes_nothing(table: AnnotationTable) -> None:
    """Seeding numpy and torch elsewhere does not reach the augmentation."""
    dataset = DetectionDataset(table, settings(), training=True, with_masks=False)
    np.random.seed(1)
    first = dataset[(0, 0)]["image"]
    np.random.seed(2)
    np.testing.assert_array_equal(first, dataset[(0, 0)]["image"])


def test_without_augmentation_training_sees_what_validation_sees(table: AnnotationTable) -> None:
    """The preset `none` gives the validation sample."""
    training = DetectionDataset(table, settings(augmentation="none"), training=True, with_masks=True)
    validation = DetectionDataset(table, settings(), training=False, with_masks=True)
    for index in range(3):
        a, b = training[(0, index)], validation[index]
        for name in ("image", "boxes", "labels", "masks"):
            np.testing.assert_allclose(a[name], b[name], atol=1e-3)  # type: ignore[literal-required]


@pytest.mark.parametrize("preset", ["default", "light", "any_orientation"])
def test_boxes_labels_and_masks_stay_together(preset: str, table: AnnotationTable) -> None:
    """After any augmentation each mask still fills its own box, labels are whole numbers, boxes are in the square."""
    dataset = DetectionDataset(table, settings(augmentation=preset), training=True, with_masks=True)
    seen = set()
    for epoch in range(12):
        for index in range(3):
            sample = dataset[(epoch, index)]
            assert sample["labels"].dtype == np.int64
            assert sample["masks"] is not None
            assert len(sample["labels"]) == len(sample["boxes"]) == len(sample["masks"])
            for box, label, mask in zip(sample["boxes"], sample["labels"], sample["masks"], strict=True):
                seen.add(int(label))
                assert (box >= 0).all()
                assert (box <= 128).all()
                ys, xs = np.nonzero(mask)
                extent = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                # A turned rectangle's box is looser than its mask; it is never elsewhere.
                inner = np.minimum(box[2:], extent[2:]) - np.maximum(box[:2], extent[:2])
                assert inner.prod() / (box[2:] - box[:2]).prod() > 0.5
    assert seen == {1, 2}


def test_any_orientation_turns_and_flips_both_ways() -> None:
    """A mark in one corner reaches all four."""
    pipeline = compose("any_orientation", 64)
    corners = set()
    for seed in range(40):
        image = np.zeros((64, 64, 3), np.uint8)
        image[:8, :8] = 255
        pipeline.set_random_seed(seed)
        out = pipeline(image=image, bboxes=np.zeros((0, 4)), box_indices=[])["image"]
        ys, xs = np.nonzero(out[..., 0] > out[..., 0].mean() + 50)
        corners.add((ys.mean() > 32, xs.mean() > 32))
    assert len(corners) == 4


def test_image_that_cannot_be_decoded_is_replaced_in_training_and_left_out_in_validation(
    table: AnnotationTable, tmp_path: Path
) -> None:
    """A damaged image is named; a training batch keeps its size with the next image, validation goes without."""
    (tmp_path / "channel/wide.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    training = DetectionDataset(table, settings(), training=True, with_masks=False)
    validation = DetectionDataset(table, settings(), training=False, with_masks=False)
    index = next(index for index in range(3) if table.path(index).name == "wide.png")
    batch = collate([training[(0, index)], training[(0, (index + 1) % 3)]])
    assert batch["images"].shape == (2, 128, 128, 3)
    assert batch["problems"] == [(index, "cannot be decoded")]
    batch = collate([validation[index], validation[(index + 1) % 3]])
    assert batch["images"].shape == (1, 128, 128, 3)
    assert batch["indices"].tolist() == [(index + 1) % 3]
    batch = collate([validation[index]])
    assert len(batch["images"]) == 0
    assert batch["problems"]


def test_missing_file_is_a_problem_with_its_reason(table: AnnotationTable, tmp_path: Path) -> None:
    """A file that went away after the check is named with the system's reason."""
    (tmp_path / "channel/wide.png").unlink()
    validation = DetectionDataset(table, settings(), training=False, with_masks=False)
    problems = [validation[index]["problem"] for index in range(3)]
    assert "cannot be read (No such file or directory)" in problems


def test_sixteen_bit_and_grey_images_become_eight_bit_rgb(table: AnnotationTable, tmp_path: Path) -> None:
    """A 16-bit grey image keeps its brightness instead of clipping to white."""
    path = tmp_path / "channel/empty.png"
    cv2.imwrite(str(path), np.full((64, 64), 0x4000, np.uint16))
    validation = DetectionDataset(table, settings(), training=False, with_masks=False)
    index = next(index for index in range(3) if table.path(index).name == "empty.png")
    image = validation[index]["image"]
    assert image is not None
    assert abs(int(image[10, 10, 0]) - 0x40) <= 1


def test_thin_image_is_not_cropped_to_nothing(tmp_path: Path) -> None:
    """An image whose fitted side has a few pixels goes through without augmentation."""
    images = [("thin.png", np.full((6, 400, 3), 99, np.uint8), [(1, (10.0, 1.0, 60.0, 5.0))])]
    channel = write_coco(tmp_path / "thin", images, ("text",))
    options: dict[str, Any] = {"validation_fraction": 0.2, "seed": 1, "max_bad_images": 0.0}
    thin = DetectionDataset(prepare(channel, channel, **options).train, settings(), training=True, with_masks=False)
    assert all(len(thin[(epoch, 0)]["boxes"]) == 1 for epoch in range(50))


def test_bound_of_a_batch_holds_with_masks(table: AnnotationTable) -> None:
    """No batch is larger than what the loader reserves in shared memory for it."""
    dataset = DetectionDataset(table, settings(), training=True, with_masks=True)
    batch = collate([dataset[(0, index)] for index in range(3)])
    size = sum(value.nbytes for value in batch.values() if isinstance(value, np.ndarray))
    assert size <= dataset.batch_bytes(3) + 3 * 16
