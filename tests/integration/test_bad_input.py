"""Bad input of every kind: exit code 1, a failure file whose first line is the cause, no traceback, no model."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from native_jobs import REPOSITORY, TINY, Finished, train


@dataclass
class Job:
    """What a case may spoil: a copy of the drawn channels, the hyperparameters, and other files of the job."""

    folder: Path
    channels: dict[str, Path]
    hyperparameters: Any = field(default_factory=lambda: dict(TINY))
    config: dict[str, Any] = field(default_factory=dict)

    def annotations(self, channel: str = "training") -> dict[str, Any]:
        return json.loads((self.channels[channel] / "annotations.json").read_text())

    def write(self, document: Any, channel: str = "training") -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        (self.channels[channel] / "annotations.json").write_text(text)

    def image(self, number: int = 0) -> Path:
        return sorted((self.channels["training"] / "images").iterdir())[number]


CASES: dict[str, tuple[Callable[[Job], object], str]] = {}


def case(name: str, message: str) -> Callable[[Callable[[Job], object]], None]:
    """Register a way to spoil a job, with what the failure file must begin with or hold in its first line."""

    def register(spoil: Callable[[Job], object]) -> None:
        CASES[name] = (spoil, message)

    return register


def each_box(job: Job, change: Callable[[dict[str, Any]], object], channel: str = "training") -> None:
    document = job.annotations(channel)
    for annotation in document["annotations"]:
        change(annotation)
    job.write(document, channel)


# Hyperparameters
case("unknown hyperparameter", "Hyperparameter 'epohcs' is unknown. Did you mean 'epochs'?")(
    lambda job: job.hyperparameters.update(epohcs="1")
)
case("value out of range", "Hyperparameter 'learning_rate' has value -1. Allowed: a number, above 0")(
    lambda job: job.hyperparameters.update(learning_rate="-1")
)
case("word for a number", "Hyperparameter 'epochs' has value 'many'. Allowed: a whole number")(
    lambda job: job.hyperparameters.update(epochs="many")
)
case("model of another library", "Hyperparameter 'model_type' has value 'models.mmdet.fcos'. Supported values are")(
    lambda job: job.hyperparameters.update(model_type="models.mmdet.fcos")
)
case("backbone of another model", "Hyperparameter 'backbone' has value 'resnet50_fpn', which model_type")(
    lambda job: job.hyperparameters.update(backbone="resnet50_fpn")
)
case("unknown task", "Hyperparameter 'task' has value 'segmentation'. Supported values are 'detection'")(
    lambda job: job.hyperparameters.update(task="segmentation")
)
case("wrong number of classes", "Hyperparameter 'num_classes' has value 9, but")(
    lambda job: job.hyperparameters.update(num_classes="9")
)
case("pretrained without a channel", "Hyperparameter 'pretrained' is 'true', but the job has no channel 'pretrained'")(
    lambda job: job.hyperparameters.update(pretrained="true")
)
case("half precision on a CPU", "Hyperparameter 'precision' has value 'fp16', which needs a GPU")(
    lambda job: job.hyperparameters.update(precision="fp16")
)
case("frozen random norms", "Hyperparameter 'norm' has value 'frozen', but there are no pretrained weights")(
    lambda job: job.hyperparameters.update(model_type="retinanet", backbone="resnet18_fpn", norm="frozen")
)
case("loss that explodes", "Use a lower learning_rate")(
    lambda job: job.hyperparameters.update(learning_rate="10", optimizer="sgd", gradient_clip_norm="0", epochs="30")
)


@case("hyperparameters that are no JSON", "hyperparameters.json is not valid JSON: Expecting value")
def _(job: Job) -> None:
    job.hyperparameters = '{"epochs": '


@case("hyperparameters that are a list", "hyperparameters.json: the file holds a list. It must hold one JSON object")
def _(job: Job) -> None:
    job.hyperparameters = ["epochs"]


# Channels and hosts
case("missing channel", "Channel 'training' or 'train' is not declared")(lambda job: job.channels.pop("training"))
case("named channel missing", "Channel 'other' is not declared")(
    lambda job: job.hyperparameters.update(validation_channel="other")
)


@case("empty channel", "Channel 'training' has no files")
def _(job: Job) -> None:
    shutil.rmtree(job.channels["training"])
    job.channels["training"].mkdir()


case("pipe mode", "Channel 'training' has TrainingInputMode 'Pipe'")(
    lambda job: job.config.update(inputdataconfig={"training": {"TrainingInputMode": "Pipe"}})
)
case("sharded annotations", "Channel 'training' has S3DistributionType 'ShardedByS3Key'")(
    lambda job: job.config.update(inputdataconfig={"training": {"S3DistributionType": "ShardedByS3Key"}})
)
case("several hosts", "The job has 2 hosts (algo-1, algo-2). This version trains on one.")(
    lambda job: job.config.update(resourceconfig={"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})
)


# Annotations
@case("no annotations at all", "Channel 'training' has no annotations")
def _(job: Job) -> None:
    (job.channels["training"] / "annotations.json").unlink()


@case("two annotation files", "Channel 'training' has 2 COCO annotation files")
def _(job: Job) -> None:
    shutil.copy(job.channels["training"] / "annotations.json", job.channels["training"] / "more.json")


case("named annotations missing", "Hyperparameter 'annotations' has value 'nowhere.json', but channel")(
    lambda job: job.hyperparameters.update(annotations="nowhere.json")
)
case("cut JSON", "'annotations.json' of channel 'training' is not valid JSON")(
    lambda job: job.write(json.dumps(job.annotations())[:-50])
)
case("box of three numbers", "Annotation 1 in 'annotations.json' of channel 'training' has bbox [1, 2, 3]")(
    lambda job: each_box(job, lambda box: box.update(bbox=[1, 2, 3]))
)
case("box that is text", "has bbox ['a', 1, 2, 3]. A bbox is [x, y, width, height]")(
    lambda job: each_box(job, lambda box: box.update(bbox=["a", 1, 2, 3]))
)
case("category that does not exist", "have a category that 'categories' does not list")(
    lambda job: each_box(job, lambda box: box.update(category_id=99))
)
case("no box anywhere", "has no boxes (12 images)")(lambda job: job.write({**job.annotations(), "annotations": []}))
case("validation without a box", "The 6 images for validation have no boxes that can be used")(
    lambda job: job.write({**job.annotations("validation"), "annotations": []}, "validation")
)
case("only boxes without an area", "The 12 images for training have no boxes that can be used")(
    lambda job: each_box(job, lambda box: box.update(bbox=[*box["bbox"][:2], 0, 0]))
)


@case("file name out of the channel", "has file_name '../../../etc/passwd'. It must be a path inside")
def _(job: Job) -> None:
    document = job.annotations()
    document["images"][0]["file_name"] = "../../../etc/passwd"
    job.write(document)


@case("validation of other classes", "has boxes of classes that channel 'training' does not have")
def _(job: Job) -> None:
    document = job.annotations("validation")
    for category in document["categories"]:
        category["name"] = f"other {category['name']}"
    job.write(document, "validation")


# Images
case("one image a batch of the coarsest map", "A batch of 1 image of 128 pixels cannot train an efficientdet")(
    lambda job: job.hyperparameters.update(batch_size="1")
)
case("frozen random backbone", "Hyperparameter 'freeze_backbone' has value True, but there are no pretrained weights")(
    lambda job: job.hyperparameters.update(freeze_backbone="true")
)


@case("too many missing images", "3 of 12 images of channel 'training' cannot be used: 3 missing")
def _(job: Job) -> None:
    for number in (0, 0, 0):
        job.image(number).unlink()


@case("too many truncated images", "cannot be used: 3 truncated")
def _(job: Job) -> None:
    for number in range(3):
        job.image(number).write_bytes(job.image(number).read_bytes()[:-200])


@case("too many images of damaged pixels", "cannot be decoded, more than the share max_bad_images=0.05 allows")
def _(job: Job) -> None:
    # Whole from header to tail, so only decoding finds them: PNG with its pixel data overwritten.
    document = job.annotations()
    for number, image in enumerate(document["images"][:4]):
        pixels = np.random.default_rng(number).integers(0, 255, (image["height"], image["width"], 3), dtype=np.uint8)
        data = bytearray(cv2.imencode(".png", pixels)[1].tobytes())
        data[60:-60] = bytes(len(data) - 120)
        image["file_name"] = f"damaged{number}.png"
        (job.channels["training"] / "images" / image["file_name"]).write_bytes(data)
    job.write(document)


@case("weights that are code", "weights.pth holds more than plain tensors, which is not opened for safety")
def _(job: Job) -> None:
    folder = job.folder / "pretrained"
    folder.mkdir()
    program = "import sys, torch\nclass E:\n def __reduce__(self): return print, (1,)\ntorch.save(E(), sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(folder / "weights.pth")], check=True)
    job.channels["pretrained"] = folder


def spoiled(folder: Path, shapes: dict[str, Path], spoil: Callable[[Job], object]) -> Finished:
    channels = {name: Path(shutil.copytree(path, folder / "data" / name)) for name, path in shapes.items()}
    job = Job(folder, channels)
    spoil(job)
    base = folder / "ml"
    for name, content in job.config.items():
        (base / "input/config").mkdir(parents=True, exist_ok=True)
        (base / f"input/config/{name}.json").write_text(json.dumps(content))
    return train(base, job.hyperparameters, job.channels)


@pytest.mark.parametrize(("spoil", "message"), CASES.values(), ids=CASES)
def test_bad_input_fails_with_its_cause(
    spoil: Callable[[Job], object], message: str, shapes: dict[str, Path], tmp_path: Path
) -> None:
    """Exit code 1; the failure file's first line is the cause; nothing half-made is left (contract items 16 and 32)."""
    done = spoiled(tmp_path, shapes, spoil)
    assert done.exit_code == 1, done.log
    assert done.failure is not None
    first_line = done.failure.splitlines()[0]
    assert message in first_line
    assert "Traceback" not in done.log
    assert first_line in done.log
    assert not done.model("model.json").exists()
    assert not [path for path in done.base.rglob(".icemaker-*") if path.is_file()]


def test_there_are_thirty_kinds() -> None:
    """The table covers hyperparameters, channels, annotations and images."""
    assert len(CASES) >= 30


def test_failure_file_is_not_overwritten(shapes: dict[str, Path], tmp_path: Path) -> None:
    """A failure file that is there before the run stays as it is (contract item 33)."""
    base = tmp_path / "ml"
    (base / "output").mkdir(parents=True)
    (base / "output/failure").write_text("first cause")
    done = train(base, {"epochs": "0"}, shapes)
    assert done.exit_code == 1
    assert done.failure == "first cause"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_is_said_and_nothing_half_written_stays(shapes: dict[str, Path], tmp_path: Path) -> None:
    """A model directory on a full disk: exit 1, the cause is the disk, no model (contract item 35)."""
    base = tmp_path / "ml"
    (base / "model").mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(base / "model")], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode()}")
    try:
        done = train(base, TINY, shapes)
        assert done.exit_code == 1
        assert done.failure is not None
        assert done.failure.splitlines()[0].startswith("The disk is full")
        assert not list((base / "model").iterdir())
    finally:
        subprocess.run(["umount", str(base / "model")], check=True)


def test_commands_of_the_program_are_checked() -> None:
    """`train` with a word it does not know is refused, not ignored."""
    done = subprocess.run([sys.executable, str(REPOSITORY / "train"), "train", "--epochs", "3"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "--epochs" in done.stdout + done.stderr
