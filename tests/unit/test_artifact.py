"""The model directory is whole, or it is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from icemaker import artifact
from icemaker.errors import UserError

WEIGHTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3, np.int64)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    artifact.save(tmp_path, metadata={"task": "detection"}, weights=WEIGHTS, metrics={"val_map": 0.5})
    return tmp_path


def test_what_is_saved_is_loaded(model: Path) -> None:
    """Weights come back bit for bit, metadata with metrics."""
    loaded = artifact.load(model)
    assert loaded.metadata["task"] == "detection"
    assert loaded.metadata["metrics"] == {"val_map": 0.5}
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(loaded.weights[name], array)
    assert sorted(path.name for path in model.iterdir()) == ["metrics.json", "model.json", "model.safetensors"]


def test_saving_again_replaces_the_model(model: Path) -> None:
    """A second save leaves one whole model."""
    artifact.save(model, metadata={"task": "other"}, weights={"c": np.zeros(1, np.float32)}, metrics={})
    assert artifact.load(model).metadata["task"] == "other"


def test_empty_folder_is_no_model(tmp_path: Path) -> None:
    """The message says what the folder holds instead."""
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"holds no model\.json, but \['model'\]"):
        artifact.load(tmp_path)


def test_other_schema_is_refused_with_both_versions(model: Path) -> None:
    """A reader names the version it found and the one it reads."""
    content = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**content, "schema_version": 99}))
    with pytest.raises(UserError, match=r"schema_version 99; this version of Icemaker reads 1"):
        artifact.load(model)


def test_missing_file_is_named(model: Path) -> None:
    """A file that model.json lists must be there."""
    (model / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"metrics\.json is missing"):
        artifact.load(model)


def test_cut_file_is_refused_with_both_hashes(model: Path) -> None:
    """A shorter file has another hash."""
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"has sha256 \w{64}, but model\.json says \w{64}"):
        artifact.load(model)


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[]", "holds a list")])
def test_damaged_metadata_is_refused(model: Path, content: str, message: str) -> None:
    """model.json must be a JSON object."""
    (model / "model.json").write_text(content)
    with pytest.raises(UserError, match=message):
        artifact.load(model)


def test_huge_metadata_is_not_read(model: Path) -> None:
    """A model.json of over 16 MiB is refused by its size."""
    with (model / "model.json").open("ab") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(UserError, match="at most 16 MiB"):
        artifact.load(model)


def test_failed_save_leaves_no_part_and_no_model(model: Path) -> None:
    """What cannot be written is gone, and the old model.json does not vouch for new files."""
    with pytest.raises(ValueError, match="JSON"):
        artifact.save(model, metadata={}, weights=WEIGHTS, metrics={"bad": float("nan")})
    assert not list(model.glob(".icemaker-*"))
    assert not (model / "model.json").exists()
