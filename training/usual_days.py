"""The usual day of every sensor: mean working and weekend days of the training span, and what departs from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S, KINDS_OF_DAY, WORKING_DAYS, local_times
from training.protocols import Split

#: Minutes on either side of a time of day that may be averaged with it; the best is chosen on days left out.
SMOOTHINGS_MIN = (0, 5, 15, 30, 60)
#: A mean counts as so many days of the mean that is less special: of both kinds of day, of the sensor at any time.
PRIOR_DAYS = 0.3
#: Training days that a model with days apart needs: of two others at least a usual day is made.
LEAST_DAYS = 4
#: At most so many days, evenly chosen, decide between smoothings.
_DECIDING_DAYS = 30


@dataclass(frozen=True)
class UsualDays:
    """Means by time of day over the training span, in physical units.

    Attributes:
        table: over all training days, [slot, node, target]; a slot is a time of a working day, then of a weekend day.
        of_row: the usual reading at the time of every row of the recording, [time, node, target]; that of a training
            row is made without its day, see :meth:`without`.
        reach: slots on either side of a time of day that are averaged with it.
        departure: readings minus the usual ones, 0 where unobserved, [time, node, target].
        observed: which readings there are, [time, node, target].
        apart: a training row is also made without the days so many days before its own.
    """

    table: NDArray[np.float32]
    of_row: NDArray[np.float32]
    reach: int
    departure: NDArray[np.float32]
    observed: NDArray[np.bool_]
    apart: tuple[int, ...]
    _days: _Days

    @classmethod
    def of(
        cls, series: Series, train_rows: slice, targets: Sequence[str] | None = None, apart: tuple[int, ...] = ()
    ) -> UsualDays:
        """Average the observed training readings by kind of day and time of day.

        The smoothing is the one with the smallest mean absolute error on training days that are left out.

        Args:
            series: the recording.
            train_rows: its training span.
            targets: features; None means all.
            apart: for a model that looks up what departed from the usual days so many days ago.
        """
        days = _Days.of(series, train_rows, series.site.feature_indices(targets))
        deciding = days.training[:: max(1, -(-len(days.training) // _DECIDING_DAYS))]
        spans = dict.fromkeys(round(60 * minutes / series.interval_s) for minutes in SMOOTHINGS_MIN)
        reach = min(spans, key=lambda span: days.error(deciding, span))
        if len(days.training) == 1:  # nothing to leave out
            reach = 0
        table = days.table(days.sums, days.counts, reach)
        of_row = table[days.slot]
        usual = cls(table, of_row, reach, np.empty(0, np.float32), days.observed, apart, days)
        for day in days.training:
            rows = days.rows(day)
            of_row[rows] = usual.without(day)[days.slot[rows]]
        return replace(usual, departure=days.departure(of_row))

    @property
    def smoothing_minutes(self) -> float:
        """Minutes on either side of a time of day that are averaged with it."""
        return self.reach * self._days.interval_s / 60

    @property
    def training(self) -> NDArray[np.int64]:
        """The days of the training span, counted from 1970."""
        return self._days.training

    @property
    def day(self) -> NDArray[np.int64]:
        """The day of every row, counted from 1970, [time]."""
        return self._days.day

    def departures(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return readings minus those of a table [slot, node, target], 0 where unobserved, [time, node, target]."""
        return self._days.departure(table[self._days.slot])

    def without(self, day: int) -> NDArray[np.float32]:
        """Return the table of a training day, made without it, [slot, node, target].

        With it, the usual reading would hold a part of the answer. Nor does it hold the days ``apart``: what departed
        on them would be too small, and the larger, the less the day at hand would depart.
        """
        days = self._days
        if len(days.training) == 1:  # nothing to leave out
            return self.table
        left_out = [day, *(day - before for before in self.apart)]
        return days.without(days.train & np.isin(days.day, left_out), self.reach)

    def ahead(self, issue: NDArray[np.int64], horizon: int) -> NDArray[np.float32]:
        """Return the usual readings of the ``horizon`` rows after each, [issue, horizon, node, target]."""
        return np.asarray(self.of_row[issue[:, None] + np.arange(1, horizon + 1)])

    def present(self) -> NDArray[np.float32]:
        """Return the departure of the last reading up to every row, [time, node, target]; 0 before the first."""
        row = np.arange(len(self.observed)).reshape(-1, 1, 1)
        last = np.maximum.accumulate(np.where(self.observed, row, 0), axis=0)
        return np.asarray(np.take_along_axis(self.departure, last, axis=0))

    def damping(self, split: Split) -> NDArray[np.float32]:
        """Return the share of the present departure that is left at every horizon, in [0, 1], [horizon, 1, target].

        It is fitted by least squares over the training windows.
        """
        present = self.present()[split.train]
        shares = []
        for ahead in range(1, split.horizon + 1):
            labelled, later = self.observed[split.train + ahead], self.departure[split.train + ahead]
            size = np.where(labelled, present**2, 0.0).sum((0, 1), dtype=np.float64)
            kept = (present * later).sum((0, 1), dtype=np.float64)
            shares.append(np.clip(np.divide(kept, size, out=np.zeros_like(kept), where=size > 0), 0, 1))
        return np.stack(shares).astype(np.float32)[:, None]


@dataclass(frozen=True)
class _Days:
    """Sums and counts of the observed training readings by slot, from which any day can be taken away.

    Attributes:
        values, observed: of the whole recording, [time, node, target]; values are 0 where unobserved.
        day, slot: of every row.
        train: which rows are of the training span.
        interval_s: of the recording.
        sums, counts: over the training rows, [slot, node, target].
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    day: NDArray[np.int64]
    slot: NDArray[np.int64]
    train: NDArray[np.bool_]
    interval_s: int
    sums: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, series: Series, train_rows: slice, columns: list[int]) -> _Days:
        observed = series.observed[..., columns]
        values = np.where(observed, series.values[..., columns], 0).astype(np.float32)
        local = local_times(series.timestamps, series.timezone)
        per_day = max(1, DAY_S // series.interval_s)
        weekend = series.time_of_week() >= WORKING_DAYS * DAY_S
        slot = local % DAY_S * per_day // DAY_S + per_day * weekend
        train = np.zeros(len(slot), np.bool_)
        train[train_rows] = True
        sums, counts = _added(values[train], observed[train], slot[train], KINDS_OF_DAY * per_day)
        return cls(values, observed, local // DAY_S, slot, train, series.interval_s, sums, counts)

    @property
    def training(self) -> NDArray[np.int64]:
        """The days of the training span."""
        return np.unique(self.day[self.train])

    def rows(self, day: int) -> NDArray[np.int64]:
        """Return the training rows of a day."""
        return np.flatnonzero((self.day == day) & self.train)

    def without(self, rows: NDArray[np.integer] | NDArray[np.bool_], reach: int) -> NDArray[np.float32]:
        """Return the table made without some training rows."""
        sums, counts = _added(self.values[rows], self.observed[rows], self.slot[rows], len(self.sums))
        return self.table(self.sums - sums, self.counts - counts, reach)

    def departure(self, usual: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return readings minus the usual ones of every row, 0 where unobserved."""
        return np.where(self.observed, self.values - usual, 0).astype(np.float32)

    def error(self, days: NDArray[np.int64], reach: int) -> float:
        """Return the mean absolute error of the profile on days that it is made without."""
        total = count = 0.0
        for day in days:
            rows = self.rows(day)
            error = np.abs(self.values[rows] - self.without(rows, reach)[self.slot[rows]])
            total += float(error[self.observed[rows]].sum())
            count += int(self.observed[rows].sum())
        return total / max(count, 1)

    def table(self, sums: NDArray[np.float64], counts: NDArray[np.float64], reach: int) -> NDArray[np.float32]:
        """Return smoothed means [slot, node, target]: of the slots within ``reach`` of each, and of the priors."""
        by_kind = [_smoothed(np.stack(np.split(array, KINDS_OF_DAY)), reach) for array in (sums, counts)]
        prior = PRIOR_DAYS * (2 * reach + 1)
        seen = counts.sum(0)
        any_sensor = sums.sum((0, 1)) / np.maximum(counts.sum((0, 1)), 1)
        any_time = np.divide(sums.sum(0), seen, out=np.zeros_like(seen) + any_sensor, where=seen > 0)
        either = (by_kind[0].sum(0) + prior * any_time) / (by_kind[1].sum(0) + prior)
        means = (by_kind[0] + prior * either) / (by_kind[1] + prior)
        return np.concatenate(list(means)).astype(np.float32)


def sensor_means(series: Series, train_rows: slice, targets: Sequence[str] | None = None) -> NDArray[np.float64]:
    """Return the mean training reading of every sensor, [node, target]; that of all sensors for one without readings.

    Raises:
        DataError: a target without a single reading in the training span.
    """
    columns = series.site.feature_indices(targets)
    observed = series.observed[train_rows][..., columns]
    values = np.where(observed, series.values[train_rows][..., columns], 0).astype(np.float64)
    count = observed.sum(axis=0)
    if (count.sum(axis=0) == 0).any():
        raise DataError(
            "a target without any reading in the training span",
            "readings to average",
            "give a longer recording",
        )
    overall = values.sum(axis=(0, 1)) / count.sum(axis=0)
    mean = np.broadcast_to(overall, count.shape).copy()
    np.divide(values.sum(axis=0), count, out=mean, where=count > 0)
    return mean


def _added(
    values: NDArray[np.float32], observed: NDArray[np.bool_], slot: NDArray[np.int64], slots: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sums and counts of readings by slot."""
    sums, counts = (np.zeros((slots, *values.shape[1:])) for _ in range(2))
    np.add.at(sums, slot, values)
    np.add.at(counts, slot, observed)
    return sums, counts


def _smoothed(array: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Return sums over the slots within ``reach`` of each along the second axis, around midnight."""
    slots = array.shape[1]
    around = np.take(array, np.arange(-reach - 1, slots + reach), axis=1, mode="wrap").cumsum(axis=1)
    return np.asarray(around[:, 2 * reach + 1 :] - around[:, : -2 * reach - 1])
