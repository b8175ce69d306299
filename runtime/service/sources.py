"""Sources: where readings come from, each into the inbox of its stream."""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from runtime.clock import to_seconds
from runtime.replay import Record, open_replay
from runtime.service.config import ReplayConfig
from stunet_deploy.bundle import Manifest

#: Seconds between two looks at an inbox that was full, or at a pipe that was empty.
_PAUSE_S = 0.02
#: A longer line than this is cut, and so refused; it would otherwise fill the memory.
LONGEST_LINE = 16 * 2**20


def _nothing() -> None:
    """Acknowledge to a source that waits for no answer."""


@dataclass(frozen=True)
class Delivery:
    """Something that came.

    Attributes:
        content: an interval, or the JSON of an interval or a reading.
        ack: to be called when the journal has it.
        again: whether it may have come before, because the acknowledgement was lost.
    """

    content: Record | bytes
    ack: Callable[[], None] = _nothing
    again: bool = False


@dataclass(frozen=True)
class End:
    """Nothing more will come, for a reason if it is an error."""

    error: Exception | None = None


class Inbox:
    """What waits for a stream.

    Args:
        size: how much may wait before a source waits too.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: queue.SimpleQueue[Delivery | End] = queue.SimpleQueue()

    def __len__(self) -> int:
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        """Whether a source has to wait."""
        return len(self) >= self._size

    def put(self, delivery: Delivery, stopped: threading.Event) -> bool:
        """Deliver, as soon as there is room; return whether there was before the stop."""
        while self.full:
            if stopped.wait(_PAUSE_S):
                return False
        self._queue.put(delivery)
        return True

    def put_now(self, delivery: Delivery) -> None:
        """Deliver something whose number the sender limits."""
        self._queue.put(delivery)

    def end(self, error: Exception | None = None) -> None:
        """Say that nothing more will come."""
        self._queue.put(End(error))

    def take(self, timeout_s: float) -> Delivery | End | None:
        """Return what came first; None if nothing comes in time."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def clear(self) -> None:
        """Forget all that waits: the sender will send it again."""
        while self.take(0) is not None:
            pass


class Source(Protocol):
    """Where a stream's readings come from.

    Attributes:
        live: whether they are of now, so that a time ahead of the clock is wrong. If not, the clock is theirs.
        patient: whether it can wait for a sink for as long as it takes.
        fleeting: whether what it has delivered cannot be had again, and so is still used when the service stops.
    """

    live: bool
    patient: bool
    fleeting: bool

    def start(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        """Deliver from now on and return at once; ``last_s`` is the last stamp that the stream knows."""


class ReplaySource:
    """A recording, as fast as its forecasts are made or with the speed of a clock.

    After a restart it goes on behind the last interval that the stream knows.

    Args:
        config: which recording.
        manifest: of the bundle that will forecast.
        ignore_unknown: skip sensors that the bundle does not have.

    Raises:
        DataError: if the recording cannot be read or does not fit.
    """

    live, patient, fleeting = False, True, False

    def __init__(self, config: ReplayConfig, manifest: Manifest, *, ignore_unknown: bool) -> None:
        self._speed = config.speed
        self._records: Iterator[Record] = open_replay(config.path, manifest, ignore_unknown=ignore_unknown)

    def start(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        """Replay in a thread of its own; see :class:`Source`."""
        _start("replay", self._replay, inbox, stopped, last_s)

    def _replay(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        begin: tuple[float, float] | None = None
        for record in self._records:
            stamp = to_seconds(record.timestamp)
            if last_s is not None and stamp <= last_s:
                continue
            if self._speed > 0:
                begin = begin or (time.monotonic(), stamp)
                if stopped.wait(max(0.0, begin[0] + (stamp - begin[1]) / self._speed - time.monotonic())):
                    return
            if not inbox.put(Delivery(record), stopped):
                return
        inbox.end()


class StdinSource:
    """Lines of JSON from a pipe or file.

    Args:
        descriptor: of the pipe; standard input by default.
        live: whether they are of now; else they come from a recording or a simulation, which can wait.
    """

    fleeting = True

    def __init__(self, descriptor: int = 0, *, live: bool = True) -> None:
        self.live = live
        self.patient = not live
        self._descriptor = descriptor

    def start(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        """Read in a thread of its own; see :class:`Source`."""
        _start("stdin", self._read, inbox, stopped)

    def _read(self, inbox: Inbox, stopped: threading.Event) -> None:
        for line in self._lines(stopped):
            if line.strip() and not inbox.put(Delivery(line), stopped):
                inbox.put_now(Delivery(line))  # it has been read and cannot be read again
        inbox.end()

    def _lines(self, stopped: threading.Event) -> Iterator[bytes]:
        """Yield whole lines, and a last one without its break, until the end or the stop."""
        line, too_long = bytearray(), False
        while not stopped.is_set():
            # A thread blocked in a read could not be stopped.
            if not select.select([self._descriptor], [], [], 10 * _PAUSE_S)[0]:
                continue
            data = os.read(self._descriptor, 2**16)
            first, *others = data.split(b"\n")
            for part, broken in [(first, False), *((other, True) for other in others)]:
                if broken:
                    if not too_long:
                        yield bytes(line)
                    line, too_long = bytearray(), False
                if not too_long:
                    line += part
                    if len(line) > LONGEST_LINE:
                        yield bytes(line[:1000])
                        too_long = True
            if not data:
                if line and not too_long:
                    yield bytes(line)
                return


def _start(name: str, target: Callable[..., None], inbox: Inbox, *arguments: object) -> None:
    """Run a source in a thread; what it raises ends the stream with that error."""

    def guarded() -> None:
        try:
            target(inbox, *arguments)
        except Exception as error:
            inbox.end(error)

    threading.Thread(target=guarded, name=name, daemon=True).start()
