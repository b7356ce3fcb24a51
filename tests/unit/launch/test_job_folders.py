"""The folders a job writes to, before and after it."""

import os
from pathlib import Path

import pytest

from icemaker.errors import UserError
from icemaker.launch import job_folders


def test_folders_are_made_and_half_made_files_go(tmp_path: Path) -> None:
    """What a killed run left half-made is removed; everything else stays."""
    model = tmp_path / "a/model"
    job_folders.prepare([model])
    assert list(model.iterdir()) == []
    (model / ".icemaker-model.onnx").write_text("half")
    (model / ".icemaker-export").mkdir()
    (model / ".icemaker-export/x").write_text("half")
    (model / ".icemaker-link").symlink_to(tmp_path)
    (model / "model.json").write_text("{}")
    (model / ".other").write_text("x")
    job_folders.prepare([model])
    assert sorted(os.listdir(model)) == [".other", "model.json"]
    assert tmp_path.is_dir()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """The message has the folder, the reason and what to do."""
    (tmp_path / "model").write_text("a file")
    with pytest.raises(UserError, match=r"Folder .*/model cannot be written to: File exists\. Mount it writable"):
        job_folders.prepare([tmp_path / "model"])


def test_everybody_can_read_what_was_written(tmp_path: Path) -> None:
    """Mode a+rX: files readable, folders and programs enterable; links and their targets are left alone."""
    outside = tmp_path / "outside"
    outside.write_text("private")
    outside.chmod(0o600)
    top = tmp_path / "model"
    (top / "deep").mkdir(parents=True)
    for name, mode in {"a": 0o600, "deep/b": 0o640, "run.sh": 0o700}.items():
        (top / name).write_text("x")
        (top / name).chmod(mode)
    (top / "deep").chmod(0o700)
    (top / "link").symlink_to(outside)
    (top / "dangling").symlink_to(tmp_path / "none")
    job_folders.open_to_readers([top, tmp_path / "none"], tmp_path)
    modes = {name: (top / name).stat().st_mode & 0o777 for name in ("a", "deep", "deep/b", "run.sh")}
    assert modes == {"a": 0o644, "deep": 0o755, "deep/b": 0o644, "run.sh": 0o755}
    assert outside.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("is_base", [False, True])
def test_what_root_wrote_belongs_to_the_owner_of_the_folder(tmp_path: Path, is_base: bool) -> None:
    """A laptop user can delete what a container left in their folder, or in one that it made in their base folder."""
    top = tmp_path / "model"
    (top / "deep").mkdir(parents=True)
    (top / "deep/a").write_text("x")
    os.chown(tmp_path if is_base else top, 1234, 5678)
    job_folders.open_to_readers([top], tmp_path)
    for path in (top / "deep", top / "deep/a"):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)
    os.chown(tmp_path, 0, 0)
