"""The SageMaker contract: folders, channels, hosts and hyperparameters of this job, its failure file, its stop request.

The only module that reads os.environ and the only one that knows /opt/ml. Knows nothing of what a hyperparameter
means, of models or of data. Standard library only.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from icemaker.environment import accelerator, failure, job_files, machine, scratch, variables
from icemaker.environment.job_files import Channel as Channel
from icemaker.errors import UserError

_SCRATCH_DIR = "ICEMAKER_SCRATCH_DIR"
_STOP_FILE = "ICEMAKER_STOP_FILE"
_STOPPED_EARLY_NAME = "stopped-before-first-step"
_DEFAULTS = {variable.name: variable.default for variable in variables.READ}


@dataclass(frozen=True)
class Environment:
    """One training job as its host sees it. Folders may not exist yet, except `scratch_dir`."""

    base_dir: Path
    config_dir: Path
    input_data_dir: Path
    model_dir: Path
    output_dir: Path
    output_data_dir: Path  # this host's own folder in output/data
    checkpoint_dir: Path
    tensorboard_dir: Path
    scratch_dir: Path
    hyperparameters: dict[str, str]  # as the job gave them, without the platform's own
    channels: dict[str, Channel]
    hosts: tuple[str, ...]  # sorted
    current_host: str
    network_interface_name: str | None
    job_name: str


def read() -> Environment:
    """Read the job from its configuration files; each of them may be absent.

    Raises:
        UserError: A file is not what the platform writes, or there is no room for scratch files.
    """
    base_dir = _base_dir()
    config_dir = base_dir / "input" / "config"
    input_data_dir = base_dir / "input" / "data"
    output_dir = base_dir / "output"
    hosts, current_host, network_interface_name = job_files.hosts(config_dir)

    def moved(path: Path | None, default: Path) -> Path:
        root = Path(_DEFAULTS["SAGEMAKER_BASE_DIR"])
        if path is None:
            return default
        return base_dir / path.relative_to(root) if path.is_relative_to(root) else path

    return Environment(
        base_dir=base_dir,
        config_dir=config_dir,
        input_data_dir=input_data_dir,
        model_dir=base_dir / "model",
        output_dir=output_dir,
        output_data_dir=output_dir / "data" / current_host,
        checkpoint_dir=moved(job_files.local_path(config_dir / "checkpointconfig.json"), base_dir / "checkpoints"),
        tensorboard_dir=moved(
            job_files.local_path(config_dir / "tensorboardoutputconfig.json"), output_dir / "tensorboard"
        ),
        scratch_dir=_scratch_dir(),
        hyperparameters=job_files.hyperparameters(config_dir),
        channels=job_files.channels(config_dir, input_data_dir),
        hosts=hosts,
        current_host=current_host,
        network_interface_name=network_interface_name,
        job_name=variable("TRAINING_JOB_NAME"),
    )


def variable(name: str) -> str:
    """Value of one of the variables that Icemaker reads, its default when unset or empty."""
    return os.environ.get(name) or _DEFAULTS[name]


def inherited() -> dict[str, str]:
    """A copy of all variables of this process, to start another with."""
    return dict(os.environ)


def require_channel(env: Environment, names: tuple[str, ...]) -> Channel:
    """The first declared channel of `names`, with at least one file in it.

    Raises:
        UserError: None of them is declared, or the channel is in Pipe mode, has no folder, or has no files.
    """
    channel = optional_channel(env, names)
    if channel is None:
        wanted = " or ".join(repr(name) for name in names)
        raise UserError(f"Channel {wanted} is not declared ({env.input_data_dir / names[0]}). {_advice(env)}")
    return channel


def optional_channel(env: Environment, names: tuple[str, ...]) -> Channel | None:
    """Like `require_channel`, but None where none of `names` is declared; a declared one is checked all the same."""
    channel = next((env.channels[name] for name in names if name in env.channels), None)
    if channel is not None:
        refuse_pipe_mode(channel)
        problem = job_files.folder_problem(channel)
        if problem is not None:
            raise UserError(f"Channel '{channel.name}' {problem} ({channel.path}). {_advice(env)}")
    return channel


def refuse_pipe_mode(channel: Channel) -> None:
    """Raise UserError for a channel in Pipe mode, without opening its FIFO: that could wait for ever."""
    if channel.input_mode.lower() == "pipe":
        raise UserError(
            f"Channel '{channel.name}' has TrainingInputMode '{channel.input_mode}'. Supported modes are 'File' and "
            "'FastFile'. Set the input mode of the channel, or of the job, to one of them."
        )


def _advice(env: Environment) -> str:
    present = ", ".join(repr(name) for name in env.channels) or "none"
    return (
        f"Channels of this job: {present}. Likely causes: the channel has another name, its S3 URI is wrong or holds "
        "no objects, or the role lacks the permission to read it."
    )


def reserve_failure_file() -> None:
    """Take the room of a failure file now, so that a full disk cannot prevent one. Raises OSError."""
    failure.reserve(_output_dir())


def release_failure_file() -> None:
    """Give back the room that `reserve_failure_file` took."""
    failure.release(_output_dir())


def write_failure(text: str) -> bool:
    """Write `text`, its first line the cause, to output/failure unless there is one; says whether it wrote it."""
    return failure.write(_output_dir(), text)


def failure_cause() -> str | None:
    """The first line of the failure file, None where there is no such file."""
    return failure.first_line(_output_dir())


def _base_dir() -> Path:
    return Path.cwd() / variable("SAGEMAKER_BASE_DIR")


def _output_dir() -> Path:
    return _base_dir() / "output"


def begin_run() -> None:
    """For PID 1: make this run's own scratch folder and stop file, whatever was inherited."""
    scratch.remove_left_over()
    folder = scratch.make()
    os.environ[_SCRATCH_DIR] = str(folder)
    os.environ[_STOP_FILE] = str(folder / "stop")
    scratch.reserve_file(folder / "stop")


def end_run() -> None:
    """For PID 1: remove the scratch folder that `begin_run` made."""
    scratch.remove()


def request_stop() -> None:
    """For PID 1: make `stop_requested` true in every process of this run."""
    scratch.make_reserved_file(Path(os.environ[_STOP_FILE]))


def stop_requested() -> bool:
    """Whether this run was asked to stop. Cheap enough to call at each step."""
    path = os.environ.get(_STOP_FILE)
    return path is not None and os.path.exists(path)


def mark_stopped_before_first_step(env: Environment) -> None:
    """For the trainer: say to PID 1 that there is no model, because the stop came before the first optimizer step."""
    (env.scratch_dir / _STOPPED_EARLY_NAME).touch()


def was_stopped_before_first_step(env: Environment) -> bool:
    """For PID 1: whether the trainer said so."""
    return (env.scratch_dir / _STOPPED_EARLY_NAME).exists()


@contextmanager
def scratch_home() -> Iterator[Path]:
    """HOME is the scratch folder inside the block, for a library that writes below HOME when imported."""
    before = os.environ.get("HOME")
    home = _scratch_dir()
    os.environ["HOME"] = str(home)
    try:
        yield home
    finally:
        if before is None:
            os.environ.pop("HOME", None)
        else:
            os.environ["HOME"] = before


def _scratch_dir() -> Path:
    named = os.environ.get(_SCRATCH_DIR)
    if named and Path(named).is_dir():
        return Path(named)
    folder = scratch.make()
    os.environ[_SCRATCH_DIR] = str(folder)  # the next call, and every process started from here, takes the same
    return folder


def stop_grace_seconds() -> float:
    """Seconds between a stop request and SIGTERM to the trainer. Raises UserError for what is not a positive number."""
    name = "ICEMAKER_STOP_GRACE_SECONDS"
    text = variable(name)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise UserError(
            f"Environment variable '{name}' has value {text!r}. It must be more than 0 and less than 86400."
        )
    return seconds


def num_gpus() -> int:
    """GPUs this process may use, counted without torch."""
    return accelerator.count_gpus(os.environ)


def available_cpus() -> int:
    """CPUs this process may use, at least 1: affinity and cgroup quota."""
    return machine.available_cpus()


def shared_memory_bytes() -> int:
    """Free bytes of /dev/shm, 0 where there is none."""
    return machine.shared_memory_bytes()


def memory_limit_bytes() -> int | None:
    """Bytes of memory this process may use: the machine's, or the limit of its cgroup; None when unknown."""
    return machine.memory_limit_bytes()


def oom_kill_count() -> int | None:
    """How many processes of this cgroup were killed for memory so far; None when unknown."""
    return machine.oom_kill_count()
