"""A job that runs in the training image as SageMaker would run it: a mounted /opt/ml, no terminal, no network."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

#: The smallest job: a network of 3 million weights on 12 pictures of 128 pixels.
TINY = {"img_size": "128", "batch_size": "4", "epochs": "1", "learning_rate": "0.001"}


def docker(*arguments: str) -> str:
    """Run a docker command and return what it prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-4000:]}"
    return done.stdout.strip()


@dataclass
class Job:
    """One container and its /opt/ml. Channels are mounted read-only; there is no network."""

    image: str
    base: Path
    channels: Mapping[str, Path]  # place below /opt/ml -> folder or file
    options: list[str] = field(default_factory=list)  # of docker run
    command: list[str] = field(default_factory=list)
    name: str = field(default_factory=lambda: f"icemaker-test-{uuid.uuid4().hex[:12]}")
    exit_code: int | None = None
    first_line_seconds: float | None = None
    _process: subprocess.Popen[bytes] | None = None
    _log: Path | None = None

    def configure(self, **files: object) -> None:
        """Write files of input/config, such as hyperparameters={"epochs": "1"}."""
        folder = self.base / "input/config"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))

    def start(self) -> Job:
        """Start the container and return at once."""
        mounts = [f"--volume={self.base}:/opt/ml"]
        mounts += [f"--volume={path}:/opt/ml/{place}:ro" for place, path in self.channels.items()]
        arguments = ["docker", "run", "--name", self.name, "--network", "none", *mounts, *self.options]
        self._log = self.base.with_name(self.base.name + ".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*arguments, self.image, *self.command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        started = time.monotonic()
        while self._process.poll() is None and not self._log.stat().st_size:
            assert time.monotonic() - started < 60, "no line in the log after 60 s"
            time.sleep(0.05)
        self.first_line_seconds = time.monotonic() - started
        return self

    def wait(self, timeout_seconds: float = 600) -> Job:
        """Wait for the container's end."""
        assert self._process is not None
        self.exit_code = self._process.wait(timeout_seconds)
        return self

    def run(self) -> Job:
        return self.start().wait()

    def wait_for(self, pattern: str, timeout_seconds: float = 180) -> float:
        """Wait for a line of the log and return how many seconds that took."""
        started = time.monotonic()
        while not re.search(pattern, self.log, re.MULTILINE):
            assert self._process is not None
            assert self._process.poll() is None, f"ended before {pattern!r}:\n{self.log}"
            assert time.monotonic() - started < timeout_seconds, f"no {pattern!r} in:\n{self.log}"
            time.sleep(0.05)
        return time.monotonic() - started

    def send(self, number: signal.Signals) -> None:
        """Send a signal to PID 1, as docker stop does."""
        docker("kill", "--signal", number.name, self.name)

    def in_child(self, command: str) -> str:
        """Run a bash command in the container, with child=/proc/<id of the trainer>, which is the child of PID 1."""
        find = "for child in /proc/[0-9]*; do read -r _ _ _ parent _ < $child/stat; [[ $parent != 1 ]] || break; done"
        return docker("exec", self.name, "bash", "-c", f"{find}; {command}")

    @property
    def log(self) -> str:
        assert self._log is not None
        return self._log.read_bytes().decode()

    @property
    def failure(self) -> str:
        """The failure file, empty if there is none."""
        path = self.base / "output/failure"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def cause(self) -> str:
        """First line of the failure file, which a failed job must have."""
        assert self.exit_code is not None and 1 <= self.exit_code <= 125, self.log
        assert self.failure, self.log
        return self.failure.splitlines()[0]

    def files(self) -> set[str]:
        """What the job left below model and output."""
        folders = (self.base / "model", self.base / "output")
        return {str(path.relative_to(self.base)) for top in folders for path in top.rglob("*") if path.is_file()}


class JobMaker:
    """Makes jobs in folders of their own, and removes their containers at the end."""

    def __init__(self, image: str, folder: Path) -> None:
        self.image = image
        self.folder = folder
        self.jobs: list[Job] = []

    def __call__(
        self,
        channels: Mapping[str, Path],
        hyperparameters: Mapping[str, str] | None = None,
        *,
        options: list[str] | None = None,
        command: list[str] | None = None,
    ) -> Job:
        base = self.folder / f"job-{len(self.jobs)}"
        for name in ("input/config", "input/data", "model", "output"):
            (base / name).mkdir(parents=True)
        job = Job(self.image, base, channels, options or [], command or [])
        job.configure(hyperparameters=dict(hyperparameters or {}))
        self.jobs.append(job)
        return job

    def remove(self) -> None:
        for job in self.jobs:
            subprocess.run(["docker", "rm", "--force", "--volumes", job.name], capture_output=True, check=False)
