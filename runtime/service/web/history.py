"""The history of a stream: observations and forecasts of about the last day, in memory."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.forecast import Forecast
from runtime.readings import Interval
from stunet_deploy.manifest import Manifest

#: How far back observations reach, in seconds, where the memory allows it.
SPAN_S = 86_400
#: Bytes of the arrays of one history.
LIMIT = 32 * 2**20


class Row(NamedTuple):
    """One interval.

    Attributes:
        issued_s: its stamp, seconds since the epoch, UTC.
        observed: [node, target] float32 in units of the targets; NaN where unobserved, or where the target is no
            feature.
        forecast: [horizon, node, target] float32, issued after it.
    """

    issued_s: int
    observed: NDArray[np.float32]
    forecast: NDArray[np.float32]


class History:
    """The last intervals of one stream; written by its worker, read from any thread.

    It holds a day and the forecasts that were valid in it, but at most ``limit`` bytes, and at least one interval:
    207 sensors with 12 horizons take 3 MB, 33,113 sensors keep the last 19 intervals.

    Args:
        manifest: manifest of the stream's bundle.
        limit: bytes of its arrays.

    Attributes:
        capacity: largest number of intervals that it holds.
    """

    def __init__(self, manifest: Manifest, *, limit: int = LIMIT) -> None:
        self._shape = (manifest.horizon, len(manifest.sensor_ids), len(manifest.targets))
        self._targets = manifest.targets
        self._columns = [
            (target, manifest.features.index(name))
            for target, name in enumerate(manifest.targets)
            if name in manifest.features
        ]
        row_bytes = 4 * (1 + self._shape[0]) * self._shape[1] * self._shape[2]
        self.capacity = max(1, min(SPAN_S // manifest.interval_s + manifest.horizon, limit // row_bytes))
        self._rows: deque[Row] = deque(maxlen=self.capacity)
        self._lock = threading.Lock()

    def fits(self, manifest: Manifest) -> bool:
        """Return whether the forecasts of a bundle have the shape and targets of those it holds."""
        shape = (manifest.horizon, len(manifest.sensor_ids), len(manifest.targets))
        return (self._shape, self._targets) == (shape, manifest.targets)

    def add(self, forecast: Forecast, readings: Interval | None) -> None:
        """Append an interval; one that is not after the last one clears the history, since the clock went back.

        Args:
            forecast: forecast issued after it.
            readings: its readings, or None if they are unknown.
        """
        observed = np.full(self._shape[1:], np.nan, np.float32)
        if readings is not None:
            for target, column in self._columns:
                seen = readings.observed[:, column]
                observed[seen, target] = readings.values[seen, column]
        with self._lock:
            if self._rows and forecast.issued_s <= self._rows[-1].issued_s:
                self._rows.clear()
            self._rows.append(Row(forecast.issued_s, observed, forecast.values))

    def rows(self) -> list[Row]:
        """Return its intervals, oldest first; the arrays must not be changed."""
        with self._lock:
            return list(self._rows)

    @property
    def last(self) -> Row | None:
        """The last interval."""
        with self._lock:
            return self._rows[-1] if self._rows else None
