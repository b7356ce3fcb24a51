"""Real annotated images train in the container, as COCO, as Pascal VOC and in the blog's layout: from read-only
mounts, without a network and without an argument.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from containers import Job, JobMaker

#: One pass over the real split.
SHORT = {"img_size": "128", "batch_size": "16", "epochs": "1", "num_workers": "1"}
CHANNEL = "input/data/training"


def coco(bccd: Path, folder: Path) -> dict[str, Path]:
    """Two channels, each the COCO json beside the images folder."""
    images = bccd / "BCCD/JPEGImages"
    mounts = {f"input/data/{name}/images": images for name in ("training", "validation")}
    for name, split in (("training", "train"), ("validation", "val")):
        mounts[f"input/data/{name}/instances.json"] = bccd / f"coco/instances_{split}.json"
    return mounts


def voc(bccd: Path, folder: Path) -> dict[str, Path]:
    """One channel with Annotations, JPEGImages and ImageSets/Main/train.txt and val.txt."""
    return {CHANNEL: bccd / "BCCD"}


def blog(bccd: Path, folder: Path) -> dict[str, Path]:
    """One channel: data/mixed_annotations.json, data/indices.json with image ids, images relative to the channel."""
    train, val = (json.loads((bccd / f"coco/instances_{split}.json").read_text()) for split in ("train", "val"))
    first_val_id = max(image["id"] for image in train["images"]) + 1
    first_box_id = max(box["id"] for box in train["annotations"]) + 1
    for image in val["images"]:
        image["id"] += first_val_id
    for box in val["annotations"]:
        box["image_id"] += first_val_id
        box["id"] += first_box_id
    indices = {name: [image["id"] for image in part["images"]] for name, part in (("train", train), ("val", val))}
    mixed = {**train, **{name: train[name] + val[name] for name in ("images", "annotations")}}
    for image in mixed["images"]:
        image["file_name"] = "data/images/" + Path(image["file_name"]).name
    (folder / "mixed_annotations.json").write_text(json.dumps(mixed))
    (folder / "indices.json").write_text(json.dumps(indices))
    return {
        f"{CHANNEL}/data/images": bccd / "BCCD/JPEGImages",
        f"{CHANNEL}/data/mixed_annotations.json": folder / "mixed_annotations.json",
        f"{CHANNEL}/data/indices.json": folder / "indices.json",
    }


@pytest.mark.parametrize("layout", [coco, voc, blog])
def test_bccd_trains_in_each_layout(make_job: JobMaker, bccd: Path, tmp_path: Path, layout: object) -> None:
    """The same 205 training and 87 validation images are found, and a model of the three classes is left."""
    assert callable(layout)
    job: Job = make_job(layout(bccd, tmp_path), SHORT, options=["--shm-size", "64m"]).run()
    assert job.exit_code == 0, job.log + job.failure
    model = json.loads((job.base / "model/model.json").read_text())
    assert sorted(model["class_names"]) == ["Platelets", "RBC", "WBC"]
    report = json.loads((job.base / "output/data/algo-1/data_report.json").read_text())
    assert report["train"]["images"] == 205
    written = json.loads((job.base / "output/data/algo-1/validation_annotations.json").read_text())
    assert len(written["images"]) == 87
