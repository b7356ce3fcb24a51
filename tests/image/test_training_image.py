"""`docker run IMAGE` trains, under the platform's hard conditions: no network, no argument, read-only channels, 64 MB
of shared memory, no GPU, no credentials. One run, looked at from many sides.
"""

from __future__ import annotations

import csv
import json
import re
import stat
import subprocess
from pathlib import Path

import cv2
import pytest

from containers import REPOSITORY, TINY, Job, JobMaker, docker

SECRET = "do-not-print-this"  # noqa: S105


@pytest.fixture(scope="module")
def trained(make_job: JobMaker, shape_channels: dict[str, Path]) -> Job:
    """The run. Its settings come in the dialect of SDK v2: JSON in strings; beside them, what the platform adds."""
    job = make_job(
        shape_channels,
        {
            **{name: json.dumps(value) for name, value in TINY.items()},
            "epochs": "2",
            "num_workers": "2",
            "sagemaker_region": '"eu-west-1"',
            "_tuning_objective_metric": "val_map",
        },
        options=[
            "--shm-size",
            "64m",
            "--env",
            f"AWS_SECRET_ACCESS_KEY={SECRET}",
            "--env",
            "TRAINING_JOB_NAME=shapes-1",
        ],
    )
    job.configure(
        inputdataconfig={"training": {"TrainingInputMode": "File"}, "validation": {"TrainingInputMode": "File"}},
        resourceconfig={
            "current_host": "algo-1",
            "current_instance_type": "ml.m5.xlarge",
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-1"],
            "instance_groups": [
                {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.xlarge", "hosts": ["algo-1"]}
            ],
            "network_interface_name": "eth0",
            "topology": None,
        },
    )
    (job.base / "input/data/training-manifest").write_text("{}")
    job.run()
    assert job.exit_code == 0, job.log + job.failure
    return job


def test_job_without_argument_leaves_model_and_reports(trained: Job) -> None:
    """Contract items 8, 18, 19, 21, 25, 31, 36, 43-45, 53: it trained, and everything lies at its place."""
    output = {f"output/data/algo-1/{name}" for name in (
        "curves.png", "data_report.json", "gallery.png", "history.csv", "validation_annotations.json",
        "validation_predictions.json",
    )}  # fmt: skip
    assert {f"model/{name}" for name in ("metrics.json", "model.json", "model.safetensors")} | output <= trained.files()
    assert trained.failure == ""


def test_model_directory_is_flat_and_complete(trained: Job) -> None:
    """Nothing but files at the top, none hidden, and model.json says what the image was built from."""
    entries = list((trained.base / "model").iterdir())
    assert all(entry.is_file() and not entry.is_symlink() and not entry.name.startswith(".") for entry in entries)
    model = json.loads((trained.base / "model/model.json").read_text())
    assert model["class_names"] == ["circle", "square", "triangle"]
    revision = docker(
        "image", "inspect", "--format", '{{index .Config.Labels "org.opencontainers.image.revision"}}', trained.image
    )
    assert model["commit"] == revision


def test_model_loads_in_a_new_container(trained: Job) -> None:
    """The artifact needs nothing of the job that made it; its hashes are checked while it is loaded."""
    program = (
        "from pathlib import Path; from icemaker import artifact; print(len(artifact.load(Path('/model')).weights))"
    )
    printed = docker(
        "run", "--rm", "--network", "none", "--volume", f"{trained.base}/model:/model:ro",
        "--env", "PYTHONPATH=/opt/icemaker/container", trained.image, "python3", "-c", program,
    )  # fmt: skip
    assert int(printed) > 100


def test_first_line_comes_at_once(trained: Job) -> None:
    """Contract item 46: logs are not buffered; the first line is there within 5 s without a terminal."""
    assert trained.first_line_seconds is not None
    assert trained.first_line_seconds < 5


def test_log_is_plain_text(trained: Job) -> None:
    """Contract items 47 and 52: no carriage return, no colour, nothing of a credential."""
    assert "\r" not in trained.log
    assert "\x1b" not in trained.log
    assert SECRET not in trained.log


def test_log_warns_of_nothing_unexpected(trained: Job) -> None:
    """A run that went well has no error in its log, and warns only of what its user can act on."""
    suspicious = re.findall(r"^.*(?:WARN|ERROR|Traceback|Deprecat).*$", trained.log, re.MULTILINE)
    assert [line for line in suspicious if "GPU" not in line and "shm" not in line] == []


def test_metric_lines_come_once_an_epoch(trained: Job) -> None:
    """One machine line an epoch, with the same values as history.csv."""
    epochs = re.findall(r"^metrics epoch=(\d+) .*val_map=([0-9.]+)", trained.log, re.MULTILINE)
    assert len(epochs) == 2
    with (trained.base / "output/data/algo-1/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for (_, printed), row in zip(epochs, rows, strict=True):
        assert float(printed) == pytest.approx(float(row["val_map"]), abs=1e-4)


def test_tensorboard_events_lie_where_the_platform_looks(trained: Job) -> None:
    """Contract item 50."""
    assert any(name.startswith("output/tensorboard/") and "tfevents" in name for name in trained.files())


def test_all_may_read_what_was_written(trained: Job) -> None:
    """Contract item 57: files are readable by everyone, folders can be entered."""
    for top in ("model", "output"):
        for path in (trained.base / top).rglob("*"):
            wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
            assert path.stat().st_mode & wanted == wanted, path


def test_pictures_can_be_opened(trained: Job) -> None:
    """Curves and gallery are pictures of a size at which a person can read labels."""
    for name in ("curves.png", "gallery.png"):
        picture = cv2.imread(str(trained.base / "output/data/algo-1" / name))
        assert picture is not None
        assert min(picture.shape[:2]) >= 200


def test_nothing_is_left_beside_the_data(trained: Job, shapes: Path) -> None:
    """Contract item 21: a channel holds what it held."""
    assert {path.name for path in (shapes / "training").iterdir()} == {"annotations.json", "images"}
    assert {path.name for path in (trained.base / "input/data").iterdir()} <= {
        "training", "validation", "training-manifest",
    }  # fmt: skip


def test_train_local_runs_the_image_on_a_folder(image: str, shapes: Path, tmp_path: Path) -> None:
    """Contract item 1: with the word `train`; local_test/train_local.sh ends with the container's exit code."""
    (tmp_path / "input/config").mkdir(parents=True)
    (tmp_path / "input/config/hyperparameters.json").write_text(json.dumps({**TINY, "max_steps": "1"}))
    for name in ("training", "validation"):
        subprocess.run(["cp", "-r", str(shapes / name), f"{tmp_path}/"], check=True)
        (tmp_path / "input/data").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "input/data" / name)
    script = str(REPOSITORY / "local_test/train_local.sh")
    done = subprocess.run([script, image, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "exit code 0"
    assert (tmp_path / "model/model.json").is_file()

    (tmp_path / "input/config/hyperparameters.json").write_text('{"model_type": "yolo9"}')
    done = subprocess.run([script, image, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exit code 1" in done.stdout
    assert "'model_type' has value 'yolo9'" in done.stdout.split("/output/failure:")[1]


def test_plain_run_says_what_is_missing(image: str) -> None:
    """Contract item 7: without anything mounted at /opt/ml the program runs, and names the channel that it needs."""
    command = ["docker", "run", "--rm", "--network", "none", "--tmpfs", "/opt/ml", image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Channel 'training' or 'train' is not declared" in done.stdout


def test_exit_code_of_a_program_of_the_user_is_passed_on(make_job: JobMaker) -> None:
    """The program takes PID 1's place."""
    job = make_job({}, command=["bash", "-c", "exit $((40 + $$))"]).run()
    assert job.exit_code == 41
    assert list((job.base / "model").iterdir()) == []
