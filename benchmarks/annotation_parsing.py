"""Annotations of detection: ours against IceVision's parsers, on the same files, in turn.

usage: python benchmarks/annotation_parsing.py [--images 20000] [--boxes-per-image 7] [--rounds 3] [--autofix]

Ours is everything up to the checked table: parsing, header and tail of every image file, mending. IceVision's is its
parser, without the autofix unless asked for; for COCO it opens every image for its size, for Pascal VOC it opens none.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "container"))

from icemaker.data.annotations.check import mend
from icemaker.data.annotations.read import read_annotations
from icemaker.data.annotations.table import AnnotationTable
from icemaker.data.image_files import inspect_all

SIZE = 32
NUM_CLASSES = 10


def make_channels(folder: Path, num_images: int, boxes_per_image: int) -> tuple[Path, Path]:
    """The same images and boxes as a COCO channel and as a Pascal VOC channel."""
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(stream, "JPEG")
    jpeg = stream.getvalue()
    coco, voc = folder / "coco", folder / "voc"
    (coco / "images").mkdir(parents=True)
    (voc / "Annotations").mkdir(parents=True)
    corners = rng.integers(0, SIZE // 2, (num_images, boxes_per_image, 2))
    sides = rng.integers(1, SIZE // 2, (num_images, boxes_per_image, 2))
    labels = rng.integers(0, NUM_CLASSES, (num_images, boxes_per_image))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(num_images):
        name = f"image_{index:06d}"
        comment = name.encode()
        # A comment makes every file another one, as it is in real data.
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (coco / "images" / f"{name}.jpg").write_bytes(jpeg[:2] + marker + jpeg[2:])
        images.append({"id": index + 1, "file_name": f"{name}.jpg", "width": SIZE, "height": SIZE})
        objects = []
        for (x, y), (w, h), label in zip(corners[index], sides[index], labels[index], strict=True):
            x, y, w, h = int(x), int(y), int(w), int(h)
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index + 1, "category_id": int(label) + 1, "bbox": [x, y, w, h],
                 "area": w * h, "iscrowd": 0, "segmentation": [polygon]}
            )  # fmt: skip
            objects.append(
                f"<object><name>class_{label}</name><pose>Unspecified</pose><truncated>0</truncated>"
                f"<difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
                f"<ymax>{y + h}</ymax></bndbox></object>"
            )
        (voc / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><folder>images</folder><filename>{name}.jpg</filename><size><width>{SIZE}</width>"
            f"<height>{SIZE}</height><depth>3</depth></size><segmented>0</segmented>{''.join(objects)}</annotation>"
        )
    categories = [{"id": k + 1, "name": f"class_{k}"} for k in range(NUM_CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (coco / "annotations.json").write_text(json.dumps(document))
    os.symlink(coco / "images", voc / "JPEGImages")
    return coco, voc


def ours(channel: Path) -> AnnotationTable:
    read = read_annotations(channel, channel_name="training")
    return mend(read, inspect_all(read.table.paths()), max_bad_images=0.0).table


def parts_of_ours(channel: Path) -> str:
    """Where the time goes, in seconds."""
    data = (channel / "annotations.json").read_bytes()
    in_json, _ = measured(lambda: json.loads(data))
    in_reading, read = measured(lambda: read_annotations(channel, channel_name="training"))
    in_headers, infos = measured(lambda: inspect_all(read.table.paths()))
    in_mending, _ = measured(lambda: mend(read, infos, max_bad_images=0.0))
    return (
        f"of ours, CPU: reading {in_reading[1]:.2f} s (a bare json.loads: {in_json[1]:.2f} s), image headers "
        f"{in_headers[1]:.2f} s, mending {in_mending[1]:.2f} s"
    )


def icevision_records(channel: Path, autofix: bool) -> Any:
    from icevision.data import SingleSplitSplitter
    from icevision.parsers import COCOBBoxParser, VOCBBoxParser

    if (channel / "Annotations").is_dir():
        parser = VOCBBoxParser(channel / "Annotations", channel / "JPEGImages")
    else:
        parser = COCOBBoxParser(channel / "annotations.json", channel / "images")
    return parser.parse(data_splitter=SingleSplitSplitter(), autofix=autofix, show_pbar=False)[0]


def prepare_icevision(home: Path) -> None:
    """Import IceVision; it downloads a font at import unless one is there."""
    import matplotlib

    fonts = home / ".icevision" / "fonts"
    fonts.mkdir(parents=True)
    shutil.copy(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), fonts / "SpaceGrotesk-Medium.ttf")
    os.environ["HOME"] = str(home)
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    os.environ["TQDM_DISABLE"] = "1"  # autofix has a progress bar that cannot be switched off otherwise
    import icevision  # noqa: F401
    from loguru import logger

    logger.remove()


Times = tuple[float, float]


def measured(function: Callable[[], Any]) -> tuple[Times, Any]:
    """Wall seconds and CPU seconds of all threads; the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return (time.perf_counter() - wall, time.process_time() - cpu), result


def time_ours(channel: Path) -> tuple[Times, int, int]:
    times, table = measured(lambda: ours(channel))
    return times, len(table), len(table.labels)


def time_icevision(channel: Path, autofix: bool) -> tuple[Times, int, int]:
    times, records = measured(lambda: icevision_records(channel, autofix))
    return times, len(records), sum(len(record.detection.bboxes) for record in records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--boxes-per-image", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--autofix", action="store_true", help="IceVision's autofix too, which is its default")
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        coco, voc = make_channels(folder, arguments.images, arguments.boxes_per_image)
        num_boxes = arguments.images * arguments.boxes_per_image
        print(
            f"{arguments.images:,} images, {num_boxes:,} boxes, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        # A process each: the collector of one would walk the objects of the other.
        with spawn.Pool(1) as our_process, spawn.Pool(1, prepare_icevision, (folder / "home",)) as icevision_process:
            for title, channel in (("COCO", coco), ("Pascal VOC", voc)):
                times: dict[str, list[Times]] = {"ours": [], "icevision": []}
                for _ in range(arguments.rounds):
                    found, images, boxes = our_process.apply(time_ours, (channel,))
                    times["ours"].append(found)
                    found, their_images, their_boxes = icevision_process.apply(
                        time_icevision, (channel, arguments.autofix)
                    )
                    times["icevision"].append(found)
                    # Ours removes repeated boxes.
                    if (images, their_images) != (arguments.images,) * 2 or not boxes <= their_boxes == num_boxes:
                        sys.exit(f"{title}: the two have read different data")
                print_times(title, times)
            print(our_process.apply(parts_of_ours, (coco,)))


def print_times(title: str, times: dict[str, list[Times]]) -> None:
    print(f"{title}, median of {len(times['ours'])} rounds (fastest - slowest):")
    medians = {}
    for name, found in times.items():
        columns = [sorted(column) for column in zip(*found, strict=True)]
        medians[name] = [statistics.median(column) for column in columns]
        texts = [f"{statistics.median(column):7.2f} s ({column[0]:.2f} - {column[-1]:.2f})" for column in columns]
        print(f"  {name:<10} wall {texts[0]}   CPU {texts[1]}")
    wall, cpu = (theirs / own for theirs, own in zip(medians["icevision"], medians["ours"], strict=True))
    print(f"  ratio      wall {wall:7.1f}   CPU {cpu:7.1f}")


if __name__ == "__main__":
    main()
