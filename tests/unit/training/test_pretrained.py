"""Weights of a channel reach the model by name and shape, and nothing else is opened."""

import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from icemaker.config import parse
from icemaker.errors import UserError
from icemaker.tasks.detection import models
from icemaker.tasks.detection.settings import DetectionSettings
from icemaker.training.pretrained import load_pretrained


@pytest.fixture
def detector() -> models.Detector:
    raw = {"model_type": "faster_rcnn", "backbone": "resnet18_fpn", "img_size": "128"}
    return models.build(parse(raw, DetectionSettings), 3, with_masks=False)


def test_published_backbone_weights_fill_the_backbone(detector: models.Detector, tmp_path: Path) -> None:
    """A torchvision classifier's file fills the detector's backbone, whatever the names' prefix."""
    source = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(source, tmp_path / "resnet18.pth")
    load_pretrained(detector, tmp_path, "pretrained")
    body = detector.network.backbone.body.state_dict()
    for name in ("conv1.weight", "layer4.1.conv2.weight", "layer1.0.bn1.running_mean"):
        assert torch.equal(body[name], source[name])


def test_own_model_of_other_classes_fills_all_but_the_head(detector: models.Detector, tmp_path: Path) -> None:
    """A model.safetensors of ours with other classes gives everything except the last layer."""
    raw = {"model_type": "faster_rcnn", "backbone": "resnet18_fpn", "img_size": "128"}
    other = models.build(parse(raw, DetectionSettings), 7, with_masks=False)
    save_file(other.state_dict(), tmp_path / "model.safetensors")
    before = detector.network.roi_heads.box_predictor.cls_score.weight.clone()
    load_pretrained(detector, tmp_path, "pretrained")
    assert torch.equal(detector.network.rpn.head.cls_logits.weight, other.network.rpn.head.cls_logits.weight)
    assert torch.equal(detector.network.roi_heads.box_predictor.cls_score.weight, before)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


def test_pickled_code_is_not_run(detector: models.Detector, tmp_path: Path) -> None:
    """A file that would run code when unpickled is refused."""
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"weights\.pth holds more than plain tensors|cannot be read as weights"):
        load_pretrained(detector, tmp_path, "pretrained")
    torch.save({"model": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth holds more than plain tensors"):
        load_pretrained(detector, tmp_path, "pretrained")


def test_weights_that_fit_nowhere_are_refused(detector: models.Detector, tmp_path: Path) -> None:
    """The message shows names of both sides."""
    save_file({"other": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"Nothing in a\.safetensors of channel 'pretrained' fits the model"):
        load_pretrained(detector, tmp_path, "pretrained")


def test_damaged_and_ambiguous_channels_are_refused(detector: models.Detector, tmp_path: Path) -> None:
    """No file, a cut file and two files each get their message."""
    with pytest.raises(UserError, match="holds 0 weights files"):
        load_pretrained(detector, tmp_path, "pretrained")
    (tmp_path / "a.safetensors").write_bytes(b"123")
    with pytest.raises(UserError, match=r"a\.safetensors cannot be read as weights"):
        load_pretrained(detector, tmp_path, "pretrained")
    (tmp_path / "b.pth").write_bytes(b"123")
    with pytest.raises(UserError, match=r"holds 2 weights files \(\['a\.safetensors', 'b\.pth'\]\)"):
        load_pretrained(detector, tmp_path, "pretrained")
