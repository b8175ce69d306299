"""Two ways to load a stream: one forecast after the other, and forecasts that are due at a fixed rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.timing import Samples

#: Makes one forecast and returns the microseconds of it that the model took.
Call = Callable[[], float]


@dataclass(frozen=True)
class Trace:
    """When forecasts were due, began and ended: [forecast] each, nanoseconds of a monotonic clock.

    Attributes:
        due: when the interval was there; in a closed loop that is when its forecast began.
        begin: when its readings were taken up.
        end: when its forecast was there.
        step: how long the model took of it.
    """

    due: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    step: NDArray[np.int64]

    @classmethod
    def join(cls, parts: Sequence[Trace]) -> Trace:
        """Return traces of one stream as one."""
        names = ("due", "begin", "end", "step")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def latency(self) -> Samples:
        """From when a forecast was due to when it was there: with the time for which it had to wait."""
        return Samples(self.end - self.due)

    @property
    def service(self) -> Samples:
        """From when the readings were taken up to when the forecast was there."""
        return Samples(self.end - self.begin)

    @property
    def wait(self) -> Samples:
        """From when a forecast was due to when its readings were taken up."""
        return Samples(self.begin - self.due)


def closed_loop(call: Call, count: int, *, clock: Callable[[], int] = time.perf_counter_ns) -> Trace:
    """Make forecasts one after the other, each as soon as the one before is there."""
    begin, end, step = (np.empty(count, np.int64) for _ in range(3))
    for number in range(count):
        begin[number] = clock()
        step_us = call()
        end[number] = clock()
        step[number] = round(1000 * step_us)
    return Trace(begin, begin, end, step)


def open_loop(
    call: Call,
    count: int,
    rate: float,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Trace:
    """Make forecasts that are due ``rate`` times a second, whether or not the one before is there.

    A closed loop hides what a slow forecast does to those behind it: it waits for it. Here they stay due, and their
    latency counts from then. Between two forecasts the thread sleeps, as a service that waits for readings does.
    """
    begin, end, step = (np.empty(count, np.int64) for _ in range(3))
    period = 1e9 / rate
    due = clock() + np.round(period * np.arange(1, count + 1)).astype(np.int64)
    for number, moment in enumerate(due.tolist()):
        while (left := moment - clock()) > 0:
            sleep(left / 1e9)
        begin[number] = clock()
        step_us = call()
        end[number] = clock()
        step[number] = round(1000 * step_us)
    return Trace(due, begin, end, step)
