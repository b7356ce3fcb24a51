"""How a job in the image is stopped and how it fails: exit code, failure file, what is left."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from containers import TINY, Job, JobMaker, docker

#: Runs until it is stopped.
LONG = {**TINY, "epochs": "1000", "log_every_seconds": "1"}
STEP_LINE = r"^metrics epoch="


def stop(job: Job, number: signal.Signals = signal.SIGTERM) -> float:
    """Send a signal and return after how many seconds the container had ended."""
    started = time.monotonic()
    job.send(number)
    job.wait_for(r"(?i)^.*\b(stop|SIGTERM|SIGINT)", 1.5)
    job.wait(30)
    return time.monotonic() - started


def test_stop_in_mid_training_leaves_a_model(make_job: JobMaker, shape_channels: dict[str, Path]) -> None:
    """Contract items 3, 4, 6 and 51: heard within a second, exit 0 within 30 s, a complete model is there. Before the
    stop, the trainer has the SM_* variables."""
    job = make_job(shape_channels, {**LONG, "num-workers": "0"}, command=["train"]).start()
    job.wait_for(STEP_LINE)
    variables = dict(entry.split("=", 1) for entry in job.in_child("cat $child/environ").split("\0") if entry)
    assert variables["SM_MODEL_DIR"] == "/opt/ml/model"
    assert variables["SM_CHANNEL_TRAINING"] == "/opt/ml/input/data/training"
    assert variables["SM_HP_NUM_WORKERS"] == "0"
    assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in variables if name.startswith("SM_"))
    assert stop(job) < 30
    assert job.exit_code == 0, job.log
    assert job.failure == ""
    model = json.loads((job.base / "model/model.json").read_text())
    assert set(model["sha256"]) >= {"model.safetensors", "metrics.json"}


def test_stop_during_start_leaves_no_model(make_job: JobMaker, shape_channels: dict[str, Path]) -> None:
    """Contract items 5 and 6: a stop before the first step is no failure; there is no artifact, and a line says so."""
    job = make_job(shape_channels, LONG).start()
    assert stop(job) < 30
    assert job.exit_code == 0, job.log
    assert job.failure == ""
    assert list((job.base / "model").iterdir()) == []
    assert re.search(r"(?i)before the first (optimizer )?step", job.log)


def test_second_stop_changes_nothing(make_job: JobMaker, shape_channels: dict[str, Path]) -> None:
    """Contract item 5: an impatient caller still gets a model and exit 0."""
    job = make_job(shape_channels, LONG).start()
    job.wait_for(STEP_LINE)
    job.send(signal.SIGTERM)
    job.send(signal.SIGTERM)
    job.wait(60)
    assert job.exit_code == 0, job.log
    assert (job.base / "model/model.json").is_file()


def test_killed_trainer_leaves_a_failure_file(make_job: JobMaker, shape_channels: dict[str, Path]) -> None:
    """Contract item 34: PID 1 writes the cause that its child could not write."""
    job = make_job(shape_channels, LONG).start()
    job.wait_for(STEP_LINE)
    job.in_child("kill -KILL ${child#/proc/}")
    job.wait(30)
    assert "SIGKILL" in job.cause


def test_memory_limit_is_named_as_the_cause(make_job: JobMaker, shape_channels: dict[str, Path]) -> None:
    """Contract item 34: a trainer that the kernel kills for memory fails with words about memory and what to do."""
    job = make_job(shape_channels, LONG, options=["--memory", "300m", "--memory-swap", "300m"]).run()
    assert re.search("(?i)memory", job.cause)


def test_import_error_is_named_as_the_cause(make_job: JobMaker, shape_channels: dict[str, Path], image: str) -> None:
    """Contract item 34: a library that cannot be imported is a failure with a file, not a bare exit code."""
    site = docker("run", "--rm", image, "python3", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    job = make_job(shape_channels, TINY, options=["--tmpfs", f"{site}/pytorch_lightning"]).run()
    assert "pytorch_lightning" in job.cause


@pytest.mark.parametrize("place", ["model", "output/data"])
def test_full_disk_is_a_failure(make_job: JobMaker, shape_channels: dict[str, Path], place: str) -> None:
    """Contract item 35: a model or report that does not fit is not a success."""
    job = make_job(shape_channels, TINY, options=["--tmpfs", f"/opt/ml/{place}:size=64k"]).run()
    assert re.search("(?i)disk.*full|no space left", job.cause)


def test_wrong_hyperparameter_is_named(make_job: JobMaker, shape_channels: dict[str, Path]) -> None:
    """Contract items 16 and 32: key, value and what is allowed, in the first 1,024 bytes, without a traceback."""
    job = make_job(shape_channels, {"epochs": "0"}).run()
    assert job.cause.startswith("Hyperparameter 'epochs' has value 0. Allowed: a whole number, at least 1")
    assert "Traceback" not in job.failure
    assert len(job.failure.encode()) <= 1024
    assert list((job.base / "model").iterdir()) == []


def test_unknown_hyperparameter_is_refused_with_the_nearest(
    make_job: JobMaker, shape_channels: dict[str, Path]
) -> None:
    """Contract item 15."""
    job = make_job(shape_channels, {"learning_rat": "0.1"}).run()
    assert "'learning_rat' is unknown. Did you mean 'learning_rate'?" in job.cause


def test_empty_channel_names_its_likely_causes(make_job: JobMaker, shape_channels: dict[str, Path]) -> None:
    """Contract item 20: channel, path, and the three likely causes."""
    job = make_job({"input/data/validation": shape_channels["input/data/validation"]})
    job.configure(inputdataconfig={"training": {"TrainingInputMode": "File"}})
    (job.base / "input/data/training").mkdir()
    job.run()
    assert "Channel 'training'" in job.cause
    for text in ("/opt/ml/input/data/training", "another name", "S3 URI", "permission"):
        assert text in job.failure


def test_earlier_failure_file_stays(make_job: JobMaker, shape_channels: dict[str, Path]) -> None:
    """Contract item 33: the first cause is the one that counts."""
    job = make_job(shape_channels, {"epochs": "0"})
    (job.base / "output/failure").write_text("the first cause\n")
    job.run()
    assert job.cause == "the first cause"
