"""Baselines: forecasts without a model, scored on the same issue times and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.series.series import Series
from training.protocols import Split
from training.usual_days import UsualDays, sensor_means

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
    """Persistence, historical and time-of-day average and damped departure, fitted on the training span.

    Args:
        series: the recording that is evaluated.
        split: its training rows are fitted on, its horizon is forecast.
        targets: features to forecast; None means all.

    Raises:
        DataError: a target is no feature of the series, or was never observed in the training span.
    """
    days = UsualDays.of(series, split.train_rows, targets)
    return (
        persistence(series, split, targets),
        historical_average(series, split, targets),
        time_of_day_average(series, split, targets, days),
        damped_departure(series, split, targets, days),
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
    held = np.where(last < 0, sensor_means(series, split.train_rows, targets), held).astype(np.float32)

    def predict(issue: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.repeat(held[issue][:, None], split.horizon, axis=1)

    return Baseline("persistence", predict)


def historical_average(series: Series, split: Split, targets: Sequence[str] | None = None) -> Baseline:
    """Every horizon is the sensor's mean over the observed readings of the training span.

    (DCRNN's and STGCN's "HA" average the same time of earlier days or weeks: that is nearer to
    :func:`time_of_day_average` here.) A sensor never observed there gets the mean of all sensors.
    """
    mean = sensor_means(series, split.train_rows, targets).astype(np.float32)

    def predict(issue: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.broadcast_to(mean, (len(issue), split.horizon, *mean.shape)).copy()

    return Baseline("historical_average", predict)


def time_of_day_average(
    series: Series, split: Split, targets: Sequence[str] | None = None, days: UsualDays | None = None
) -> Baseline:
    """Every horizon is the sensor's usual reading at that time of a working day or of a day of the weekend.

    Args:
        series, split, targets: as in :func:`baselines`.
        days: of the training span, if they are known.
    """
    usual = UsualDays.of(series, split.train_rows, targets) if days is None else days
    return Baseline("time_of_day_average", lambda issue: usual.ahead(issue, split.horizon))


def damped_departure(
    series: Series, split: Split, targets: Sequence[str] | None = None, days: UsualDays | None = None
) -> Baseline:
    """The usual reading at every horizon, and a share of how far the last reading departs from the usual one.

    There is one share a horizon, fitted by least squares; see :meth:`training.usual_days.UsualDays.damping`.

    Args:
        series, split, targets: as in :func:`baselines`.
        days: of the training span, if they are known.
    """
    usual = UsualDays.of(series, split.train_rows, targets) if days is None else days
    share, present = usual.damping(split), usual.present()
    return Baseline(
        "damped_departure", lambda issue: usual.ahead(issue, split.horizon) + share * present[issue][:, None]
    )
