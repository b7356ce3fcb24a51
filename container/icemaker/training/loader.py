"""Batches in an order that is a function of the seed and of the position alone.

Neither the number of workers nor a restart changes what a batch holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from icemaker import environment
from icemaker.config import Settings
from icemaker.log import logger
from icemaker.tasks.module import to_tensors
from icemaker.tasks.task import Task, TaskData

_PREFETCH_BATCHES = 2


class PositionSampler:
    """Yields batches of (epoch, index) keys, an epoch an iteration, from a position on.

    Args:
        num_samples: Samples of the set.
        batch_size: Samples a batch. An epoch has whole batches only, and at least one, smaller where the set is.
        position: Samples consumed so far, over all epochs: where the next iteration begins.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int, position: int = 0):
        self.num_samples = num_samples
        self.batch_size = min(batch_size, num_samples)
        self.seed = seed
        self.samples_per_epoch = num_samples // self.batch_size * self.batch_size
        self.epoch, self.start = divmod(position, self.samples_per_epoch)

    @property
    def sampler(self) -> "PositionSampler":
        """Itself: of a batch sampler, Lightning calls only its sampler's set_epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch, unless it is the one begun; Lightning calls it before each one."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self.samples_per_epoch // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_samples)
        epoch = self.epoch
        for start in range(self.start, self.samples_per_epoch, self.batch_size):
            yield [(epoch, int(index)) for index in order[start : start + self.batch_size]]


@dataclass(frozen=True)
class _Collate:
    """The task's collate, in the worker; as tensors where /dev/shm can carry them, else as arrays through a pipe."""

    task: Task
    as_tensors: bool

    def __call__(self, samples: Sequence[Any]) -> Mapping[str, Any]:
        batch = self.task.collate(samples)
        return to_tensors(batch) if self.as_tensors else batch


def num_workers(settings: Settings) -> int:
    """Loader processes of a run: the setting, or the CPUs less one for the loop, at most 8."""
    if isinstance(settings.num_workers, int):
        return settings.num_workers
    return min(8, environment.available_cpus() - 1)


def build_loaders(task: Task, data: TaskData, settings: Settings) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """The loaders of training and validation; their batches may still hold arrays."""
    training = task.dataset(data, settings, training=True)
    validation = task.dataset(data, settings, training=False)
    workers = num_workers(settings)
    sampler = PositionSampler(len(training), settings.batch_size, settings.seed)
    collate = _Collate(
        task, as_tensors=workers == 0 or _fits_shared_memory(training.batch_bytes(settings.batch_size), workers)
    )
    common: dict[str, Any] = {
        "num_workers": workers,
        "collate_fn": collate,
        "pin_memory": torch.cuda.is_available() and collate.as_tensors,
        "persistent_workers": workers > 0,
        "worker_init_fn": _set_up_worker,
        "prefetch_factor": _PREFETCH_BATCHES if workers else None,
    }
    return (
        DataLoader(training, batch_sampler=sampler, generator=torch.Generator().manual_seed(settings.seed), **common),
        DataLoader(validation, batch_size=settings.batch_size, shuffle=False, **common),
    )


def _set_up_worker(worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _fits_shared_memory(batch_bytes: int, workers: int) -> bool:
    """Whether /dev/shm can hold all batches under way: both loaders', prefetched and in use."""
    needed = 2 * (workers * _PREFETCH_BATCHES + 2) * batch_bytes
    free = environment.shared_memory_bytes()
    if needed > free:
        logger.info(
            "/dev/shm has %d MiB free, and the loaders may need %d MiB: batches go through pipes instead.",
            free // 2**20,
            needed // 2**20,
        )
    return needed <= free
