#!/usr/bin/env python3
"""COCO evaluation: ours (faster-coco-eval) against pycocotools on the same truth and predictions, in turns.

usage: benchmarks/evaluation.py [--images 1000] [--classes 10] [--boxes 8] [--predictions 40] [--rounds 3]

Checks that every summary figure and every class's average precision agree to 1e-9, then prints CPU seconds from
collected predictions to scores, and the ratio.
"""

import argparse
import contextlib
import io
import statistics
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "container"))

import numpy as np  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

from icemaker.data.annotations import AnnotationTable  # noqa: E402
from icemaker.tasks.detection.metrics import DetectionMetrics, metric_names  # noqa: E402
from icemaker.tasks.detection.prediction import Prediction  # noqa: E402


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 540, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(8, 100, (count, 2))], axis=1).astype(np.float32)


def make_table(rng: np.random.Generator, images: int, classes: int, boxes: int) -> AnnotationTable:
    names = [f"{index:06d}.jpg".encode() for index in range(images)]
    xyxy = random_boxes(rng, images * boxes)
    return AnnotationTable(
        class_names=tuple(f"class{label}" for label in range(1, classes + 1)),
        root="/",
        path_bytes=np.frombuffer(b"".join(names), np.uint8),
        path_offsets=np.arange(images + 1) * len(names[0]),
        image_ids=np.arange(1, images + 1),
        widths=np.full(images, 640),
        heights=np.full(images, 640),
        box_offsets=np.arange(images + 1) * boxes,
        boxes=xyxy,
        labels=rng.integers(1, classes + 1, images * boxes),
        is_crowd=np.zeros(images * boxes, bool),
        areas=(xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1),
    )


def predict(rng: np.random.Generator, table: AnnotationTable, count: int) -> list[tuple[int, Prediction]]:
    found = []
    for index in range(len(table)):
        rows = table.box_slice(index)
        near = table.boxes[rows] + rng.normal(0, 6, table.boxes[rows].shape).astype(np.float32)
        boxes = np.concatenate([near, random_boxes(rng, count - len(near))])
        labels = np.concatenate([table.labels[rows], rng.integers(1, len(table.class_names) + 1, count - len(near))])
        found.append(
            (index, Prediction(boxes, labels.astype(np.int64), rng.uniform(0.05, 1, count).astype(np.float32)))
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 1000), ("classes", 10), ("boxes", 8), ("predictions", 40), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    table = make_table(rng, options.images, options.classes, options.boxes)
    metrics = DetectionMetrics(table, with_masks=False)
    metrics.accumulate(predict(rng, table, options.predictions))
    ratios = []
    for round_number in range(1, options.rounds + 1):
        started = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = metrics.truth
            truth.createIndex()
            theirs = COCOeval(truth, truth.loadRes([dict(result) for result in metrics.results]), "bbox")
            theirs.evaluate()
            theirs.accumulate()
            theirs.summarize()
        between = time.process_time()
        ours = metrics.compute()
        seconds = between - started, time.process_time() - between
        for position, name in {
            0: "map",
            1: "map_50",
            2: "map_75",
            3: "map_small",
            4: "map_medium",
            8: "mar_100",
        }.items():
            assert abs(ours[f"val_{name}"] - theirs.stats[position]) < 1e-9, name
        for position, name in enumerate(metric_names(table.class_names).values()):
            expected = theirs.eval["precision"][:, :, position, 0, -1].mean()
            assert abs(ours[name] - expected) < 1e-9, name
        ratios.append(seconds[0] / seconds[1])
        print(
            f"round {round_number}: pycocotools {seconds[0]:.2f} s, icemaker {seconds[1]:.2f} s: {ratios[-1]:.1f} times"
        )
    print(
        f"median over {options.images} images, {len(metrics.results)} predictions: icemaker is "
        f"{statistics.median(ratios):.1f} times as fast, and equal to 1e-9"
    )


if __name__ == "__main__":
    main()
