"""The order of samples is a function of the seed and the position alone."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from icemaker.training.loader import PositionSampler


def epochs(sampler: PositionSampler, count: int) -> list[list[tuple[int, int]]]:
    batches = []
    for _ in range(count):
        batches += list(sampler)
        sampler.set_epoch(sampler.epoch + 1)
    return batches


def test_an_epoch_has_each_sample_once_in_whole_batches() -> None:
    """Ten samples in batches of three: nine of them, none twice."""
    batches = list(PositionSampler(10, 3, seed=1))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    keys = [key for batch in batches for key in batch]
    assert len(set(keys)) == 9
    assert {epoch for epoch, _ in keys} == {0}


def test_epochs_and_seeds_differ_and_repeat() -> None:
    """Each epoch has another order; the same seed has the same."""
    assert epochs(PositionSampler(20, 4, seed=1), 3) == epochs(PositionSampler(20, 4, seed=1), 3)
    first, second = list(PositionSampler(20, 4, seed=1)), list(PositionSampler(20, 4, seed=2))
    assert first != second
    samplers = [PositionSampler(20, 4, seed=1, position=20 * epoch) for epoch in range(3)]
    orders = {tuple(index for batch in sampler for _, index in batch) for sampler in samplers}
    assert len(orders) == 3


@pytest.mark.parametrize("position", [0, 4, 8, 16, 20, 36])
def test_a_start_at_a_position_continues_the_undisturbed_order(position: int) -> None:
    """Batches from a position on equal the tail of a run from the beginning."""
    whole = epochs(PositionSampler(18, 4, seed=5), 4)
    sampler = PositionSampler(18, 4, seed=5, position=position)
    sampler.set_epoch(position // 16)  # as Lightning does before the epoch that it resumes
    rest = epochs(sampler, 4 - position // 16)
    assert rest == whole[position // 4 :]


def test_a_set_smaller_than_a_batch_is_one_smaller_batch() -> None:
    """Three samples with batch_size 8 make one batch of three."""
    assert [len(batch) for batch in PositionSampler(3, 8, seed=1)] == [3]
    assert len(PositionSampler(3, 8, seed=1)) == 1


class Recorder(pl.LightningModule):
    """Notes the keys of its batches, and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.keys: list[list[tuple[int, int]]] = []

    def training_step(self, batch: list[tuple[int, int]], index: int) -> torch.Tensor:
        self.keys.append(batch)
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Keys:
    """A data set whose samples are their keys."""

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
        return key


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_trains_each_epoch_in_its_own_order(workers: int) -> None:
    """What a Trainer sees over three epochs is the sampler's order, the epoch in every key."""
    loader = DataLoader(
        Keys(),  # type: ignore[arg-type]
        batch_sampler=PositionSampler(10, 3, seed=1),
        collate_fn=list,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    module = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    assert module.keys == epochs(PositionSampler(10, 3, seed=1), 3)
    assert {epoch for batch in module.keys for epoch, _ in batch} == {0, 1, 2}
