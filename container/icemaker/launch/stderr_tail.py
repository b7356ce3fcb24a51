"""A child's standard error passed on as it comes, with its last bytes kept to tell why the child failed.

A child whose parent has a terminal gets a terminal too, so that progress bars stay what they are.
"""

import fcntl
import os
import pty
import re
import termios
import threading
from contextlib import suppress

KEPT_BYTES = 4096
_STDERR = 2
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor movements


class StderrTail:
    """Give `child_end` to the child as its standard error, then call `start`; `finish` when the child has ended."""

    def __init__(self) -> None:
        """Make the two ends. Raises OSError."""
        self._read_end, self.child_end = _open_terminal() if os.isatty(_STDERR) else os.pipe()
        self._kept = b""
        self._thread = threading.Thread(target=self._pass_on, name="stderr", daemon=True)

    def start(self) -> None:
        """Close this process's copy of the child's end and begin to pass on."""
        os.close(self.child_end)
        self._thread.start()

    def finish(self, timeout_seconds: float = 5.0) -> str:
        """The last text, without colours; a process that outlived the child with its end open is not waited for."""
        self._thread.join(timeout_seconds)
        return _ESCAPES.sub("", self._kept.decode("utf-8", errors="replace")).replace("\r\n", "\n")

    def _pass_on(self) -> None:
        while True:
            try:
                data = os.read(self._read_end, 65536)
            except OSError:  # how a terminal tells that its other end is closed
                data = b""
            if not data:
                os.close(self._read_end)
                return
            self._kept = (self._kept + data)[-KEPT_BYTES:]
            # A closed standard error must not stop the child by a full pipe: keep reading.
            with suppress(OSError):
                view = memoryview(data)
                while view:
                    view = view[os.write(_STDERR, view) :]


def _open_terminal() -> tuple[int, int]:
    read_end, child_end = pty.openpty()
    with suppress(OSError, termios.error):
        size = fcntl.ioctl(_STDERR, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(child_end, termios.TIOCSWINSZ, size)
        attributes = termios.tcgetattr(child_end)
        attributes[1] &= ~termios.OPOST  # the real terminal does that
        termios.tcsetattr(child_end, termios.TCSANOW, attributes)
    return read_end, child_end
