"""What the LightningModules of all tasks share: how a batch reaches the device, the optimizer and its schedule."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from icemaker.config import Settings
from icemaker.tasks.optimization import build_optimizer, learning_rate_factor


def to_tensors(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch with its arrays as tensors that share their memory."""
    return {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in batch.items()}


class TaskModule(pl.LightningModule):
    """A module whose `model` is what is averaged, saved and loaded."""

    def __init__(self, settings: Settings, model: nn.Module):
        super().__init__()
        self.settings: Any = settings
        self.model = model

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return to_tensors(batch)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self, self.settings)
        factor = learning_rate_factor(self.settings, int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
