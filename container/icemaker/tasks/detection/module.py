"""A detector as a LightningModule: batches in, losses and predictions in original pixels out.

Knows nothing of files or metrics.
"""

from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from icemaker.data.annotations.table import AnnotationTable
from icemaker.tasks.detection import models
from icemaker.tasks.detection.models import Objects
from icemaker.tasks.detection.prediction import MEAN, STD, Prediction, postprocess
from icemaker.tasks.detection.settings import DetectionSettings
from icemaker.tasks.module import TaskModule


class TensorBatch(TypedDict):
    """A Batch on the device; shapes and types as there."""

    indices: Tensor
    images: Tensor
    counts: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor | None


class DetectionModule(TaskModule):
    """Trains and validates one detector.

    Args:
        validation: The table that validation batches index; its sizes map predictions back to original pixels. None
            where nothing is validated.
    """

    def __init__(self, settings: DetectionSettings, detector: models.Detector, validation: AnnotationTable | None):
        super().__init__(settings, detector)
        self.validation = validation

    @property
    def detector(self) -> models.Detector:
        """The model, or the averaged one while it is validated."""
        assert isinstance(self.model, models.Detector)
        return self.model

    def training_step(self, batch: TensorBatch, batch_index: int) -> Tensor:
        losses = self.detector.losses(normalise(batch["images"]), self._truth(batch))
        return torch.stack(list(losses.values())).sum()

    def validation_step(self, batch: TensorBatch, batch_index: int) -> dict[str, Any]:
        """The predictions of a batch as (index, Prediction) pairs, and its loss where the monitor asks for it."""
        assert self.validation is not None
        if not len(batch["indices"]):
            return {"predictions": [], "loss": None}
        images = normalise(batch["images"])
        loss = None
        if self.settings.monitor == "val_loss":
            loss = float(torch.stack(list(self.detector.losses(images, self._truth(batch)).values())).sum())
        indices = [int(index) for index in batch["indices"]]
        sizes = [(int(self.validation.widths[index]), int(self.validation.heights[index])) for index in indices]
        return {"predictions": list(zip(indices, self.predict(images, sizes), strict=True)), "loss": loss}

    def predict(self, images: Tensor, sizes: list[tuple[int, int]]) -> list[Prediction]:
        """Predictions in original pixels.

        Args:
            images: float32, (B, 3, S, S), normalised.
            sizes: Width and height of each original image.
        """
        settings = self.settings
        # In full precision whatever training uses: what is scored is what a loaded model will predict.
        with torch.autocast(images.device.type, enabled=False):
            predictions = self.detector.predict(images)
        return [
            postprocess(
                _numpy(found.boxes),
                found.labels.cpu().numpy(),
                np.zeros(0, np.float32) if found.scores is None else _numpy(found.scores),
                size=size,
                img_size=settings.img_size,
                score_threshold=settings.score_threshold,
                detections_per_image=settings.detections_per_image,
                masks=None if found.masks is None else _numpy(found.masks),
            )
            for found, size in zip(predictions, sizes, strict=True)
        ]

    def _truth(self, batch: TensorBatch) -> list[Objects]:
        counts = batch["counts"].tolist()
        boxes, labels = torch.split(batch["boxes"], counts), torch.split(batch["labels"], counts)
        masks = [None] * len(counts) if batch["masks"] is None else torch.split(batch["masks"], counts)
        return [Objects(box, label, None, mask) for box, label, mask in zip(boxes, labels, masks, strict=True)]


def _numpy(tensor: Tensor) -> Any:
    return tensor.detach().float().cpu().numpy()


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S) with ImageNet's mean and deviation, on the images' device."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    # Converting into place and going on there is 8 times as fast on a CPU as arithmetic on (B, S, S, 3).
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.sub_(mean).div_(std)
