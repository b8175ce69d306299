"""The drift alarm: a Page-Hinkley test of whether a model has become worse against persistence.

An error alone says little, since a calm night is easy and a rush hour is not. The alarm therefore looks at the
logarithm of the model's error over persistence's, of the same interval and the same readings, and tests whether its
mean has risen above that of the first week.

Sources: E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954), section 2; D. V. Hinkley, "Inference about
the change-point from cumulative sum tests", Biometrika 58 (1971).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.series.wall_clock import DAY_S

#: Days of which the reference is the mean, and days after which that mean is used.
REFERENCE_DAYS, SETTLED_DAYS = 7, 1
#: Share of the threshold below which an alarm clears.
_CLEARED = 0.5
#: Largest rise that one interval can bring: an hour in which every reading repeats the last is no proof.
_LARGEST = 1.0


class DriftAlarm:
    """A statistic S, and the alarm that is raised when S >= threshold and cleared when S < threshold / 2.

    S begins at 0 and at every interval becomes

        S <- min(max(S + hours * (rise - delta), 0), threshold)
        rise = min(mean over horizons and targets of (log(e / p) - reference), 1)

    with the mean absolute errors e of the model and p of persistence at this interval. To both the floor is added, so
    that a quiet night, in which nothing changes, is no evidence. The reference of each horizon and target is the mean
    of log(e / p) over the first week of intervals without alarm; after that it is fixed, so that a slow decline is a
    rise too. It is 0 until a day has been seen, and never more: no model is allowed to be worse than persistence.

    Args:
        delta: rise that is tolerated.
        threshold: of the statistic, in hours.
        interval_s: length of an interval.
        floor: [target] added to the errors, in units of the targets.
        horizon: number of steps of a forecast.

    Attributes:
        statistic: S.
        since_s: stamp of the interval that raised the alarm, seconds since the epoch; None without alarm.
    """

    def __init__(
        self, delta: float, threshold: float, interval_s: int, floor: NDArray[np.float64], horizon: int
    ) -> None:
        self.statistic = 0.0
        self.since_s: int | None = None
        self._delta = delta
        self._threshold = threshold
        self._interval_s = interval_s
        self._floor = floor
        self._reference = np.zeros((horizon, len(floor)))
        self._reference_count = np.zeros((horizon, len(floor)), np.int64)

    def see(self, total: NDArray[np.float64], counts: NDArray[np.int64], usable: NDArray[np.bool_], stamp: int) -> None:
        """Move the statistic by the errors of an interval.

        Args:
            total: [2, horizon, target] sums of the absolute errors of the model and of persistence.
            counts: [horizon, target] number of errors in each.
            usable: [horizon, target] which of them count.
            stamp: of the interval.
        """
        if not usable.any():
            return
        model, persistence = total / np.maximum(counts, 1) + self._floor
        ratio = np.log(model / persistence)
        day = DAY_S / self._interval_s
        reference = np.where(self._reference_count >= SETTLED_DAYS * day, np.minimum(self._reference, 0), 0)
        rise = min(float(np.mean((ratio - reference)[usable])), _LARGEST)
        statistic = self.statistic + (rise - self._delta) * self._interval_s / 3600
        self.statistic = min(max(statistic, 0.0), self._threshold)
        if self.since_s is None:
            learning = usable & (self._reference_count < REFERENCE_DAYS * day)
            self._reference_count += learning
            share = learning / np.maximum(self._reference_count, 1)
            self._reference += np.where(usable, ratio - self._reference, 0) * share
            if self.statistic >= self._threshold:
                self.since_s = stamp
        elif self.statistic < _CLEARED * self._threshold:
            self.since_s = None

    def state(self) -> dict[str, NDArray[Any]]:
        """Return a copy of all that it remembers, by name."""
        return {
            "reference": self._reference.copy(),
            "reference_count": self._reference_count.copy(),
            "statistic": np.array(self.statistic),
            "alarm_since_s": np.array([] if self.since_s is None else [self.since_s], np.int64),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on where another alarm was.

        Raises:
            KeyError, ValueError: if the state is of another bundle or layout.
        """
        np.copyto(self._reference, state["reference"])
        np.copyto(self._reference_count, state["reference_count"])
        self.statistic = float(state["statistic"])
        if not 0 <= self.statistic < np.inf:
            raise ValueError(f"a statistic of {self.statistic}")
        self.since_s = int(state["alarm_since_s"][0]) if len(state["alarm_since_s"]) else None
