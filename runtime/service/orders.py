"""Orders to a service: to stop, to reload; from any thread, and from signals from the first moment on."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOP, RELOAD, ENDED = "stop", "reload", "ended"


class Stopped(BaseException):
    """A stop that came while the streams were being opened; no error, so that nothing on the way catches it."""


class Orders:
    """What a service has been told, in the order in which it was told.

    Attributes:
        stopping: whether a stop has been ordered, however long ago.
    """

    def __init__(self) -> None:
        self.stopping = False
        # Into this queue a signal handler may put at any moment; locks and events of threading it could find held.
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._raising = False

    def stop(self) -> None:
        """End the service."""
        self.stopping = True
        self._queue.put(STOP)

    def reload(self) -> None:
        """Read the config again and take over its new bundles."""
        self._queue.put(RELOAD)

    def ended(self) -> None:
        """Report that a stream has ended."""
        self._queue.put(ENDED)

    def next(self, timeout_s: float) -> str:
        """Return the oldest order; nothing if none comes in time."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return ""

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a stop by a signal break off what the main thread does; for a start, which nothing is lost by.

        Raises:
            Stopped: at the stop.
        """
        self._raising = True
        try:
            if self.stopping:
                raise Stopped
            yield
        except Exception as error:
            if self.stopping:  # a library that was broken off in its import says that it has failed
                raise Stopped from error
            raise
        finally:
            self._raising = False

    @contextmanager
    def from_signals(self, *, to_the_end: bool = False) -> Iterator[None]:
        """Stop at SIGTERM or SIGINT and reload at SIGHUP; in the main thread only.

        Args:
            to_the_end: ignore the signals afterwards, where the process is about to end: a second one would change
                its exit code.
        """
        orders = {signal.SIGTERM: self._stop_now, signal.SIGINT: self._stop_now}
        if hasattr(signal, "SIGHUP"):
            orders[signal.SIGHUP] = self.reload
        old = {number: signal.signal(number, lambda *_, order=order: order()) for number, order in orders.items()}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, signal.SIG_IGN if to_the_end else handler)

    def _stop_now(self) -> None:
        self.stop()
        if self._raising:
            self._raising = False  # once: what is being closed by it must not be broken off too
            raise Stopped
