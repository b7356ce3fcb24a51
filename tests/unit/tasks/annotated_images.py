"""Small real images with hand-made annotations."""

import json
from pathlib import Path

import cv2
import numpy as np

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
