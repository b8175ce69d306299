"""Sources, which deliver readings into the inbox of a stream: the interface, recordings and standard input."""

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
from runtime.messages import LONGEST_MESSAGE, Record
from runtime.replay import open_replay
from runtime.service.config import ReplayConfig
from stunet_deploy.manifest import Manifest

#: Seconds between two looks at a full inbox or an empty pipe.
_PAUSE_S = 0.02
#: Messages and bytes that may wait for a stream in any case: a broker may send more than it was asked for.
_MOST_WAITING, _MOST_BYTES = 100_000, 256 * 2**20


@dataclass(frozen=True)
class Delivery:
    """One interval, line or message.

    Attributes:
        content: an interval, or the JSON of an interval or a reading.
        ack: acknowledges it, where the source asks for that; called when the journal has it.
        again: whether it may be a repeat whose acknowledgement was lost.
    """

    content: Record | bytes
    ack: Callable[[], None] = lambda: None
    again: bool = False


@dataclass(frozen=True)
class End:
    """The end of a source, with the error that ended it, if any."""

    error: Exception | None = None


@dataclass(frozen=True)
class Answer:
    """The answer of a source that was asked, behind all that it held then; see :meth:`Source.ask`."""


class Inbox:
    """The queue of deliveries to a stream.

    Args:
        size: number of deliveries above which a source waits.

    Attributes:
        connections: how often the source has been connected, where it has a connection.
        cut: whether its connection is not there.
    """

    def __init__(self, size: int) -> None:
        self.connections = 0
        self.cut = False
        self._size = size
        self._queue: queue.SimpleQueue[Delivery | Answer | End] = queue.SimpleQueue()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        """Whether a source has to wait."""
        return len(self) >= self._size or self.heavy

    @property
    def heavy(self) -> bool:
        """Whether so much waits that also a sender that limits it itself has to wait."""
        return self._bytes >= _MOST_BYTES or len(self) >= _MOST_WAITING

    def put(self, delivery: Delivery, stopped: threading.Event) -> bool:
        """Deliver as soon as there is room; return False if the stream stopped first."""
        while self.full:
            if stopped.wait(_PAUSE_S):
                return False
        self.put_now(delivery)
        return True

    def put_now(self, delivery: Delivery) -> None:
        """Deliver without waiting for room, for senders that limit the number themselves."""
        self._weigh(delivery, 1)
        self._queue.put(delivery)

    def connected(self) -> None:
        """Take note that the source has a connection, over which a backlog may come."""
        self.connections += 1
        self.cut = False

    def lost(self) -> None:
        """Take note that the source has no connection."""
        self.cut = True

    def answer(self) -> None:
        """Deliver the source's answer."""
        self._queue.put(Answer())

    def end(self, error: Exception | None = None) -> None:
        """Deliver the end of the source."""
        self._queue.put(End(error))

    def take(self, timeout_s: float) -> Delivery | Answer | End | None:
        """Return the oldest delivery; None if none comes in time."""
        try:
            delivery = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(delivery, Delivery):
            self._weigh(delivery, -1)
        return delivery

    def clear(self) -> None:
        """Discard all deliveries, which the sender will repeat."""
        while self.take(0) is not None:
            pass

    def _weigh(self, delivery: Delivery, sign: int) -> None:
        if isinstance(delivery.content, bytes):
            with self._lock:
                self._bytes += sign * len(delivery.content)


class Source(Protocol):
    """The origin of a stream's readings.

    Attributes:
        live: whether readings are current, so that a time ahead of the clock is wrong; otherwise their times are the
            clock.
        patient: whether it can wait for a sink without limit.
        fleeting: whether its deliveries cannot be repeated, so that those in the inbox are used before a stop.
    """

    live: bool
    patient: bool
    fleeting: bool

    def start(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        """Start to deliver and return at once; ``last_s`` is the last stamp that the stream has."""

    def ask(self, inbox: Inbox) -> bool:
        """Let an answer be delivered behind all that has been sent up to now; return False if that is impossible.

        It may never come where a connection is lost.
        """


class ReplaySource:
    """A recording, replayed as fast as its forecasts are made or at a multiple of real time.

    After a restart it continues after the last interval that the stream has.

    Args:
        config: path and speed of the recording.
        manifest: manifest of the stream's bundle.
        ignore_unknown: whether to skip sensors that the bundle does not have.

    Raises:
        DataError: if the recording cannot be read, or is of another network.
    """

    live, patient, fleeting = False, True, False

    def __init__(self, config: ReplayConfig, manifest: Manifest, *, ignore_unknown: bool) -> None:
        self._speed = config.speed
        self._records: Iterator[Record] = open_replay(config.path, manifest, ignore_unknown=ignore_unknown)

    def start(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        """Replay in a thread of its own; see :class:`Source`."""
        _start("replay", self._replay, inbox, stopped, last_s)

    def ask(self, inbox: Inbox) -> bool:
        """Do nothing: a recording has a clock of its own."""
        return False

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
        descriptor: file descriptor; standard input by default.
        live: whether the readings are current; otherwise they are of a recording or a simulation, which can wait.
    """

    fleeting = True

    def __init__(self, descriptor: int = 0, *, live: bool = True) -> None:
        self.live = live
        self.patient = not live
        self._descriptor = descriptor

    def start(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        """Read in a thread of its own; see :class:`Source`."""
        # The thread looks a while after the stop; another file may have the descriptor's number by then.
        _start("stdin", self._read, inbox, os.dup(self._descriptor), stopped)

    def ask(self, inbox: Inbox) -> bool:
        """Answer behind the lines that have been read; see :class:`Source`."""
        inbox.answer()
        return True

    def _read(self, inbox: Inbox, descriptor: int, stopped: threading.Event) -> None:
        try:
            for line in self._lines(descriptor, stopped):
                if line.strip() and not inbox.put(Delivery(line), stopped):
                    inbox.put_now(Delivery(line))  # a line cannot be read twice
        finally:
            os.close(descriptor)
        inbox.end()

    def _lines(self, descriptor: int, stopped: threading.Event) -> Iterator[bytes]:
        """Yield lines, the last one with or without its break, until the end or the stop."""
        line, too_long = bytearray(), False
        while not stopped.is_set():
            # A thread blocked in a read could not be stopped.
            if not select.select([descriptor], [], [], 10 * _PAUSE_S)[0]:
                continue
            data = os.read(descriptor, 2**16)
            first, *others = data.split(b"\n")
            for part, broken in [(first, False), *((other, True) for other in others)]:
                if broken:
                    if not too_long:
                        yield bytes(line)
                    line, too_long = bytearray(), False
                if not too_long:
                    line += part
                    if len(line) > LONGEST_MESSAGE:  # cut off, it is refused
                        yield bytes(line[:1000])
                        too_long = True
            if not data:
                if line and not too_long:
                    yield bytes(line)
                return


def _start(name: str, target: Callable[..., None], inbox: Inbox, *arguments: object) -> None:
    """Run a source in a thread; an exception in it ends the stream with that error."""

    def guarded() -> None:
        try:
            target(inbox, *arguments)
        except Exception as error:
            inbox.end(error)

    threading.Thread(target=guarded, name=name, daemon=True).start()
