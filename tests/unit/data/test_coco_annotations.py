"""Reading COCO jsons: what comes in, and what is refused by name."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from annotated_channels import CocoChannel, write_image
from icemaker.data.annotations.channel import ReadAnnotations
from icemaker.data.annotations.read import read_annotations
from icemaker.errors import UserError

MakeCoco = Callable[..., CocoChannel]


def read(path: Path, **options: Any) -> ReadAnnotations:
    return read_annotations(path, channel_name="training", **options)


def test_boxes_equal_those_of_pycocotools(coco: MakeCoco, capsys: pytest.CaptureFixture[str]) -> None:
    """Every image has the boxes, areas and crowds that pycocotools reads, in its order."""
    channel = coco()
    rng = np.random.default_rng(0)
    for index in range(20):
        channel.image(f"{index}.jpg", id=100 - index)
    for number in range(200):
        x, y, w, h = np.round(rng.uniform(0, 40, 4), 2).tolist()
        extra = {"area": round(w * h / 2, 2) + 1, "iscrowd": int(number % 9 == 0)}
        channel.box(int(rng.integers(81, 101)), int(rng.integers(1, 3)), (x, y, w, h), **extra)
    path = channel.write()
    table = read(path).table
    truth = COCO(str(path / "annotations.json"))
    assert table.image_ids.tolist() == [image["id"] for image in channel.document["images"]]
    for index, image_id in enumerate(table.image_ids.tolist()):
        rows = table.box_slice(index)
        expected = truth.loadAnns(truth.getAnnIds(imgIds=[image_id]))
        assert len(expected) == rows.stop - rows.start
        xywh = np.array([annotation["bbox"] for annotation in expected]).reshape(-1, 4)
        np.testing.assert_allclose(table.boxes[rows, :2], xywh[:, :2], rtol=1e-6)
        np.testing.assert_allclose(table.boxes[rows, 2:], xywh[:, :2] + xywh[:, 2:], rtol=1e-6)
        assert table.labels[rows].tolist() == [annotation["category_id"] for annotation in expected]
        assert table.is_crowd[rows].tolist() == [bool(annotation["iscrowd"]) for annotation in expected]
        np.testing.assert_allclose(table.areas[rows], [annotation["area"] for annotation in expected], rtol=1e-6)
        assert table.path(index) == path / image_file(truth, image_id)
    capsys.readouterr()


def image_file(truth: COCO, image_id: int) -> str:
    return str(truth.loadImgs([image_id])[0]["file_name"])


def test_optional_fields_may_be_absent(coco: MakeCoco) -> None:
    """Without area, iscrowd, width and height: the box's area, no crowd, size unknown."""
    channel = coco()
    channel.image("a.jpg", width=None, height=None)
    channel.box(1, bbox=(1, 2, 3, 4))
    channel.box(1, bbox=(1, 2, 3, 5), area=None, iscrowd=None)
    channel.box(1, bbox=(1, 2, 3, 6), area=0, iscrowd=1)
    channel.box(1, bbox=(1, 2, 3, 7), area="?", iscrowd=False)
    channel.box(1, bbox=(1, 2, 3, 8), area=float("nan"))
    table = read(channel.write()).table
    assert table.areas.tolist() == [12, 15, 18, 21, 24]
    assert table.is_crowd.tolist() == [False, False, True, False, False]
    assert (table.widths[0], table.heights[0]) == (0, 0)


@pytest.mark.parametrize("size", [0, -5, "64", None, 1e400, 10**400, [64], float("nan")])
def test_senseless_sizes_are_unknown(coco: MakeCoco, size: Any) -> None:
    """A size that is none counts as not said; a text of a number is one."""
    channel = coco()
    channel.image("a.jpg", width=size)
    channel.box(1)
    assert read(channel.write()).table.widths.tolist() == [64 if size == "64" else 0]


def test_images_without_boxes_are_rows(coco: MakeCoco) -> None:
    """Negatives are kept (IceVision drops them)."""
    channel = coco(num_images=2)
    channel.image("empty.jpg")
    table = read(channel.write()).table
    assert len(table) == 3
    assert table.box_slice(2) == slice(2, 2)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [([0, 1], ["cat", "dog"]), ([7, 1], ["dog", "cat"]), ([90, 1000], ["cat", "dog"]), ([-3, 0], ["cat", "dog"])],
)
def test_category_ids_become_1_to_c(coco: MakeCoco, ids: list[int], expected: list[str]) -> None:
    """0-based ids and ids with gaps are counted anew, by ascending id (IceVision makes 0 the background)."""
    channel = coco()
    channel.document["categories"] = [{"id": ids[0], "name": "cat"}, {"id": ids[1], "name": "dog"}]
    channel.image("a.jpg")
    channel.box(1, ids[0])
    channel.box(1, ids[1])
    table = read(channel.write()).table
    assert table.class_names == tuple(expected)
    assert [table.class_names[label - 1] for label in table.labels] == ["cat", "dog"]


def test_text_ids_are_mapped(coco: MakeCoco) -> None:
    """Ids may be texts, and 7 and "7" are the same id; images without numbers are numbered."""
    channel = coco()
    channel.document["categories"] = [
        {"id": "10", "name": "cat"},
        {"id": "9", "name": "dog"},
        {"id": "x", "name": "cow"},
    ]
    channel.image("a.jpg", id="one")
    channel.image("b.jpg", id=2)
    channel.image("c.jpg", id=10**30)
    channel.box("one", "9")
    channel.box("2", 10)
    channel.box(2.0, "x")
    table = read(channel.write()).table
    assert table.class_names == ("dog", "cat", "cow")
    assert table.labels.tolist() == [1, 2, 3]
    assert table.box_offsets.tolist() == [0, 1, 3, 3]
    assert table.image_ids.tolist() == [1, 2, 3]


def test_the_synthetic_root_of_roboflow_is_no_class(coco: MakeCoco) -> None:
    """A category without boxes that is the supercategory of others goes, even with the name of a class, and is told."""
    channel = coco()
    channel.document["categories"] = [
        {"id": 0, "name": "raccoon", "supercategory": "none"},
        {"id": 1, "name": "raccoon", "supercategory": "raccoon"},
        {"id": 2, "name": "person", "supercategory": "person"},
        {"id": 3, "name": "Background", "supercategory": "none"},
    ]
    channel.image("a.jpg")
    channel.box(1, 1)
    found = read(channel.write())
    assert found.table.class_names == ("raccoon", "person")
    assert found.table.labels.tolist() == [1]
    assert found.counts["dropped_categories"] == 2
    assert "'raccoon', 'Background'" in found.warnings[0]


def test_a_root_with_boxes_is_a_class(coco: MakeCoco) -> None:
    """No label is lost."""
    channel = coco()
    channel.document["categories"] = [
        {"id": 0, "name": "animal", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "animal"},
    ]
    channel.image("a.jpg")
    channel.box(1, 0)
    assert read(channel.write()).table.class_names == ("animal", "cat")


@pytest.mark.parametrize(
    ("json_name", "file", "file_name"),
    [
        ("annotations.json", "a.jpg", "a.jpg"),
        ("annotations.json", "images/a.jpg", "a.jpg"),
        ("annotations.json", "images/a.jpg", "images/a.jpg"),
        ("annotations.json", "images/a.jpg", "./images//a.jpg"),
        ("annotations.json", "images/a.jpg", "images\\a.jpg"),
        ("annotations.json", "train/cats/a b.jpg", "train/cats/a b.jpg"),
        ("train/_annotations.coco.json", "train/a.jpg", "a.jpg"),
        ("data/set.json", "data/images/a.jpg", "a.jpg"),
        ("annotations/set.json", "a.jpg", "a.jpg"),
        ("annotations/set.json", "images/a.jpg", "a.jpg"),
    ],
)
def test_images_are_found_in_the_usual_places(coco: MakeCoco, json_name: str, file: str, file_name: str) -> None:
    """Beside the json, in images beside it, in the channel, in its images."""
    channel = coco()
    channel.image(file_name, file=file)
    channel.box(1)
    path = channel.write(json_name)
    assert read(path).table.path(0) == path / file


def test_the_images_setting_is_the_only_place(coco: MakeCoco) -> None:
    """With the hyperparameter 'images' nothing else is looked at; a missing folder is an error."""
    channel = coco()
    channel.image("a.jpg", file="train2017/a.jpg")
    write_image(channel.path / "a.jpg")
    channel.box(1)
    path = channel.write()
    assert read(path, images="train2017").table.path(0) == path / "train2017/a.jpg"
    assert read(path, images="./").table.path(0) == path / "a.jpg"
    with pytest.raises(UserError, match=r"Hyperparameter 'images' has value 'val2017'.*holds 'a.jpg', .*'train2017/'"):
        read(path, images="val2017")
    with pytest.raises(UserError, match=r"Hyperparameter 'images' has value '\.\./x'. It is a path inside channel"):
        read(path, images="../x")


def test_names_written_by_macos_are_found(coco: MakeCoco) -> None:
    """A decomposed umlaut on the disk is the composed one in the json."""
    composed = unicodedata.normalize("NFC", "M\u00fcller.jpg")
    decomposed = unicodedata.normalize("NFD", composed)
    channel = coco()
    channel.image(composed, file=decomposed)
    channel.box(1)
    path = channel.write()
    assert read(path).table.path(0) == path / decomposed


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "images/../../a.jpg", "/etc/passwd", "C:\\a.jpg", "..\\a.jpg", "s3://b/a.jpg", "a\0.jpg", "", "./", 7],
)
def test_file_names_may_not_leave_the_channel(coco: MakeCoco, name: Any) -> None:
    """The image and its file name are named."""
    channel = coco(num_images=1)
    channel.document["images"][0]["file_name"] = name
    with pytest.raises(UserError, match=r"Image 1 in 'annotations.json' of channel 'training' has file_name"):
        read(channel.write())


def test_a_file_name_of_half_a_character_is_refused(coco: MakeCoco) -> None:
    """A lone surrogate is no text."""
    channel = coco(num_images=1)
    channel.document["images"][0]["file_name"] = "\ud800.jpg"
    with pytest.raises(UserError, match="has file_name"):
        read(channel.write())


def test_entries_of_one_file_become_one_image(coco: MakeCoco) -> None:
    """Their boxes are joined, so that the image cannot come on both sides of a split."""
    channel = coco(num_images=2)
    channel.image("training_000.jpg", id=3)
    channel.image("training_001.jpg", id=2)
    channel.box(3, 2, (1, 1, 5, 5))
    found = read(channel.write())
    assert found.table.names() == ["training_000.jpg", "training_001.jpg"]
    assert found.table.box_offsets.tolist() == [0, 2, 3]
    assert found.table.image_ids.tolist() == [1, 2]
    assert found.counts["repeated_image_entries"] == 2


def test_one_id_for_two_files_is_refused(coco: MakeCoco) -> None:
    """Nobody could tell whose boxes they are."""
    channel = coco(num_images=1)
    channel.image("b.jpg", id=1)
    with pytest.raises(UserError, match=r"have id 1: 'training_000.jpg' and 'b.jpg'. Make the ids unique"):
        read(channel.write())


def test_few_boxes_of_unlisted_images_are_counted(coco: MakeCoco) -> None:
    """They are left out and told; more than one in twenty are refused."""
    channel = coco(num_images=30)
    channel.box(999)
    found = read(channel.write())
    assert found.counts["annotations_without_image"] == 1
    assert len(found.table.labels) == 30
    assert "1 of 31 annotations" in found.warnings[0]
    channel.box(None)
    channel.box([1])
    with pytest.raises(UserError, match=r"3 of 33 annotations .*example annotation 31 with image_id 999\. List these"):
        read(channel.write())


def test_boxes_of_unlisted_categories_are_refused(coco: MakeCoco) -> None:
    """A single one would be a label lost on an image that is trained on."""
    channel = coco(num_images=30)
    channel.box(1, 5)
    with pytest.raises(UserError, match=r"1 annotations .* annotation 31 with category_id 5\. Listed are 1, 2\."):
        read(channel.write())


@pytest.mark.parametrize(
    "bbox",
    [
        [1, 2, 3], [1, 2, 3, 4, 5], [], None, "1,2,3,4", {"x": 1}, [1, 2, 3, None], [1, 2, 3, "4"], [1, 2, 3, True],
        [1, 2, 3, float("nan")], [1, 2, 3, float("inf")], [1, -float("inf"), 3, 4], [1, 2, 3, 10**400], [[1], [2]],
    ],
)  # fmt: skip
def test_a_bbox_is_four_finite_numbers(coco: MakeCoco, bbox: Any) -> None:
    """The annotation and its value are named."""
    channel = coco(num_images=3)
    channel.box(2, 1, bbox)
    with pytest.raises(UserError, match=r"Annotation 4 in 'annotations.json' of .* 'training' has bbox .*four finite"):
        read(channel.write())


def test_huge_boxes_do_not_overflow(coco: MakeCoco) -> None:
    """A box beyond float32 is a box all the same; the check clips it."""
    channel = coco()
    channel.image("a.jpg")
    channel.box(1, bbox=(-1e300, 0, 1e308, 1e300))
    table = read(channel.write()).table
    assert np.isfinite(table.boxes).all()
    assert table.boxes[0].tolist() == [-1e9, 0, 1e9, 1e9]
    assert np.isfinite(table.areas).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), r"has no list 'categories' \(its keys are 'images', 'annotations'\)"),
        (lambda d: d.update(images={}), r"has no list 'images' \('images' is a dict\)"),
        (lambda d: d.update(categories=[]), r"have a category that 'categories' does not list.*Listed are none"),
        (lambda d: d.update(categories=[], annotations=[]), r"has no categories"),
        (lambda d: d["images"].append("a.jpg"), r"Entry 1 of 'images' in .* is 'a.jpg', not an object"),
        (lambda d: d["images"][0].pop("id"), r"Entry 0 of 'images' in .* \(id None\) has no 'id'"),
        (lambda d: d["images"][0].pop("file_name"), r"Entry 0 of 'images' in .* \(id 1\) has no 'file_name'"),
        (lambda d: d["images"][0].update(id=[1]), r"Entry 0 of 'images' in .* has id \[1\]. An id is a whole number"),
        (lambda d: d["images"][0].update(id=1.5), r"Entry 0 of 'images' in .* has id 1.5"),
        (lambda d: d["images"][0].update(id=True), r"Entry 0 of 'images' in .* has id True"),
        (lambda d: d["annotations"][0].pop("bbox"), r"Entry 0 of 'annotations' in .* \(id 1\) has no 'bbox'"),
        (lambda d: d["annotations"][0].pop("image_id"), r"Entry 0 of 'annotations' in .* has no 'image_id'"),
        (lambda d: d["annotations"][0].pop("category_id"), r"Entry 0 of 'annotations' in .* has no 'category_id'"),
        (lambda d: d["annotations"][0].update(iscrowd="1"), r"Annotation 1 in .* has iscrowd '1'. Allowed are 0 and 1"),
        (lambda d: d["categories"][0].pop("name"), r"Entry 0 of 'categories' in .* has no 'name'"),
        (lambda d: d["categories"][0].update(name=" "), r"Category 1 in .* has name ' '"),
        (lambda d: d["categories"][0].update(name=3), r"Category 1 in .* has name 3"),
        (lambda d: d["categories"][0].update(id=2), r"Two categories in .* have id 2. Make the ids unique"),
        (lambda d: d["categories"][0].update(name="dog"), r"Categories 1, 2 in .* have the same name, 'dog'"),
    ],
)  # fmt: skip
def test_damaged_fields_are_named(coco: MakeCoco, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    """The error names the file, the entry and the value."""
    channel = coco(num_images=1)
    change(channel.document)
    with pytest.raises(UserError, match=message):
        read(channel.write(), annotations="annotations.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"'set.json' of channel 'training' is empty. A COCO json is an object"),
        (b" \n", r"is empty"),
        (b'{"images": [', r"is not valid JSON: .*line 1 column 13"),
        (b"<xml/>", r"is not valid JSON"),
        (b'{"images": "\xff\xfe\x00"}', r"is not UTF-8 text \(invalid start byte at byte 12\)"),
        (b"[1, 2]", r"has a list at its top level"),
        (b'"images"', r"has a str at its top level"),
        (b"[" * 200_000, r"is not valid JSON: .*recursion"),
        (b'{"version": "5", "shapes": [], "imagePath": "a.jpg"}', r"has no list 'images' \(its keys are 'version', "),
        (b'{"images": [' + b"9" * 5000 + b"]}", r"is not valid JSON: Exceeds the limit"),
    ],
)  # fmt: skip
def test_files_that_are_no_coco_json_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    """The error says what was expected."""
    (tmp_path / "set.json").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read(tmp_path, annotations="set.json")


def test_a_json_with_a_byte_order_mark_is_read(coco: MakeCoco) -> None:
    """Windows editors write one."""
    channel = coco(num_images=1)
    path = channel.write()
    (path / "annotations.json").write_bytes(b"\xef\xbb\xbf" + (path / "annotations.json").read_bytes())
    assert len(read(path).table) == 1


def test_an_unreadable_json_is_named(coco: MakeCoco, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that S3 or a disk refuses is told."""
    path = coco(num_images=1).write()

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"'annotations.json' of channel 'training' cannot be read: Permission denied"):
        read(path, annotations="annotations.json")


def test_reading_pauses_the_collector_only_while_parsing(coco: MakeCoco) -> None:
    """Afterwards it runs as before."""
    import gc

    read(coco(num_images=1).write())
    assert gc.isenabled()


@pytest.mark.parametrize("train", [[1, 3], ["1", 3.0, 3]])
def test_indices_json_is_the_split(coco: MakeCoco, train: list[Any]) -> None:
    """Image ids in it, in the channel or beside the json, become rows."""
    channel = coco(num_images=4)
    path = channel.write("set/annotations.json")
    (path / "set/indices.json").write_text(json.dumps({"train": train, "val": [4], "test": [2]}))
    lists = read(path).lists
    assert lists is not None
    assert lists.train.tolist() == [0, 2]
    assert lists.validation.tolist() == [3]
    assert lists.source == "set/indices.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"'indices.json' of channel 'training' is not readable JSON: .* Correct the file or remove it"),
        ("[1, 2]", r'is not {"train": \[image ids\], "val": \[image ids\]}'),
        ('{"train": [1], "val": 2}', r'is not {"train"'),
        ('{"train": [1]}', r'is not {"train"'),
        ('{"train": [], "val": [1]}', r"List 'train' of 'indices.json' .* is empty"),
        ('{"train": [1], "val": []}', r"List 'val' .* is empty"),
        (
            '{"train": [1, 77, null], "val": [2]}',
            r"List 'train' .* names 2 images that the annotations .*: 77, None",
        ),
        ('{"train": [1, 2], "val": [2, 3]}', r"has 1 images in both lists"),
    ],
)
def test_a_damaged_indices_json_is_refused(coco: MakeCoco, text: str, message: str) -> None:
    """Neither a typo nor an overlap becomes a silent split."""
    path = coco(num_images=4).write()
    (path / "indices.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read(path)
