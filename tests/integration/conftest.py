"""Drawn data, and one finished run on them."""

import subprocess
import sys
from pathlib import Path

import pytest

from native_jobs import REPOSITORY, TINY, Finished, train


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Channels of drawn shapes: 12 pictures to train on, 6 to validate on."""
    folder = tmp_path_factory.mktemp("shapes")
    command = [sys.executable, str(REPOSITORY / "local_test/draw_shapes.py"), str(folder)]
    subprocess.run([*command, "--training", "12", "--validation", "6", "--size", "128"], check=True)
    return {"training": folder / "training", "validation": folder / "validation"}


@pytest.fixture(scope="session")
def trained(shapes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished run of two epochs on the shapes, that several tests look at."""
    settings = {**TINY, "epochs": "2", "score_threshold": "0", "log_every_seconds": "0.001"}
    done = train(tmp_path_factory.mktemp("trained"), settings, shapes)
    assert done.exit_code == 0, done.log
    return done
