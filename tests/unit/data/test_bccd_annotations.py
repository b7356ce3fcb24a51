"""The blood cells, real data in both formats."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icemaker.data.annotations import AnnotationTable, Prepared, prepare
from icemaker.data.annotations.read import read_annotations

OPTIONS: dict[str, Any] = {"validation_fraction": 0.2, "seed": 0, "max_bad_images": 0.0}


@pytest.fixture
def from_voc(bccd: Path) -> Prepared:
    return prepare(bccd / "BCCD", None, **OPTIONS)


def coco_channel(bccd: Path, folder: Path, split: str) -> Path:
    folder.mkdir()
    (folder / "images").symlink_to(bccd / "BCCD/JPEGImages")
    shutil.copy(bccd / f"coco/instances_{split}.json", folder)
    return folder


def boxes_by_file(table: AnnotationTable) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table.path(index).name: sorted(
            (table.class_names[label - 1], *box)
            for label, box in zip(
                table.labels[table.box_slice(index)], table.boxes[table.box_slice(index)].tolist(), strict=True
            )
        )
        for index in range(len(table))
    }


def test_the_lists_give_the_known_counts(from_voc: Prepared) -> None:
    """205 and 87 images; the two boxes without area are removed."""
    report = from_voc.report
    assert report["annotations"]["training"] == {"format": "voc", "source": "Annotations", "images": 364, "boxes": 4888}
    assert report["split"] == {"method": "lists", "source": "ImageSets/Main", "images_in_neither": 72}
    assert (report["train"]["images"], report["validation"]["images"]) == (205, 87)
    assert report["fixes"] == {"boxes_without_area_removed": 2}
    assert report["train"]["boxes_per_class"] == {"Platelets": 209, "RBC": 2381, "WBC": 214}


def test_all_boxes_are_those_of_the_readme(bccd: Path) -> None:
    """4,888 boxes of three classes; two of them without area."""
    table = read_annotations(bccd / "BCCD", channel_name="training").table
    counts = dict(zip(table.class_names, np.bincount(table.labels)[1:].tolist(), strict=True))
    assert counts == {"Platelets": 361, "RBC": 4155, "WBC": 372}
    assert int(((table.boxes[:, 2:] - table.boxes[:, :2]) <= 0).any(axis=1).sum()) == 2


def test_coco_and_voc_give_the_same_boxes(bccd: Path, from_voc: Prepared, tmp_path: Path) -> None:
    """Box for box and class for class, through both readers."""
    from_coco = prepare(
        coco_channel(bccd, tmp_path / "training", "train"),
        coco_channel(bccd, tmp_path / "validation", "val"),
        annotations="instances_train.json",
        num_classes=4,
        **OPTIONS,
    )
    assert from_coco.train.class_names == from_voc.train.class_names == ("Platelets", "RBC", "WBC")
    assert boxes_by_file(from_coco.train) == boxes_by_file(from_voc.train)
    assert boxes_by_file(from_coco.validation) == boxes_by_file(from_voc.validation)
    assert from_coco.report["leaks"]["count"] == 0


def test_sizes_are_those_of_the_json(bccd: Path, from_voc: Prepared) -> None:
    """The headers say what the COCO files say."""
    images = json.loads((bccd / "coco/instances_train.json").read_text())["images"]
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in images}
    table = from_voc.train
    found = {table.path(i).name: (int(table.widths[i]), int(table.heights[i])) for i in range(len(table))}
    assert found == sizes
