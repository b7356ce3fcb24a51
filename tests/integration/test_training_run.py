"""Whole runs: what they leave, that they repeat, and that what they leave can be used."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from icemaker import artifact
from native_jobs import BCCD, REPOSITORY, TINY, Finished, train


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_run_leaves_the_model_flat_and_verified(trained: Finished) -> None:
    """The model directory holds three files, whose hashes model.json names."""
    names = sorted(path.name for path in trained.model("").iterdir())
    assert names == ["metrics.json", "model.json", "model.safetensors"]
    model = trained.json(trained.model("model.json"))
    assert model["schema_version"] == 1
    assert (model["task"], model["model_type"], model["backbone"]) == ("detection", "efficientdet", "tf_lite0")
    assert model["class_names"] == ["circle", "square", "triangle"]
    assert model["preprocessing"]["img_size"] == 128
    assert model["validated"] is True
    assert model["seed"] == 1
    assert model["versions"]["torch"]
    for name, sha256 in model["sha256"].items():
        assert digest(trained.model(name)) == sha256


def test_run_leaves_reports_and_pictures(trained: Finished) -> None:
    """The host's folder in output/data holds every report and picture, and the pictures can be opened."""
    names = {path.name for path in trained.output("").iterdir()}
    assert names == {
        "data_report.json", "history.csv", "validation_annotations.json", "validation_predictions.json",
        "curves.png", "gallery.png",
    }  # fmt: skip
    for name in ("curves.png", "gallery.png"):
        assert Image.open(trained.output(name)).size[0] > 500
    rows = list(csv.DictReader(trained.output("history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["3", "6"]
    assert list(trained.base.glob("output/tensorboard/events.out.tfevents.*"))


def test_metrics_equal_those_of_pycocotools_from_the_written_files(trained: Finished) -> None:
    """Anyone can recompute the scores with pycocotools from the two COCO files."""
    truth = COCO(str(trained.output("validation_annotations.json")))
    found = truth.loadRes(str(trained.output("validation_predictions.json")))
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = trained.json(trained.model("metrics.json"))
    for position, name in ((0, "val_map"), (1, "val_map_50"), (2, "val_map_75"), (8, "val_mar_100")):
        assert metrics[name] == pytest.approx(evaluation.stats[position], abs=1e-9)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    for position, name in enumerate(("circle", "square", "triangle")):
        assert metrics[f"val_ap_{name}"] == pytest.approx(precision[:, :, position].mean(), abs=1e-9)
    assert len(found.anns) > 20  # with no score threshold even a poor model finds something to compare


def test_truth_is_written_in_original_pixels(trained: Finished, shapes: dict[str, Path]) -> None:
    """The boxes of validation_annotations.json are those of the channel's own annotations."""
    given = json.loads((shapes["validation"] / "annotations.json").read_text())
    written = trained.json(trained.output("validation_annotations.json"))
    expected = sorted((a["image_id"], *np.round(a["bbox"], 3).tolist()) for a in given["annotations"])
    actual = sorted((a["image_id"], *np.round(a["bbox"], 3).tolist()) for a in written["annotations"])
    np.testing.assert_allclose(actual, expected, atol=2e-3)


def test_loaded_model_predicts_what_training_predicted(trained: Finished, shapes: dict[str, Path]) -> None:
    """Loading the artifact in another process gives the predictions of the end of training."""
    program = """
import json, sys
from pathlib import Path
import torch
from icemaker import artifact
from icemaker.data.images import read_image
from icemaker.tasks import find_task
from icemaker.tasks.detection.module import normalise
from icemaker.tasks.detection.prediction import preprocess
model = artifact.load(Path(sys.argv[1]))
module = find_task(model.metadata["task"]).load(model)
truth = json.loads(Path(sys.argv[2]).read_text())
found = []
for image in truth["images"]:
    size = image["width"], image["height"]
    pixels = read_image(Path(sys.argv[3]) / image["file_name"], size=size, longest_side=128)
    square = preprocess(pixels, size, module.settings.img_size)
    with torch.no_grad():
        prediction = module.predict(normalise(torch.from_numpy(square)[None]), [size])[0]
    rows = zip(prediction.boxes.tolist(), prediction.scores.tolist(), prediction.labels.tolist())
    found += [[image["id"], *box, score, label] for box, score, label in rows]
print(json.dumps(found))
"""
    truth = trained.output("validation_annotations.json")
    arguments = [str(trained.model("")), str(truth), str(shapes["validation"] / "images")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(REPOSITORY / "container")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    written = trained.json(trained.output("validation_predictions.json"))
    assert len(loaded) == len(written) > 20
    for row, result in zip(loaded, written, strict=True):
        x, y, width, height = result["bbox"]
        expected = [result["image_id"], x, y, x + width, y + height, result["score"], result["category_id"]]
        np.testing.assert_allclose(row, expected, atol=5e-3)


def test_changed_weights_are_refused(trained: Finished, tmp_path: Path) -> None:
    """A model directory whose weights were changed is refused with both hashes."""
    for path in trained.model("").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(artifact.UserError, match=r"has sha256 [0-9a-f]{64}, but model.json says [0-9a-f]{64}"):
        artifact.load(tmp_path)


def test_published_expressions_match_the_log(trained: Finished) -> None:
    """The MetricDefinitions of docs/metrics.md find every metric in a real log, with its value (contract item 48)."""
    text = (REPOSITORY / "docs/metrics.md").read_text()
    definitions = json.loads(re.search(r"```json\n(\[.*?\])\n```", text, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert 0 < len(definitions) <= 40
    last = trained.json(trained.model("metrics.json"))
    rows = list(csv.DictReader(trained.output("history.csv").open()))
    for definition in definitions:
        assert len(definition["Regex"]) <= 500
        values = [float(value) for value in re.findall(definition["Regex"], trained.log)]
        if definition["Name"] in ("val_loss",):
            continue  # only logged when it is monitored
        assert len(values) == len(rows), definition
        expected = [float(row[definition["Name"]]) for row in rows]
        assert values == pytest.approx(expected, abs=5e-5), definition
    assert last["val_map_50"] >= 0


def test_log_is_plain_lines(trained: Finished) -> None:
    """Without a terminal there is no carriage return, no colour, no library's advertisement (contract item 47)."""
    assert "\r" not in trained.log
    assert "\x1b" not in trained.log
    assert "litlogger" not in trained.log.lower()
    for line in trained.log.splitlines():
        assert re.match(r"(INFO|WARNING|ERROR|run|metrics|best) |Icemaker ", line), line


def test_progress_line_says_speed_and_time_left(trained: Finished) -> None:
    """A progress line has the step, the loss, images a second and the time left."""
    assert re.search(
        r"INFO epoch 1 step 1 of 6: loss \d+\.\d{4}, \d+\.\d images a second, \d+ min \d\d s left", trained.log
    )


def test_image_found_damaged_while_decoding_is_left_out_and_reported(shapes: dict[str, Path], tmp_path: Path) -> None:
    """An image of each channel whose pixels end early is named in the log and the report, and training goes on."""
    channels = {name: Path(shutil.copytree(path, tmp_path / name)) for name, path in shapes.items()}
    for channel in channels.values():
        image = sorted((channel / "images").iterdir())[0]
        data = bytearray(image.read_bytes())
        start = data.index(b"\xff\xda") + 14  # behind the header of the scan
        data[start:-2] = b"\xff\xd9" * ((len(data) - 2 - start) // 2)
        image.write_bytes(data)
    done = train(tmp_path / "ml", {**TINY, "max_bad_images": "0.2"}, channels)
    assert done.exit_code == 0, done.log
    undecodable = done.json(done.output("data_report.json"))["undecodable"]
    assert len(undecodable) == done.log.count("WARNING Left out") == 2
    assert all("premature end" in text.lower() for text in undecodable)


@pytest.mark.slow
def test_workers_change_nothing_and_the_seed_does(shapes: dict[str, Path], tmp_path: Path) -> None:
    """Equal seeds give equal weights with 0, 1 and 3 workers; another seed gives others."""
    digests = {}
    for workers, seed in ((0, 1), (1, 1), (3, 1), (1, 2)):
        settings = {**TINY, "num_workers": str(workers), "seed": str(seed), "epochs": "2"}
        done = train(tmp_path / f"{workers}-{seed}", settings, shapes)
        assert done.exit_code == 0, done.log
        digests[workers, seed] = digest(done.model("model.safetensors"))
    assert digests[0, 1] == digests[1, 1] == digests[3, 1]
    assert digests[1, 2] != digests[1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"model_type": "faster_rcnn", "backbone": "resnet18_fpn", "regions_per_image": "16", "monitor": "val_loss"},
        {"model_type": "models.torchvision.retinanet", "backbone": "resnet18_fpn", "norm": "group"},
        {"model_type": "mask_rcnn", "backbone": "resnet18_fpn", "regions_per_image": "16"},
    ],
    ids=lambda value: value["model_type"],
)
def test_every_family_trains(hyperparameters: dict[str, str], shapes: dict[str, Path], tmp_path: Path) -> None:
    """Each model type trains, validates and writes its artifact."""
    settings = {**TINY, **hyperparameters, "max_steps": "2", "score_threshold": "0", "detections_per_image": "20"}
    done = train(tmp_path / "job", settings, shapes)
    assert done.exit_code == 0, done.log
    metrics = done.json(done.model("metrics.json"))
    assert ("val_loss" in metrics) == ("monitor" in hyperparameters)
    assert ("val_mask_map" in metrics) == (hyperparameters["model_type"] == "mask_rcnn")


def test_mask_rcnn_without_masks_in_the_data_trains_boxes(shapes: dict[str, Path], tmp_path: Path) -> None:
    """Boxes alone leave the mask head out, and a warning says so."""
    channels = {name: Path(shutil.copytree(path, tmp_path / name)) for name, path in shapes.items()}
    for channel in channels.values():
        document = json.loads((channel / "annotations.json").read_text())
        for annotation in document["annotations"]:
            del annotation["segmentation"]
        (channel / "annotations.json").write_text(json.dumps(document))
    settings = {
        **TINY,
        "model_type": "mask_rcnn",
        "backbone": "resnet18_fpn",
        "regions_per_image": "16",
        "max_steps": "1",
    }
    done = train(tmp_path / "ml", settings, channels)
    assert done.exit_code == 0, done.log
    assert "WARNING mask_rcnn trains boxes alone" in done.log
    assert done.json(done.model("model.json"))["with_masks"] is False


def test_accumulation_early_stopping_and_no_average(shapes: dict[str, Path], tmp_path: Path) -> None:
    """Two batches make a step, three validations without a gain end the run, and the weights are the last ones."""
    settings = {
        **TINY, "epochs": "40", "accumulate_batches": "2", "ema_decay": "0", "learning_rate": "1e-8",
        "early_stopping_patience": "3", "early_stopping_min_delta": "0.5",
    }  # fmt: skip
    done = train(tmp_path / "ml", settings, shapes)
    assert done.exit_code == 0, done.log
    rows = list(csv.DictReader(done.output("history.csv").open()))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8]
    assert "Stopped early: val_map has not become better for 3 validations." in done.log


def test_time_budget_ends_with_a_validated_model(shapes: dict[str, Path], tmp_path: Path) -> None:
    """A budget that is over at once still trains one step, validates and writes the model."""
    settings = {**TINY, "epochs": "40", "max_duration_seconds": "0.001", "accumulate_batches": "2"}
    done = train(tmp_path / "ml", settings, shapes)
    assert done.exit_code == 0, done.log
    model = done.json(done.model("model.json"))
    assert (model["step"], model["validated"]) == (1, True)


def test_real_data_in_pascal_voc_trains(tmp_path: Path) -> None:
    """BCCD as VOC, in one channel with ImageSets lists, trains; the report counts what the lists say."""
    if not BCCD.is_dir():
        pytest.skip(f"BCCD is not at {BCCD}.")
    done = train(tmp_path / "job", {**TINY, "max_steps": "1", "batch_size": "2"}, {"train": BCCD / "BCCD"})
    assert done.exit_code == 0, done.log
    report = done.json(done.output("data_report.json"))
    assert (report["train"]["images"], report["validation"]["images"]) == (205, 87)
    assert cv2.imread(str(done.output("gallery.png"))) is not None
