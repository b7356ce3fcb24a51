"""A small table of real images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotated_images import Box, write_coco
from icemaker.data.annotations import AnnotationTable, prepare


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
