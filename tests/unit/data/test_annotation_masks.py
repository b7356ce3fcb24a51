"""Masks of COCO segmentations, held against pycocotools."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO

from annotated_channels import CocoChannel
from icemaker.data.annotations.check import mend
from icemaker.data.annotations.read import read_annotations
from icemaker.data.annotations.table import AnnotationTable
from icemaker.data.image_files import inspect_all
from icemaker.errors import StopRequested, UserError

MakeCoco = Callable[..., CocoChannel]
# pycocotools 2.0.11 does not know numpy 2's copy argument.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def read_table(channel: CocoChannel, **options: Any) -> AnnotationTable:
    return read_annotations(channel.write(), channel_name="training", with_masks=True, **options).table


def runs_of(pixels: np.ndarray[Any, Any]) -> list[int]:
    """Uncompressed counts: columns first, zeros first."""
    flat = pixels.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return runs if flat[0] == 0 else [0, *runs]


def test_masks_equal_those_of_pycocotools(coco: MakeCoco, capsys: pytest.CaptureFixture[str]) -> None:
    """Polygons, several polygons, run lengths and compressed run lengths."""
    rng = np.random.default_rng(0)
    channel = coco()
    for index in range(3):
        channel.image(f"{index}.jpg", size=(64, 48 + index), file="" if index == 2 else None)
    for number in range(60):
        image_id = 1 + number % 2
        height = 47 + image_id
        pixels = np.asfortranarray(rng.random((height, 64)) < rng.random(), dtype=np.uint8)
        compressed = mask.encode(pixels)["counts"].decode()
        triangles = rng.uniform(0, 47, (2, 6)).tolist()
        forms = [triangles[:1], triangles, {"size": [height, 64], "counts": runs_of(pixels)}]
        forms += [{"size": [height, 64], "counts": compressed}, [[1, 2, 3, 4], *triangles]]
        channel.box(image_id, segmentation=forms[number % 5], iscrowd=int(number % 5 in (2, 3)))
    table = read_table(channel)
    for annotation in channel.document["annotations"]:
        if len(annotation["segmentation"]) == 3:
            annotation["segmentation"] = annotation["segmentation"][1:]
    truth = COCO(str(channel.write() / "annotations.json"))
    capsys.readouterr()
    box = 0
    for image_id in (1, 2):
        for annotation in truth.loadAnns(truth.getAnnIds(imgIds=[image_id])):
            np.testing.assert_array_equal(mask.decode(table.mask_rle(box)), truth.annToMask(annotation))
            box += 1
    assert box == len(table.labels) == 60


def test_an_image_without_a_size_gets_that_of_its_file(coco: MakeCoco) -> None:
    """A polygon can only be drawn on a known size."""
    channel = coco()
    channel.image("a.jpg", width=None, height=None)
    channel.box(1, segmentation=SQUARE)
    table = read_table(channel)
    assert table.mask_rle(0)["size"] == [48, 64]
    assert mask.area(table.mask_rle(0)) == 400


def test_missing_images_have_empty_masks_until_they_are_left_out(coco: MakeCoco) -> None:
    """With and without a size in the json."""
    channel = coco()
    channel.image("a.jpg")
    channel.image("gone.jpg", file="", width=None, height=None)
    channel.image("lost.jpg", file="")
    for image_id in (3, 1, 2):
        channel.box(image_id, segmentation=SQUARE)
    read = read_annotations(channel.write(), channel_name="training", with_masks=True)
    mended = mend(read, inspect_all(read.table.paths()), max_bad_images=1.0)
    assert mended.table.names() == ["a.jpg"]
    assert mask.area(mended.table.mask_rle(0)) == 400


def test_masks_follow_the_size_of_the_file(coco: MakeCoco) -> None:
    """Where the annotated size is a pixel off, the mask is cut or extended, not bent."""
    channel = coco()
    channel.image("a.jpg", width=63, height=49)
    channel.box(1, segmentation=SQUARE)
    channel.image("b.jpg")
    channel.box(2, segmentation=SQUARE)
    read = read_annotations(channel.write(), channel_name="training", with_masks=True)
    assert read.table.mask_rle(0)["size"] == [49, 63]
    table = mend(read, inspect_all(read.table.paths()), max_bad_images=0.0).table
    assert table.mask_rle(0)["size"] == [48, 64]
    assert table.mask_rle(0) == table.mask_rle(1)


def test_far_points_of_a_polygon_do_no_harm(coco: MakeCoco) -> None:
    """They are clipped to the image before drawing."""
    channel = coco()
    channel.image("a.jpg")
    channel.box(1, segmentation=[[-1e12, -1e12, 1e12, -1e12, 1e12, 1e12, -1e12, 1e12]])
    assert mask.area(read_table(channel).mask_rle(0)) == 64 * 48


@pytest.mark.parametrize(
    "segmentation",
    [
        None, [], [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 3, 4, 5, None]], [[1.0] * 5 + [float("nan")]],
        [["a"] * 6], 7, "polygon", [1, 2, 3, 4, 5, 6], [[[1, 2], [3, 4], [5, 6]]],
        {}, {"size": [48, 64]}, {"size": [64, 48], "counts": [64 * 48]}, {"size": [48, 64], "counts": [100]},
        {"size": [48, 64], "counts": [-5, 64 * 48 + 5]}, {"size": [48, 64], "counts": "P`"},
        {"size": [48, 64], "counts": ""}, {"size": [48, 64], "counts": "\u00e9"}, {"size": [48, 64], "counts": "0"},
        {"size": [48, 64], "counts": "ooooooooooooooooo0"}, {"size": 5, "counts": [5]},
        {"size": [48, 64], "counts": "!!"},
    ],
)  # fmt: skip
def test_damaged_segmentations_are_named(coco: MakeCoco, segmentation: Any) -> None:
    """The annotation, its value and what is allowed are told; pycocotools would crash or draw anything."""
    channel = coco(num_images=1)
    channel.box(1, segmentation=SQUARE)  # where another one has a mask, all must
    channel.document["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(UserError, match=r"Annotation 1 in 'annotations.json' of .* has segmentation .* Allowed are"):
        read_table(channel)


def test_reading_masks_stops_when_asked(coco: MakeCoco) -> None:
    """The stop request is seen between masks."""
    channel = coco(num_images=1)
    channel.document["annotations"][0]["segmentation"] = SQUARE
    with pytest.raises(StopRequested, match="reading masks"):
        read_table(channel, annotations="annotations.json", should_stop=lambda: True)


def test_boxes_alone_have_no_masks(coco: MakeCoco) -> None:
    """Without with_masks nothing is kept of them."""
    channel = coco(num_images=1)
    assert read_annotations(channel.write(), channel_name="training").table.mask_bytes is None


def test_without_any_segmentation_there_are_no_masks(coco: MakeCoco) -> None:
    """Boxes alone are read as boxes, although masks were asked for."""
    channel = coco(num_images=1)
    for annotation in channel.document["annotations"]:
        annotation["segmentation"] = []
    assert read_table(channel).mask_bytes is None
