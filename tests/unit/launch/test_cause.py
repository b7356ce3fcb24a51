"""The words for a trainer's end, from exit codes, made memory counters and last lines."""

import signal

import pytest

from icemaker.launch import cause
from icemaker.launch.trainer_process import Ending

TRACEBACK = """something earlier
Traceback (most recent call last):
  File "x.py", line 1, in <module>
    import nothing
ImportError: cannot import name 'x' from 'y'
  (a second line of it)
"""


def explain(
    returncode: int,
    *,
    stderr: str = "",
    is_forced: bool = False,
    oom_kills: int | None = 0,
    memory_limit_bytes: int = 2**31,
) -> str:
    return cause.explain(
        Ending(returncode, is_forced, stderr),
        grace_seconds=100.0,
        oom_kills=oom_kills,
        memory_limit_bytes=memory_limit_bytes,
        shared_memory_bytes=64 * 2**20,
    )


def test_a_kill_for_memory_says_so_with_the_limit() -> None:
    """A kernel's kill of the trainer for memory names the limit and the knobs."""
    assert explain(-signal.SIGKILL, oom_kills=1) == (
        "The trainer was killed for memory (limit 2.0 GiB, 1 killed). "
        "Use a smaller batch_size, img_size or num_workers, or an instance with more memory."
    )


def test_a_worker_killed_for_memory_is_told_apart() -> None:
    """The trainer itself then ends with an exit code."""
    text = explain(1, stderr="RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.", oom_kills=2)
    assert text.startswith("A process of the trainer was killed for memory (limit 2.0 GiB, 2 killed).")


def test_a_kill_without_a_counter_does_not_claim_memory() -> None:
    """With a counter that stands still it came from outside; without a counter memory is only likely."""
    assert explain(-signal.SIGKILL).startswith(
        "The trainer was killed by SIGKILL, from outside. Memory limit: 2.0 GiB."
    )
    assert "Most often that is for memory" in explain(-signal.SIGKILL, oom_kills=None)


def test_a_bus_error_names_the_shared_memory() -> None:
    """Workers fill /dev/shm, 64 MB in a container."""
    text = explain(-signal.SIGBUS)
    assert "SIGBUS" in text
    assert "/dev/shm" in text
    assert "64 MiB" in text
    assert "num_workers" in text


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGABRT, "SIGABRT"), (40, "signal 40")]
)
def test_other_signals_are_named(number: int, name: str) -> None:
    """A crash is told by its signal's name."""
    assert explain(-number).startswith(f"The trainer was killed by {name}.")


def test_an_exit_code_comes_with_the_error_line() -> None:
    """An import error of the trainer is the first line, and the traceback follows."""
    lines = explain(1, stderr=TRACEBACK).splitlines()
    assert lines[0] == "ImportError: cannot import name 'x' from 'y' (exit code 1 of the trainer)"
    assert "    import nothing" in lines


def test_an_exit_without_a_word_is_told_as_such() -> None:
    """There is a first line in any case."""
    assert explain(3) == "The trainer ended with exit code 3 and without a message."


def test_a_forced_end_says_how_long_it_waited() -> None:
    """A trainer that ignored the stop request failed, whatever ended it."""
    text = explain(-signal.SIGKILL, is_forced=True, stderr="x")
    assert text.startswith("The trainer did not end within 100 seconds of the stop request and was killed.")


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("", ""),
        ("\n\n", ""),
        ("a\nb\n\n", "b"),
        ("10%\r20%\rValueError: x", "ValueError: x"),
        (TRACEBACK, "ImportError: cannot import name 'x' from 'y'"),
        (TRACEBACK + "[W1] chatter of a library\n", "ImportError: cannot import name 'x' from 'y'"),
        ("Traceback (most recent call last):\n  File", "File"),
        ("Traceback (most recent call last):\n", ""),
    ],
)
def test_the_error_line_is_the_one_below_the_last_traceback(stderr: str, line: str) -> None:
    """Libraries may talk after it; without a traceback it is the last line."""
    assert cause.last_error(stderr) == line


@pytest.mark.parametrize(
    ("count", "text"), [(None, "unknown"), (2**31, "2.0 GiB"), (3 * 2**29, "1.5 GiB"), (64 * 2**20, "64 MiB")]
)
def test_bytes_are_written_in_binary_units(count: int | None, text: str) -> None:
    """GiB with one decimal, MiB below."""
    assert cause.format_bytes(count) == text
