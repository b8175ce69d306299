"""Baselines: forecasts without a model, scored on the same issue times and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S, local_times
from training.protocols import Split

_CHUNK = 256


@dataclass(frozen=True)
class Baseline:
    """A predictor without state: the window and the stream regime give the same forecasts."""

    name: str
    predict: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    """Issue rows ``[issue]`` to forecasts ``[issue, horizon, node, target]`` in physical units."""

    def window(self, series: Series, issue: NDArray[np.int64], length: int) -> Iterator[NDArray[np.float32]]:
        """Forecasts at the issue rows, some hundred at a time."""
        for first in range(0, len(issue), _CHUNK):
            yield self.predict(issue[first : first + _CHUNK])

    def stream(self, series: Series, start: int, issue: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """The same forecasts as :meth:`window`."""
        return self.window(series, issue, 1)


def baselines(series: Series, split: Split, targets: Sequence[str] | None = None) -> tuple[Baseline, ...]:
    """Persistence, historical average and time-of-day average, fitted on the training span.

    Args:
        series: the recording that is evaluated.
        split: its training rows are fitted on, its horizon is forecast.
        targets: features to forecast; None means all.

    Raises:
        DataError: a target is no feature of the series, or was never observed in the training span.
    """
    return (
        persistence(series, split, targets),
        historical_average(series, split, targets),
        time_of_day_average(series, split, targets),
    )


def persistence(series: Series, split: Split, targets: Sequence[str] | None = None) -> Baseline:
    """Every horizon is the last value observed at that sensor up to the issue time, however old.

    Before a sensor's first reading it is the sensor's mean over the training span.
    """
    columns = series.site.feature_indices(targets)
    observed = series.observed[..., columns]
    row = np.arange(len(observed)).reshape(-1, 1, 1)
    last = np.maximum.accumulate(np.where(observed, row, -1), axis=0)
    held = np.take_along_axis(series.values[..., columns], np.maximum(last, 0), axis=0)
    held = np.where(last < 0, _sensor_mean(series, split, columns), held).astype(np.float32)

    def predict(issue: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.repeat(held[issue][:, None], split.horizon, axis=1)

    return Baseline("persistence", predict)


def historical_average(series: Series, split: Split, targets: Sequence[str] | None = None) -> Baseline:
    """Every horizon is the sensor's mean over the observed readings of the training span.

    (DCRNN's and STGCN's "HA" average the same time of earlier days or weeks: that is nearer to
    :func:`time_of_day_average` here.) A sensor never observed there gets the mean of all sensors.
    """
    mean = _sensor_mean(series, split, series.site.feature_indices(targets)).astype(np.float32)

    def predict(issue: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.broadcast_to(mean, (len(issue), split.horizon, *mean.shape)).copy()

    return Baseline("historical_average", predict)


def time_of_day_average(series: Series, split: Split, targets: Sequence[str] | None = None) -> Baseline:
    """Every horizon is the sensor's training mean in the forecast interval's slot of the local day.

    A slot never observed at a sensor gets the sensor's mean, a sensor never observed the mean of all.
    """
    columns = series.site.feature_indices(targets)
    train = split.train_rows
    observed = series.observed[train][..., columns]
    values = np.where(observed, series.values[train][..., columns], 0).astype(np.float64)
    slots = -(-DAY_S // series.interval_s)

    def slot_of(timestamps: NDArray[np.int64]) -> NDArray[np.int64]:
        return local_times(timestamps, series.timezone) % DAY_S // series.interval_s

    sums = np.zeros((slots, *values.shape[1:]))
    counts = np.zeros(sums.shape)
    slot = slot_of(series.timestamps[train])
    np.add.at(sums, slot, values)
    np.add.at(counts, slot, observed)
    mean = np.broadcast_to(_sensor_mean(series, split, columns), sums.shape).copy()
    np.divide(sums, counts, out=mean, where=counts > 0)
    profile = mean.astype(np.float32)
    ahead = series.interval_s * np.arange(1, split.horizon + 1)

    def predict(issue: NDArray[np.int64]) -> NDArray[np.float32]:
        return profile[slot_of(series.timestamps[issue][:, None] + ahead)]

    return Baseline("time_of_day_average", predict)


def _sensor_mean(series: Series, split: Split, columns: list[int]) -> NDArray[np.float64]:
    """Mean of the observed training readings ``[node, target]``; of all sensors where one has none."""
    observed = series.observed[split.train_rows][..., columns]
    values = np.where(observed, series.values[split.train_rows][..., columns], 0).astype(np.float64)
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
