"""Jobs that run natively, with the `train` program, as on a laptop."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
BCCD = REPOSITORY.parent / "shared/data/bccd"

#: The smallest run that learns something: a detector of 3 million weights on pictures of 128 pixels.
TINY = {"img_size": "128", "batch_size": "4", "epochs": "1", "num_workers": "0", "log_every_seconds": "1000"}


@dataclass
class Finished:
    """A job that has ended."""

    base: Path
    exit_code: int
    log: str

    @property
    def failure(self) -> str | None:
        path = self.base / "output/failure"
        return path.read_text() if path.exists() else None

    def model(self, name: str) -> Path:
        return self.base / "model" / name

    def output(self, name: str) -> Path:
        return self.base / "output/data/algo-1" / name

    def json(self, path: Path) -> Any:
        return json.loads(path.read_text())


def lay_out(base: Path, hyperparameters: Any, channels: dict[str, Path]) -> None:
    """Make `base` an /opt/ml, its channels as links."""
    (base / "input/config").mkdir(parents=True, exist_ok=True)
    (base / "input/data").mkdir()
    text = hyperparameters if isinstance(hyperparameters, str) else json.dumps(hyperparameters)
    (base / "input/config/hyperparameters.json").write_text(text)
    for name, folder in channels.items():
        (base / "input/data" / name).symlink_to(folder)


def start(base: Path, **environment: str) -> "subprocess.Popen[str]":
    """Start `train` on a prepared folder."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train")],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(base), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(base: Path, hyperparameters: Any, channels: dict[str, Path], **environment: str) -> Finished:
    """Lay out `base` and run `train` on it to its end."""
    lay_out(base, hyperparameters, channels)
    process = start(base, **environment)
    log, _ = process.communicate()
    return Finished(base, process.returncode, log)


def stop_at(base: Path, line_holds: str, signal_number: int = signal.SIGTERM) -> Finished:
    """Run `train` on a prepared folder, and signal it at the first line that holds a text."""
    process = start(base)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line_holds in line:
            process.send_signal(signal_number)
            break
    rest, _ = process.communicate()
    return Finished(base, process.returncode, "".join(lines) + rest)
