"""The image under test and its data. The image is built here unless ICEMAKER_TEST_IMAGE names one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import REPOSITORY, JobMaker

TAG = "icemaker/training:test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Docker; the first test waits for the build of the image."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(2400))


@pytest.fixture(scope="session")
def image() -> str:
    """Name of the training image."""
    try:
        subprocess.run(["docker", "version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail(f"REQUIRE_DOCKER=1, but no Docker engine answers: {error}")
        pytest.skip("No Docker engine answers.")
    if name := os.environ.get("ICEMAKER_TEST_IMAGE"):
        return name
    done = subprocess.run(
        [str(REPOSITORY / "docker/build.sh"), "training", TAG],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return TAG


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the channels training (12 pictures) and validation (6)."""
    folder = tmp_path_factory.mktemp("shapes")
    command = [sys.executable, str(REPOSITORY / "local_test/draw_shapes.py"), str(folder)]
    subprocess.run([*command, "--training", "12", "--validation", "6", "--size", "128"], check=True)
    return folder


@pytest.fixture(scope="session")
def bccd() -> Path:
    """The BCCD data set, where it is present."""
    folder = REPOSITORY.parent / "shared/data/bccd"
    if not folder.is_dir():
        pytest.skip(f"BCCD is not at {folder}.")
    return folder


@pytest.fixture(scope="module")
def make_job(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobMaker]:
    maker = JobMaker(image, tmp_path_factory.mktemp("jobs"))
    yield maker
    maker.remove()


@pytest.fixture(scope="session")
def shape_channels(shapes: Path) -> dict[str, Path]:
    """Where the drawn channels are mounted."""
    return {f"input/data/{name}": shapes / name for name in ("training", "validation")}
