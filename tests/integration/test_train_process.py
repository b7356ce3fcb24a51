"""The program `train` as a process: its words, what the trainer gets, what is left after it."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

import icemaker
from train_job import PATIENCE_SECONDS, Job, mounted


@pytest.mark.parametrize("words", [(), ("train",)])
def test_a_job_trains_with_and_without_the_word_train(tmp_path: Path, words: tuple[str, ...]) -> None:
    """`docker run IMG` and `docker run IMG train` both train, and exit with 0 when there is a model."""
    job = Job(tmp_path, "save_model()")
    code, output = job.run(*words, env={"TRAINING_JOB_NAME": "my-job"})
    assert code == 0, output
    assert not job.has_failed
    assert sorted(os.listdir(job.base / "output")) == ["data"]
    assert os.listdir(job.base / "output/data") == ["algo-1"]
    assert output.startswith(f"INFO Icemaker {icemaker.__version__}: training job my-job on host algo-1, ")
    assert [name for name in os.listdir(job.folder) if "icemaker-" in name] == []


def test_the_program_works_through_a_link(tmp_path: Path) -> None:
    """/usr/local/bin/train is a link into the program's tree."""
    job = Job(tmp_path, "save_model()")
    (job.folder / "bin").mkdir()
    (job.folder / "bin/train").symlink_to(job.program)
    job.program = job.folder / "bin/train"
    assert job.run()[0] == 0


def test_the_first_line_comes_before_the_trainer_is_done(tmp_path: Path) -> None:
    """Logs are unbuffered: the first line is there within seconds, without a terminal."""
    job = Job(tmp_path, "wait_for_stop(); save_model()")
    began = time.monotonic()
    process = job.start()
    assert process.stdout is not None
    assert process.stdout.readline().startswith("INFO Icemaker ")
    assert time.monotonic() - began < 5
    process.terminate()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0


def test_the_trainer_gets_its_environment(tmp_path: Path) -> None:
    """SM_* and the variables that torch reads at import are there in the final Python process."""
    job = Job(
        tmp_path, "import json; note('variables', json.dumps(dict(os.environ))); note('path', sys.path); save_model()"
    )
    job.configure("hyperparameters.json", {"batch-size": "16", "sagemaker_program": "x"})
    job.configure("inputdataconfig.json", {"train": {"TrainingInputMode": "File"}})
    assert job.run(env={"MPLBACKEND": "svg", "CUDA_VISIBLE_DEVICES": ""})[0] == 0
    variables = json.loads(job.noted("variables"))
    assert variables["SM_HP_BATCH_SIZE"] == "16"
    assert variables["SM_CHANNEL_TRAIN"] == str(job.base / "input/data/train")
    assert variables["SM_MODEL_DIR"] == str(job.base / "model")
    assert variables["SM_NUM_GPUS"] == "0"
    assert variables["OMP_WAIT_POLICY"] == "PASSIVE"
    assert variables["MPLBACKEND"] == "svg"
    assert variables["PYTHONUNBUFFERED"] == "1"
    assert variables["PYTHONPATH"] == str(job.folder / "app/container")
    assert variables["TORCH_HOME"].startswith(variables["ICEMAKER_SCRATCH_DIR"])
    assert "SM_HP_SAGEMAKER_PROGRAM" not in variables


def test_the_trainer_starts_with_the_usual_signals_and_umask(tmp_path: Path) -> None:
    """What PID 1 holds back is not held back in the trainer; the files it writes are for everybody to read."""
    job = Job(
        tmp_path, "note('held', signal.pthread_sigmask(signal.SIG_BLOCK, ())); note('umask', os.umask(0)); save_model()"
    )
    assert job.run(umask=0o077)[0] == 0
    assert job.noted("held") == "set()"
    assert job.noted("umask") == str(0o022)


def test_a_module_in_the_current_folder_does_not_replace_ours(tmp_path: Path) -> None:
    """The folder in which the container happens to start is not searched for modules."""
    job = Job(tmp_path, "import json; save_model(); note('json', json.__file__)")
    (job.folder / "json.py").write_text("raise SystemExit(5)")
    assert job.run(cwd=job.folder)[0] == 0
    assert str(job.folder) not in job.noted("json")


def test_an_unknown_first_word_is_executed(tmp_path: Path) -> None:
    """`docker run IMG chmod --version` works, with the program's own exit code and the usual signal settings."""
    job = Job(tmp_path, "")
    code, output = job.run("chmod", "--version")
    assert code == 0
    assert output.startswith("chmod")
    assert job.run("sh", "-c", "exit 42")[0] == 42
    code, output = job.run("sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status")
    assert output.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
    assert os.listdir(job.base) == []


def test_a_word_that_is_no_program_is_told(tmp_path: Path) -> None:
    """127 for what is not found and 126 for what may not be executed, as in a shell."""
    job = Job(tmp_path, "")
    code, output = job.run("tarin")
    assert code == 127
    assert "Program 'tarin' is not on PATH" in output
    code, output = job.run("/etc/passwd")
    assert code == 126
    assert "Program '/etc/passwd' cannot be executed: Permission denied" in output


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("train", "-h")])
def test_help_is_the_trainers(tmp_path: Path, words: tuple[str, ...]) -> None:
    """It is answered by the trainer's module, outside any job."""
    job = Job(tmp_path, "print('help', *sys.argv[1:])")
    code, output = job.run(*words)
    assert code == 0
    assert output == f"help {words[-1]}\n"
    assert os.listdir(job.base) == []


@pytest.mark.parametrize("words", [("--version",), ("train", "--version")])
def test_the_version_is_told_without_the_trainer(tmp_path: Path, words: tuple[str, ...]) -> None:
    """It is there at once, outside any job."""
    job = Job(tmp_path, "raise RuntimeError")
    assert job.run(*words) == (0, f"icemaker {icemaker.__version__}\n")
    assert os.listdir(job.base) == []


def test_a_closed_log_does_not_end_the_training(tmp_path: Path) -> None:
    """Nobody reads standard output any more: the model is still written, and the exit code is 0."""
    job = Job(tmp_path, "print('x' * 100_000, file=sys.stderr); save_model()")
    read_end, write_end = os.pipe()
    process = job.start(stdout=write_end, stderr=write_end)
    os.close(write_end)
    os.close(read_end)
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    assert (job.base / "model/model.json").exists()


def test_a_terminal_stays_a_terminal_for_the_trainer(tmp_path: Path) -> None:
    """Progress bars see a terminal of the same size, their carriage returns arrive, and the cause is still kept."""
    job = Job(
        tmp_path,
        """
        note("terminal", (sys.stderr.isatty(), os.get_terminal_size(2)))
        sys.stderr.write("\\r50%\\r99%\\n\\x1b[31mValueError: red\\x1b[0m\\n"); sys.exit(1)
    """,
    )
    read_end, child_end = os.openpty()
    subprocess.run(["stty", "cols", "77", "rows", "33", "-onlcr"], stdin=child_end, check=True)
    process = job.start(stderr=child_end)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert os.read(read_end, 1000) == b"\r50%\r99%\n\x1b[31mValueError: red\x1b[0m\n"
    assert job.noted("terminal") == "(True, os.terminal_size(columns=77, lines=33))"
    assert job.failure.startswith("ValueError: red (exit code 1 of the trainer)\n")
    os.close(read_end)
    os.close(child_end)


def test_standard_error_is_passed_on_as_it_comes(tmp_path: Path) -> None:
    """A line of the trainer is there before it ends, without a terminal."""
    job = Job(tmp_path, "print('a warning', file=sys.stderr, flush=True); wait_for_stop(); save_model()")
    process = job.start(stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert process.stderr.readline() == "a warning\n"
    process.terminate()
    process.communicate(timeout=PATIENCE_SECONDS)


def test_written_files_are_readable_for_everybody(tmp_path: Path) -> None:
    """Mode a+r, whatever umask the container started with."""
    job = Job(
        tmp_path,
        """
        save_model(); (env.model_dir / "model.json").chmod(0o600)
        (env.output_data_dir / "x").write_text("x")
    """,
    )
    assert job.run(umask=0o077)[0] == 0
    for path in ("model/model.json", "output/data/algo-1/x"):
        assert (job.base / path).stat().st_mode & 0o777 == 0o644
    assert (job.base / "output/data/algo-1").stat().st_mode & 0o777 == 0o755


def test_a_read_only_input_is_enough(tmp_path: Path) -> None:
    """Channels and configuration may be mounted read-only."""
    job = Job(tmp_path, "environment.require_channel(env, ('train',)); save_model()")
    (job.base / "input/data/train").mkdir(parents=True)
    (job.base / "input/data/train/a.jpg").write_text("x")
    with mounted(job.base / "input", "--bind", str(job.base / "input")):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(job.base / "input")], check=True)
        code, output = job.run()
    assert code == 0, output
