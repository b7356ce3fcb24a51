"""Random damage: whatever stands in the files, the answer is a table or an error for the user."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotated_channels import CocoChannel, write_image
from icemaker.data.annotations import prepare
from icemaker.data.image_files import inspect
from icemaker.errors import UserError

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 10**25, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf"), "",
    "x", "1", "training_000.jpg", "../x", "\ud800", "a\0b", [], [1], [1, 2, 3, 4], [[]], {}, {"id": 1}, [None], "cat",
]  # fmt: skip


def prepare_or_refuse(path: Path, **options: Any) -> bool:
    """Whether it was read; any other error than one for the user fails the test."""
    try:
        found = prepare(path, None, validation_fraction=0.3, seed=0, max_bad_images=1.0, **options)
    except UserError as error:
        assert 20 < len(str(error)) < 2000
        return False
    for table in (found.train, found.validation):
        limits = [(table.widths[i], table.heights[i]) for i in table.box_images()]
        for (x1, y1, x2, y2), (width, height) in zip(table.boxes.tolist(), limits, strict=True):
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
    json.dumps(found.report, allow_nan=False)
    return True


def damage(node: Any, rng: random.Random) -> None:
    """Change one value somewhere in a document of lists and dictionaries."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.9:
            node = node[key]
            continue
        if rng.random() < 0.2:
            del node[key]
        elif rng.random() < 0.2:
            node[key] = copy.deepcopy(node[rng.choice(keys)])
        else:
            node[key] = copy.deepcopy(rng.choice(VALUES))
        return


@pytest.mark.parametrize("with_masks", [False, True])
def test_damaged_coco_fields_are_errors_for_the_user(coco: Callable[..., CocoChannel], with_masks: bool) -> None:
    """One to three values of a good json are exchanged, a hundred and fifty times."""
    channel = coco(num_images=6)
    for annotation in channel.document["annotations"]:
        annotation |= {"segmentation": [[10, 10, 30, 10, 30, 30]], "area": 200, "iscrowd": 0}
    rle = {"size": [48, 64], "counts": [100, 48 * 64 - 100]}
    channel.document["annotations"][0]["segmentation"] = rle
    good = channel.document
    rng = random.Random(0)
    read = 0
    for _ in range(150):
        channel.document = copy.deepcopy(good)
        for _ in range(rng.randint(1, 3)):
            damage(channel.document, rng)
        read += prepare_or_refuse(channel.write(), with_masks=with_masks, annotations="annotations.json")
    assert 10 < read < 140


def test_damaged_bytes_of_annotations_are_errors_for_the_user(
    coco: Callable[..., CocoChannel], voc: Callable[..., Path]
) -> None:
    """Bytes are cut out, doubled or exchanged."""
    files = [coco("coco", num_images=6).write() / "annotations.json", voc("voc") / "Annotations/b.xml"]
    rng = random.Random(0)
    for file in files:
        good = file.read_bytes()
        for _ in range(100):
            data = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                start = rng.randrange(len(data))
                data[start : start + rng.choice([0, 1, 3])] = rng.randbytes(rng.choice([0, 1, 2]))
            file.write_bytes(data)
            prepare_or_refuse(files[0].parent if file == files[0] else files[1].parents[1])
        file.write_bytes(good)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.gif", "a.tif", "a.webp", "a.ppm"])
def test_damaged_images_never_raise(tmp_path: Path, name: str) -> None:
    """The header of an image may hold anything."""
    path = tmp_path / name
    write_image(path, (40, 30))
    good = path.read_bytes()
    rng = random.Random(0)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(min(len(data), 600))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        info = inspect(path)
        assert info.problem is not None or (info.width > 0 and info.height > 0)
