"""Detection as a Task: where its parts come together. Imports torch and IceVision only when a module is asked for."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from icemaker.artifact import Artifact
from icemaker.data.annotations import prepare, report_lines
from icemaker.data.annotations.table import AnnotationTable
from icemaker.data.images import read_image
from icemaker.errors import UserError
from icemaker.tasks.detection import drawing, prediction
from icemaker.tasks.detection.dataset import Batch, DetectionDataset, Sample, collate
from icemaker.tasks.detection.metrics import DetectionMetrics, truth_of
from icemaker.tasks.detection.settings import DetectionSettings
from icemaker.tasks.task import DataSource, TaskData

if TYPE_CHECKING:
    from icemaker.tasks.detection.module import DetectionModule

_MASK_MODEL = "mask_rcnn"


class DetectionTask:
    """Boxes (and masks) of objects in images."""

    settings_class = DetectionSettings

    def read(self, settings: DetectionSettings, source: DataSource) -> TaskData:
        prepared = prepare(
            source.training,
            source.validation,
            training_name=source.training_channel,
            validation_name=source.validation_channel or "validation",
            annotations=settings.annotations,
            images=settings.images,
            with_masks=settings.model_type == _MASK_MODEL,
            validation_fraction=settings.validation_fraction,
            seed=settings.seed,
            max_bad_images=settings.max_bad_images,
            num_classes=settings.num_classes,
            should_stop=source.should_stop,
        )
        tables = []
        for name, table in (("training", prepared.train), ("validation", prepared.validation)):
            table.save(source.scratch / name)
            tables.append(AnnotationTable.load(source.scratch / name))
        training, validation = tables
        lines = report_lines(prepared.report)
        if settings.model_type == _MASK_MODEL and not _have_masks(training, validation):
            lines.append((logging.WARNING, "mask_rcnn trains boxes alone: not both sets have masks (segmentation)."))
        return TaskData(
            training=training,
            validation=validation,
            class_names=training.class_names,
            report=prepared.report,
            report_lines=lines,
            fingerprint=f"{training.fingerprint[:32]}{validation.fingerprint[:32]}",
        )

    def dataset(self, data: TaskData, settings: DetectionSettings, *, training: bool) -> DetectionDataset:
        table = data.training if training else data.validation
        # Validation needs masks only for its loss; the truth of its metrics is in the table.
        with_masks = self._with_masks(data, settings) and (training or settings.monitor == "val_loss")
        return DetectionDataset(table, settings, training=training, with_masks=with_masks)

    def collate(self, samples: Sequence[Sample]) -> Batch:
        return collate(samples)

    def module(self, settings: DetectionSettings, data: TaskData, *, download: bool = False) -> "DetectionModule":
        import torch

        from icemaker.tasks.detection import models
        from icemaker.tasks.detection.module import DetectionModule

        if settings.model_type == "efficientdet" and settings.img_size == 128:
            batch_size = min(settings.batch_size, len(data.training))
            if batch_size == 1:
                raise UserError(
                    "A batch of 1 image of 128 pixels cannot train an efficientdet: its coarsest map has one pixel, "
                    f"and batch normalisation needs more than one value (batch_size {settings.batch_size}, "
                    f"{len(data.training)} training images). Use img_size 256, or batches of 2 images or more."
                )
        with_masks = self._with_masks(data, settings)
        torch.manual_seed(settings.seed)  # here, since the imports above may draw random numbers
        detector = models.build(settings, len(data.class_names), with_masks=with_masks, download=download)
        return DetectionModule(settings, detector, data.validation)

    def metrics(self, settings: DetectionSettings, data: TaskData) -> DetectionMetrics:
        return DetectionMetrics(data.validation, with_masks=self._with_masks(data, settings))

    def describe_model(self, settings: DetectionSettings, data: TaskData) -> dict[str, Any]:
        return {
            "model_type": settings.model_type,
            "backbone": settings.backbone,
            "with_masks": self._with_masks(data, settings),
            "preprocessing": {
                "img_size": settings.img_size,
                "resize": "longest side, aspect ratio kept, image at the top left of a square",
                "fill": list(prediction.FILL),
                "mean": list(prediction.MEAN),
                "std": list(prediction.STD),
                "colour_order": "RGB",
            },
            "thresholds": {
                "detection_threshold": settings.detection_threshold,
                "score_threshold": settings.score_threshold,
                "detections_per_image": settings.detections_per_image,
            },
        }

    def validation_files(self, metrics: DetectionMetrics) -> dict[str, Any]:
        return {"validation_annotations.json": metrics.truth_seen(), "validation_predictions.json": metrics.results}

    def gallery(
        self, settings: DetectionSettings, data: TaskData, metrics: DetectionMetrics, *, num_images: int, width_px: int
    ) -> list[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
        """(title, truth, prediction) pictures of validation images, spread evenly over the set."""
        table: AnnotationTable = data.validation
        seen = metrics.seen()
        chosen = [seen[round(position)] for position in np.linspace(0, len(seen) - 1, min(num_images, len(seen)))]
        pairs = []
        for index in chosen:
            image = read_image(table.path(index), size=(int(table.widths[index]), int(table.heights[index])))
            found = metrics.prediction_of(index).above(settings.detection_threshold)
            truth = truth_of(table, index)
            title = f"{table.path(index).name}: {len(truth.boxes)} true, {len(found.boxes)} found"
            left = drawing.draw(image, truth, data.class_names, width_px=width_px, show_scores=False)
            right = drawing.draw(image, found, data.class_names, width_px=width_px)
            pairs.append((title, left, right))
        return pairs

    def load(self, artifact: Artifact) -> "DetectionModule":
        """The trained module of a model directory, in evaluation mode; no user code, no network."""
        import torch

        from icemaker.tasks.detection import models
        from icemaker.tasks.detection.module import DetectionModule

        metadata = artifact.metadata
        settings = DetectionSettings(**metadata["settings"])
        detector = models.build(settings, len(metadata["class_names"]), with_masks=metadata["with_masks"])
        detector.load_state_dict({name: torch.from_numpy(array) for name, array in artifact.weights.items()})
        return DetectionModule(settings, detector, validation=None).eval()

    def _with_masks(self, data: TaskData, settings: DetectionSettings) -> bool:
        return settings.model_type == _MASK_MODEL and _have_masks(data.training, data.validation)


def _have_masks(*tables: AnnotationTable) -> bool:
    return all(table.mask_bytes is not None for table in tables)
