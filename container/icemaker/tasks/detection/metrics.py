"""What a detector is worth: COCO's average precision and recall, in original pixels, overall and per class.

The numbers are computed from exactly the values that `ground_truth` and `results` write, by faster-coco-eval, whose
figures equal those of pycocotools.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from icemaker.data.annotations.table import AnnotationTable
from icemaker.tasks.detection.prediction import Prediction

logging.getLogger("faster_coco_eval").setLevel(logging.ERROR)

#: Position in COCO's summary -> our name.
_SUMMARY = {0: "map", 1: "map_50", 2: "map_75", 3: "map_small", 4: "map_medium", 5: "map_large", 8: "mar_100"}


def ground_truth(table: AnnotationTable) -> dict[str, Any]:
    """The table as a COCO annotation file: category ids are labels, 1..C; boxes are xywh in original pixels."""
    counts = np.diff(table.box_offsets)
    image_ids = np.repeat(table.image_ids, counts).tolist()
    boxes = np.asarray(table.boxes, np.float64)
    annotations = []
    for row, (image_id, (x1, y1, x2, y2)) in enumerate(zip(image_ids, boxes.tolist(), strict=True)):
        annotation = {
            "id": row + 1,  # 0 would count as unmatched in COCO's matching
            "image_id": image_id,
            "category_id": int(table.labels[row]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": float(table.areas[row]),
            "iscrowd": int(table.is_crowd[row]),
        }
        if table.mask_bytes is not None:
            annotation["segmentation"] = _as_text(table.mask_rle(row))
        annotations.append(annotation)
    images = [
        {"id": int(image_id), "file_name": table.path(index).name, "width": int(width), "height": int(height)}
        for index, (image_id, width, height) in enumerate(
            zip(table.image_ids, table.widths, table.heights, strict=True)
        )
    ]
    categories = [{"id": label, "name": name} for label, name in enumerate(table.class_names, start=1)]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def metric_names(class_names: Sequence[str]) -> dict[str, str]:
    """Class name -> `val_ap_<class>` in plain ASCII; where two would share a name, all begin with their label."""
    plain = [re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "class" for name in class_names]
    if len(set(plain)) < len(plain):  # one clash, and all get their label: it could meet another name otherwise
        plain = [f"{label}_{text}" for label, text in enumerate(plain, start=1)]
    return {name: f"val_ap_{text}" for name, text in zip(class_names, plain, strict=True)}


class DetectionMetrics:
    """Collects the predictions of one validation and scores them."""

    def __init__(self, table: AnnotationTable, *, with_masks: bool):
        self.table = table
        self.with_masks = with_masks
        self.truth = ground_truth(table)
        self.reset()

    def reset(self) -> None:
        """Forget the predictions."""
        self.results: list[dict[str, Any]] = []
        self._rows: dict[int, slice] = {}  # index of an image -> its results

    def accumulate(self, predictions: Sequence[tuple[int, Prediction]]) -> None:
        """Add the predictions of some images, each with the index of its image in the table."""
        for index, prediction in predictions:
            start = len(self.results)
            image_id = int(self.table.image_ids[index])
            size = int(self.table.widths[index]), int(self.table.heights[index])
            boxes = prediction.boxes.astype(np.float64).round(3)
            xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).round(3).tolist()
            rows = zip(xywh, prediction.labels.tolist(), prediction.scores.astype(np.float64).round(6), strict=True)
            for row, (box, label, score) in enumerate(rows):
                result = {"image_id": image_id, "category_id": label, "bbox": box, "score": float(score)}
                if prediction.masks is not None:
                    rle = coco_mask.encode(np.asfortranarray(prediction.mask(row, size), np.uint8))
                    result["segmentation"] = _as_text(rle)
                self.results.append(result)
            self._rows[index] = slice(start, len(self.results))

    def seen(self) -> list[int]:
        """The indices of the images that were predicted, in order."""
        return sorted(self._rows)

    def truth_seen(self) -> dict[str, Any]:
        """The truth of the images that were predicted: with `results`, all that the scores are computed from."""
        image_ids = {int(self.table.image_ids[index]) for index in self._rows}
        return {
            **self.truth,
            "images": [image for image in self.truth["images"] if image["id"] in image_ids],
            "annotations": [box for box in self.truth["annotations"] if box["image_id"] in image_ids],
        }

    def prediction_of(self, index: int) -> Prediction:
        """The prediction of one image, as it was scored."""
        return _as_prediction(self.results[self._rows[index]])

    def compute(self) -> dict[str, float]:
        """Scores, 0 to 1, of the images seen. What the truth holds no object for has no score and is not there."""
        scores = self._score("bbox", "val_")
        if self.with_masks:
            scores |= {name: value for name, value in self._score("segm", "val_mask_").items() if "_ap_" not in name}
        return scores

    def _score(self, kind: str, prefix: str) -> dict[str, float]:
        # Copies, since faster-coco-eval changes what it is given.
        truth = COCO({**self.truth, "annotations": _copy(self.truth["annotations"])})
        found = truth.loadRes(_copy(self.results))
        evaluation = COCOeval_faster(truth, found, kind, print_function=lambda *_: None)
        evaluation.params.imgIds = [int(self.table.image_ids[index]) for index in self.seen()]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        scores = {prefix + name: float(evaluation.stats[position]) for position, name in _SUMMARY.items()}
        # precision: (thresholds, recalls, classes, areas, detections); -1 where there is nothing to find.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        for position, name in enumerate(metric_names(self.table.class_names).values()):
            values = precision[:, :, position]
            scores[name] = float(values[values > -1].mean()) if (values > -1).any() else -1.0
        return {name: value for name, value in scores.items() if value > -1}


def truth_of(table: AnnotationTable, index: int) -> Prediction:
    """The true objects of one image, as if predicted with a score of 1."""
    rows = table.box_slice(index)
    masks = None
    if table.mask_bytes is not None:
        decoded = [coco_mask.decode(table.mask_rle(row)) for row in range(rows.start, rows.stop)]
        masks = np.stack(decoded) * np.uint8(255) if decoded else None
    labels = table.labels[rows].astype(np.int64)
    return Prediction(np.asarray(table.boxes[rows]), labels, np.ones(len(labels), np.float32), masks)


def _as_prediction(results: Sequence[dict[str, Any]]) -> Prediction:
    xywh = np.array([result["bbox"] for result in results], np.float32).reshape(-1, 4)
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    labels = np.array([result["category_id"] for result in results], np.int64)
    scores = np.array([result["score"] for result in results], np.float32)
    masks = None
    if results and "segmentation" in results[0]:
        masks = np.stack([coco_mask.decode(result["segmentation"]) for result in results]) * np.uint8(255)
    return Prediction(boxes, labels, scores, masks)


def _as_text(rle: dict[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    size = [int(side) for side in rle["size"]]
    return {"size": size, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def _copy(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "segmentation": dict(row["segmentation"])} if "segmentation" in row else dict(row) for row in rows]
