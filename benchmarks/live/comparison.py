"""Forecasts of the live day against what then happened, and against two forecasts that need no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.live.history import INTERVAL_S, as_array, intervals
from benchmarks.live.simulation import Reading
from runtime.clock import to_seconds
from stunet_deploy.metrics import ErrorSums
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S

UNUSUAL_KMH = 15.0
"""Traffic counts as unusual where speed differs by so much from that of the time of day."""


@dataclass(frozen=True)
class LiveDay:
    """What happened and what was forecast, speeds in km/h.

    Attributes:
        start: of the first interval, seconds since the epoch.
        names: of the detectors.
        actual: [interval, detector], NaN where unobserved.
        usual: mean of the days before at the time of day [interval, detector].
        forecast: [issue, horizon, detector], for the interval that many steps after the issue's.
        issued: row of the interval after which each forecast was made [issue].
        first: number of forecasts left out at the beginning, because the stream was still warming up.
    """

    start: int
    names: tuple[str, ...]
    actual: NDArray[np.float64]
    usual: NDArray[np.float64]
    forecast: NDArray[np.float64]
    issued: NDArray[np.int64]
    first: int

    def hours(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the hours after the first interval at which others begin."""
        return rows * INTERVAL_S / 3600


def read_live_day(
    messages: Iterable[Mapping[str, Any]], forecasts: Sequence[Mapping[str, Any]], past: Series
) -> LiveDay:
    """Put together what the detectors said and what the service made of it.

    Args:
        messages: readings as the service got them.
        forecasts: forecast lines of the service.
        past: the recording of the days before.
    """
    readings = [Reading(message["sensor"], message["timestamp"], **message["values"]) for message in messages]
    start = min(reading.seconds for reading in readings) // INTERVAL_S * INTERVAL_S
    stop = -(-max(reading.seconds for reading in readings) // INTERVAL_S) * INTERVAL_S
    speed = past.features.index("speed")
    known = np.where(past.observed[..., speed], past.values[..., speed], np.nan)
    days = known.reshape(-1, DAY_S // INTERVAL_S, len(past.sensor_ids))
    actual = intervals(as_array(readings, past.sensor_ids, start, stop))[..., 0]
    first_slot = (start - int(past.timestamps[0])) // INTERVAL_S
    slots = (first_slot + np.arange(len(actual))) % (DAY_S // INTERVAL_S)
    warm = [forecast for forecast in forecasts if not forecast["degraded"]]
    issued = np.array([(int(to_seconds(forecast["issued_at"])) - start) // INTERVAL_S for forecast in warm])
    return LiveDay(
        start,
        past.sensor_ids,
        actual,
        _mean(days)[slots],
        np.array([forecast["values"]["speed"] for forecast in warm]),
        issued,
        len(forecasts) - len(warm),
    )


def compare(day: LiveDay) -> dict[str, dict[str, list[float]]]:
    """Return the mean absolute error in km/h of each way to forecast, [horizon], by what is counted.

    Labels that were not observed never count; neither does an issue whose label lies after the end of the day.
    """
    horizon = day.forecast.shape[1]
    kept = day.issued + horizon < len(day.actual)
    issued = day.issued[kept]
    target = issued[:, None] + 1 + np.arange(horizon)
    label, usual = day.actual[target], day.usual[target]
    ways = {
        "ST-UNet, streamed": day.forecast[kept],
        "persistence": np.broadcast_to(_last_observed(day)[issued][:, None], label.shape),
        "time of day": usual,
    }
    hours = day.hours(target)[..., None]
    counted = {
        "all day": np.isfinite(label),
        "6:00 to 20:00": np.isfinite(label) & (hours >= 6) & (hours < 20),
        "unusual traffic": np.isfinite(label) & (np.abs(label - usual) >= UNUSUAL_KMH),
    }
    return {
        what: {way: _mae(forecast, label, mask) for way, forecast in ways.items()} for what, mask in counted.items()
    } | {"labels": {what: mask.sum(axis=(0, 2)).tolist() for what, mask in counted.items()}}


def _mae(forecast: NDArray[np.float64], label: NDArray[np.float64], mask: NDArray[np.bool_]) -> list[float]:
    sums = ErrorSums()
    sums.add(forecast[..., None], np.nan_to_num(label)[..., None], mask[..., None])
    found: list[float] = sums.scores().mae[:, 0].tolist()
    return found


def _last_observed(day: LiveDay) -> NDArray[np.float64]:
    """Return the newest observed speed [interval, detector]; before the first, the usual one."""
    rows = np.where(np.isfinite(day.actual), np.arange(len(day.actual))[:, None], -1)
    newest = np.maximum.accumulate(rows, axis=0)
    return np.where(newest >= 0, np.take_along_axis(day.actual, np.maximum(newest, 0), axis=0), day.usual)


def _mean(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over days [slot, detector], the detector's mean where a slot was never observed."""
    count = np.isfinite(days).sum(axis=0)
    total = np.nansum(days, axis=0)
    whole = np.nansum(days, axis=(0, 1)) / np.maximum(np.isfinite(days).sum(axis=(0, 1)), 1)
    mean: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), whole)
    return mean
