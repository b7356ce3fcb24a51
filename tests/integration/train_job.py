"""A training job as a process, for tests: the real program with a stand-in of a few lines for its trainer."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
STAND_IN = """
import os, pathlib, signal, subprocess, sys, time
from icemaker import environment
env = environment.read()

def save_model():
    (env.model_dir / "model.json").write_text("{}")

def note(name, value):
    (env.base_dir.parent / name).write_text(str(value))

def wait_for_stop():
    while not environment.stop_requested():
        time.sleep(0.02)

"""


class Job:
    """A copy of the program with a stand-in for its trainer, and an /opt/ml of its own."""

    def __init__(self, folder: Path, trainer: str) -> None:
        self.folder = folder
        self.base = folder / "ml"
        self.base.mkdir(exist_ok=True)
        self.program = folder / "app/train"
        shutil.copytree(
            ROOT / "container/icemaker",
            folder / "app/container/icemaker",
            ignore=lambda path, names: [
                n for n in names if not n.endswith(".py") and n not in ("environment", "launch")
            ],
        )
        shutil.copy(ROOT / "train", self.program)
        training = folder / "app/container/icemaker/training"
        training.mkdir()
        (training / "__init__.py").touch()
        (training / "__main__.py").write_text(STAND_IN + textwrap.dedent(trainer))

    def configure(self, name: str, content: object) -> None:
        file = self.base / "input/config" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))

    def start(
        self, *words: str, env: dict[str, str] | None = None, before: list[str] | None = None, **options: Any
    ) -> "subprocess.Popen[str]":
        """Start the program, by the command `before` it."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("ICEMAKER_", "PYTHON"))}
        variables |= {"SAGEMAKER_BASE_DIR": str(self.base), "TMPDIR": str(self.folder)} | (env or {})
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        return subprocess.Popen(
            [*(before or []), sys.executable, self.program, *words], env=variables, text=True, **options
        )

    def run(self, *words: str, env: dict[str, str] | None = None, **options: Any) -> tuple[int, str]:
        process = self.start(*words, env=env, **options)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, output

    def noted(self, name: str) -> str:
        """What the stand-in noted, as soon as it has."""
        file = self.folder / name
        wait_until(lambda: file.exists() and file.read_text() != "")
        return file.read_text()

    @property
    def failure(self) -> str:
        return (self.base / "output/failure").read_text(encoding="utf-8")

    @property
    def has_failed(self) -> bool:
        return (self.base / "output/failure").exists()


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def mounted(target: Path, *options: str) -> Iterator[None]:
    """Something mounted for the time of a block; skips the test where that is not possible."""
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, str(target)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("only root can mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=False)
