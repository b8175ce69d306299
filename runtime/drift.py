"""The drift watch: how far forecasts were off once the truth arrived, and whether that has become worse.

Every forecast is kept until the last interval that it describes has come. What a sensor then measures is compared with
what was forecast for it, and with persistence: the last reading of that sensor when the forecast was issued.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.drift_alarm import DriftAlarm
from runtime.forecast import Forecast
from runtime.readings import Interval
from stunet_deploy.errors import ConfigError
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.wall_clock import DAY_S

#: Share of a target's standard deviation that is added to errors, so that their ratio exists where both are 0.
_FLOOR = 0.01


@dataclass(frozen=True)
class DriftOptions:
    """How forecasts are watched.

    Raises:
        ConfigError: if a number is out of range.
    """

    enabled: bool = True
    days: float = 1.0
    """Time constant of the running errors: what is older by it counts for 1/e."""
    delta: float = 0.08
    """Rise of the logarithm of the error ratio that is tolerated; 0.08 is an error 8 % greater."""
    threshold: float = 1.0
    """Sum of the rise beyond ``delta`` over hours at which the alarm is raised: 0.1 for ten hours."""

    def __post_init__(self) -> None:
        if not (0 < self.days < math.inf and 0 <= self.delta < math.inf and 0 < self.threshold < math.inf):
            raise ConfigError(
                f"days = {self.days:g}, delta = {self.delta:g}, threshold = {self.threshold:g}",
                "days and threshold above 0, delta of at least 0",
                "correct the option",
            )


@dataclass(frozen=True, eq=False)
class DriftReport:
    """How far forecasts were off lately, in units of the targets; NaN where nothing was scored.

    Attributes:
        mae: [horizon, target] running mean absolute error of the forecasts.
        persistence_mae: [horizon, target] the same of persistence, over the same readings.
        sensor_mae: [node, target] running mean absolute error over all horizons.
        sensor_persistence_mae: [node, target] the same of persistence.
        scored: pairs of a forecast number and the reading that it was for, since the watch began.
        intervals: in which there was such a pair.
        alarm: whether the model has become worse.
        alarm_since_s: stamp of the interval that raised the alarm, seconds since the epoch; None without alarm.
        statistic: of the Page-Hinkley test, in hours: from 0 to the threshold.
        threshold: where the alarm is raised; it clears below half of it.
    """

    mae: NDArray[np.float64]
    persistence_mae: NDArray[np.float64]
    sensor_mae: NDArray[np.float64]
    sensor_persistence_mae: NDArray[np.float64]
    scored: int
    intervals: int
    alarm: bool
    alarm_since_s: int | None
    statistic: float
    threshold: float


class _Issued(NamedTuple):
    """A forecast that waits for its truth.

    Attributes:
        stamp: of the interval that it was issued after.
        sound: whether it may move the alarm.
        values: [horizon, node, target] what was forecast.
        persistence: [node, target] the last readings at that time, NaN before a sensor's first.
    """

    stamp: int
    sound: bool
    values: NDArray[np.float32]
    persistence: NDArray[np.float32]


class _RunningErrors:
    """Exponentially weighted means of absolute errors, of the model and of persistence over the same readings.

    Attributes:
        mean: [2, ...] the model's first.
        weight: [...] sum of the weights.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean = np.zeros((2, *shape))
        self.weight = np.zeros(shape)

    def add(self, total: NDArray[np.floating[Any]], count: NDArray[np.int64], keep: float) -> None:
        """Discount the earlier errors and add the sum [2, ...] of the errors of ``count`` readings [...]."""
        self.weight *= keep
        self.weight += count
        share = np.divide(1.0, self.weight, out=np.zeros_like(self.weight), where=count > 0)
        self.mean += (total - count * self.mean) * share

    def read(self, which: int) -> NDArray[np.float64]:
        """Return one mean, NaN where nothing has been added."""
        return np.where(self.weight > 0, self.mean[which], np.nan)


class DriftWatch:
    """Compares the forecasts of one stream with what came, and with persistence.

    Give it to a stream as ``stream.watch``. Its memory is constant: the forecasts of the last ``horizon`` intervals.

    A reading that is unobserved, outside the limits or of a stuck detector scores nothing, nor does a forecast of an
    interval that never came. Degraded forecasts count in the running errors, and those that are not sound (issued while
    the model warms up, after a gap or from too few readings) not for the alarm; see
    :class:`runtime.drift_alarm.DriftAlarm`.

    Methods may be called from any thread.

    Args:
        manifest: of the bundle that forecasts. Targets that are no features have no truth and are never scored.
        options: time constant and alarm.
    """

    def __init__(self, manifest: Manifest, options: DriftOptions | None = None) -> None:
        self._options = options or DriftOptions()
        self._interval_s = manifest.interval_s
        self._horizon = manifest.horizon
        self._shape = (manifest.horizon, len(manifest.sensor_ids), len(manifest.targets))
        self._targets = [n for n, target in enumerate(manifest.targets) if target in manifest.features]
        self._columns = [manifest.features.index(manifest.targets[n]) for n in self._targets]
        floor = [_FLOOR * manifest.std[column] for column in self._columns]
        self._floor = np.maximum(np.array(floor, np.float64), np.finfo(np.float32).tiny)
        self._keep = math.exp(-manifest.interval_s / (self._options.days * DAY_S))
        self._lock = threading.Lock()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything."""
        horizon, nodes, targets = self._horizon, self._shape[1], len(self._targets)
        with self._lock:
            self._issued: deque[_Issued] = deque(maxlen=horizon)
            self._last = np.full((nodes, targets), np.nan, np.float32)
            self._horizon_errors = _RunningErrors((horizon, targets))
            self._sensor_errors = _RunningErrors((nodes, targets))
            self._errors = np.empty((2, horizon, nodes, targets), np.float32)
            options = self._options
            self._alarm = DriftAlarm(options.delta, options.threshold, self._interval_s, self._floor, horizon)
            self._scored = self._intervals = 0

    @property
    def alarm_since_s(self) -> int | None:
        """Stamp of the interval that raised the alarm, seconds since the epoch; None without alarm."""
        return self._alarm.since_s

    def see(self, interval: Interval, forecast: Forecast, *, sound: bool) -> None:
        """Score the forecasts for an interval that has come, and keep the one issued after it.

        Args:
            interval: the readings as the model saw them.
            forecast: issued after it.
            sound: whether the model had all that it needs: it is warm, no interval is missing, enough was observed.
        """
        truth = interval.values[:, self._columns]
        seen = interval.observed[:, self._columns]
        stamp = forecast.issued_s
        with self._lock:
            if self._issued and stamp <= self._issued[-1].stamp:
                self._issued.clear()  # the clock went back: those times come once more
            self._score(truth, seen, stamp, sound)
            self._last = np.where(seen, truth, self._last)
            values = forecast.values[..., self._targets]
            self._issued.append(_Issued(stamp, sound, values, self._last))

    def report(self) -> DriftReport:
        """Return how far forecasts were off, and whether that has become worse."""
        with self._lock:
            return DriftReport(
                mae=self._of_targets(self._horizon_errors.read(0)),
                persistence_mae=self._of_targets(self._horizon_errors.read(1)),
                sensor_mae=self._of_targets(self._sensor_errors.read(0)),
                sensor_persistence_mae=self._of_targets(self._sensor_errors.read(1)),
                scored=self._scored,
                intervals=self._intervals,
                alarm=self._alarm.since_s is not None,
                alarm_since_s=self._alarm.since_s,
                statistic=self._alarm.statistic,
                threshold=self._options.threshold,
            )

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Return a copy of all that it remembers, by name, for a snapshot."""
        with self._lock:
            newest = self._issued[-1].stamp if self._issued else 0
            # Of every forecast the steps whose truth is still to come: half of all in the long run.
            waiting = [issued.values[(newest - issued.stamp) // self._interval_s :] for issued in self._issued]
            cells, alarm = self._last.shape, self._alarm.state()
            return {
                "stamp": np.array([issued.stamp for issued in self._issued], np.int64),
                "sound": np.array([issued.sound for issued in self._issued], np.bool_),
                "waiting": np.concatenate([*waiting, np.empty((0, *cells), np.float32)]),
                "persistence": np.array([issued.persistence for issued in self._issued], np.float32).reshape(
                    len(waiting), *cells
                ),
                "last": self._last.copy(),
                "horizon_mean": self._horizon_errors.mean.copy(),
                "horizon_weight": self._horizon_errors.weight.copy(),
                "sensor_mean": self._sensor_errors.mean.copy(),
                "sensor_weight": self._sensor_errors.weight.copy(),
                # In this order since the first snapshots, so that equal streams have equal bytes.
                "reference": alarm["reference"],
                "reference_count": alarm["reference_count"],
                "scored": np.array(self._scored),
                "intervals": np.array(self._intervals),
                **alarm,
            }

    def restore(self, state: Mapping[str, NDArray[Any]] | None) -> None:
        """Go on where another watch of this bundle was; begin anew if there is no state.

        Raises:
            KeyError, ValueError: if the state is of another bundle or layout; the watch must begin anew then.
        """
        self.begin_anew()
        if not state:
            return
        with self._lock:
            np.copyto(self._last, state["last"])
            np.copyto(self._horizon_errors.mean, state["horizon_mean"])
            np.copyto(self._horizon_errors.weight, state["horizon_weight"])
            np.copyto(self._sensor_errors.mean, state["sensor_mean"])
            np.copyto(self._sensor_errors.weight, state["sensor_weight"])
            self._alarm.restore(state)
            self._scored = int(state["scored"])
            self._intervals = int(state.get("intervals", 0))  # older snapshots have none
            stamps, begin = state["stamp"].tolist(), 0
            for stamp, sound, persistence in zip(stamps, state["sound"], state["persistence"], strict=True):
                past = (stamps[-1] - stamp) // self._interval_s
                values = np.zeros((self._horizon, *self._last.shape), np.float32)
                length = len(values[past:])
                values[past:] = state["waiting"][begin : begin + length]
                begin += length
                self._issued.append(_Issued(stamp, bool(sound), values, persistence))

    def _of_targets(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return errors [..., target] with NaN for targets that have no truth."""
        whole = np.full((*errors.shape[:-1], self._shape[-1]), np.nan)
        whole[..., self._targets] = errors
        return whole

    def _score(self, truth: NDArray[np.float32], seen: NDArray[np.bool_], stamp: int, sound: bool) -> None:
        """Take the errors of all forecasts for this interval into account."""
        errors = self._errors
        errors.fill(np.nan)
        counts_for_alarm = np.zeros(self._horizon, np.bool_)
        for issued in self._issued:
            step = (stamp - issued.stamp) // self._interval_s - 1
            if step < self._horizon:
                errors[0, step] = issued.values[step]
                errors[1, step] = issued.persistence
                counts_for_alarm[step] = issued.sound
        errors -= truth
        np.abs(errors, out=errors)
        scored = seen & ~np.isnan(errors[1])
        np.copyto(errors, 0, where=~scored)
        by_horizon, counts = errors.sum(axis=2, dtype=np.float64), scored.sum(axis=1)
        self._horizon_errors.add(by_horizon, counts, self._keep)
        self._sensor_errors.add(errors.sum(axis=1, dtype=np.float64), scored.sum(axis=0), self._keep)
        self._scored += int(counts.sum())
        self._intervals += bool(counts.any())
        if sound:
            self._alarm.see(by_horizon, counts, counts_for_alarm[:, None] & (counts > 0), stamp)
