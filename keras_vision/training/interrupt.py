"""Ctrl-C and SIGTERM: in a training they wait until the running step is saved, elsewhere they stop the program."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The program was told to stop.

    Attributes:
        signal: Number of the signal, such as 2 for Ctrl-C and 15 for SIGTERM.
        saved: What was saved, such as "epoch 3, step 12"; None if nothing was.
    """

    def __init__(self, number: int, saved: str | None = None) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.signal, self.saved = number, saved


class Interrupt:
    """Listens to signals while used as a context manager; in other threads than the main one it does nothing.

    Attributes:
        requested: Number of the signal that came while stopping was deferred; None if none came.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._deferred = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Lets the first signal wait; whoever uses this looks at `requested`. A second one stops at once."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _receive(self, number, frame):
        if not self._deferred or self.requested is not None:
            raise Interrupted(number)
        self.requested = number
        print("\nStopping after this step; once more to stop at once.", file=sys.stderr, flush=True)
