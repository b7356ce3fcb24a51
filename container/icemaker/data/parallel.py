"""One function over many files in threads: results in order, and an end when the run is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from icemaker.errors import StopRequested

Item = TypeVar("Item")
Result = TypeVar("Result")

# Threads wait for the disk or for S3 (FastFile mode: tens of milliseconds a file), they do not compute.
NUM_THREADS = 16
_CHUNK = 64


def never_stop() -> bool:
    """The ``should_stop`` of a caller that nobody stops."""
    return False


def map_files(
    function: Callable[[Item], Result], items: Sequence[Item], *, should_stop: Callable[[], bool] = never_stop
) -> list[Result]:
    """``[function(item) for item in items]``, in threads.

    Args:
        should_stop: Asked before each chunk of 64 items.

    Raises:
        StopRequested: ``should_stop`` returned true.
        Exception: The first one, in the order of the items, that ``function`` raised.
    """

    def run(start: int) -> list[Result]:
        if should_stop():
            raise StopRequested("Stopped while reading files.")
        return [function(item) for item in items[start : start + _CHUNK]]

    if len(items) <= _CHUNK:
        return run(0) if items else []
    with ThreadPoolExecutor(min(NUM_THREADS, -(-len(items) // _CHUNK))) as pool:
        chunks = [pool.submit(run, start) for start in range(0, len(items), _CHUNK)]
        try:
            return [result for chunk in chunks for result in chunk.result()]
        finally:
            for chunk in chunks:
                chunk.cancel()
