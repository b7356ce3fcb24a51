"""A stop request at any moment: exit 0, and what there is of a model, or a line that says there is none."""

from pathlib import Path

import pytest

from native_jobs import TINY, lay_out, stop_at

LONG = {**TINY, "epochs": "500", "log_every_seconds": "0.001"}


@pytest.mark.parametrize("moment", ["INFO Settings", "run task=detection"])
def test_stopped_before_the_first_step_writes_no_model(moment: str, shapes: dict[str, Path], tmp_path: Path) -> None:
    """Before the first optimizer step there is no artifact, exit 0, and one line says so (contract item 5)."""
    lay_out(tmp_path / "ml", LONG, shapes)
    done = stop_at(tmp_path / "ml", moment)
    if "Stopped at step" in done.log and "no model was written" not in done.log:
        pytest.skip("the first step was faster than the signal")
    assert done.exit_code == 0, done.log
    assert done.log.count("Stopped before the first optimizer step: no model was written.") == 1
    assert done.failure is None
    assert not list(done.model("").iterdir())


def test_stopped_before_the_first_validation_keeps_the_current_weights(shapes: dict[str, Path], tmp_path: Path) -> None:
    """The model is there, loadable, and says that it was not validated (contract items 3 and 4)."""
    lay_out(tmp_path / "ml", {**LONG, "validate_every_epochs": "400"}, shapes)
    done = stop_at(tmp_path / "ml", "INFO epoch 2 ")
    assert done.exit_code == 0, done.log
    model = done.json(done.model("model.json"))
    assert model["validated"] is False
    assert model["metrics"] == {}
    assert model["step"] >= 3
    assert "Stop requested by SIGTERM" in done.log
    assert "WARNING The model was not validated" in done.log


def test_stopped_after_a_validation_keeps_the_best(shapes: dict[str, Path], tmp_path: Path) -> None:
    """The best validated weights and their pictures are kept; SIGINT means the same."""
    lay_out(tmp_path / "ml", LONG, shapes)
    done = stop_at(tmp_path / "ml", "metrics epoch=2 ", 2)
    assert done.exit_code == 0, done.log
    model = done.json(done.model("model.json"))
    assert model["validated"] is True
    assert model["metrics"]["val_map"] >= 0
    assert done.output("gallery.png").exists()
    assert "Stop requested by SIGINT" in done.log
