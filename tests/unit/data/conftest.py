"""Channels as fixtures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from annotated_channels import BCCD, CocoChannel, voc_xml, write_image


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., CocoChannel]:
    """Makes a COCO channel: empty, or with so many images of one box each."""

    def make(name: str = "training", num_images: int = 0) -> CocoChannel:
        channel = CocoChannel(tmp_path / name)
        for index in range(num_images):
            channel.image(f"{name}_{index:03d}.jpg")
            channel.box(index + 1, 1 + index % 2)
        return channel

    return make


@pytest.fixture
def voc(tmp_path: Path) -> Callable[..., Path]:
    """Makes a Pascal VOC channel of images 'a', 'b', ...: one cat, every second one a dog too."""

    def make(
        name: str = "training", stems: str = "abcd", annotations: str = "Annotations", images: str = "JPEGImages"
    ) -> Path:
        path = tmp_path / name
        (path / annotations).mkdir(parents=True, exist_ok=True)
        for number, stem in enumerate(stems):
            write_image(path / images / f"{stem}.jpg")
            objects = [("cat", (1, 2, 11, 12)), ("dog", (5, 5, 30, 40))][: 1 + number % 2]
            (path / annotations / f"{stem}.xml").write_text(voc_xml(objects, filename=f"{stem}.jpg"))
        return path

    return make


@pytest.fixture
def bccd() -> Path:
    """The blood cells of the shared data."""
    if not BCCD.is_dir():
        pytest.skip(f"no shared data ({BCCD})")
    return BCCD
