"""Small real images with hand-made annotations."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from icemaker.data.annotations import AnnotationTable, prepare

Box = tuple[int, tuple[float, float, float, float]]  # label, xyxy


def write_coco(folder: Path, images: list[tuple[str, np.ndarray, list[Box]]], classes: tuple[str, ...]) -> Path:
    """Write images and a COCO file with boxes and their outlines as polygons."""
    folder.mkdir(parents=True)
    document: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": label, "name": name} for label, name in enumerate(classes, start=1)]
    for image_id, (name, pixels, boxes) in enumerate(images, start=1):
        assert cv2.imwrite(str(folder / name), pixels[..., ::-1])
        height, width = pixels.shape[:2]
        document["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
        for label, (x1, y1, x2, y2) in boxes:
            document["annotations"].append({
                "id": len(document["annotations"]) + 1, "image_id": image_id, "category_id": label, "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
                "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
            })  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def table(tmp_path: Path) -> AnnotationTable:
    """Three images: wide with two boxes, tall with one, and one without any."""
    rng = np.random.default_rng(0)

    def noise(height: int, width: int) -> np.ndarray:
        return rng.integers(0, 255, (height, width, 3), dtype=np.uint8)

    images: list[tuple[str, np.ndarray, list[Box]]] = [
        ("wide.png", noise(100, 200), [(1, (20, 10, 60, 50)), (2, (100, 30, 180, 90))]),
        ("tall.png", noise(200, 100), [(2, (10, 100, 50, 180))]),
        ("empty.png", noise(64, 64), []),
    ]
    channel = write_coco(tmp_path / "channel", images, ("cat", "dog"))
    options: dict[str, Any] = {"validation_fraction": 0.2, "seed": 1, "max_bad_images": 0.0, "with_masks": True}
    return prepare(channel, channel, **options).train
