"""The drawn data set: the same for the same seed, and its annotations lie where the shapes are."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "local_test" / "draw_shapes.py"


def draw(folder: Path, seed: int = 3) -> dict[str, str]:
    command = [sys.executable, str(SCRIPT), str(folder), "--training", "20", "--validation", "5", "--size", "128"]
    subprocess.run([*command, "--seed", str(seed)], check=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw(folder)
    return folder


def read(folder: Path, split: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / split / "annotations.json").read_text())
    return content


def test_same_seed_draws_the_same_files(drawn: Path, tmp_path: Path) -> None:
    """A run can be repeated to the last byte; another seed gives other pictures."""
    again = draw(tmp_path / "again")
    assert len(again) == 20 + 5 + 2
    assert again == draw(drawn)
    assert set(again.values()).isdisjoint(draw(tmp_path / "other", seed=4).values())


def test_splits_share_no_picture(drawn: Path) -> None:
    """Validation pictures are others than the training pictures."""
    training, validation = (
        {sha256(path.read_bytes()).hexdigest() for path in (drawn / split / "images").iterdir()}
        for split in ("training", "validation")
    )
    assert len(training) == 20
    assert len(validation) == 5
    assert training.isdisjoint(validation)


def test_boxes_lie_inside_the_picture_and_around_the_polygon(drawn: Path) -> None:
    """COCO: x, y, width, height in pixels of the picture; the polygon touches its four sides."""
    content = read(drawn, "training")
    images = {image["id"]: image for image in content["images"]}
    assert content["annotations"]
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        image = images[annotation["image_id"]]
        assert 0 <= x < x + width <= image["width"] + 0.02
        assert 0 <= y < y + height <= image["height"] + 0.02
        polygon = np.array(annotation["segmentation"][0]).reshape(-1, 2)
        assert np.allclose([*polygon.min(axis=0), *polygon.max(axis=0)], [x, y, x + width, y + height], atol=0.02)
        assert annotation["area"] <= width * height
        assert annotation["category_id"] in {1, 2, 3}


def test_some_pictures_hold_distractors_only(drawn: Path) -> None:
    """One picture in ten has nothing to find."""
    content = read(drawn, "training")
    annotated = {annotation["image_id"] for annotation in content["annotations"]}
    assert 2 <= len(content["images"]) - len(annotated) <= 4


def test_pictures_have_the_size_that_is_written(drawn: Path) -> None:
    """Sizes differ, and each is that of its file."""
    sizes = set()
    for image in read(drawn, "training")["images"]:
        picture = cv2.imread(str(drawn / "training" / image["file_name"]))
        assert picture is not None
        assert picture.shape == (image["height"], image["width"], 3)
        sizes.add(picture.shape)
    assert len(sizes) > 1
