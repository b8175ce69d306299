"""What every comparison model is fitted on, and the predictor that it becomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.sensor_graph import SensorGraph
from stunet_deploy.metrics import scored_horizons
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S
from training.baselines import persistence
from training.protocols import Split, normalisation
from training.usual_days import UsualDays

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Choice = TypeVar("Choice")

#: A choice is made on so many issue rows of the validation span at most, evenly spread.
VALIDATION_ISSUES = 128
_CHUNK = 64


@dataclass(frozen=True, eq=False)
class Readings:
    """A recording as the models read it: one target, normalised, a missing reading filled with the last.

    Attributes:
        values: z-scores by the mean and deviation of the training span, [time, node].
        day: time of day in [0, 1), [time].
        weekday: 0 for Monday to 6, [time].
        find_usual: returns :attr:`usual`.
    """

    values: Floats
    day: Floats
    weekday: Rows
    find_usual: Callable[[], Floats]

    @cached_property
    def usual(self) -> Floats:
        """The usual reading of every row as z-scores, [time, node]; see :class:`training.usual_days.UsualDays`."""
        return self.find_usual()

    def windows(self, issue: Rows, length: int) -> Floats:
        """Return the last ``length`` values up to every issue row, [issue, length, node]; the first row is repeated."""
        return np.asarray(self.values[np.maximum(issue[:, None] + np.arange(1 - length, 1), 0)])

    def channels(self, issue: Rows, length: int) -> Floats:
        """Return windows with their time, [issue, length, node, 3]: value, time of day, day of the week."""
        values = self.windows(issue, length)
        rows = np.maximum(issue[:, None] + np.arange(1 - length, 1), 0)
        times = (np.broadcast_to(part[rows][..., None], values.shape) for part in (self.day, self.weekday))
        return np.stack([values, *times], axis=-1).astype(np.float32)


#: Forecasts as z-scores [issue, horizon, node] from readings at issue rows; NaN at a horizon that is not forecast.
Forecast = Callable[[Readings, Rows], Floats]


@dataclass(frozen=True, eq=False)
class Task:
    """A recording and its graph, and the means there are to fit a model.

    Attributes:
        series, split: the recording and its split.
        target: the feature that is forecast.
        graph: of the sensors.
        seed: of everything random.
        minutes: for the fit, where a model takes as long as it is given; its last validation comes on top.
        epochs: at most, of a network.
        clock: measures the time, in seconds.

    Raises:
        DataError: the target is no feature of the series.
        ConfigError: no time, or no epochs.
    """

    series: Series
    split: Split
    target: str
    graph: SensorGraph
    seed: int = 0
    minutes: float = 10.0
    epochs: int = 1000
    clock: Callable[[], float] = field(default=time.process_time)

    def __post_init__(self) -> None:
        self.series.site.feature_indices((self.target,))
        if self.minutes <= 0 or self.epochs < 1:
            raise ConfigError(
                f"{self.minutes:g} minutes and {self.epochs} epochs", "more than none of both", "give --minutes more"
            )

    @property
    def column(self) -> int:
        """Position of the target among the features."""
        return self.series.features.index(self.target)

    @property
    def horizons(self) -> tuple[int, ...]:
        """The horizons that are scored, in intervals."""
        return scored_horizons(self.split.horizon)

    @property
    def sensors(self) -> int:
        """Number of sensors."""
        return len(self.series.sensor_ids)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the target over the training windows."""
        mean, std = normalisation(self.series, self.split)
        return float(mean[self.column]), float(std[self.column])

    @cached_property
    def readings(self) -> Readings:
        """The recording that the models are fitted on."""
        return self.read(self.series)

    def read(self, series: Series) -> Readings:
        """Return a recording of the same sensors as the models read it."""
        held = persistence(series, self.split, (self.target,)).predict(np.arange(len(series.timestamps)))[:, 0, :, 0]
        mean, std = self.scale
        seconds = series.time_of_week()
        weekday = (seconds // DAY_S).astype(np.int64)

        def scaled(values: Floats) -> Floats:
            return np.asarray((values - np.float32(mean)) / np.float32(std))

        def usual() -> Floats:
            return scaled(UsualDays.of(series, self.split.train_rows, (self.target,)).of_row[..., 0])

        return Readings(scaled(held), seconds % np.float32(DAY_S) / np.float32(DAY_S), weekday, usual)

    def labels(self, issue: Rows) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the labels of issue rows as z-scores, and which of them were observed, [issue, horizon, node] each."""
        rows = issue[:, None] + np.arange(1, self.split.horizon + 1)
        mean, std = self.scale
        values, observed = self.series.values[rows, :, self.column], self.series.observed[rows, :, self.column]
        return np.where(observed, (values - np.float32(mean)) / np.float32(std), np.float32(0)), observed

    @cached_property
    def validation(self) -> Rows:
        """Issue rows on which choices are made."""
        issue = self.split.validation
        return issue[:: -(-len(issue) // VALIDATION_ISSUES)]

    def error(self, forecast: Forecast) -> float:
        """Return the mean absolute error at the scored horizons of the validation rows, in the target's unit."""
        at = np.array(self.horizons) - 1
        total, count = 0.0, 0
        for first in range(0, len(self.validation), _CHUNK):
            issue = self.validation[first : first + _CHUNK]
            labels, observed = (part[:, at] for part in self.labels(issue))
            missed = np.abs(forecast(self.readings, issue)[:, at] - labels)
            total, count = total + float(missed[observed].sum(dtype=np.float64)), count + int(observed.sum())
        return self.scale[1] * total / max(count, 1)


@dataclass(eq=False)
class Peer:
    """A fitted model: a :class:`training.evaluation.Predictor` without a state.

    Attributes:
        name: in the results.
        task: that it was fitted on.
        forecast: what it learnt.
        chosen: on the validation span.
    """

    name: str
    task: Task
    forecast: Forecast
    chosen: Mapping[str, Any] = field(default_factory=dict)
    _read: tuple[Series, Readings] | None = field(default=None, init=False, repr=False)

    def window(self, series: Series, issue: Rows, length: int) -> Iterator[Floats]:
        """Forecast at the issue rows in physical units."""
        if self._read is None or self._read[0] is not series:
            self._read = series, self.task.read(series)
        mean, std = self.task.scale
        for first in range(0, len(issue), _CHUNK):
            yield (std * self.forecast(self._read[1], issue[first : first + _CHUNK]) + mean).astype(np.float32)[
                ..., None
            ]

    def stream(self, series: Series, start: int, issue: Rows) -> Iterator[Floats]:
        """Yield the same forecasts as :meth:`window`."""
        return self.window(series, issue, self.task.split.window)


def best(task: Task, choices: Iterable[Choice], fit: Callable[[Choice], Forecast]) -> tuple[Choice, Forecast]:
    """Return the choice whose forecast has the smallest validation error, and that forecast."""
    return min(((one, fit(one)) for one in choices), key=lambda pair: task.error(pair[1]))
