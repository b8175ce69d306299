"""The sign of life of a stream's thread, and the order to stop."""

from __future__ import annotations

import threading
import time


class Heartbeat:
    """The time at which a stream's thread last was alive, read by the service.

    Attributes:
        stopped: set by the service to end the stream.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._last = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._last

    def beat(self) -> None:
        """Record that the thread is alive."""
        self._last = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Beat, wait, and return whether the stream is to stop."""
        self.beat()
        return self.stopped.wait(seconds)
