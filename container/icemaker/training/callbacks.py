"""What happens around the steps of a run: seeds, averaged and best weights, evaluation, history, progress, stopping."""

import copy
import csv
import hashlib
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.optim.swa_utils import AveragedModel

from icemaker import environment
from icemaker.config import Settings
from icemaker.errors import StopRequested, UserError
from icemaker.log import logger, print_machine_line
from icemaker.tasks.task import Metrics, TaskData


class LossNotFiniteError(UserError):
    """The loss became infinite or not a number."""


class StepSeed(Callback):
    """Seeds torch before each step by (seed, step, rank): dropout and sampled regions follow the position alone."""

    def __init__(self, seed: int):
        self.seed = seed

    def of(self, step: int, rank: int) -> int:
        """The 63-bit seed of one step of one rank."""
        digest = hashlib.blake2b(f"{self.seed} {step} {rank}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        torch.manual_seed(self.of(trainer.fit_loop.epoch_loop.total_batch_idx, trainer.global_rank))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(self.seed)  # a loss that samples regions is the same for the same weights


class StopCheck(Callback):
    """Leaves the loop by StopRequested at the next batch after a stop request; ends it, with a validation, at the last
    step and after the time budget, wherever in an epoch they fall."""

    def __init__(self, max_duration_seconds: float | None):
        self.max_duration_seconds = max_duration_seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()
        self._total_steps = trainer.estimated_stepping_batches

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._check()
        budget = self.max_duration_seconds
        is_over_budget = budget is not None and trainer.global_step > 0 and time.monotonic() - self._started > budget
        if is_over_budget and not trainer.should_stop:
            logger.info("The budget of %g seconds (max_duration_seconds) is used up: training ends.", budget)
        if is_over_budget or trainer.global_step >= self._total_steps:
            trainer.should_stop = True
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(self, *_: Any) -> None:
        self._check()

    def on_validation_batch_start(self, *_: Any) -> None:
        self._check()

    def on_validation_end(self, *_: Any) -> None:
        self._check()

    def _check(self) -> None:
        if environment.stop_requested():
            raise StopRequested


class AverageWeights(Callback):
    """Keeps an exponential moving average of the weights, which is what is validated and saved.

    The decay grows from 0.1 as (1 + n) / (10 + n) after n steps, so that a short run averages too.
    Source: the warmup of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self._steps = 0
        self._average: AveragedModel | None = None
        self._is_swapped = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.decay:
            self._average = AveragedModel(pl_module.model, multi_avg_fn=self._blend, use_buffers=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self._average is not None and trainer.global_step > self._steps:
            self._steps = trainer.global_step
            self._average.update_parameters(pl_module.model)

    @torch.no_grad()
    def _blend(self, averages: Any, currents: Any, num_averaged: Any) -> None:
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, 1 - decay)
        else:  # a norm's count of batches
            torch._foreach_copy_(averages, currents)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._average is not None and not self._is_swapped:
            self._swap(pl_module)
            pl_module.model.eval()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._average is not None and self._is_swapped:
            self._swap(pl_module)

    def _swap(self, pl_module: Any) -> None:
        assert self._average is not None
        pl_module.model, self._average.module = self._average.module, pl_module.model
        self._is_swapped = not self._is_swapped

    def model(self, pl_module: Any) -> nn.Module:
        """The model whose weights count: the averaged one, where there is an average."""
        model = pl_module.model if self._average is None or self._is_swapped else self._average.module
        assert isinstance(model, nn.Module)
        return model


class Evaluation(Callback):
    """Collects the predictions of a validation, logs its scores, and keeps the weights of the best one.

    Attributes:
        best: Weights as numpy arrays, scores, epoch, step and metrics object of the best validation, or None.
    """

    def __init__(self, metrics: Metrics, monitor: str, average: AverageWeights):
        self.metrics = metrics
        self.monitor = monitor
        self.average = average
        self.best: dict[str, Any] | None = None
        self.scores: dict[str, float] = {}

    def on_validation_epoch_start(self, *_: Any) -> None:
        self.metrics.reset()
        self._losses: list[tuple[float, int]] = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.metrics.accumulate(outputs["predictions"])
        if outputs["loss"] is not None:
            self._losses.append((outputs["loss"], len(batch["indices"])))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.scores = self.metrics.compute()
        if self._losses:
            losses, counts = np.array(self._losses).T
            self.scores["val_loss"] = float((losses * counts).sum() / counts.sum())
        value = self.scores.get(self.monitor, math.nan)
        if not math.isfinite(value):
            raise LossNotFiniteError(
                f"The validation metric {self.monitor} is {value} after epoch {trainer.current_epoch + 1}. "
                "Use a lower learning_rate, or fp32 precision."
            )
        pl_module.log(self.monitor, value, logger=False)  # for early stopping; the history logs it
        sign = -1 if self.monitor.endswith("loss") else 1
        # Of equals the later one: it has learned longer.
        if self.best is None or sign * value >= sign * self.best["scores"][self.monitor]:
            self.best = {
                "weights": weights_of(self.average.model(pl_module)),
                "scores": dict(self.scores),
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "metrics": copy.copy(self.metrics),
            }


def weights_of(model: nn.Module) -> dict[str, Any]:
    """The model's weights as numpy arrays of their own, float32 where they float.

    Raises:
        LossNotFiniteError: One of them is not finite.
    """
    weights = {
        name: (tensor.detach().float() if tensor.is_floating_point() else tensor.detach()).cpu().numpy().copy()
        for name, tensor in model.state_dict().items()
    }
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise LossNotFiniteError(
                f"The training diverged: weight {name} is not finite. Use a lower learning_rate, a longer warmup "
                "(warmup_steps), a smaller gradient_clip_norm, or precision fp32."
            )
    return weights


class History(Callback):
    """One row an epoch: the metrics line, history.csv, TensorBoard; refuses a loss that is not finite."""

    def __init__(self, evaluation: Evaluation, path: Path):
        self.evaluation = evaluation
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._loss_sum = torch.zeros((), device=pl_module.device)
        self._num_batches = 0
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self._loss_sum += outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._num_batches += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._add(trainer, pl_module, self.evaluation.scores)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.rows or self.rows[-1]["epoch"] != trainer.current_epoch + 1:
            self._add(trainer, pl_module, {})

    def _add(self, trainer: pl.Trainer, pl_module: pl.LightningModule, scores: dict[str, float]) -> None:
        loss = mean_loss(self._loss_sum, self._num_batches, trainer.global_step)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": loss,
            "learning_rate": rate,
        }
        self.rows.append({**row, **scores, "seconds": round(time.monotonic() - self._started, 3)})
        print_machine_line("metrics", self.rows[-1])
        self.write()
        if trainer.logger is not None:
            numbers = {name: value for name, value in self.rows[-1].items() if name not in ("epoch", "step")}
            trainer.logger.log_metrics(numbers, step=trainer.global_step)

    def write(self) -> None:
        """Write history.csv anew; a column an epoch lacks stays empty."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        part = self.path.with_name(f".icemaker-{self.path.name}")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)
        part.rename(self.path)


def mean_loss(loss_sum: torch.Tensor, num_batches: int, step: int) -> float:
    """The mean training loss.

    Raises:
        LossNotFiniteError: It is not finite.
    """
    loss = float(loss_sum) / max(1, num_batches)
    if not math.isfinite(loss):
        raise LossNotFiniteError(
            f"The training loss became {loss} at or before step {step}. Use a lower learning_rate, a longer "
            "warmup (warmup_steps), a smaller gradient_clip_norm, or precision fp32."
        )
    return loss


class ProgressLines(Callback):
    """A line every few seconds, for logs without a terminal: where the run is, how fast, and how long it will take."""

    def __init__(self, settings: Settings):
        self.every_seconds = settings.log_every_seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._last = time.monotonic()
        self._batches = self._images = self._images_before = self._batches_before = 0
        self._loss_sum = torch.zeros((), device=pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._batches += 1
        self._images += len(batch["indices"])
        self._loss_sum += outputs["loss"].detach() * trainer.accumulate_grad_batches
        now = time.monotonic()
        if now - self._last < self.every_seconds:
            return
        loss = mean_loss(self._loss_sum, self._batches - self._batches_before, trainer.global_step)
        speed = (self._images - self._images_before) / (now - self._last)
        total = int(trainer.estimated_stepping_batches)
        left = (now - self._started) / max(1, trainer.global_step) * (total - trainer.global_step)
        logger.info(
            "epoch %d step %d of %d: loss %.4f, %.1f images a second, %s left",
            trainer.current_epoch + 1, trainer.global_step, total, loss, speed, _duration(left),
        )  # fmt: skip
        self._last, self._images_before, self._batches_before = now, self._images, self._batches
        self._loss_sum.zero_()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


class BadImages(Callback):
    """Names and counts images that could not be decoded, and fails the run above the share that is allowed.

    Each is named once, in the log and in the data report's list `undecodable`.
    """

    def __init__(self, max_bad_images: float, data: TaskData):
        self.max_bad_images = max_bad_images
        self.data = data
        self.seen: set[tuple[str, int]] = set()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any) -> None:
        self._note("training", batch["problems"])

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any
    ) -> None:
        self._note("validation", batch["problems"])

    def _note(self, subset: str, problems: list[tuple[int, str]]) -> None:
        for index, reason in problems:
            if (subset, index) in self.seen:
                continue
            self.seen.add((subset, index))
            named = self.data.report.setdefault("undecodable", [])  # written with the report
            named.append(f"{getattr(self.data, subset).path(index)} {reason}")
            logger.warning("Left out: %s.", named[-1])
            num_images = len(self.data.training) + len(self.data.validation)
            if len(named) > self.max_bad_images * num_images:
                raise UserError(
                    f"{len(named)} of {num_images} images cannot be decoded, more than the share "
                    f"max_bad_images={self.max_bad_images:g} allows: {'; '.join(named[:5])}. Mend or remove them, or "
                    "raise max_bad_images."
                )
