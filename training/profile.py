"""Mean and mean days of every sensor over the training span; in training a row's own day is left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.config import Signal
from stunet_deploy.models.profile import KINDS_OF_DAY, DailyProfile
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S, local_times

#: A slot's mean takes this many slots on either side with it, since few days are noisy.
SMOOTHING_SLOTS = 3


@dataclass(frozen=True)
class ProfileTables:
    """Profiles of a training span, normalised.

    Attributes:
        whole: over all training days, [slot, node, target].
        without_day: the same with one day left out, [day, slot, node, target].
        day_of_row: [time] which day a row belongs to.
    """

    whole: Float[Tensor, "slot node target"]
    without_day: Float[Tensor, "day slot node target"]
    day_of_row: Int64[Tensor, " time"]

    @classmethod
    def of(cls, series: Series, train_rows: slice, signal: Signal) -> ProfileTables:
        """Average the observed training readings by kind of day and slot."""
        columns = list(signal.target_index)
        mean = np.array([signal.mean[column] for column in columns])
        std = np.array([signal.std[column] for column in columns])
        local = local_times(series.timestamps, series.timezone)
        days, day_of_row = np.unique(local // DAY_S, return_inverse=True)
        slots = DAY_S // series.interval_s
        weekend = series.time_of_week() >= 5 * DAY_S
        slot = (local % DAY_S // series.interval_s + slots * weekend)[train_rows]
        observed = series.observed[train_rows][..., columns]
        values = np.where(observed, (series.values[train_rows][..., columns] - mean) / std, 0.0)
        sums = np.zeros((len(days), KINDS_OF_DAY * slots, *values.shape[1:]))
        counts = np.zeros(sums.shape)
        np.add.at(sums, (day_of_row[train_rows], slot), values)
        np.add.at(counts, (day_of_row[train_rows], slot), observed)
        all_sums, all_counts = sums.sum(0), counts.sum(0)
        without = np.stack([_table(all_sums - one, all_counts - seen) for one, seen in zip(sums, counts, strict=True)])
        return cls(
            torch.from_numpy(_table(all_sums, all_counts)),
            torch.from_numpy(without),
            torch.from_numpy(day_of_row.astype(np.int64)),
        )

    def to(self, device: torch.device) -> ProfileTables:
        """Copy the tables to a device."""
        return ProfileTables(self.whole.to(device), self.without_day.to(device), self.day_of_row.to(device))

    def at(
        self, rows: Int64[Tensor, "batch time"], time_of_week: Float[Tensor, "batch time 1"], profile: DailyProfile
    ) -> Float[Tensor, "batch time ahead node target"]:
        """Return the values of ``profile`` at these rows, each made without the day of its row."""
        return self.without_day[self.day_of_row[rows][..., None], profile.index(time_of_week)]


def sensor_means(series: Series, train_rows: slice, signal: Signal) -> Float[Tensor, "node feature"]:
    """Return the normalised mean training reading of every sensor; 0, the overall mean, for one without readings."""
    observed = series.observed[train_rows]
    values = np.where(observed, (series.values[train_rows] - np.array(signal.mean)) / np.array(signal.std), 0.0)
    seen = observed.sum(0)
    means = np.divide(values.sum(0), seen, out=np.zeros(seen.shape), where=seen > 0)
    return torch.from_numpy(means.astype(np.float32))


def _table(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return smoothed means [slot, node, target]; a slot never seen takes the other kind of day, then 0, the mean."""
    shifts = range(-SMOOTHING_SLOTS, SMOOTHING_SLOTS + 1)
    by_kind = (np.stack(np.split(array, KINDS_OF_DAY)) for array in (sums, counts))
    total, seen = (np.sum([np.roll(array, shift, axis=1) for shift in shifts], axis=0) for array in by_kind)
    either_total, either_seen = total.sum(0), seen.sum(0)
    either = np.divide(either_total, either_seen, out=np.zeros_like(either_total), where=either_seen > 0)
    means = np.broadcast_to(either, total.shape).copy()
    np.divide(total, seen, out=means, where=seen > 0)
    return np.concatenate(list(means)).astype(np.float32)
