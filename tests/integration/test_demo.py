"""The README's main command, whole: it draws, trains, and what it says of the model is true."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from pathlib import Path

import cv2
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LEAST_MAP_50 = 0.80


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_demo_trains_a_good_detector(tmp_path: Path) -> None:
    """Exit 0, a val_map_50 of at least 0.80, and the same from pycocotools and the written files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ICEMAKER", "SAGEMAKER"))}
    done = subprocess.run(
        [str(REPOSITORY / "local_test/demo.sh"), "--output", str(tmp_path / "demo")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    printed = re.search(r"^val_map_50=([0-9.]+)$", done.stdout, re.MULTILINE)
    assert printed is not None
    assert float(printed[1]) >= LEAST_MAP_50

    output = tmp_path / "demo/output/data/algo-1"
    for name in ("curves.png", "gallery.png"):
        assert str(output / name) in done.stdout
        assert cv2.imread(str(output / name)) is not None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(output / "validation_annotations.json"))
        found = truth.loadRes(str(output / "validation_predictions.json"))
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[1] == pytest.approx(float(printed[1]), abs=1e-6)
