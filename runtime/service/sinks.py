"""Sinks, which deliver forecasts: the interface, and what those share that hold what they cannot deliver."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections import deque
from pathlib import Path
from typing import Protocol

from runtime.forecast import Forecast
from runtime.service.heartbeat import Heartbeat
from runtime.service.logs import StreamLog
from stunet_deploy.errors import StunetError

#: Forecasts that a sink holds, and bytes of their numbers; beyond them the oldest is lost.
HELD, HELD_BYTES = 1000, 2**25
#: Seconds in which a live stream hands out forecasts that waited, and a stopped one its last.
CATCH_UP_S = 10.0
#: Longest pause in seconds between two tries.
_LONGEST_PAUSE_S = 30.0
#: A try that failed is followed by a rest of so many times its length, so that the stream keeps up.
_REST = 3


class SinkError(StunetError):
    """A forecast could not be delivered; the stream continues.

    Args:
        came, expected, action: see :class:`StunetError`.
        lost: number of forecasts that this sink will not deliver any more.
    """

    def __init__(self, came: str, expected: str, action: str, *, lost: int = 1) -> None:
        super().__init__(came, expected, action)
        self.lost = lost


class RefusedError(SinkError):
    """A forecast that the receiver would refuse again; it is not held."""


class Sink(Protocol):
    """A destination of a stream's forecasts, used by the stream's thread only.

    Attributes:
        name: its name in the log and the counters.
        lost: forecasts that it has taken and that were refused afterwards.
    """

    name: str
    lost: int = 0

    @property
    def held(self) -> int:
        """Number of forecasts that wait in memory because they could not be delivered; readable by any thread."""
        return 0

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Deliver a forecast.

        Args:
            forecast: a forecast new to this sink, though an earlier process may have delivered it.
            heartbeat: beaten during a long delivery; once stopped, the sink waits no longer.
            patient: whether to retry without limit.

        Raises:
            SinkError, OSError: if it cannot be delivered.
        """

    def settle(self, heartbeat: Heartbeat) -> None:
        """Wait for the receiver of what was just written, once all sinks of the stream have it; by default not at all.

        Args:
            heartbeat: see :meth:`write`.
        """
        return

    def flush(self, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Deliver what is still held, before the end; by default nothing is.

        Raises:
            SinkError, OSError: if some of it cannot be delivered.
        """
        return

    def close(self) -> None:
        """Close files and connections; by default none are open."""
        return


class HoldingSink(Sink):
    """A sink that holds forecasts it cannot deliver, and delivers them in order as soon as it can.

    A patient stream waits for it. Any other goes on: the forecast is held, and tried again with the next one. A sink
    that fails takes a quarter of the stream's time at most.

    Args:
        name: see :class:`Sink`.
        stream: name of the stream, for the log.
        tries: tries in a row of a forecast that is the only one held, after pauses of 1, 2, 4 … seconds.
        least: number of forecasts that is held in any case.
    """

    def __init__(self, name: str, stream: str, *, tries: int = 1, least: int = 1) -> None:
        self.name = name
        self._stream = stream
        self._log = StreamLog(stream)
        self._tries = tries
        self._least = least
        self._waiting: deque[Forecast] = deque()
        self._held = 0  # of them when last tried: the one that is being delivered is not held
        self._lost = 0  # and not told yet
        self._failing = False
        self._error = SinkError(
            f"{name} is slower than forecasts come", "a sink that keeps up", "look what slows it down"
        )
        self._rest_until = -math.inf

    @property
    def held(self) -> int:
        """Number of forecasts that wait; see :class:`Sink`."""
        return self._held

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Deliver it behind those that wait, or hold it; see :class:`Sink`."""
        self._waiting.append(forecast)
        while len(self._waiting) > self._least and (
            len(self._waiting) > HELD or sum(one.values.nbytes for one in self._waiting) > HELD_BYTES
        ):
            self._waiting.popleft()
            self._lost += 1
        begin = time.monotonic()
        if patient or not self._failing or begin >= self._rest_until:
            tries = math.inf if patient else 1 if self._failing else self._tries
            self._pass_on(heartbeat, tries, math.inf if patient else begin + CATCH_UP_S, last=False)
            end = time.monotonic()
            self._rest_until = end + _REST * (end - begin)
        self._held = len(self._waiting)
        self._tell()

    def flush(self, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Deliver what waits, within seconds unless the source can wait; see :class:`Sink`."""
        waits = patient and not heartbeat.stopped.is_set()
        end = math.inf if waits else time.monotonic() + CATCH_UP_S
        self._pass_on(heartbeat, math.inf if waits else 1, end, last=True)
        self._lost += len(self._waiting)
        self._waiting.clear()
        self._held = 0
        self._tell()

    @abstractmethod
    def _deliver(self, heartbeat: Heartbeat, *, last: bool) -> int:
        """Deliver the first of those that wait, and return how many; 0 if they are to wait for more.

        Args:
            heartbeat: see :meth:`Sink.write`.
            last: whether no more will come.

        Raises:
            RefusedError: if the first one is not to be tried again.
            SinkError: if none could be delivered.
        """

    def _pass_on(self, heartbeat: Heartbeat, tries: float, end: float, *, last: bool) -> None:
        """Deliver what waits, until all is delivered, the tries are used up, the time is over or the stream stops."""
        pause_s, failed = 1.0, 0
        while self._waiting:
            try:
                number = self._deliver(heartbeat, last=last)
            except RefusedError as error:
                number, self._error = 1, error
                self._lost += 1
            except SinkError as error:
                self._failing, self._error, self._held = True, error, len(self._waiting)
                failed += 1
                if tries == math.inf:
                    self._log.again(f"waiting for {self.name}", str(error))
                if failed >= tries or heartbeat.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            self._failing = False
            self._log.over(f"waiting for {self.name}")
            for _ in range(number):
                self._waiting.popleft()
            heartbeat.beat()
            if number == 0 or time.monotonic() >= end:
                return

    def _tell(self) -> None:
        """Raise the last error, and say how many forecasts wait or are lost for it, if so."""
        error, lost, self._lost = self._error, self._lost, 0
        if self._failing or lost:
            said = f"; forecasts held in memory: {len(self._waiting)}" if self._waiting else ""
            said += f"; forecasts lost: {lost}" if lost else ""
            raise SinkError(f"{error.came}{said}", error.expected, error.action, lost=lost) from error


def make_folder(folder: Path, sink: str) -> None:
    """Make a sink's folder.

    Raises:
        SinkError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(
            f"folder {folder} of a {sink} sink cannot be made ({error.strerror})", "a folder", "choose another folder"
        ) from error
