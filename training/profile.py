"""Mean and mean days of every sensor over the training span; in training a row's own day is left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.config import Signal
from stunet_deploy.models.profile import KINDS_OF_DAY
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S, local_times
from training.protocols import Split

#: Minutes on either side of a time of day that may be averaged with it; the best is chosen on days left out.
SMOOTHINGS_MIN = (0, 5, 15, 30, 60)
#: A mean counts as so many days of the mean that is less special: of both kinds of day, of the sensor at any time.
PRIOR_DAYS = 0.3
#: At most so many days, evenly chosen, decide between smoothings.
_DECIDING_DAYS = 30


@dataclass(frozen=True)
class ProfileTables:
    """Profiles of a training span, normalised.

    Attributes:
        whole: over all training days, [slot, node, target]; a slot is a time of a working day, then of a weekend day.
        of_row: the profile at the time of every row of the recording, [time, node, target]; that of a training row is
            made without its day.
        smoothing_minutes: on either side of a time of day.
    """

    whole: Float[Tensor, "slot node target"]
    of_row: Float[Tensor, "time node target"]
    smoothing_minutes: float

    @classmethod
    def of(cls, series: Series, train_rows: slice, signal: Signal) -> ProfileTables:
        """Average the observed training readings by kind of day and time of day.

        The smoothing is the one with the smallest mean absolute error on training days that are left out.
        """
        days = _Days.of(series, train_rows, signal)
        deciding = days.training[:: -(-len(days.training) // _DECIDING_DAYS)]
        spans = dict.fromkeys(round(60 * minutes / series.interval_s) for minutes in SMOOTHINGS_MIN)
        reach = min(spans, key=lambda span: days.error(deciding, span))
        whole = days.table(days.sums, days.counts, reach)
        of_row = whole[days.slot]
        for day in days.training:
            rows = days.rows(day)
            of_row[rows] = days.without(rows, reach)[days.slot[rows]]
        minutes = reach * series.interval_s / 60
        return cls(torch.from_numpy(whole), torch.from_numpy(of_row), minutes)

    def to(self, device: torch.device) -> ProfileTables:
        """Copy the tables to a device."""
        return ProfileTables(self.whole.to(device), self.of_row.to(device), self.smoothing_minutes)

    def at(self, rows: Int64[Tensor, "batch time"], horizon: int) -> Float[Tensor, "batch time ahead node target"]:
        """Return the profile at these rows and the ``horizon`` after each, all of them rows of the recording."""
        return self.of_row[rows[..., None] + torch.arange(horizon + 1, device=rows.device)]

    def damping(self, series: Series, split: Split, signal: Signal) -> Float[Tensor, "horizon 1 target"]:
        """Return the share of the present departure from the profile that is left at every horizon, in [0, 1].

        It is fitted by least squares over the training windows, where the departure is that of the last reading.
        """
        normalised, observed = _targets(series, signal)
        departure = np.where(observed, normalised - self.of_row.cpu().numpy(), 0.0).astype(np.float32)
        row = np.arange(len(observed)).reshape(-1, 1, 1)
        last = np.maximum.accumulate(np.where(observed, row, 0), axis=0)
        present = np.take_along_axis(departure, last, axis=0)[split.train]
        shares = []
        for ahead in range(1, split.horizon + 1):
            labelled, later = observed[split.train + ahead], departure[split.train + ahead]
            size = np.where(labelled, present**2, 0.0).sum((0, 1), dtype=np.float64)
            kept = (present * later).sum((0, 1), dtype=np.float64)
            shares.append(np.clip(np.divide(kept, size, out=np.zeros_like(kept), where=size > 0), 0, 1))
        return torch.from_numpy(np.stack(shares).astype(np.float32)).unsqueeze(1)


@dataclass(frozen=True)
class _Days:
    """Sums and counts of the observed training readings by slot, from which any day can be taken away.

    Attributes:
        values, observed: of the whole recording, [time, node, target]; values are normalised, 0 where unobserved.
        day, slot: of every row.
        train: which rows are of the training span.
        sums, counts: over the training rows, [slot, node, target].
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    day: NDArray[np.int64]
    slot: NDArray[np.int64]
    train: NDArray[np.bool_]
    sums: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, series: Series, train_rows: slice, signal: Signal) -> _Days:
        normalised, observed = _targets(series, signal)
        values = np.where(observed, normalised, 0).astype(np.float32)
        local = local_times(series.timestamps, series.timezone)
        per_day = max(1, DAY_S // series.interval_s)
        weekend = series.time_of_week() >= 5 * DAY_S
        slot = local % DAY_S * per_day // DAY_S + per_day * weekend
        train = np.zeros(len(slot), np.bool_)
        train[train_rows] = True
        sums, counts = _added(values[train], observed[train], slot[train], KINDS_OF_DAY * per_day)
        return cls(values, observed, local // DAY_S, slot, train, sums, counts)

    @property
    def training(self) -> NDArray[np.int64]:
        """The days of the training span."""
        return np.unique(self.day[self.train])

    def rows(self, day: int) -> NDArray[np.int64]:
        """Return the training rows of a day."""
        return np.flatnonzero((self.day == day) & self.train)

    def without(self, rows: NDArray[np.int64], reach: int) -> NDArray[np.float32]:
        """Return the table made without some rows."""
        sums, counts = _added(self.values[rows], self.observed[rows], self.slot[rows], len(self.sums))
        return self.table(self.sums - sums, self.counts - counts, reach)

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
        any_time = np.divide(sums.sum(0), seen, out=np.zeros_like(seen), where=seen > 0)  # 0 is the mean of all sensors
        either = (by_kind[0].sum(0) + prior * any_time) / (by_kind[1].sum(0) + prior)
        means = (by_kind[0] + prior * either) / (by_kind[1] + prior)
        return np.concatenate(list(means)).astype(np.float32)


def sensor_means(series: Series, train_rows: slice, signal: Signal) -> Float[Tensor, "node feature"]:
    """Return the normalised mean training reading of every sensor; 0, the overall mean, for one without readings."""
    observed = series.observed[train_rows]
    values = np.where(observed, (series.values[train_rows] - np.array(signal.mean)) / np.array(signal.std), 0.0)
    seen = observed.sum(0)
    means = np.divide(values.sum(0), seen, out=np.zeros(seen.shape), where=seen > 0)
    return torch.from_numpy(means.astype(np.float32))


def _targets(series: Series, signal: Signal) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the normalised targets of a recording and which of them were observed, [time, node, target]."""
    columns = list(signal.target_index)
    mean, std = (np.array(each)[columns] for each in (signal.mean, signal.std))
    return (series.values[..., columns] - mean) / std, series.observed[..., columns]


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
