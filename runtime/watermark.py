"""The watermark of single readings: how far in time the sensors of a network have come, by what they say themselves.

A sensor's own readings come in order, those of different sensors only about so. Therefore no single reading says how
far the network has come, and no single sensor: its clock may be wrong by years.
"""

from __future__ import annotations

import math

import numpy as np

#: A sensor that has been silent for so many readings of each of the others, on average, no longer counts.
_SILENT = 4


class Watermark:
    """The time of the last reading of each sensor, and the time that most of them have reached.

    Args:
        sensors: number of sensors in the network.
        far_s: how far ahead of most of the sensors one may be, in seconds; beyond that its clock is not believed.

    Attributes:
        time: the newest time that most of the sensors have reached, in seconds since the epoch, as of the last
            :meth:`follow`; -inf before the first reading.
    """

    def __init__(self, sensors: int, far_s: float) -> None:
        self.time = -math.inf
        self._far_s = far_s
        self._newest = -math.inf  # time of the last reading of all
        self._last = np.full(sensors, -math.inf)  # [sensor] seconds since the epoch
        self._turn = np.full(sensors, -math.inf)  # [sensor] how many readings had come when it last spoke
        self._turns = 0

    def see(self, node: int, seconds: float) -> None:
        """Take note of a reading of a sensor."""
        self._turns += 1
        self._last[node] = self._newest = seconds
        self._turn[node] = self._turns

    def expect(self, nodes: np.ndarray[tuple[int], np.dtype[np.int64]], seconds: float) -> None:
        """Take note that sensors have spoken up to a time at least, before this object was made."""
        self._last[nodes] = np.maximum(self._last[nodes], seconds)
        self._turn[nodes] = np.maximum(self._turn[nodes], self._turns)

    def adopt(self, other: Watermark) -> None:
        """Go on where the watermark of the same sensors is; how far ahead one may be stays this one's."""
        self.time, self._newest, self._turns = other.time, other._newest, other._turns
        self._last, self._turn = other._last.copy(), other._turn.copy()

    def forget(self, seconds: float) -> None:
        """Forget the sensors whose last reading lies ahead of a time, because their clocks are wrong."""
        ahead = self._last > seconds
        self._last[ahead] = self._turn[ahead] = -math.inf

    def all_past(self, seconds: float, *, since: float) -> bool:
        """Return whether every sensor that has spoken since a time, one at least, has reached a later one."""
        lagging = (self._last >= since) & (self._last < seconds)
        return not lagging.any() and bool((self._last >= seconds).any())

    def moves(self, seconds: float) -> bool:
        """Return whether by the last reading :meth:`follow` may reach a time, or go back far before it."""
        return not seconds - self._far_s <= self._newest < seconds

    def follow(self) -> float:
        """Bring :attr:`time` to where most of the sensors are, and return it.

        It goes back only if most of them have gone back far, as a simulation does that begins anew. Those sensors count
        that have spoken in the last four readings of each sensor, on average.
        """
        recent = self._last[self._turn > self._turns - _SILENT * len(self._last)]
        if recent.size:
            middle = (recent.size - 1) // 2
            front = float(np.partition(recent, middle)[middle])
            if front > self.time or front < self.time - self._far_s:
                self.time = front
        return self.time

    def end(self) -> None:
        """Bring :attr:`time` to the newest reading that is not far ahead of most of the sensors: no more will come."""
        near = self._last <= self.follow() + self._far_s
        self.time = self._newest = float(np.max(self._last, initial=self.time, where=near))

    def mean(self, *, since: float) -> float:
        """Return the mean time of the last readings of the sensors that have spoken since a time; NaN if none has."""
        recent = self._last[(self._last >= since) & np.isfinite(self._last)]
        return float(recent.mean()) if recent.size else math.nan
