"""The traps of IceVision and its libraries stay closed; each test says which."""

import copy
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from icemaker.config import parse
from icemaker.tasks.detection import models
from icemaker.tasks.detection.models import Objects
from icemaker.tasks.detection.settings import BACKBONES, DetectionSettings

REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = {"efficientdet": "tf_lite0"}


def build(model_type: str, backbone: str | None = None, **raw: str) -> models.Detector:
    raw = {"model_type": model_type, "backbone": backbone or SMALL.get(model_type, "resnet18_fpn"), **raw}
    settings = parse({"img_size": "128", **raw}, DetectionSettings)
    torch.manual_seed(0)
    return models.build(settings, 3, with_masks=model_type == "mask_rcnn")


def nothing(model_type: str) -> Objects:
    masks = torch.zeros(0, 128, 128, dtype=torch.uint8) if model_type == "mask_rcnn" else None
    return Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), None, masks)


@pytest.mark.parametrize("model_type", BACKBONES)
def test_from_scratch_every_weight_trains(model_type: str) -> None:
    """No stem and no norm is frozen at random values (torchvision's trainable_layers=3 and FrozenBatchNorm2d)."""
    detector = build(model_type)
    assert all(parameter.requires_grad for parameter in detector.parameters())
    assert not [m for m in detector.modules() if type(m).__name__ == "FrozenBatchNorm2d"]


def test_retinanets_share_no_weights() -> None:
    """Two RetinaNets of one process have their own P6 and P7, and equal seeds give equal weights."""
    one, two = build("retinanet"), build("retinanet")
    own = {parameter.data_ptr() for parameter in one.parameters()}
    assert not own & {parameter.data_ptr() for parameter in two.parameters()}
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("model_type", BACKBONES)
def test_image_without_objects_has_no_box_loss(model_type: str) -> None:
    """Background images teach no box (IceVision's EfficientDet batch puts a [0, 0, 0, 0] box there)."""
    detector = build(model_type).train()
    losses = detector.losses(torch.randn(2, 3, 128, 128), [nothing(model_type)] * 2)
    boxes = [value for name, value in losses.items() if "box" in name]
    assert boxes
    assert all(float(value) == 0 for value in boxes)
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("model_type", BACKBONES)
def test_validation_loss_moves_no_statistics_and_keeps_the_mode(model_type: str) -> None:
    """A loss in evaluation mode changes no buffer (IceVision's validation_step trains the norms)."""
    detector = build(model_type).eval()
    before = copy.deepcopy(detector.state_dict())
    with torch.no_grad():
        detector.losses(torch.randn(2, 3, 128, 128), [nothing(model_type)] * 2)
    assert not any(module.training for module in detector.modules())
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())


def test_labels_of_predictions_are_one_to_c() -> None:
    """Label 0 is the background and never predicted."""
    for model_type in ("efficientdet", "faster_rcnn"):
        detector = build(model_type, score_threshold="0").eval()
        with torch.no_grad():
            found = detector.predict(torch.randn(1, 3, 128, 128))[0]
        assert set(found.labels.tolist()) <= {1, 2, 3}
        assert len(found.labels) == 100


def test_a_copy_shares_nothing_and_predicts_the_same() -> None:
    """The averaged copy of an EfficientDet has weights of its own, its cached anchors too."""
    detector = build("efficientdet").eval()
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = detector.predict(images)[0]
        duplicate = copy.deepcopy(detector)
        pointers = {parameter.data_ptr() for parameter in detector.parameters()}
        assert not pointers & {parameter.data_ptr() for parameter in duplicate.parameters()}
        actual = duplicate.predict(images)[0]
        assert torch.equal(expected.boxes, actual.boxes)
        next(duplicate.parameters()).zero_()
        assert torch.equal(expected.boxes, detector.predict(images)[0].boxes)
    assert len(detector.state_dict()) == len(duplicate.state_dict())


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet"])
def test_single_map_backbones_have_an_anchor_for_it(backbone: str) -> None:
    """Faster R-CNN without a pyramid runs forward (its default anchors expect five maps)."""
    detector = build("faster_rcnn", backbone).eval()
    with torch.no_grad():
        assert len(detector.predict(torch.randn(1, 3, 128, 128))) == 1


def test_without_masks_in_the_data_the_mask_head_is_left_out() -> None:
    """A Mask R-CNN for boxes alone has no mask head to train."""
    settings = parse({"model_type": "mask_rcnn", "backbone": "resnet18_fpn", "img_size": "128"}, DetectionSettings)
    names = [name for name, _ in models.build(settings, 3, with_masks=False).named_modules()]
    assert not [name for name in names if "mask" in name]


def test_knobs_reach_the_network() -> None:
    """Regions, anchors, thresholds and the number of detections are the settings'."""
    network = build(
        "faster_rcnn", regions_per_image="32", anchor_sizes="[4,8,16,32,64]", nms_threshold="0.3",
        detections_per_image="7", score_threshold="0.2", proposals_per_image="50",
    ).network  # fmt: skip
    assert network.roi_heads.fg_bg_sampler.batch_size_per_image == 32
    assert network.rpn.anchor_generator.sizes == ((4,), (8,), (16,), (32,), (64,))
    assert network.roi_heads.nms_thresh == 0.3
    assert network.roi_heads.detections_per_img == 7
    assert network.roi_heads.score_thresh == 0.2
    assert network.rpn.post_nms_top_n() == 50


def test_importing_icevision_downloads_nothing_and_leaves_home_alone() -> None:
    """The import with a network that refuses, and an unwritable HOME, works and logs nothing to standard error."""
    program = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('network used')\n"
        "socket.socket.connect = refuse\nsocket.getaddrinfo = refuse\n"
        "from icemaker.tasks.detection.icevision import models\n"
        "from loguru import logger\nlogger.warning('to nobody')\n"
        "import icevision.visualize.draw_data\nprint('imported')\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "ICEMAKER_SCRATCH_DIR": scratch,
            "PYTHONPATH": str(REPOSITORY / "container"), "NO_ALBUMENTATIONS_UPDATE": "1",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "imported\n"
    assert done.stderr == ""


@pytest.mark.parametrize("model_type", BACKBONES)
def test_frozen_backbone_keeps_weights_and_statistics(model_type: str) -> None:
    """freeze_backbone moves nothing of the backbone, norms included, and leaves the pyramid and the head to learn."""
    detector = build(model_type).train()
    detector.freeze_backbone()
    before = copy.deepcopy(detector.backbone().state_dict())
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.01)
    detector.train()
    losses = detector.losses(torch.randn(2, 3, 128, 128), [nothing(model_type)] * 2)
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in detector.backbone().state_dict().items())
    learning = [name for name, parameter in detector.named_parameters() if parameter.requires_grad]
    assert any("fpn" in name for name in learning)
    assert detector.training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "backbone"),
    [(model_type, backbone) for model_type, names in BACKBONES.items() for backbone in names],
)
def test_every_backbone_builds_without_a_network(model_type: str, backbone: str) -> None:
    """Each name of the table makes a model on a meta device: nothing of it is fetched or misspelt."""
    with torch.device("meta"):
        detector = build(model_type, backbone)
    assert sum(parameter.numel() for parameter in detector.parameters()) > 3_000_000
