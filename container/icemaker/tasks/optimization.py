"""Settings -> optimizer and learning-rate schedule, the same for every task."""

import math
from collections.abc import Callable

import torch
from torch import nn

from icemaker.config import Settings


def build_optimizer(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The optimizer over the parameters that train; biases and norms (one dimension) have no weight decay."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.momentum, 0.999))


def learning_rate_factor(settings: Settings, total_steps: int) -> Callable[[int], float]:
    """Step -> share of the peak learning rate, 0 to 1: a linear warmup, then the schedule."""
    warmup = settings.warmup_steps if isinstance(settings.warmup_steps, int) else min(500, total_steps // 20)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        if settings.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        if settings.schedule == "multistep":
            return float(0.1 ** sum(progress >= milestone for milestone in settings.milestones))
        return 1.0

    return factor
