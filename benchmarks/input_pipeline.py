#!/usr/bin/env python3
"""CPU time an image of the training input: our dataset and collate against IceVision's Dataset, Adapter and batch.

usage: benchmarks/input_pipeline.py [--images 64] [--rounds 5] [--img-size 512] [--channel FOLDER]

Both sides read the same JPEG files, apply IceVision's own augmentation (aug_tfms with its presize: flip, shift, scale,
rotate, colour, blur, crop), and make batches of 8 of the same objects, on one thread, in turns. IceVision normalises
in the loader; ours is left to the device, and counted apart, as it costs where the device is this CPU. Prints ms an
image and the ratio, per round and as a median. Without --channel, pictures are drawn at 640 and at 1280 pixels.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "container"))

import albumentations  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from icemaker.config import parse  # noqa: E402
from icemaker.data.annotations import AnnotationTable, prepare  # noqa: E402
from icemaker.tasks.detection.dataset import DetectionDataset, collate  # noqa: E402
from icemaker.tasks.detection.icevision import models  # noqa: E402
from icemaker.tasks.detection.module import normalise  # noqa: E402
from icemaker.tasks.detection.settings import DetectionSettings  # noqa: E402

BATCH = 8


def ours(table: AnnotationTable, img_size: int) -> Callable[[list[int], int], torch.Tensor]:
    settings = parse({"img_size": str(img_size), "model_type": "faster_rcnn"}, DetectionSettings)
    dataset = DetectionDataset(table, settings, training=True, with_masks=False)

    def make_batch(indices: list[int], epoch: int) -> torch.Tensor:
        return torch.from_numpy(collate([dataset[(epoch, index)] for index in indices])["images"])

    return make_batch


def icevisions(table: AnnotationTable, img_size: int) -> Callable[[list[int], int], torch.Tensor]:
    from icevision import core, tfms
    from icevision.data import Dataset
    from icevision.tfms.albumentations import albumentations_adapter
    from icevision.utils.imageio import ImgSize

    # albumentations 2 gives labels back as floats, with which IceVision cannot index; it would not run at all.
    component = albumentations_adapter.AlbumentationsInstancesLabelsComponent
    collect = component.collect_labels

    def collect_labels(self: Any, record: Any) -> None:
        self.adapter._albu_out["labels"] = np.asarray(self.adapter._albu_out["labels"], int)
        collect(self, record)

    component.collect_labels = collect_labels
    class_map = core.ClassMap(list(table.class_names))
    records = []
    for index in range(len(table)):
        components = (
            core.FilepathRecordComponent(),
            core.InstancesLabelsRecordComponent(),
            core.BBoxesRecordComponent(),
        )
        record = core.BaseRecord(components)
        record.set_record_id(index)
        record.set_filepath(table.path(index))
        record.set_img_size(ImgSize(int(table.widths[index]), int(table.heights[index])))
        record.detection.set_class_map(class_map)
        rows = table.box_slice(index)
        record.detection.add_labels_by_id([int(label) for label in table.labels[rows]])
        record.detection.add_bboxes([core.BBox.from_xyxy(*map(float, box)) for box in table.boxes[rows]])
        records.append(record)
    augmentation = [*tfms.A.aug_tfms(size=img_size, presize=img_size), albumentations.Normalize()]
    dataset = Dataset(records, tfms.A.Adapter(augmentation))

    def make_batch(indices: list[int], epoch: int) -> torch.Tensor:
        (images, _), _ = models.torchvision.faster_rcnn.build_train_batch([dataset[index] for index in indices])
        return torch.stack(images)

    return make_batch


def measure(table: AnnotationTable, img_size: int, rounds: int) -> None:
    make_ours, make_icevisions = ours(table, img_size), icevisions(table, img_size)
    batches = [list(range(start, start + BATCH)) for start in range(0, len(table) - BATCH + 1, BATCH)]
    for make_batch in (make_ours, make_icevisions):
        make_batch(batches[0], 0)
    ratios, ratios_normalised = [], []
    for epoch in range(rounds):
        spent = dict.fromkeys(("icevision", "icemaker", "normalise"), 0.0)
        for batch in batches:
            started = time.process_time()
            make_icevisions(batch, epoch)
            between = time.process_time()
            images = make_ours(batch, epoch)
            made = time.process_time()
            normalise(images)
            spent["icevision"] += between - started
            spent["icemaker"] += made - between
            spent["normalise"] += time.process_time() - made
        ms = {name: seconds * 1000 / (len(batches) * BATCH) for name, seconds in spent.items()}
        ratios.append(ms["icevision"] / ms["icemaker"])
        ratios_normalised.append(ms["icevision"] / (ms["icemaker"] + ms["normalise"]))
        print(
            f"  round {epoch + 1}: icevision {ms['icevision']:.2f} ms an image, icemaker {ms['icemaker']:.2f} ms: "
            f"{ratios[-1]:.2f} times; with {ms['normalise']:.2f} ms for normalising: {ratios_normalised[-1]:.2f} times"
        )
    print(
        f"  median: icemaker is {statistics.median(ratios):.2f} times as fast per core, "
        f"{statistics.median(ratios_normalised):.2f} times where the CPU normalises too"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--img-size", type=int, default=512)
    parser.add_argument("--channel", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    options: dict[str, Any] = {"validation_fraction": 0.2, "seed": 1, "max_bad_images": 0.05}
    with tempfile.TemporaryDirectory() as folder:
        channels = {str(arguments.channel): arguments.channel} if arguments.channel else {}
        for size in () if arguments.channel else (640, 1280):
            place = Path(folder) / str(size)
            draw = [sys.executable, str(REPOSITORY / "local_test/draw_shapes.py"), str(place), "--size", str(size)]
            subprocess.run([*draw, "--training", str(arguments.images), "--validation", "1"], check=True)
            channels[f"drawn pictures of {size} pixels"] = place / "training"
        for name, channel in channels.items():
            table = prepare(channel, channel, **options).train
            print(f"{name}, {len(table)} images, to {arguments.img_size} pixels")
            measure(table.select(np.arange(min(len(table), arguments.images))), arguments.img_size, arguments.rounds)


if __name__ == "__main__":
    main()
