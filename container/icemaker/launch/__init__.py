"""PID 1 of a training container: prepare the job, run the trainer as a child, tell the platform how it ended.

Standard library only, up in well under a second. Knows nothing of models, data or torch.
"""

import os
import platform
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import icemaker
from icemaker import environment
from icemaker.environment import Environment, accelerator
from icemaker.errors import UserError
from icemaker.launch import cause, job_folders, trainer_process
from icemaker.launch.trainer_environment import python_path, trainer_environment

_TRAINER = [sys.executable, "-P", "-m", "icemaker.training"]  # -P: a torch.py in the current folder is not imported


def main(argv: Sequence[str]) -> int:
    """Do what the words after the program's name say; the exit code, where this process is still there to give one.

    None, or `train`: train. `train --help`: the trainer's help; `train --version`: ours. Any other word: execute it,
    with those after it.
    """
    trainer_process.hold_signals()
    is_train = list(argv[:1]) in ([], ["train"])
    words = list(argv[1:] if is_train else argv)
    if words == ["--version"]:
        _write(f"icemaker {icemaker.__version__}")
        return 0
    if words in (["--help"], ["-h"]):
        variables = environment.inherited()
        return _execute([*_TRAINER, *words], variables | {"PYTHONPATH": python_path(variables)})
    return _train_and_report(words) if is_train else _execute(words, environment.inherited())


def _execute(words: list[str], variables: dict[str, str]) -> int:
    """Become another program; the codes are those of a shell."""
    compat = accelerator.compat_version()
    if compat and accelerator.needs_compat(accelerator.driver_version(), compat):
        variables["LD_LIBRARY_PATH"] = accelerator.library_path(variables.get("LD_LIBRARY_PATH"))
    trainer_process.release_signals()
    try:
        os.execvpe(words[0], words, variables)  # noqa: S606
    except FileNotFoundError:
        _say("ERROR", f"Program {words[0]!r} is not on PATH. Give 'train', nothing, or a program of this image.")
        return 127
    except OSError as error:
        _say("ERROR", f"Program {words[0]!r} cannot be executed: {error.strerror}.")
        return 126


def _train_and_report(words: list[str]) -> int:
    os.umask(0o022)
    env: Environment | None = None
    try:
        if words:
            raise UserError(
                f"'train' takes no further words, but got {words[0]!r}. "
                "Hyperparameters come from input/config/hyperparameters.json."
            )
        environment.begin_run()
        env = environment.read()
        code = _train(env)
    except UserError as error:
        code = _fail(str(error))
    except Exception as error:  # a bug of ours still owes the platform a cause
        _say("ERROR", traceback.format_exc())
        code = _fail(f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")
    environment.release_failure_file()
    if env is not None:
        job_folders.open_to_readers(_written_folders(env), env.base_dir)
    environment.end_run()
    return code


def _fail(text: str) -> int:
    _say("ERROR", text.partition("\n")[0])
    environment.write_failure(text)  # after all that is logged, as the platform asks
    return 1


def _train(env: Environment) -> int:
    """Run the trainer; the exit code, with a failure file unless it is 0."""
    num_gpus, num_cpus = environment.num_gpus(), environment.available_cpus()
    driver = accelerator.driver_version() if num_gpus else None
    _say("INFO", _first_line(env, num_gpus, num_cpus, driver))
    if num_gpus == 0:
        _say("INFO", f"No GPU was found; training runs on {num_cpus} CPU(s).")
    earlier_failure = environment.failure_cause()
    if earlier_failure is not None:
        _say("INFO", f"{env.output_dir / 'failure'} is of an earlier start and stays as it is.")
    grace_seconds = environment.stop_grace_seconds()
    job_folders.prepare([env.output_dir])
    environment.reserve_failure_file()
    job_folders.prepare([env.model_dir, env.output_data_dir])
    for channel in env.channels.values():
        environment.refuse_pipe_mode(channel)
    compat = accelerator.compat_version()
    problem = accelerator.driver_problem(driver, compat)
    if problem is not None:
        return _fail(problem)
    variables = trainer_environment(
        env,
        environment.inherited(),
        num_gpus=num_gpus,
        num_cpus=num_cpus,
        is_compat_needed=accelerator.needs_compat(driver, compat),
    )
    model_before = _model_stamp(env)
    oom_kills_before = environment.oom_kill_count()
    stop_signal = trainer_process.fetch_stop()
    if stop_signal is not None:
        _say("INFO", f"Stop requested by {stop_signal} before the trainer started.")
        _say("INFO", "Stopped before the first optimizer step: no model was written.")
        return 0
    ending = trainer_process.run(
        _TRAINER, variables, grace_seconds=grace_seconds, on_stop=_Stop(grace_seconds), on_force=_say_force
    )
    if ending.returncode == 0:
        problem = _model_problem(env, model_before)
        return 0 if problem is None else _fail(problem)
    if earlier_failure is None and environment.failure_cause() is not None:
        _say("ERROR", f"The trainer failed; {env.output_dir / 'failure'} has its cause.")
        return 1
    oom_kills = environment.oom_kill_count()
    return _fail(
        cause.explain(
            ending,
            grace_seconds=grace_seconds,
            oom_kills=None if oom_kills is None or oom_kills_before is None else oom_kills - oom_kills_before,
            memory_limit_bytes=environment.memory_limit_bytes(),
            shared_memory_bytes=environment.shared_memory_bytes(),
        )
    )


class _Stop:
    """What a stop signal does: the first makes the request, every one is answered in the log."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._is_requested = False

    def __call__(self, signal_name: str) -> None:
        again = " again" if self._is_requested else ""
        self._is_requested = True
        _say(
            "INFO",
            f"Stop requested{again} by {signal_name}: the trainer ends at its next step and saves what there is "
            f"(at most {self._grace_seconds:g} seconds from the first request).",
        )
        environment.request_stop()


def _say_force(signal_name: str) -> None:
    _say("WARNING", f"The trainer did not end in time after the stop request and gets {signal_name}.")


def _first_line(env: Environment, num_gpus: int, num_cpus: int, driver: str | None) -> str:
    gpus = f"{num_gpus} GPU(s), driver {driver or 'unknown'}" if num_gpus else "0 GPU(s)"
    return (
        f"Icemaker {icemaker.__version__}: training job {env.job_name or 'without a name'} on host {env.current_host}, "
        f"{gpus}, {num_cpus} CPU(s), Python {platform.python_version()}"
    )


def _model_stamp(env: Environment) -> tuple[int, int] | None:
    """What changes when the trainer writes the model."""
    with suppress(OSError):
        status = (env.model_dir / "model.json").stat()
        return status.st_ino, status.st_mtime_ns
    return None


def _model_problem(env: Environment, before: tuple[int, int] | None) -> str | None:
    if environment.was_stopped_before_first_step(env):
        return None
    after = _model_stamp(env)
    if after is None:
        return (
            f"The trainer ended well, but no model was written: {env.model_dir} has no model.json. "
            "Look in the log for what it said last."
        )
    if after == before:
        return (
            f"The trainer ended well, but no model was written: {env.model_dir}/model.json is of an earlier run. "
            "Look in the log for what it said last."
        )
    return None


def _written_folders(env: Environment) -> list[Path]:
    folders = [env.model_dir, env.output_dir, env.checkpoint_dir]
    return [folder for folder in folders if folder.is_relative_to(env.base_dir)]


def _say(level: str, text: str) -> None:
    _write(f"{level} {text}")


def _write(line: str) -> None:
    with suppress(OSError):  # a log that nobody reads any more must not end a training
        os.write(1, f"{line}\n".encode(errors="backslashreplace"))
