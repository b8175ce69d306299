"""Statistics of every sensor over the training span, in the normalised units of a model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stunet_deploy.config import Signal
from stunet_deploy.models.sensors import QUANTILES, SensorStatistics
from stunet_deploy.series.series import Series
from training.usual_days import UsualDays, sensor_means

#: A sensor that never changes has so much of the mean spread.
LEAST_SPREAD = 0.05


def sensor_statistics(
    series: Series, train_rows: slice, signal: Signal, days: UsualDays | None = None
) -> SensorStatistics:
    """Return the statistics of every sensor; a sensor without a reading has those of all sensors.

    Args:
        series: the recording.
        train_rows: its training span.
        signal: names the targets and normalises.
        days: of the training span, for a model with a profile; without them a departure is one from the sensor's mean.

    Raises:
        DataError: a feature without a single reading in the training span.
    """
    means = sensor_means(series, train_rows)
    mean, std = np.array(signal.mean), np.array(signal.std)
    columns = list(signal.target_index)
    observed = series.observed[train_rows][..., columns]
    values = np.where(observed, series.values[train_rows][..., columns], np.nan).astype(np.float32)
    departure = values - means[:, columns] if days is None else days.departure[train_rows]
    quantiles = (_quantiles(values) - mean[columns, None]) / std[columns, None]
    spread = np.abs(np.where(observed, departure, 0)).sum(0) / np.maximum(observed.sum(0), 1)
    typical = np.maximum(spread.mean(0, where=observed.any(0)), 1e-6 * std[columns])
    spread = np.where(observed.any(0), np.maximum(spread, LEAST_SPREAD * typical), typical)
    static = np.concatenate([quantiles, np.log(spread / std[columns])[..., None]], axis=-1)
    # Between one unit for all and one for each: the square root.
    arrays = ((means - mean) / std, static.reshape(len(static), -1), np.sqrt(spread / typical))
    return SensorStatistics(*(torch.from_numpy(array.astype(np.float32)) for array in arrays))


def _quantiles(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the quantiles of [time, node, target], NaN where unobserved, as [node, target, quantile]."""
    found = np.empty((*values.shape[1:], len(QUANTILES)))
    for target in range(values.shape[2]):
        of_all = np.nanquantile(values[..., target], QUANTILES)
        for node in range(values.shape[1]):
            readings = values[:, node, target]
            readings = readings[~np.isnan(readings)]
            found[node, target] = np.quantile(readings, QUANTILES) if len(readings) else of_all
    return found
