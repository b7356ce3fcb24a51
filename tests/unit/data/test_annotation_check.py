"""Mending a table against its files: what is turned, clipped, removed, left out and refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from annotated_channels import CocoChannel, voc_xml, write_image
from icemaker.data.annotations.check import Mended, mend
from icemaker.data.annotations.read import read_annotations
from icemaker.data.image_files import inspect_all
from icemaker.errors import UserError

MakeCoco = Callable[..., CocoChannel]
MakeVoc = Callable[..., Path]

# pycocotools 2.0.11 does not know numpy 2's copy argument.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def checked(path: Path, max_bad_images: float = 0.0, **options: Any) -> Mended:
    read = read_annotations(path, channel_name="training", **options)
    return mend(read, inspect_all(read.table.paths()), max_bad_images=max_bad_images)


def boxes_of(mended: Mended, index: int = 0) -> list[list[float]]:
    found: list[list[float]] = mended.table.boxes[mended.table.box_slice(index)].tolist()
    return found


def test_clean_data_is_unchanged(coco: MakeCoco) -> None:
    """Nothing to mend, nothing told."""
    mended = checked(coco(num_images=3).write())
    assert (mended.fixes, mended.problems, mended.kinds) == ({}, {}, {})
    assert boxes_of(mended) == [[10, 10, 30, 30]]
    assert len(mended.infos) == 3


def test_boxes_are_clipped_and_removed(coco: MakeCoco) -> None:
    """Partly outside: clipped. Wholly outside, without area, or twice: removed. Each is counted once."""
    channel = coco()
    channel.image("a.jpg", size=(64, 48))
    channel.box(1, 1, (-5, 40, 20, 20), area=300)
    channel.box(1, 1, (60, 0, 100, 10), area=30)
    channel.box(1, 1, (0, 0, 0.5, 0.25))
    channel.box(1, 2, (0, 0, 64, 48))
    for bbox in ((70, 0, 10, 10), (-20, 0, 20, 5), (0, 48, 5, 5), (0, -30, 5, 10)):
        channel.box(1, 1, bbox)
    for bbox in ((5, 5, 0, 10), (5, 5, 10, 0), (5, 5, -3, 10), (90, 5, 0, 0), (5, 5, 10, 1e-5)):
        channel.box(1, 1, bbox)
    channel.box(1, 2, (0, 0, 64, 48))
    channel.box(1, 1, (-9, 40, 24, 20))  # the first one, once it is clipped
    channel.box(1, 1, (0, 0, 64, 48))  # of another class: not repeated
    channel.box(1, 1, (0, 0, 64, 48), iscrowd=1)
    mended = checked(channel.write())
    assert boxes_of(mended) == [[0, 40, 15, 48], [60, 0, 64, 10], [0, 0, 0.5, 0.25]] + [[0, 0, 64, 48]] * 3
    assert mended.table.labels.tolist() == [1, 1, 1, 2, 1, 1]
    assert mended.table.areas.tolist() == [120, 30, 0.125, 3072, 3072, 3072]
    assert mended.fixes == {
        "boxes_without_area_removed": 5,
        "boxes_outside_image_removed": 4,
        "boxes_clipped_to_image": 2,
        "repeated_boxes_removed": 2,
    }
    assert mended.problems["boxes outside the image"] == {
        "count": 1, "images": ["a.jpg"], "consequence": "the boxes are left out",
    }  # fmt: skip
    assert mended.problems["boxes without area"]["images"] == ["a.jpg"]


def test_equal_boxes_of_two_images_are_not_repeated(coco: MakeCoco) -> None:
    """Only within an image."""
    channel = coco(num_images=4)
    assert "repeated_boxes_removed" not in checked(channel.write()).fixes


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("with_masks", [False, True])
def test_boxes_of_stored_pixels_are_turned_upright(coco: MakeCoco, orientation: int, with_masks: bool) -> None:
    """A bright rectangle, annotated before EXIF rotation, is in its box and its mask once the picture is decoded."""
    channel = coco()
    channel.image("a.png", size=(60, 40), file="")
    x, y, w, h = 6, 22, 18, 10
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[y : y + h, x : x + w] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    channel.path.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(channel.path / "a.png", exif=exif.tobytes())
    channel.box(1, 1, (x, y, w, h), segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])
    mended = checked(channel.write(), with_masks=with_masks)
    decoded = cv2.imread(str(channel.path / "a.png"))
    assert decoded is not None
    assert decoded.shape[:2] == (mended.table.heights[0], mended.table.widths[0])
    if orientation < 5:
        # Both sizes are equal: the boxes are taken as made on the upright picture.
        assert "images_with_boxes_turned_upright" not in mended.fixes
        assert boxes_of(mended) == [[x, y, x + w, y + h]]
        return
    assert mended.fixes["images_with_boxes_turned_upright"] == 1
    rows, columns = np.nonzero(decoded[..., 0])
    assert boxes_of(mended) == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    if with_masks:
        from pycocotools import mask

        np.testing.assert_array_equal(mask.decode(mended.table.mask_rle(0)), decoded[..., 0] // 255)


def test_boxes_of_the_upright_size_are_left(coco: MakeCoco) -> None:
    """An annotation that says the upright size, or none, is not turned; the rotation is counted as a kind."""
    exif = Image.Exif()
    exif[0x0112] = 6
    channel = coco()
    channel.image("a.jpg", size=(40, 60), file="")
    channel.image("b.jpg", size=(40, 60), file="", width=None, height=None)
    for index, name in enumerate(("a.jpg", "b.jpg")):
        write_image(channel.path / name, (60, 40), exif=exif.tobytes())
        channel.box(index + 1, 1, (1, 2, 3, 50))
    mended = checked(channel.write())
    assert mended.kinds == {"exif_rotated": 2}
    assert mended.fixes == {}
    assert boxes_of(mended, 0) == boxes_of(mended, 1) == [[1, 2, 4, 52]]
    assert (mended.table.widths.tolist(), mended.table.heights.tolist()) == ([40, 40], [60, 60])


def test_kinds_of_images_are_counted(coco: MakeCoco) -> None:
    """Grey, 16-bit, CMYK and alpha."""
    channel = coco()
    channel.image("rgb.jpg")
    for name, image in {
        "grey.png": Image.new("L", (64, 48)),
        "grey.jpg": Image.new("L", (64, 48)),
        "deep.png": Image.fromarray(np.zeros((48, 64), np.uint16)),
        "cmyk.jpg": Image.new("CMYK", (64, 48)),
        "alpha.png": Image.new("RGBA", (64, 48)),
    }.items():
        channel.image(name, file="")
        image.save(channel.path / name)
    channel.box(1)
    assert checked(channel.write()).kinds == {"grey": 2, "16-bit": 1, "cmyk": 1, "alpha": 1}


def damaged_channel(coco: MakeCoco) -> CocoChannel:
    """40 images: two missing, one truncated."""
    channel = coco(num_images=37)
    for name in ("gone.jpg", "lost.jpg"):
        channel.image(name, file="")
        channel.box(len(channel.document["images"]))
    channel.image("cut.jpg")
    channel.box(40)
    cut = channel.path / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-50])
    return channel


def test_few_bad_images_are_left_out(coco: MakeCoco) -> None:
    """They are counted and named, and their boxes go with them."""
    channel = damaged_channel(coco)
    mended = checked(channel.write(), max_bad_images=0.075)
    assert len(mended.table) == len(mended.infos) == 37
    assert len(mended.table.labels) == 37
    assert mended.fixes == {"images_left_out": 3}
    assert mended.problems == {
        "missing": {"count": 2, "images": ["gone.jpg", "lost.jpg"], "consequence": "left out"},
        "truncated": {"count": 1, "images": ["cut.jpg"], "consequence": "left out"},
    }


def test_many_bad_images_are_refused(coco: MakeCoco) -> None:
    """Counts, names, the places looked at and the setting are told."""
    path = damaged_channel(coco).write()
    with pytest.raises(UserError) as error:
        checked(path, max_bad_images=0.05)
    assert str(error.value) == (
        "3 of 40 images of channel 'training' cannot be used: 2 missing: 'gone.jpg', 'lost.jpg'; 1 truncated: "
        "'cut.jpg'. Images were looked for in '.' of the channel. The hyperparameter 'max_bad_images' allows a share "
        "of 0.05. Correct the data, or raise it."
    )


def test_missing_images_that_lie_elsewhere_are_hinted_at(coco: MakeCoco) -> None:
    """COCO's own layout needs the hyperparameter 'images'; capitals are told too."""
    channel = coco()
    channel.image("a.jpg", file="train2017/a.jpg")
    channel.box(1)
    with pytest.raises(UserError, match=r"'train2017' has a file 'a.jpg': the hyperparameter 'images' can name that"):
        checked(channel.write("annotations/instances.json"))
    channel = coco("other")
    channel.image("b.jpg", file="B.JPG")
    channel.box(1)
    with pytest.raises(UserError, match=r"there is 'B.JPG', but capitals and small letters differ"):
        checked(channel.write())


def test_names_in_the_report_are_at_most_twenty(coco: MakeCoco) -> None:
    """A report stays readable."""
    channel = coco(num_images=1)
    for index in range(30):
        channel.image(f"gone{index}.jpg", file="")
    problem = checked(channel.write(), max_bad_images=1.0).problems["missing"]
    assert (problem["count"], len(problem["images"])) == (30, 20)


def test_every_image_may_be_bad(coco: MakeCoco) -> None:
    """With max_bad_images of 1 an empty table remains."""
    channel = coco()
    channel.image("gone.jpg", file="", width=None)
    channel.box(1)
    assert len(checked(channel.write(), max_bad_images=1.0).table) == 0


@pytest.mark.parametrize(
    ("said", "bbox"), [((128, 96), (1, 1, 9, 9)), ((32, 24), (1, 1, 9, 9)), ((99, 70), (70, 9, 9, 9))]
)
def test_resized_images_are_left_out(coco: MakeCoco, said: tuple[int, int], bbox: tuple[float, ...]) -> None:
    """Another size of the same aspect ratio, or boxes beyond the file: the boxes belong to another image size."""
    channel = coco(num_images=1)
    channel.image("resized.jpg", width=said[0], height=said[1])
    channel.box(2, 1, bbox)
    mended = checked(channel.write(), max_bad_images=0.5)
    assert mended.table.names() == ["training_000.jpg"]
    text = f"resized.jpg (annotated at {said[0]} x {said[1]} pixels, the file has 64 x 48)"
    assert mended.problems == {
        "resized after annotation": {"count": 1, "images": [text], "consequence": "left out"},
    }  # fmt: skip
    with pytest.raises(UserError, match=r"1 resized after annotation: 'resized.jpg \(annotated at"):
        checked(channel.path)


def test_another_size_with_boxes_inside_is_kept_and_named(coco: MakeCoco) -> None:
    """Sizes in annotations are often wrong; the file's counts."""
    channel = coco(num_images=1)
    channel.image("b.jpg", width=100, height=50)
    channel.box(2)
    mended = checked(channel.write())
    assert mended.table.widths.tolist() == [64, 64]
    assert mended.problems == {
        "annotated at another size": {"count": 1, "images": ["b.jpg"], "consequence": "kept: the file's size counts"},
    }  # fmt: skip


def test_a_size_two_pixels_off_is_nothing(coco: MakeCoco) -> None:
    """Tools round; a box that reaches over by that is clipped."""
    channel = coco()
    channel.image("a.jpg", width=66, height=47)
    channel.box(1, 1, (10, 10, 56, 20))
    mended = checked(channel.write())
    assert mended.problems == {}
    assert mended.fixes == {"boxes_clipped_to_image": 1}
    assert boxes_of(mended) == [[10, 10, 64, 30]]


def test_the_size_in_a_voc_file_is_not_trusted(voc: MakeVoc) -> None:
    """The header of the image decides."""
    path = voc(stems="a")
    (path / "Annotations/a.xml").write_text(voc_xml([("cat", (1, 2, 60, 40))], size=(0, 0)))
    mended = checked(path)
    assert (mended.table.widths[0], mended.table.heights[0]) == (64, 48)
    assert mended.problems == {}


def test_corners_in_place_of_sides_are_refused(coco: MakeCoco) -> None:
    """[x1, y1, x2, y2] in a COCO json would be boxes at the wrong place."""
    channel = coco()
    channel.image("a.jpg")
    for index in range(20):
        channel.box(1, 1, (20 + index % 3, 20, 50 + index % 14, 40))
    with pytest.raises(UserError, match=r"boxes in 'annotations.json' .* look like \[x1, y1, x2, y2\].*20 of 20 reach"):
        checked(channel.write())


def test_shares_in_place_of_pixels_are_refused(coco: MakeCoco) -> None:
    """Boxes between 0 and 1 are of another format."""
    channel = coco(num_images=1)
    channel.document["annotations"][0]["bbox"] = [0.1, 0.2, 0.5, 0.5]
    with pytest.raises(UserError, match=r"All boxes in 'annotations.json' .* between 0 and 1. Boxes are in pixels"):
        checked(channel.write())
