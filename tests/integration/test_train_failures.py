"""The failure file of the program `train`: every way to fail leaves a cause, and nothing else does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from train_job import Job, mounted, wait_until


def test_further_words_after_train_are_refused(tmp_path: Path) -> None:
    """Hyperparameters come from a file; an error of the command line leaves a failure file too."""
    job = Job(tmp_path, "save_model()")
    code, output = job.run("train", "--batch-size=3")
    assert code == 1
    assert "'--batch-size=3'" in output
    assert job.failure.startswith("'train' takes no further words, but got '--batch-size=3'.")


def test_an_import_error_of_the_trainer_is_the_cause(tmp_path: Path) -> None:
    """The failure file begins with the ImportError, and the traceback follows."""
    job = Job(tmp_path, "import no_such_module")
    code, output = job.run()
    assert code == 1
    lines = job.failure.splitlines()
    assert lines[0] == "ModuleNotFoundError: No module named 'no_such_module' (exit code 1 of the trainer)"
    assert "Traceback (most recent call last):" in lines
    assert output.count("ModuleNotFoundError: No module named 'no_such_module'\n") == 1
    assert output.splitlines()[-1] == f"ERROR {lines[0]}"


def test_a_syntax_error_of_the_trainer_is_the_cause(tmp_path: Path) -> None:
    """A trainer that Python cannot even compile tells why."""
    job = Job(tmp_path, "def def")
    assert job.run()[0] == 1
    assert job.failure.startswith("SyntaxError: ")


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGBUS", "SIGABRT"])
def test_a_crash_is_told_by_its_signal(tmp_path: Path, name: str) -> None:
    """A trainer that dies of a signal leaves a failure file that names it; the exit code is 1."""
    job = Job(tmp_path, f"os.kill(os.getpid(), signal.{name})")
    code, _ = job.run()
    assert code == 1
    assert f"killed by {name}" in job.failure.splitlines()[0]
    assert "for memory (limit" not in job.failure


def test_the_trainers_own_failure_file_is_kept(tmp_path: Path) -> None:
    """Who knows the cause writes it; PID 1 adds nothing but its line in the log."""
    job = Job(tmp_path, "environment.write_failure('Hyperparameter x is wrong.\\n\\ndetail'); sys.exit(1)")
    code, output = job.run()
    assert code == 1
    assert job.failure == "Hyperparameter x is wrong.\n\ndetail\n"
    assert output.splitlines()[-1] == f"ERROR The trainer failed; {job.base}/output/failure has its cause."


@pytest.mark.parametrize(("trainer", "expected"), [("save_model()", 0), ("sys.exit(3)", 1)])
def test_an_earlier_failure_file_neither_goes_nor_fails_a_good_run(tmp_path: Path, trainer: str, expected: int) -> None:
    """A pre-existing failure file is not overwritten, and the exit code tells how this run went."""
    job = Job(tmp_path, trainer)
    (job.base / "output").mkdir()
    (job.base / "output/failure").write_text("earlier")
    code, output = job.run()
    assert code == expected
    assert job.failure == "earlier"
    assert "is of an earlier start and stays as it is" in output
    assert ("exit code 3" in output) is (expected == 1)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_that_wrote_no_model_fails(tmp_path: Path, earlier: bool) -> None:
    """An empty model folder at the end is a failure, and so is one with the model of an earlier run only."""
    job = Job(tmp_path, "pass")
    if earlier:
        (job.base / "model").mkdir()
        (job.base / "model/model.json").write_text("{}")
    assert job.run()[0] == 1
    assert "no model was written" in job.failure.splitlines()[0]


def test_malformed_configuration_is_told_without_its_values(tmp_path: Path) -> None:
    """A broken resourceconfig.json fails before the trainer starts; secrets of JSON and environment stay unprinted."""
    job = Job(tmp_path, "print('started')")
    job.configure("hyperparameters.json", {"password": "s3cret-value"})
    job.configure("resourceconfig.json", ["s3cret-value"])
    code, output = job.run(env={"AWS_SECRET_ACCESS_KEY": "s3cret-value"})
    assert code == 1
    assert "started" not in output
    assert "s3cret-value" not in output
    assert "resourceconfig.json: the file holds a list" in job.failure
    job.configure("resourceconfig.json", {})
    assert "s3cret-value" not in job.run(env={"AWS_SECRET_ACCESS_KEY": "s3cret-value"})[1]


def test_pipe_mode_fails_before_the_trainer_starts(tmp_path: Path) -> None:
    """No FIFO is opened, so nothing hangs."""
    job = Job(tmp_path, "note('started', 'yes')")
    job.configure("inputdataconfig.json", {"train": {"TrainingInputMode": "Pipe"}})
    (job.base / "input/data").mkdir()
    os.mkfifo(job.base / "input/data/train_0")
    assert job.run()[0] == 1
    assert job.failure.startswith(
        "Channel 'train' has TrainingInputMode 'Pipe'. Supported modes are 'File' and 'FastFile'."
    )
    assert not (job.folder / "started").exists()


def test_a_full_disk_fails_with_its_cause(tmp_path: Path) -> None:
    """Disk full while saving: exit code 1 and the system's words in the failure file, not success."""
    job = Job(
        tmp_path,
        """
        with (env.model_dir / "model.json").open("wb", buffering=0) as file:
            while file.write(b"x" * 512):
                pass
    """,
    )
    with mounted(job.base, "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        code, _ = job.run()
        assert code == 1
        assert job.failure.startswith("OSError: [Errno 28] No space left on device")


def test_a_read_only_model_folder_is_told_before_the_trainer_starts(tmp_path: Path) -> None:
    """Hours of training are not lost to a folder that nothing can be saved in."""
    job = Job(tmp_path, "note('started', 'yes')")
    with mounted(job.base / "model", "-t", "tmpfs", "-o", "ro", "tmpfs"):
        code, _ = job.run()
    assert code == 1
    assert job.failure.startswith(f"Folder {job.base}/model cannot be written to: Read-only file system.")
    assert not (job.folder / "started").exists()


def test_an_output_that_cannot_be_written_still_ends_with_1(tmp_path: Path) -> None:
    """There is no place for a failure file; the log has the cause."""
    job = Job(tmp_path, "note('started', 'yes')")
    with mounted(job.base, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        code, output = job.run()
    assert code == 1
    assert "output cannot be written to: Read-only file system" in output


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A memory cgroup of 96 MiB, of either version; needs root."""
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        folder = parent / f"icemaker-test-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit).write_text(str(96 * 2**20))
        except OSError:
            if folder.is_dir():
                folder.rmdir()
            continue
        break
    else:
        pytest.skip("no memory cgroup can be made here")
    yield folder
    wait_until(lambda: (folder / "cgroup.procs").read_text() == "")
    folder.rmdir()


def test_a_kill_for_memory_is_told_with_the_limit(tmp_path: Path, small_cgroup: Path) -> None:
    """The kernel kills the trainer for memory: the failure file says so, with the limit and what to change."""
    job = Job(
        tmp_path,
        """
        pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
        blocks = []
        while True:
            blocks.append(b"x" * 2**20)
    """,
    )
    code, _ = job.run(preexec_fn=lambda: (small_cgroup / "cgroup.procs").write_text(str(os.getpid())))
    assert code == 1
    assert job.failure.startswith(
        "The trainer was killed for memory (limit 96 MiB, 1 killed). Use a smaller batch_size"
    )
