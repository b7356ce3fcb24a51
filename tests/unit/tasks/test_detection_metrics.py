"""Scores equal those of pycocotools, and what cannot be scored has no number."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from icemaker.data.annotations import AnnotationTable
from icemaker.tasks.detection.metrics import DetectionMetrics, ground_truth, metric_names, truth_of
from icemaker.tasks.detection.prediction import Prediction


def predictions(table: AnnotationTable, seed: int) -> list[tuple[int, Prediction]]:
    """The truth, moved a little, with some wrong classes and some boxes out of nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(len(table)):
        truth = truth_of(table, index)
        boxes = truth.boxes + rng.normal(0, 4, truth.boxes.shape)
        extra = rng.uniform(0, 50, (3, 2))
        boxes = np.concatenate([boxes, np.concatenate([extra, extra + rng.uniform(5, 40, (3, 2))], axis=1)])
        labels = np.concatenate([truth.labels, rng.integers(1, 3, 3)])
        scores = rng.uniform(0.05, 1, len(labels)).astype(np.float32)
        masks = np.zeros((len(boxes), int(table.heights[index]), int(table.widths[index])), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int).clip(0), strict=True):
            mask[y1:y2, x1:x2] = 255
        order = np.argsort(-scores)
        found.append((index, Prediction(boxes.astype(np.float32)[order], labels[order], scores[order], masks[order])))
    return found


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_scores_equal_pycocotools(kind: str, table: AnnotationTable) -> None:
    """Every summary figure and every class, for boxes and for masks, to 1e-12."""
    metrics = DetectionMetrics(table, with_masks=True)
    for seed in range(5):
        metrics.reset()
        metrics.accumulate(predictions(table, seed))
        truth = COCO()
        truth.dataset = ground_truth(table)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in metrics.results]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        scores = metrics.compute()
        prefix = "val_" if kind == "bbox" else "val_mask_"
        for position, name in {0: "map", 1: "map_50", 2: "map_75", 4: "map_medium", 8: "mar_100"}.items():
            assert scores[prefix + name] == pytest.approx(evaluation.stats[position], abs=1e-12)
        if kind == "bbox":
            for position, name in enumerate(("cat", "dog")):
                expected = evaluation.eval["precision"][:, :, position, 0, -1].mean()
                assert scores[f"val_ap_{name}"] == pytest.approx(expected, abs=1e-12)


def test_scoring_changes_nothing_that_is_written(table: AnnotationTable) -> None:
    """Truth and results can be written as JSON after scoring, masks included."""
    metrics = DetectionMetrics(table, with_masks=True)
    metrics.accumulate(predictions(table, 0))
    before = json.dumps([metrics.truth, metrics.results])
    metrics.compute()
    assert json.dumps([metrics.truth, metrics.results]) == before


def test_perfect_predictions_score_one(table: AnnotationTable) -> None:
    """The truth itself has an average precision of 1."""
    metrics = DetectionMetrics(table, with_masks=False)
    metrics.accumulate([(index, truth_of(table, index)) for index in range(len(table))])
    scores = metrics.compute()
    assert scores["val_map"] == scores["val_ap_cat"] == scores["val_mar_100"] == pytest.approx(1)


def test_no_predictions_score_zero_and_nothing_is_minus_one(table: AnnotationTable) -> None:
    """Finding nothing is 0; a size that the truth lacks is not there at all."""
    metrics = DetectionMetrics(table, with_masks=False)
    metrics.accumulate([(index, truth_of(table, index).above(2)) for index in range(len(table))])
    scores = metrics.compute()
    assert scores["val_map"] == 0
    assert "val_map_large" not in scores
    assert min(scores.values()) >= 0


def test_images_left_out_do_not_count(table: AnnotationTable) -> None:
    """Only images that were predicted are scored, so an image that could not be decoded costs nothing."""
    metrics = DetectionMetrics(table, with_masks=False)
    metrics.accumulate([(index, truth_of(table, index)) for index in (0, 2)])
    assert metrics.compute()["val_map"] == pytest.approx(1)
    assert metrics.seen() == [0, 2]
    ids = {int(table.image_ids[index]) for index in (0, 2)}
    assert {image["id"] for image in metrics.truth_seen()["images"]} == ids
    assert {box["image_id"] for box in metrics.truth_seen()["annotations"]} <= ids


def test_written_prediction_is_the_scored_one(table: AnnotationTable) -> None:
    """What is drawn comes back from the results, masks included."""
    metrics = DetectionMetrics(table, with_masks=True)
    given = predictions(table, 0)
    metrics.accumulate(given)
    for index, prediction in given:
        back = metrics.prediction_of(index)
        np.testing.assert_allclose(back.boxes, prediction.boxes, atol=2e-3)
        np.testing.assert_array_equal(back.labels, prediction.labels)
        np.testing.assert_array_equal(back.masks, prediction.masks)


def test_metric_names_are_plain_and_distinct() -> None:
    """Any class name becomes letters, digits and underscores, and no two share one."""
    assert metric_names(["red cell", "Zähler", "日本"]) == {
        "red cell": "val_ap_red_cell", "Zähler": "val_ap_Z_hler", "日本": "val_ap_class"
    }  # fmt: skip
    assert list(metric_names(["a b", "a-b", "a_b_1"]).values()) == ["val_ap_1_a_b", "val_ap_2_a_b", "val_ap_3_a_b_1"]
