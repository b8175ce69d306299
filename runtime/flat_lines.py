"""Stuck detectors: readings that repeat themselves to the last bit are dropped after a while."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.readings import Interval


class FlatLines:
    """Counts how often each reading has come unchanged, and drops it from the ``after``-th time on.

    Unobserved intervals neither end nor lengthen a run: a detector that falls silent and comes back with the same
    reading is still stuck. A reading that differs ends the run at once.

    Args:
        shape: [node, feature] of an interval.
        after: number of equal readings in a row, the last of which is the first to be dropped.

    Attributes:
        values: [node, feature] float32, the last reading.
        runs: [node, feature] int32, how often in a row it has come; 0 before the first.
    """

    def __init__(self, shape: tuple[int, int], after: int) -> None:
        self.after = after
        self.values = np.zeros(shape, np.float32)
        self.runs = np.zeros(shape, np.int32)

    def drop(self, interval: Interval) -> Interval:
        """Return the interval with stuck readings unobserved, and take it into account."""
        same = interval.observed & (self.runs > 0) & (interval.values == self.values)
        self.runs = np.where(interval.observed, np.where(same, np.minimum(self.runs + 1, self.after), 1), self.runs)
        self.values = np.where(interval.observed, interval.values, self.values)
        stuck = interval.observed & (self.runs >= self.after)
        if not stuck.any():
            return interval
        values = np.where(stuck, 0, interval.values).astype(np.float32)
        return interval._replace(values=values, observed=interval.observed & ~stuck)

    @property
    def stuck(self) -> NDArray[np.bool_]:
        """[node] whether a reading of the sensor is being dropped."""
        return np.asarray((self.runs >= self.after).any(axis=1))

    def reset(self) -> None:
        """Forget every run."""
        self.values[...] = 0
        self.runs[...] = 0

    def restore(self, values: NDArray[np.float32], runs: NDArray[np.int32]) -> None:
        """Go on from the values and runs of another stream."""
        self.values = values.copy()
        self.runs = np.minimum(runs, self.after).astype(np.int32)
