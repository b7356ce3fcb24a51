"""What only a GPU shows; without one these are skipped, or fail where REQUIRE_GPU=1 promises one."""

import os
from pathlib import Path

import pytest
import torch

from native_jobs import TINY, train

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail("REQUIRE_GPU=1, but torch sees no GPU.")
        pytest.skip("torch sees no GPU.")


def test_a_gpu_is_used_in_half_precision(shapes: dict[str, Path], tmp_path: Path) -> None:
    """Precision auto takes bf16 or fp16 on a GPU, and the log names the device."""
    done = train(tmp_path / "ml", {**TINY, "epochs": "2"}, shapes)
    assert done.exit_code == 0, done.log
    assert f"Training on {torch.cuda.get_device_name(0)}" in done.log
    assert "precision bf16-mixed" in done.log or "precision 16-mixed" in done.log


def test_a_gpu_repeats_nearly_the_same_metrics(shapes: dict[str, Path], tmp_path: Path) -> None:
    """Equal seeds give nearly equal losses in fp32; some CUDA operations add in any order."""
    losses = []
    for name in ("one", "two"):
        done = train(tmp_path / name, {**TINY, "precision": "fp32", "monitor": "val_loss"}, shapes)
        assert done.exit_code == 0, done.log
        losses.append(done.json(done.model("metrics.json"))["val_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
