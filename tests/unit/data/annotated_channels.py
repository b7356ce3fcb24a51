"""Makers of small annotated channels with real image files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BCCD = Path(__file__).resolve().parents[3].parent / "shared/data/bccd"


def write_image(path: Path, size: tuple[int, int] = (64, 48), *, seed: int = 0, **options: Any) -> None:
    """A picture of noise; another seed gives another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


class CocoChannel:
    """A COCO channel under construction: images are written at once, the json by `write`."""

    def __init__(self, path: Path):
        self.path = path
        self.document: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }

    def image(self, name: str, *, size: tuple[int, int] = (64, 48), file: str | None = None, **entry: Any) -> None:
        if file != "":
            write_image(self.path / (file or name), size)
        entry = {"id": len(self.document["images"]) + 1, "file_name": name, "width": size[0], "height": size[1]} | entry
        self.document["images"].append({key: value for key, value in entry.items() if value is not None})

    def box(self, image_id: Any, category_id: Any = 1, bbox: Any = (10, 10, 20, 20), **entry: Any) -> None:
        bbox = list(bbox) if isinstance(bbox, tuple) else bbox
        row = {"id": len(self.document["annotations"]) + 1, "image_id": image_id, "category_id": category_id}
        self.document["annotations"].append(row | {"bbox": bbox} | entry)

    def write(self, name: str = "annotations.json") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.document), encoding="utf-8")
        return self.path


def voc_xml(
    objects: list[tuple[str, tuple[Any, Any, Any, Any]]], *, filename: str = "", size: tuple[int, int] = (64, 48)
) -> str:
    """Text of a Pascal VOC file."""
    items = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox></object>"
        for name, box in objects
    )
    said = f"<filename>{filename}</filename>" if filename else ""
    return f"<annotation>{said}<size><width>{size[0]}</width><height>{size[1]}</height></size>{items}</annotation>"
