"""A stream's heart: it beats as long as the stream does something, and says when to stop."""

from __future__ import annotations

import threading
import time


class Heart:
    """Beaten by a stream's thread, watched by the service.

    Attributes:
        stopped: set when the stream shall come to an end.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._last = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since it last beat."""
        return time.monotonic() - self._last

    def beat(self) -> None:
        """Show that the stream is alive."""
        self._last = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Beat and wait; return whether to stop."""
        self.beat()
        return self.stopped.wait(seconds)
