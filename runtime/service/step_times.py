"""Durations of a stream's steps: counts by bucket since the start, and percentiles of the last ones."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

import numpy as np

#: Upper ends of the buckets in seconds.
BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECENT = 1000


@dataclass(frozen=True)
class Durations:
    """Statistics of step durations.

    Attributes:
        counts: number of steps in each bucket of :data:`BOUNDS_S`, and in one above them.
        total_s: sum of all durations in seconds.
        median_ms, p99_ms: of the last thousand steps, in milliseconds; None before the first.
    """

    counts: tuple[int, ...]
    total_s: float
    median_ms: float | None
    p99_ms: float | None


class StepTimes:
    """Durations of the steps of one stream; written by its worker, read from any thread."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._total_s = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Count one step."""
        with self._lock:
            self._counts[bisect_left(BOUNDS_S, seconds)] += 1
            self._total_s += seconds
            self._recent.append(seconds)

    def read(self) -> Durations:
        """Return the statistics."""
        with self._lock:
            counts, total_s, recent = tuple(self._counts), self._total_s, list(self._recent)
        if not recent:
            return Durations(counts, total_s, None, None)
        median, p99 = np.percentile(recent, [50, 99], method="inverted_cdf")
        return Durations(counts, total_s, 1000 * float(median), 1000 * float(p99))
