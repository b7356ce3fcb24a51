"""What a Task gives to training, to the server and to the tools, which use nothing else of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from icemaker.artifact import Artifact
from icemaker.config import Settings


@dataclass(frozen=True)
class TaskData:
    """The data of one run, read and checked; the sets are of the task's own kind, with a length and `path(index)`."""

    training: Any
    validation: Any
    class_names: tuple[str, ...]
    report: dict[str, Any]  #: data_report.json
    report_lines: Sequence[tuple[int, str]]  #: (level of logging, text), for the log
    fingerprint: str  #: sha256 of both sets


@dataclass(frozen=True)
class DataSource:
    """Where a run's data lies."""

    training: Path
    training_channel: str
    validation: Path | None
    validation_channel: str | None
    scratch: Path  #: the table is written there once a host
    should_stop: Callable[[], bool]


class Metrics(Protocol):
    """Collects the predictions of one validation and scores them."""

    def reset(self) -> None: ...

    def accumulate(self, predictions: Any) -> None: ...

    def compute(self) -> dict[str, float]:
        """Flat, plain ASCII names; what cannot be scored is not there."""
        ...


class Task(Protocol):
    """One kind of model, from its hyperparameters to its pictures."""

    settings_class: type[Settings]

    def read(self, settings: Any, source: DataSource) -> TaskData:
        """Read, mend and check the data. Raises UserError for data that make no sense."""
        ...

    def dataset(self, data: TaskData, settings: Any, *, training: bool) -> Any:
        """Samples as numpy arrays, asked for by (epoch, index) in training, else by index.

        Its `batch_bytes(batch_size)` is the most that a batch can take.
        """
        ...

    def collate(self, samples: Sequence[Any]) -> Mapping[str, Any]:
        """Samples -> a batch of numpy arrays, with the `problems` of images that could not be decoded."""
        ...

    def module(self, settings: Any, data: TaskData, *, download: bool = False) -> Any:
        """A LightningModule with `training_step`, and a `validation_step` that gives `predictions` and `loss`."""
        ...

    def metrics(self, settings: Any, data: TaskData) -> Metrics: ...

    def describe_model(self, settings: Any, data: TaskData) -> dict[str, Any]:
        """What model.json must say so that the weights can be used without the settings."""
        ...

    def validation_files(self, metrics: Any) -> dict[str, Any]:
        """File name -> JSON: the truth and the predictions of the last validation, for anyone to recompute scores."""
        ...

    def gallery(self, settings: Any, data: TaskData, metrics: Any, *, num_images: int, width_px: int) -> Any:
        """(title, truth, prediction) pictures of some validation images, uint8 RGB, `width_px` wide."""
        ...

    def load(self, artifact: Artifact) -> Any:
        """The trained module of a model directory, in evaluation mode."""
        ...
