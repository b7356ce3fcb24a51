"""The annotation table: rows, selection, fingerprint, files."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icemaker.data.annotations.table import AnnotationTable, encode_names, group_by_image


def make_table(names: list[str] | None = None, root: str = "/data", **columns: Any) -> AnnotationTable:
    """Three images with two, none and three boxes."""
    path_bytes, path_offsets = encode_names(names or ["a.jpg", "sub/\u00e9.jpg", "c.jpg"])
    boxes = np.arange(20, dtype=np.float32).reshape(5, 4)
    fields: dict[str, Any] = {
        "class_names": ("cat", "dog"),
        "root": root,
        "path_bytes": path_bytes,
        "path_offsets": path_offsets,
        "image_ids": [7, 8, 9],
        "widths": [10, 20, 30],
        "heights": [11, 21, 31],
        "box_offsets": [0, 2, 2, 5],
        "boxes": boxes,
        "labels": [1, 2, 1, 1, 2],
        "is_crowd": [False, True, False, False, False],
        "areas": [1, 2, 3, 4, 5],
    }
    return AnnotationTable(**(fields | columns))


def with_masks() -> AnnotationTable:
    return make_table(mask_bytes=np.frombuffer(b"aabcccdde", np.uint8), mask_offsets=[0, 2, 3, 6, 8, 9])


def assert_equal(one: AnnotationTable, other: AnnotationTable) -> None:
    assert one.class_names == other.class_names
    assert one.names() == other.names()
    for name in ("image_ids", "widths", "heights", "box_offsets", "boxes", "labels", "is_crowd", "areas"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.fingerprint == other.fingerprint


def test_a_row_gives_its_path_and_boxes() -> None:
    """Path, name and box slice of an image belong together."""
    table = make_table()
    assert len(table) == 3
    assert table.path(1) == Path("/data/sub/\u00e9.jpg")
    assert table.name(2) == "c.jpg"
    assert table.paths() == [str(table.path(index)) for index in range(3)]
    assert table.box_slice(0) == slice(0, 2)
    assert table.box_slice(1) == slice(2, 2)
    assert table.boxes[table.box_slice(2)].shape == (3, 4)
    assert table.box_images().tolist() == [0, 0, 2, 2, 2]


def test_dtypes_are_those_of_the_contract() -> None:
    """Whatever is handed in, the columns have the promised types."""
    table = with_masks()
    assert table.boxes.dtype == np.float32
    assert table.labels.dtype == np.int32
    assert table.image_ids.dtype == np.int64
    assert table.is_crowd.dtype == bool
    assert table.mask_bytes is not None
    assert table.mask_bytes.dtype == np.uint8


def test_arrays_are_read_only() -> None:
    """Nobody changes a table in place."""
    table = make_table()
    with pytest.raises(ValueError, match="read-only"):
        table.boxes[0, 0] = 1
    with pytest.raises(AttributeError):
        table.labels = table.labels  # type: ignore[misc]


def test_a_file_name_that_is_not_utf8_survives() -> None:
    """Bytes that are no text (surrogates in Python) come back as they were."""
    table = make_table(names=["a.jpg", "b\udce9.jpg", "c.jpg"])
    assert table.name(1) == "b\udce9.jpg"
    assert table.names()[1] == "b\udce9.jpg"


@pytest.mark.parametrize("rows", [[2, 0], [1], [], [0, 0, 2], np.array([True, False, True])])
def test_select_takes_images_with_their_boxes_in_order(rows: Any) -> None:
    """A selection equals picking every image by hand."""
    table = with_masks()
    selected = table.select(rows)
    picked = np.flatnonzero(rows).tolist() if isinstance(rows, np.ndarray) else rows
    assert len(selected) == len(picked)
    for new, old in enumerate(picked):
        assert selected.path(new) == table.path(old)
        assert selected.image_ids[new] == table.image_ids[old]
        one, other = selected.box_slice(new), table.box_slice(old)
        np.testing.assert_array_equal(selected.boxes[one], table.boxes[other])
        np.testing.assert_array_equal(selected.labels[one], table.labels[other])
        np.testing.assert_array_equal(selected.is_crowd[one], table.is_crowd[other])
        for a, b in zip(range(one.start, one.stop), range(other.start, other.stop), strict=True):
            assert selected.mask_rle(a) == table.mask_rle(b)


def test_select_boxes_keeps_the_images() -> None:
    """Boxes go, images stay."""
    table = with_masks().select_boxes(np.array([False, True, False, False, True]))
    assert table.names() == with_masks().names()
    assert table.box_offsets.tolist() == [0, 1, 1, 2]
    assert table.labels.tolist() == [2, 2]
    assert [table.mask_rle(box)["counts"] for box in range(2)] == [b"b", b"e"]


def test_a_mask_has_the_size_of_its_image() -> None:
    """pycocotools takes height before width."""
    assert with_masks().mask_rle(3) == {"size": [31, 30], "counts": b"dd"}


def test_the_fingerprint_does_not_know_the_mount_point() -> None:
    """The same data in another folder is the same data."""
    assert make_table(root="/data").fingerprint == make_table(root="/opt/ml/input").fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("cat", "cow")},
        {"names": ["a.jpg", "b.jpg", "d.jpg"]},
        {"image_ids": [7, 8, 10]},
        {"widths": [10, 20, 31]},
        {"box_offsets": [0, 1, 2, 5]},
        {"boxes": np.zeros((5, 4))},
        {"labels": [1, 2, 1, 1, 1]},
        {"is_crowd": [False] * 5},
        {"areas": [1, 2, 3, 4, 6]},
        {"mask_bytes": np.zeros(5, np.uint8), "mask_offsets": [0, 1, 2, 3, 4, 5]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_knows_every_content(change: dict[str, Any]) -> None:
    """Any other content is another fingerprint."""
    assert make_table(**change).fingerprint != make_table().fingerprint


def test_a_table_comes_back_from_its_folder(tmp_path: Path) -> None:
    """Saving and loading changes nothing, and the arrays are maps of the files."""
    table = with_masks()
    table.save(tmp_path / "deep" / "table")
    loaded = AnnotationTable.load(tmp_path / "deep" / "table")
    assert_equal(loaded, table)
    assert loaded.mask_rle(2) == table.mask_rle(2)
    assert loaded.root == table.root
    owner = loaded.boxes
    while not isinstance(owner, np.memmap) and owner.base is not None:
        owner = owner.base
    assert isinstance(owner, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        loaded.boxes[0, 0] = 1


def test_an_empty_table_comes_back_from_its_folder(tmp_path: Path) -> None:
    """No images and no boxes is a table too."""
    table = with_masks().select([])
    table.save(tmp_path / "table")
    loaded = AnnotationTable.load(tmp_path / "table")
    assert len(loaded) == 0
    assert loaded.boxes.shape == (0, 4)
    assert_equal(loaded, table)


def test_saving_replaces_what_was_there_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A second save is the one that is read; no temporary folders remain."""
    make_table().save(tmp_path / "table")
    before = AnnotationTable.load(tmp_path / "table")
    make_table().select([2]).save(tmp_path / "table")
    assert len(AnnotationTable.load(tmp_path / "table")) == 1
    assert len(before.boxes) == 5
    assert before.boxes[4, 3] == 19  # the old files are mapped still
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_a_failed_save_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk does not cost what was there."""
    make_table().save(tmp_path / "table")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        make_table().select([0]).save(tmp_path / "table")
    assert len(AnnotationTable.load(tmp_path / "table")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    """Both versions are named."""
    make_table().save(tmp_path / "table")
    description = json.loads((tmp_path / "table/table.json").read_text())
    (tmp_path / "table/table.json").write_text(json.dumps(description | {"schema_version": 99}))
    with pytest.raises(ValueError, match=r"schema_version 99; this version reads 1"):
        AnnotationTable.load(tmp_path / "table")


def test_a_loaded_table_pickles_as_its_folder(tmp_path: Path) -> None:
    """A worker process gets a path, not the arrays."""
    table = make_table(boxes=np.zeros((5, 4)))
    table.save(tmp_path / "table")
    data = pickle.dumps(AnnotationTable.load(tmp_path / "table"))
    assert len(data) < 300
    assert_equal(pickle.loads(data), table)  # noqa: S301


def test_a_table_in_memory_pickles_with_its_arrays() -> None:
    """Without a folder the content travels."""
    table = with_masks()
    copy = pickle.loads(pickle.dumps(table))  # noqa: S301
    assert_equal(copy, table)
    assert not copy.boxes.flags.writeable


def test_boxes_are_grouped_by_image_in_their_order() -> None:
    """Grouping is stable and counts images without boxes."""
    offsets, order = group_by_image(np.array([2, 0, 2, 0]), 4)
    assert offsets.tolist() == [0, 2, 2, 4, 4]
    assert order.tolist() == [1, 3, 0, 2]
