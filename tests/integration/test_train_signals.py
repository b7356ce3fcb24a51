"""Stop signals to the program `train`, and its duties as PID 1: no orphan, no zombie, no rest of a killed run."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from train_job import PATIENCE_SECONDS, Job, is_alive, wait_until


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_becomes_a_request_and_a_line(tmp_path: Path, sent: signal.Signals) -> None:
    """PID 1 hears the signal, says so at once, and the trainer, which gets no signal, saves and ends with 0."""
    job = Job(
        tmp_path,
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: note("signalled", "yes"))
        note("ready", "yes"); wait_for_stop(); save_model()
    """,
    )
    process = job.start()
    job.noted("ready")
    process.send_signal(sent)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert f"Stop requested by {sent.name}: " in output
    assert not (job.folder / "signalled").exists()
    assert not job.has_failed


def test_a_second_signal_is_harmless(tmp_path: Path) -> None:
    """SIGTERM twice and SIGINT: each is answered, and the trainer still has its time to save."""
    job = Job(
        tmp_path,
        """
        note("ready", "yes"); wait_for_stop(); note("stopping", "yes")
        while not (env.base_dir.parent / "go").exists():
            time.sleep(0.02)
        save_model()
    """,
    )
    process = job.start()
    job.noted("ready")
    process.send_signal(signal.SIGTERM)
    job.noted("stopping")
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        time.sleep(0.2)
    (job.folder / "go").touch()
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    assert output.count("Stop requested by SIGTERM: ") == 1
    assert "Stop requested again by SIGTERM: " in output
    assert "Stop requested again by SIGINT: " in output


def test_a_stop_before_the_trainer_exists_starts_none(tmp_path: Path) -> None:
    """A signal that is there when the program begins ends it with 0, without a model and without a failure."""

    def send_before_start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)

    job = Job(tmp_path, 'note("started", "yes"); save_model()')
    code, output = job.run(preexec_fn=send_before_start)
    assert code == 0
    assert "Stop requested by SIGTERM" in output
    assert "Stopped before the first optimizer step: no model was written." in output
    assert not (job.folder / "started").exists()
    assert not job.has_failed


def test_a_stop_while_the_trainer_imports_is_not_lost(tmp_path: Path) -> None:
    """SIGTERM during the trainer's own start-up is found by it later."""
    job = Job(tmp_path, 'note("importing", "yes"); time.sleep(1); wait_for_stop(); save_model()')
    process = job.start()
    job.noted("importing")
    process.terminate()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0


def test_a_trainer_that_stopped_before_its_first_step_needs_no_model(tmp_path: Path) -> None:
    """Its marker file replaces the model; an unmarked end without a model is a failure."""
    job = Job(tmp_path, "environment.mark_stopped_before_first_step(env)")
    code, _ = job.run()
    assert code == 0
    assert not job.has_failed


def test_a_trainer_that_ignores_the_request_is_ended(tmp_path: Path) -> None:
    """After its grace it gets SIGTERM, then SIGKILL, with all its processes; the failure file and the log say that."""
    job = Job(
        tmp_path,
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        note("worker", subprocess.Popen(["sleep", "1000"]).pid)
        while True:
            time.sleep(1)
    """,
    )
    process = job.start(env={"ICEMAKER_STOP_GRACE_SECONDS": "0.5"})
    worker = int(job.noted("worker"))
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "did not end in time after the stop request and gets SIGTERM" in output
    assert "did not end in time after the stop request and gets SIGKILL" in output
    assert job.failure.startswith("The trainer did not end within 0.5 seconds of the stop request and was killed.")
    assert not is_alive(worker)


def test_no_trainer_outlives_a_killed_pid_1(tmp_path: Path) -> None:
    """SIGKILL to the program kills the trainer too, also when that hears no other signal."""
    job = Job(tmp_path, 'signal.signal(signal.SIGTERM, signal.SIG_IGN); note("pid", os.getpid()); time.sleep(1000)')
    process = job.start()
    trainer = int(job.noted("pid"))
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    wait_until(lambda: not is_alive(trainer))


def test_the_next_start_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    """Scratch folders and half-made files of ours go; those of a run in progress stay."""
    job = Job(tmp_path, 'note("scratch", env.scratch_dir); note("pid", os.getpid()); wait_for_stop()')
    first = job.start()
    trainer = int(job.noted("pid"))
    first_scratch = Path(job.noted("scratch"))
    (tmp_path / "other").mkdir()
    other = Job(tmp_path / "other", "save_model()")
    assert other.run(env={"TMPDIR": str(job.folder)})[0] == 0
    assert first_scratch.is_dir()
    first.kill()
    first.communicate(timeout=PATIENCE_SECONDS)
    wait_until(lambda: not is_alive(trainer))
    (job.base / "model/.icemaker-model.onnx").write_text("half")
    assert (job.base / "output/.icemaker-failure").exists()
    assert other.run(env={"TMPDIR": str(job.folder), "SAGEMAKER_BASE_DIR": str(job.base)})[0] == 0
    assert not first_scratch.exists()
    assert os.listdir(job.base / "model") == ["model.json"]
    assert os.listdir(job.base / "output") == ["data"]


def test_orphans_are_reaped_and_the_trainers_own_status_is_kept(tmp_path: Path) -> None:
    """PID 1 inherits every orphan; none stays a zombie, and none is mistaken for the trainer."""
    job = Job(
        tmp_path,
        """
        for _ in range(20):
            subprocess.run(["sh", "-c", "(sleep 0.1; exit 3) &"])
        time.sleep(1.5)
        parent, zombies = str(os.getppid()), 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            zombies += fields[0] == "Z" and fields[1] == parent
        note("zombies", zombies)
        sys.exit(7)
    """,
    )
    code, _ = job.run()
    assert code == 1
    assert job.noted("zombies") == "0"
    assert job.failure == "The trainer ended with exit code 7 and without a message.\n"


def test_no_process_of_the_trainer_is_left(tmp_path: Path) -> None:
    """A process in a session of its own, which holds the log open, is ended and not waited for."""
    job = Job(
        tmp_path,
        """
        note("worker", subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)
        save_model()
    """,
    )
    code, _ = job.run()
    assert code == 0
    assert not is_alive(int(job.noted("worker")))


def test_as_pid_1_of_a_container_it_hears_signals_and_reaps(tmp_path: Path) -> None:
    """PID 1 gets only the signals that it asks for: in a process namespace of its own the program hears SIGTERM."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no process namespace can be made here")
    job = Job(
        tmp_path,
        """
        subprocess.run(["sh", "-c", "(exit 3) &"])
        note("parent", os.getppid()); wait_for_stop(); save_model()
    """,
    )
    process = job.start(before=["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"])
    assert job.noted("parent") == "1"
    (pid_1,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(pid_1), signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert "Stop requested by SIGTERM: " in output
    assert not job.has_failed
