"""From channels to checked tables and a report."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotated_channels import CocoChannel, voc_xml
from icemaker.data.annotations import Prepared, prepare, report_lines
from icemaker.errors import StopRequested, UserError

MakeCoco = Callable[..., CocoChannel]
MakeVoc = Callable[..., Path]


def prepared(training: Path, validation: Path | None = None, **options: Any) -> Prepared:
    defaults = {"validation_fraction": 0.25, "seed": 0, "max_bad_images": 0.05}
    found = prepare(training, validation, **(defaults | options))
    json.dumps(found.report, allow_nan=False)
    return found


def warnings_of(found: Prepared) -> list[str]:
    lines = report_lines(found.report)
    assert lines[: len(lines) - len(found.report["warnings"])]
    assert 5 <= len(lines) <= 20
    return [text for level, text in lines if level == logging.WARNING]


def test_one_channel_is_split(coco: MakeCoco) -> None:
    """A stratified share becomes validation; the same call gives the same tables."""
    path = coco(num_images=20).write()
    found = prepared(path)
    assert (len(found.train), len(found.validation)) == (15, 5)
    assert not set(found.train.names()) & set(found.validation.names())
    assert found.report["split"] == {
        "method": "fraction", "validation_fraction": 0.25, "seed": 0, "identical_images_kept_together": 0,
    }  # fmt: skip
    again = prepared(path)
    assert again.report == found.report
    assert again.train.fingerprint == found.train.fingerprint
    assert prepared(path, seed=1).train.fingerprint != found.train.fingerprint
    assert warnings_of(found) == []


def test_the_fingerprint_is_the_same_elsewhere(coco: MakeCoco, tmp_path: Path) -> None:
    """Another mount point, the same data."""
    path = coco(num_images=8).write()
    moved = shutil.copytree(path, tmp_path / "elsewhere")
    assert prepared(path).train.fingerprint == prepared(moved).train.fingerprint


def test_a_validation_channel_is_the_validation_set(coco: MakeCoco) -> None:
    """All of training is trained on; ids and the name of the json may differ, names of classes count."""
    training = coco("training", num_images=6).write("instances_train.json")
    validation = coco("validation", num_images=4)
    validation.document["categories"] = [{"id": 2, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 9, "name": "cow"}]
    found = prepared(training, validation.write("instances_val.json"), annotations="instances_train.json")
    assert (len(found.train), len(found.validation)) == (6, 4)
    assert found.validation.class_names == found.train.class_names == ("cat", "dog")
    assert found.train.labels.tolist() == [1, 2] * 3
    assert found.validation.labels.tolist() == [2, 1] * 2
    assert found.report["split"] == {"method": "channel", "source": "validation"}
    assert found.report["annotations"]["validation"]["source"] == "instances_val.json"
    assert warnings_of(found) == []


def test_a_validation_channel_may_have_another_format(coco: MakeCoco, voc: MakeVoc) -> None:
    """COCO to train on, Pascal VOC to validate."""
    found = prepared(coco("training", num_images=6).write(), voc("validation"))
    assert found.validation.labels.tolist() == [1, 1, 2, 1, 1, 2]
    assert found.report["annotations"]["validation"]["format"] == "voc"


def test_the_lists_of_the_data_are_the_split(voc: MakeVoc) -> None:
    """Images in neither list are not used, not even looked at."""
    path = voc(stems="abcde")
    (path / "JPEGImages/e.jpg").unlink()
    (path / "indices.json").write_text('{"train": ["d", "a"], "val": ["b"]}')
    found = prepared(path, max_bad_images=0.0)
    assert found.train.names() == ["JPEGImages/a.jpg", "JPEGImages/d.jpg"]
    assert found.validation.names() == ["JPEGImages/b.jpg"]
    assert found.report["split"] == {"method": "lists", "source": "indices.json", "images_in_neither": 2}
    assert any("'indices.json'; 2 images are in neither list" in text for _, text in report_lines(found.report))


def test_a_validation_channel_goes_before_lists(voc: MakeVoc) -> None:
    """The training channel is trained on as a whole."""
    path = voc("training", stems="abcde")
    (path / "indices.json").write_text('{"train": ["d", "a"], "val": ["b"]}')
    found = prepared(path, voc("validation", stems="xy"))
    assert (len(found.train), len(found.validation)) == (5, 2)


def test_identical_images_are_on_one_side(coco: MakeCoco) -> None:
    """Copies of an image would make validation too easy."""
    for seed in range(6):
        channel = coco(f"training{seed}", num_images=12)
        for copy in ("copy1.jpg", "copy2.jpg"):
            channel.image(copy, file="")
            channel.box(len(channel.document["images"]))
            shutil.copy(channel.path / f"training{seed}_003.jpg", channel.path / copy)
        found = prepared(channel.write(), seed=seed)
        sides = ["copy1.jpg" in found.train.names(), "copy2.jpg" in found.train.names()]
        assert sides == [f"training{seed}_003.jpg" in found.train.names()] * 2
        assert found.report["split"]["identical_images_kept_together"] == 3
        assert found.report["leaks"]["count"] == 0


def test_leaks_between_channels_are_told(coco: MakeCoco) -> None:
    """Byte-identical images on both sides are counted and named, not removed."""
    training, validation = coco("training", num_images=3), coco("validation", num_images=3)
    shutil.copy(training.path / "training_001.jpg", validation.path / "validation_002.jpg")
    found = prepared(training.write(), validation.write())
    assert len(found.validation) == 3
    assert found.report["leaks"] == {"count": 1, "images": [["training_001.jpg", "validation_002.jpg"]]}
    assert warnings_of(found) == [
        "1 validation images are byte-identical to training images, so the validation metrics will be too good: "
        "'validation_002.jpg' is 'training_001.jpg', for example."
    ]


def test_the_report_counts_both_sides(coco: MakeCoco) -> None:
    """Images, negatives, boxes by class and size, sizes of images, fixes."""
    training, validation = coco("training"), coco("validation")
    training.image("a.jpg", size=(200, 100))
    training.image("b.jpg", size=(64, 48))
    training.image("c.jpg", size=(100, 150))
    training.box(1, 1, (0, 0, 31, 33))
    training.box(1, 2, (0, 0, 32, 32))
    training.box(1, 1, (0, 0, 96, 96))
    training.box(3, 1, (0, 0, 10, 10), iscrowd=1)
    training.box(3, 1, (90, 0, 20, 10))
    training.box(3, 1, (0, 0, 0, 10))
    validation.image("d.png")
    validation.box(1, 1)
    found = prepared(training.write(), validation.write())
    report = found.report
    assert report["schema_version"] == 1
    assert report["class_names"] == ["cat", "dog"]
    assert report["train"] == {
        "fingerprint": found.train.fingerprint,
        "images": 3,
        "images_without_boxes": 1,
        "boxes": 5,
        "crowd_boxes": 1,
        "boxes_per_class": {"cat": 4, "dog": 1},
        "images_per_class": {"cat": 2, "dog": 1},
        "image_width_px": {"min": 64, "median": 100.0, "max": 200},
        "image_height_px": {"min": 48, "median": 100.0, "max": 150},
        "box_sizes": {"small": 3, "medium": 1, "large": 1},
    }
    assert report["validation"]["boxes_per_class"] == {"cat": 1, "dog": 0}
    assert report["fixes"] == {"boxes_without_area_removed": 1, "boxes_clipped_to_image": 1}
    assert report["problems"] == {
        "training": {
            "boxes without area": {"count": 1, "images": ["c.jpg"], "consequence": "the boxes are left out"},
        }
    }  # fmt: skip
    assert warnings_of(found) == ["No validation image has a box of 'dog': that is not measured."]
    lines = [text for level, text in report_lines(report) if level == logging.INFO]
    assert lines == [
        "Channel 'training': COCO annotations in 'annotations.json', 3 images, 6 boxes.",
        "Channel 'validation': COCO annotations in 'annotations.json', 1 images, 1 boxes.",
        "Validation images: channel 'validation'.",
        "Training: 3 images (1 without boxes), 5 boxes (3 small, 1 medium, 1 large), "
        "widths 64-200 px, heights 48-150 px.",
        "Validation: 1 images (0 without boxes), 1 boxes (1 small, 0 medium, 0 large), "
        "widths 64-64 px, heights 48-48 px.",
        "Boxes of each class, training / validation: cat 4 / 1, dog 1 / 0.",
        "Found and mended: boxes without area removed 1, boxes clipped to image 1.",
    ]


def test_what_the_user_can_act_on_is_a_warning(coco: MakeCoco) -> None:
    """Images left out, classes without boxes, findings of the reader."""
    channel = coco("training", num_images=39)
    channel.document["categories"] += [{"id": 3, "name": "cow"}, {"id": 4, "name": "pets"}]
    channel.document["categories"][0]["supercategory"] = "pets"
    channel.image("gone.jpg", file="")
    found = prepared(channel.write())
    assert found.report["class_names"] == ["cat", "dog", "cow"]
    assert [text[:60] for text in warnings_of(found)] == [
        "'annotations.json' of channel 'training' has categories with",
        "training: 1 images: missing (left out), for example 'gone.jp",
        "No training image has a box of 'cow': that cannot be learnt.",
    ]
    assert found.report["fixes"] == {"dropped_categories": 1, "images_left_out": 1}


def test_many_classes_are_cut_in_the_log(coco: MakeCoco) -> None:
    """A line stays a line; the report has all."""
    channel = coco("training", num_images=4)
    channel.document["categories"] += [{"id": index, "name": f"c{index}"} for index in range(3, 60)]
    channel.document["categories"][0]["name"] = "c\nmetrics epoch=1"
    found = prepared(channel.write())
    (line,) = (text for _, text in report_lines(found.report) if text.startswith("Boxes of each class"))
    assert "\n" not in line
    assert line.endswith("c20 0 / 0 and 39 more classes.")
    assert len(found.report["train"]["boxes_per_class"]) == 59


def test_no_boxes_are_refused(coco: MakeCoco) -> None:
    """In the annotations, after mending, and in validation."""
    channel = coco("training")
    channel.image("a.jpg")
    channel.image("b.jpg")
    with pytest.raises(UserError, match=r"'annotations.json' of channel 'training' has no boxes \(2 images\)"):
        prepared(channel.write())
    channel.box(1, 1, (100, 100, 5, 5))
    with pytest.raises(UserError, match=r"The \d images for training have no boxes that can be used \(training"):
        prepared(channel.write())
    channel.box(1, 1)
    with pytest.raises(UserError, match=r"The 1 images for validation have no boxes that can be used"):
        prepared(channel.write())


def test_no_images_are_refused(coco: MakeCoco) -> None:
    """An empty json is no data."""
    channel = coco("training")
    channel.path.mkdir()
    with pytest.raises(UserError, match=r"has no boxes \(0 images\). Training needs annotated images"):
        prepared(channel.write())


@pytest.mark.parametrize("num_classes", [2, 4])
def test_num_classes_must_count_the_background(coco: MakeCoco, num_classes: int) -> None:
    """Both numbers and the names are told."""
    path = coco(num_images=8).write()
    assert len(prepared(path, num_classes=3).train.class_names) == 2
    with pytest.raises(UserError) as error:
        prepared(path, num_classes=num_classes)
    assert str(error.value) == (
        f"Hyperparameter 'num_classes' has value {num_classes}, but 'annotations.json' of channel 'training' has 2 "
        "classes ('cat', 'dog'), which makes 3 with the background. Set it to 3, or leave it out."
    )


def test_classes_that_only_validation_has_are_refused(voc: MakeVoc) -> None:
    """A typo in a name is not a class of its own."""
    training, validation = voc("training"), voc("validation")
    (validation / "Annotations/b.xml").write_text(voc_xml([("Cat", (1, 2, 3, 4)), ("cow", (1, 2, 3, 4))]))
    message = (
        r"'validation' has boxes of classes that channel 'training' does not have: 'Cat', 'cow'. The classes there are"
    )
    with pytest.raises(UserError, match=message):
        prepared(training, validation)


def test_channels_are_called_by_their_names(coco: MakeCoco) -> None:
    """The job may call them otherwise."""
    with pytest.raises(UserError, match="Channel 'train' has 2 COCO"):
        coco("x", num_images=2).write("a.json")
        prepared(coco("x").write("b.json"), training_name="train")


def test_preparing_stops_when_asked(coco: MakeCoco) -> None:
    """Wherever the stop request comes."""
    path = coco(num_images=8).write()
    calls = [0]

    def should_stop(after: int) -> bool:
        calls[0] += 1
        return calls[0] > after

    for after in range(2):
        calls[0] = 0
        with pytest.raises(StopRequested):
            prepared(path, should_stop=lambda after=after: should_stop(after))


def test_masks_come_along(coco: MakeCoco) -> None:
    """with_masks reaches both sides."""
    channel = coco(num_images=8)
    for annotation in channel.document["annotations"]:
        annotation["segmentation"] = [[10, 10, 30, 10, 30, 30]]
    found = prepared(channel.write(), with_masks=True)
    assert found.validation.mask_rle(0)["size"] == [48, 64]
    assert found.train.mask_offsets is not None
    assert np.diff(found.train.mask_offsets).min() > 0
