"""Why a trainer that wrote no failure file failed, in words: from its exit code, memory counters and its last lines.

Pure functions; the first line of every text is the cause, for 1,024 characters of it reach the job's FailureReason.
"""

import re
import signal

from icemaker.launch.trainer_process import Ending

_TRACEBACK = "Traceback (most recent call last):"


def explain(
    ending: Ending,
    *,
    grace_seconds: float,
    oom_kills: int | None,
    memory_limit_bytes: int | None,
    shared_memory_bytes: int,
) -> str:
    """The text of the failure file for an ending that was no success.

    Args:
        oom_kills: Processes killed for memory while the trainer ran, None when that is not known.
    """
    lines = [line.rstrip() for line in ending.stderr_tail.splitlines() if line.strip()]
    cause = _cause(
        ending, last_error(ending.stderr_tail), grace_seconds, oom_kills, memory_limit_bytes, shared_memory_bytes
    )
    return "\n".join([cause, "", "Last lines of the trainer's standard error:", *lines]) if lines[1:] else cause


def last_error(stderr: str) -> str:
    """The line that names the error: the one below the last traceback, else the last line; "" when there is none."""
    _before, traceback, after = stderr.rpartition(_TRACEBACK)
    lines = [line.rstrip() for line in re.split(r"[\r\n]", after) if line.strip()]
    if traceback:
        return next((line for line in lines if not line[0].isspace()), lines[-1].strip() if lines else "")
    return lines[-1].strip() if lines else ""


def format_bytes(count: int | None) -> str:
    """1536 MiB -> "1.5 GiB"; in MiB below 1 GiB."""
    if count is None:
        return "unknown"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _cause(
    ending: Ending,
    error: str,
    grace_seconds: float,
    oom_kills: int | None,
    memory_limit_bytes: int | None,
    shared_memory_bytes: int,
) -> str:
    limit = format_bytes(memory_limit_bytes)
    if ending.is_forced:
        return (
            f"The trainer did not end within {grace_seconds:g} seconds of the stop request and was killed. "
            "What it had not saved by then is lost. Use a smaller batch_size, so that a step ends sooner."
        )
    if oom_kills:
        what = "The trainer" if ending.returncode == -signal.SIGKILL else "A process of the trainer"
        return (
            f"{what} was killed for memory (limit {limit}, {oom_kills} killed). "
            "Use a smaller batch_size, img_size or num_workers, or an instance with more memory."
        )
    if ending.returncode == -signal.SIGKILL:
        unknown = " Most often that is for memory; this machine does not tell." if oom_kills is None else ""
        return (
            f"The trainer was killed by SIGKILL, from outside.{unknown} Memory limit: {limit}. "
            "If the machine ran out of memory, use a smaller batch_size, img_size or num_workers."
        )
    if ending.returncode == -signal.SIGBUS:
        return (
            f"The trainer was killed by SIGBUS, often for a full /dev/shm (free: {format_bytes(shared_memory_bytes)}). "
            "Use a smaller num_workers, or give the container more shared memory (docker run --shm-size)."
        )
    if ending.returncode < 0:
        return f"The trainer was killed by {_signal_name(-ending.returncode)}. Its last lines may tell what it did." + (
            f" The last: {error}" if error else ""
        )
    if error:
        return f"{error} (exit code {ending.returncode} of the trainer)"
    return f"The trainer ended with exit code {ending.returncode} and without a message."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
