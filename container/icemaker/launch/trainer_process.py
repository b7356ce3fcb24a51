"""Start the trainer as a child, watch it, and end it: what PID 1 owes its children. Linux only.

Signals are not handled but held and fetched: from `hold_signals` on none is lost, and none interrupts. Knows nothing
of SageMaker.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from icemaker.launch.stderr_tail import StderrTail

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
KILL_SECONDS = 5.0  # between SIGTERM and SIGKILL to a trainer that does not end
_HELD_SIGNALS = (*STOP_SIGNALS, signal.SIGCHLD)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Ending:
    """How the trainer ended."""

    returncode: int  # as subprocess counts: minus the number of the signal that killed it
    is_forced: bool  # it outlived its grace and was signalled
    stderr_tail: str


def hold_signals() -> None:
    """From now on SIGTERM, SIGINT and SIGCHLD wait until they are fetched."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)


def release_signals() -> None:
    """As the process was before `hold_signals`; also what Python ignores from its start is the system's again."""
    for name in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_SIGNALS)


def fetch_stop() -> str | None:
    """Name of a stop signal that waits, None when none does."""
    fetched = signal.sigtimedwait(STOP_SIGNALS, 0)
    return signal.Signals(fetched.si_signo).name if fetched is not None else None


def run(
    command: list[str],
    environment: dict[str, str],
    *,
    grace_seconds: float,
    on_stop: Callable[[str], None],
    on_force: Callable[[str], None],
) -> Ending:
    """Run the trainer to its end, and leave no process that it started.

    Args:
        grace_seconds: After the first stop signal; then the trainer's process group gets SIGTERM, and later SIGKILL.
        on_stop: Called with the name of every stop signal that this process gets.
        on_force: Called with the name of every signal that the trainer gets.

    Raises:
        OSError: It cannot be started.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphans of the trainer become children of this process, as they do for PID 1
    others = _children()
    tail = StderrTail()
    parent = os.getpid()

    def prepare_child() -> None:
        release_signals()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    process = subprocess.Popen(  # noqa: S603
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=tail.child_end,
        start_new_session=True,  # a terminal's Ctrl-C reaches this process only
        preexec_fn=prepare_child,  # safe: this process has one thread yet
    )
    tail.start()
    returncode, is_forced = _watch(process.pid, grace_seconds, on_stop, on_force)
    process.returncode = returncode
    _kill_rest(process.pid, others)
    return Ending(returncode, is_forced, tail.finish())


def _watch(
    pid: int, grace_seconds: float, on_stop: Callable[[str], None], on_force: Callable[[str], None]
) -> tuple[int, bool]:
    escalation = [signal.SIGTERM, signal.SIGKILL]
    deadline: float | None = None
    while True:
        status = _reap().get(pid)
        if status is not None:
            return os.waitstatus_to_exitcode(status), len(escalation) < 2
        if deadline is not None and time.monotonic() >= deadline and escalation:
            force = escalation.pop(0)
            on_force(force.name)
            with suppress(ProcessLookupError):
                os.killpg(pid, force)
            deadline += KILL_SECONDS
        wait_seconds = max(0.0, deadline - time.monotonic()) if deadline is not None and escalation else 3600.0
        fetched = signal.sigtimedwait(_HELD_SIGNALS, wait_seconds)
        if fetched is not None and fetched.si_signo in STOP_SIGNALS:
            if deadline is None:
                deadline = time.monotonic() + grace_seconds
            on_stop(signal.Signals(fetched.si_signo).name)


def _reap() -> dict[int, int]:
    """Wait status by process, of every child that has ended."""
    ended = {}
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0] != 0:
            ended[found[0]] = found[1]
    return ended


def _kill_rest(group: int, others: set[int]) -> None:
    """Kill what the trainer left: its process group, and what came to this process as an orphan; `others` stay."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    stop_at = time.monotonic() + KILL_SECONDS
    while (children := _children() - others) and time.monotonic() < stop_at:
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        _reap()
        signal.sigtimedwait((signal.SIGCHLD,), 0.05)
    _reap()


def _children() -> set[int]:
    try:
        return {int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()}
    except OSError:
        return set()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(option, value, 0, 0, 0)


_libc = ctypes.CDLL(None, use_errno=True)
