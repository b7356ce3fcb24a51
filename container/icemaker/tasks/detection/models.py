"""IceVision's detectors, built so that they train from scratch, offline, and give plain tensors.

Knows nothing of files, settings' text or Lightning. Where IceVision or torchvision has a trap, an argument or a class
of ours closes it; nothing is patched.
"""

import copy
import warnings
from dataclasses import dataclass
from typing import Any, cast

import torch
from effdet import DetBenchPredict, unwrap_bench
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from icemaker.tasks.detection.icevision import models
from icemaker.tasks.detection.settings import DetectionSettings


@dataclass(frozen=True)
class Objects:
    """The objects of one image, in pixels of the square that the network sees."""

    boxes: Tensor  #: float32, (N, 4), xyxy
    labels: Tensor  #: int64, (N,), 1..C
    scores: Tensor | None = None  #: float32, (N,), 0 to 1; predictions only
    masks: Tensor | None = None  #: (N, H, W); uint8 0 or 1 as truth, float32 0 to 1 as prediction


class Detector(nn.Module):
    """A detector of some family: images and truth give losses, images alone give predictions."""

    network: Any  # of a library, whose attributes are its own
    _is_frozen = False

    def losses(self, images: Tensor, truth: list[Objects]) -> dict[str, Tensor]:
        """The terms whose sum is the loss.

        Args:
            images: float32, (B, 3, S, S), normalised.
        """
        raise NotImplementedError

    def predict(self, images: Tensor) -> list[Objects]:
        """What is seen in normalised images, (B, 3, S, S); in evaluation mode."""
        raise NotImplementedError

    def backbone(self) -> nn.Module:
        """The part that `freeze_backbone` freezes and that published weights may fill."""
        raise NotImplementedError

    def freeze_backbone(self) -> None:
        """Train the rest alone; the backbone's norms keep their statistics too."""
        self.backbone().requires_grad_(False)
        self._is_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        if self._is_frozen:
            self.backbone().eval()
        return self


class TorchvisionDetector(Detector):
    """Faster R-CNN, Mask R-CNN or RetinaNet."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network: Any = network

    def losses(self, images: Tensor, truth: list[Objects]) -> dict[str, Tensor]:
        was_training = self.training
        if not was_training:
            # These networks give losses in training mode only; what validation must not move stays as it was.
            self.network.train()
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
                    module.eval()
        targets = []
        for objects in truth:
            target = {"boxes": objects.boxes, "labels": objects.labels}
            if objects.masks is not None:
                target["masks"] = objects.masks
            targets.append(target)
        losses: dict[str, Tensor] = self.network(list(images), targets)
        if not was_training:
            self.network.eval()
        return losses

    def predict(self, images: Tensor) -> list[Objects]:
        return [
            Objects(
                found["boxes"], found["labels"], found["scores"], found["masks"][:, 0] if "masks" in found else None
            )
            for found in self.network(list(images))
        ]

    def backbone(self) -> nn.Module:
        backbone = self.network.backbone
        return cast(nn.Module, getattr(backbone, "body", backbone))  # without the pyramid, which is never pretrained


class EfficientDetDetector(Detector):
    """EfficientDet by Ross Wightman, as IceVision builds it."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network: Any = network
        # The bench that predicts shares the network; kept out of the modules, or each weight would have two names.
        self._predictors: dict[torch.device, DetBenchPredict] = {}

    def losses(self, images: Tensor, truth: list[Objects]) -> dict[str, Tensor]:
        # An image without objects gets one box of class -1, effdet's padding. IceVision's own batch puts a box
        # [0, 0, 0, 0] there, which the matcher forces onto an anchor.
        nothing = images.new_full((1, 4), -1.0), images.new_full((1,), -1.0)
        boxes = [objects.boxes[:, [1, 0, 3, 2]] if len(objects.boxes) else nothing[0] for objects in truth]
        labels = [objects.labels.to(images.dtype) if len(objects.labels) else nothing[1] for objects in truth]
        bench = self.network
        outputs = [[level.float() for level in head] for head in bench.model(images)]
        class_targets, box_targets, num_positives = bench.anchor_labeler.batch_label_anchors(boxes, labels)
        _, class_loss, box_loss = bench.loss_fn(*outputs, class_targets, box_targets, num_positives)
        return {"class_loss": class_loss, "box_loss": bench.config.box_loss_weight * box_loss}

    def predict(self, images: Tensor) -> list[Objects]:
        side = images.new_full((len(images), 2), images.shape[-1], dtype=torch.float32)
        info = {"img_size": side, "img_scale": torch.ones(len(images), device=images.device)}
        return [
            Objects(rows[:, :4], rows[:, 5].long(), rows[:, 4]) for rows in self._predictor(images.device)(images, info)
        ]

    def _predictor(self, device: torch.device) -> DetBenchPredict:
        if device not in self._predictors:
            self._predictors[device] = DetBenchPredict(unwrap_bench(self.network)).to(device)
        return self._predictors[device].train(self.training)

    def backbone(self) -> nn.Module:
        return cast(nn.Module, self.network.model.backbone)


def build(settings: DetectionSettings, num_classes: int, *, with_masks: bool, download: bool = False) -> Detector:
    """Build the detector that the settings name, with random weights.

    Args:
        num_classes: Classes, the background not counted.
        with_masks: A Mask R-CNN gets its mask head; without masks in the data it is left out.
        download: Fetch published weights of the backbone (or of the whole EfficientDet) from the internet.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's warnings about the names of arguments that IceVision uses
        if settings.model_type == "efficientdet":
            return EfficientDetDetector(_efficientdet(settings, num_classes, download))
        return TorchvisionDetector(_torchvision(settings, num_classes, with_masks, download))


def _efficientdet(settings: DetectionSettings, num_classes: int, download: bool) -> nn.Module:
    family = models.ross.efficientdet
    network: nn.Module = family.model(
        backbone=copy.copy(getattr(family.backbones, settings.backbone))(pretrained=download),
        num_classes=num_classes + 1,
        img_size=settings.img_size,
        pretrained_backbone=False,  # effdet would fetch it even for pretrained=False
        max_det_per_image=settings.detections_per_image,
    )
    return network


def _torchvision(settings: DetectionSettings, num_classes: int, with_masks: bool, download: bool) -> nn.Module:
    model_type = settings.model_type
    if model_type == "mask_rcnn" and not with_masks:
        model_type = "faster_rcnn"
    family = getattr(models.torchvision, model_type)
    arguments: dict[str, Any] = {}
    is_pyramid = settings.backbone.endswith("_fpn")
    if is_pyramid:
        # The defaults freeze the stem and every norm, also random ones.
        arguments = {"trainable_layers": 5, "norm_layer": _norm_layer(settings.norm)}
    if model_type == "retinanet":
        # IceVision's default is one module shared by all models of the process.
        arguments["extra_blocks"] = LastLevelP6P7(256, 256)
    configuration = getattr(family.backbones, settings.backbone)
    backbone = copy.copy(configuration)(pretrained=download, **arguments)
    knobs = _retinanet_knobs(settings) if model_type == "retinanet" else _rcnn_knobs(settings, is_pyramid)
    network: nn.Module = family.model(num_classes=num_classes + 1, backbone=backbone, **knobs)
    return network


def _norm_layer(norm: str | None) -> Any:
    if norm == "group":
        return _group_norm
    return FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d


def _group_norm(num_channels: int) -> nn.Module:
    return nn.GroupNorm(32, num_channels)


def _rcnn_knobs(settings: DetectionSettings, is_pyramid: bool) -> dict[str, Any]:
    sizes = settings.anchor_sizes or (32, 64, 128, 256, 512)
    ratios = settings.anchor_ratios or (0.5, 1.0, 2.0)
    knobs: dict[str, Any] = {
        "box_score_thresh": settings.score_threshold,
        "box_nms_thresh": settings.nms_threshold or 0.5,
        "box_detections_per_img": settings.detections_per_image,
    }
    if is_pyramid:
        knobs["rpn_anchor_generator"] = AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * len(sizes))
    else:  # one feature map: all sizes on it, and the box head looks at it
        knobs["rpn_anchor_generator"] = AnchorGenerator((tuple(sizes),), (ratios,))
        knobs["box_roi_pool"] = MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2)
    if settings.regions_per_image is not None:
        knobs["box_batch_size_per_image"] = settings.regions_per_image
    if settings.proposals_per_image is not None:
        knobs["rpn_post_nms_top_n_train"] = knobs["rpn_post_nms_top_n_test"] = settings.proposals_per_image
    return knobs


def _retinanet_knobs(settings: DetectionSettings) -> dict[str, Any]:
    sizes = settings.anchor_sizes or (32, 64, 128, 256, 512)
    ratios = settings.anchor_ratios or (0.5, 1.0, 2.0)
    octaves = tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in sizes)
    return {
        "anchor_generator": AnchorGenerator(octaves, (ratios,) * len(octaves)),
        "score_thresh": settings.score_threshold,
        "nms_thresh": settings.nms_threshold or 0.5,
        "detections_per_img": settings.detections_per_image,
    }
