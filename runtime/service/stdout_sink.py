"""The sink that writes forecasts to standard output, whether or not somebody reads it."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from runtime.service.heartbeat import Heartbeat
from runtime.service.sinks import HoldingSink, SinkError

#: Seconds that a forecast waits for a reader of standard output, and those after the stop.
_READER_S, _STOPPED_S = 10.0, 1.0
#: Seconds between two looks.
_LOOK_S = 0.25
#: Bytes that a pipe takes without blocking once it takes any.
_PIECE = getattr(select, "PIPE_BUF", 512)


class StdoutSink(HoldingSink):
    """Forecast lines on standard output, each whole and at once; a closed pipe ends the service.

    Args:
        out: standard output, which streams share.
        stream: name of the stream.
    """

    def __init__(self, out: Output, stream: str) -> None:
        super().__init__("stdout", stream)
        self._out = out

    def flush(self, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Write what waits; see :class:`runtime.service.sinks.Sink`."""
        super().flush(heartbeat, patient=patient)
        self._out.finish(heartbeat)

    def _deliver(self, heartbeat: Heartbeat, *, last: bool) -> int:
        self._out.put(self._waiting[0].to_json_line() + "\n", heartbeat)
        return 1


class Output:
    """Standard output without endless waiting: a pipe that nobody reads is full after some forecasts.

    A line of which the reader has got a part is finished before the next one.

    Args:
        out: a text stream.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._rest = b""
        self._ready = select.poll() if hasattr(select, "poll") else None
        try:
            self._descriptor = out.fileno()
        except OSError:  # no file, but text in memory
            self._ready = None
        if self._ready is not None:
            self._ready.register(self._descriptor, select.POLLOUT)

    def put(self, line: str, heartbeat: Heartbeat) -> None:
        """Write a line, or nothing of it.

        Raises:
            SinkError: if nobody reads, or a disk is full.
            BrokenPipeError: if the reader has gone.
        """
        with self._locked(heartbeat) as end:
            if self._ready is None:
                self._out.write(line)
                self._out.flush()
                return
            self._write_rest(heartbeat, end)
            data = self._rest = line.encode(self._out.encoding or "utf-8", self._out.errors or "strict")
            try:
                self._write_rest(heartbeat, end)
            except SinkError:
                if len(self._rest) == len(data):
                    self._rest = b""
                    raise

    def finish(self, heartbeat: Heartbeat) -> None:
        """Write the rest of a line.

        Raises:
            SinkError, BrokenPipeError: see :meth:`put`.
        """
        with self._locked(heartbeat) as end:
            self._write_rest(heartbeat, end)

    @contextmanager
    def _locked(self, heartbeat: Heartbeat) -> Iterator[float]:
        """Keep other streams from writing; yield the time at which to give up."""
        end = time.monotonic() + _READER_S
        while not self._lock.acquire(timeout=_LOOK_S):
            end = self._waited(heartbeat, end)
        try:
            yield end
        finally:
            self._lock.release()

    def _write_rest(self, heartbeat: Heartbeat, end: float) -> None:
        while self._rest and self._ready is not None:
            try:
                if self._ready.poll(1000 * _LOOK_S):
                    self._rest = self._rest[os.write(self._descriptor, self._rest[:_PIECE]) :]
                    heartbeat.beat()
                    continue
            except BrokenPipeError:
                raise
            except BlockingIOError:
                pass
            except OSError as error:
                raise SinkError(
                    f"standard output cannot be written ({error.strerror})", "a file or pipe", "see where it leads"
                ) from error
            end = self._waited(heartbeat, end)

    @staticmethod
    def _waited(heartbeat: Heartbeat, end: float) -> float:
        """Beat after a vain look, and return the time at which to give up.

        Raises:
            SinkError: if it has come.
        """
        heartbeat.beat()
        now = time.monotonic()
        if heartbeat.stopped.is_set():
            end = min(end, now + _STOPPED_S)
        if now >= end:
            raise SinkError("nobody reads standard output", "a reader", "look at what reads the service's output")
        return end
