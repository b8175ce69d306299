"""Gradient-boosted trees as a baseline: the strongest forecast that needs no network, one model for all sensors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.metrics import scored_horizons
from stunet_deploy.series.series import Series
from training.cells import Cells, Floats, Rows, SensorForm
from training.protocols import Split

if TYPE_CHECKING:
    from lightgbm import Booster

#: Settings that are tried one after the other on the validation span, each from the best so far; the first begin.
GRID: Mapping[str, Sequence[Any]] = {
    "sensor": ("quantiles", "number"),
    "min_data_in_leaf": (200, 50, 1000),
    "num_leaves": (31, 15, 63),
    "learning_rate": (0.06, 0.03, 0.12),
}
#: Settings that no search changes.
FIXED: Mapping[str, Any] = {
    "objective": "regression_l1",
    "metric": "l1",
    "feature_fraction": 0.6,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "max_cat_threshold": 64,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
#: Share of the minutes and of the training rows that the search for settings gets.
SEARCH_TIME, SEARCH_ROWS = 0.35, 0.25
ROUNDS, PATIENCE = 2000, 40
VALIDATION_ROWS = 60_000
_ISSUES_AT_ONCE = 32


@dataclass(frozen=True)
class TreeSettings:
    """How trees are fitted.

    Attributes:
        rows: training rows of each model at most, chosen at random among all sensors and times.
        rounds: trees of a model at most.
        minutes: time of the fit at most, the features left out; the result then depends on the machine. None for none.
        grid: see ``GRID``; a setting with one value is not searched.
        seed: of the choice of rows and of the trees.
        clock: measures the time, in seconds.
    """

    rows: int = 300_000
    rounds: int = ROUNDS
    minutes: float | None = None
    grid: Mapping[str, Sequence[Any]] = field(default_factory=lambda: GRID)
    seed: int = 0
    clock: Callable[[], float] = time.process_time

    def __post_init__(self) -> None:
        if min(self.rows, self.rounds) < 1 or (self.minutes is not None and self.minutes <= 0) or self.seed < 0:
            raise ConfigError(
                f"rows = {self.rows}, rounds = {self.rounds}, minutes = {self.minutes}, seed = {self.seed}",
                "at least one row and one round, more than no minutes, a seed of 0 or more",
                "choose larger numbers",
            )


@dataclass
class BoostedTrees:
    """Trees for each scored horizon, which correct the damped departure; made by :func:`boosted_trees`.

    Attributes:
        split, targets, adjacency: that they were fitted with.
        models: of every target and horizon.
        chosen: the settings that did best on the validation span.
        validation_mae: of every target, the mean over the scored horizons.
    """

    split: Split
    targets: tuple[str, ...]
    adjacency: Adjacency | None
    _: KW_ONLY
    models: Mapping[tuple[str, int], Booster]
    chosen: Mapping[str, Mapping[str, Any]]
    validation_mae: Mapping[str, float]
    name: str = "boosted_trees"
    _prepared: tuple[Series, list[Cells]] | None = field(default=None, init=False, repr=False)

    def window(self, series: Series, issue: Rows, length: int) -> Iterator[Floats]:
        """Forecast at the issue rows; horizons that are not scored are NaN."""
        for first in range(0, len(issue), _ISSUES_AT_ONCE):
            yield self.predict(series, issue[first : first + _ISSUES_AT_ONCE])

    def stream(self, series: Series, start: int, issue: Rows) -> Iterator[Floats]:
        """Yield the same forecasts as :meth:`window`: trees have no state."""
        return self.window(series, issue, self.split.window)

    def predict(self, series: Series, issue: Rows) -> Floats:
        """Return forecasts [issue, horizon, node, target] in physical units, NaN at horizons that are not scored."""
        if self._prepared is None or self._prepared[0] is not series:
            self._prepared = series, Cells.of(series, self.split, self.targets, self.adjacency)
        sensors = len(series.sensor_ids)
        rows, nodes = np.repeat(issue, sensors), np.tile(np.arange(sensors), len(issue))
        shape = (len(issue), self.split.horizon, sensors, len(self.targets))
        forecast = np.full(shape, np.nan, np.float32)
        for place, (target, cells) in enumerate(zip(self.targets, self._prepared[1], strict=True)):
            sensor: SensorForm = self.chosen[target]["sensor"]
            for ahead in scored_horizons(self.split.horizon):
                table = cells.features(rows, nodes, ahead, sensor)
                change = np.asarray(self.models[target, ahead].predict(table, num_threads=1))
                forecast[:, ahead - 1, :, place] = (cells.start(rows, nodes, ahead) + change).reshape(shape[0], -1)
        return forecast


def boosted_trees(
    series: Series,
    split: Split,
    targets: Sequence[str] | None = None,
    adjacency: Adjacency | None = None,
    settings: TreeSettings | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> BoostedTrees:
    """Fit trees on the training span; settings and number of trees are chosen on the validation span.

    One model for each target and scored horizon, with the L1 loss, over all sensors (a "global" model). It forecasts
    the difference between the reading and the damped departure.

    Source: Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree" (2017).

    Args:
        series, split: the recording and its split; no row of the test span is looked at.
        targets: features to forecast; None means all.
        adjacency: of the sensors; None leaves the features of neighbours out.
        settings: how they are fitted.
        report: called with a line for every choice.

    Raises:
        ConfigError: LightGBM, or the OpenMP library that it needs, is not installed.
        DataError: no label in the training or the validation span, or a graph of other sensors.
    """
    lightgbm, settings = _lightgbm(), settings or TreeSettings()
    if adjacency is not None and len(adjacency) != len(series.sensor_ids):
        raise DataError(
            f"a graph of {len(adjacency)} sensors for a recording of {len(series.sensor_ids)}",
            "the same sensors",
            "give the graph of this network with --graph",
        )
    # The features of training and validation rows do not change with later readings, but nothing is left to chance.
    known = series.rows(slice(0, int(split.validation[-1]) + split.horizon + 1))
    names = tuple(targets or series.features)
    models: dict[tuple[str, int], Booster] = {}
    chosen, errors = {}, {}
    for target, cells in zip(names, Cells.of(known, split, names, adjacency), strict=True):
        seconds = None if settings.minutes is None else 60 * settings.minutes / len(names)
        fit = _Fit(lightgbm, cells, split, settings, seconds)
        chosen[target] = fit.search(report)
        horizons = scored_horizons(split.horizon)
        found = [
            fit.model(ahead, chosen[target], settings.rows, fit.left / (len(horizons) - done))
            for done, ahead in enumerate(horizons)
        ]
        models |= {(target, ahead): model for ahead, (model, _) in zip(horizons, found, strict=True)}
        errors[target] = float(np.mean([error for _, error in found]))
        report(f"{target}: {chosen[target]}, validation MAE {errors[target]:.4g}")
    return BoostedTrees(split, names, adjacency, models=models, chosen=chosen, validation_mae=errors)


class _Fit:
    """The fit of one target.

    Args:
        lightgbm: the library.
        cells: of the target.
        split: of the recording.
        settings: how trees are fitted.
        seconds: time for it, None for no limit.
    """

    def __init__(
        self, lightgbm: ModuleType, cells: Cells, split: Split, settings: TreeSettings, seconds: float | None
    ) -> None:
        self._lightgbm, self._cells, self._split, self._settings = lightgbm, cells, split, settings
        self._seconds = math.inf if seconds is None else seconds
        self._until = settings.clock() + self._seconds

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return max(self._until - self._settings.clock(), 0.0)

    def search(self, report: Callable[[str], None]) -> dict[str, Any]:
        """Return the settings that do best at the middle horizon, with part of the rows, one after the other."""
        grid, horizons = self._settings.grid, scored_horizons(self._split.horizon)
        chosen = {name: values[0] for name, values in grid.items()}
        tries = sum(len(values) - 1 for values in grid.values())
        if not tries:
            return chosen
        ahead = horizons[len(horizons) // 2]
        rows = max(1, round(SEARCH_ROWS * self._settings.rows))
        seconds = SEARCH_TIME * self._seconds / (tries + 1)
        best = self.model(ahead, chosen, rows, seconds)[1]
        for name, values in grid.items():
            for value in values[1:]:
                error = self.model(ahead, chosen | {name: value}, rows, seconds)[1]
                report(f"{name} = {value}: validation MAE {error:.5g}, best before {best:.5g}")
                if error < best:
                    best, chosen = error, chosen | {name: value}
        return chosen

    def model(self, ahead: int, chosen: Mapping[str, Any], rows: int, seconds: float) -> tuple[Booster, float]:
        """Return a model of a horizon with its validation error.

        Args:
            ahead: the horizon, in intervals.
            chosen: a value for each entry of ``GRID``.
            rows: of training, at most.
            seconds: for the trees, at most; at least one is grown.
        """
        parameters = {**FIXED, **chosen, "seed": self._settings.seed}
        sensor: SensorForm = parameters.pop("sensor")
        generator = np.random.default_rng(self._settings.seed)
        table, labels = self._table("training", self._split.train, ahead, sensor, rows, generator)
        categories = [0] if sensor == "number" else []
        data = self._lightgbm.Dataset(table, labels, categorical_feature=categories, params=parameters)
        held = data.create_valid(
            *self._table("validation", self._split.validation, ahead, sensor, VALIDATION_ROWS, generator)
        )
        stop = _Stop(self._lightgbm.callback.EarlyStopException, seconds, self._settings.clock)
        model = self._lightgbm.train(
            parameters, data, self._settings.rounds, valid_sets=[held], callbacks=[stop], keep_training_booster=False
        )
        # Where the last round ended the training, no exception has told the model which round was best.
        model.best_iteration = stop.best_round + 1
        return model, stop.best

    def _table(
        self, span: str, issue: Rows, ahead: int, sensor: SensorForm, rows: int, generator: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Return features [cell, feature] and what is to be forecast [cell], of cells with labels, chosen at random."""
        cells = self._cells
        place, nodes = np.nonzero(~np.isnan(cells.readings[issue + ahead]))
        if not len(place):
            raise DataError(f"no label in the {span} span", "readings to fit trees on", "give a longer recording")
        if len(place) > rows:
            kept = np.sort(generator.choice(len(place), rows, replace=False))
            place, nodes = place[kept], nodes[kept]
        chosen = issue[place]
        labels = cells.readings[chosen + ahead, nodes] - cells.start(chosen, nodes, ahead)
        return cells.features(chosen, nodes, ahead, sensor), labels


class _Stop:
    """Ends a training of LightGBM when it no longer improves on the validation rows, or its time is up.

    Attributes:
        best: the smallest validation error.
        best_round: when it was reached, from 0.
    """

    def __init__(self, stop: Callable[[int, Any], Exception], seconds: float, clock: Callable[[], float]) -> None:
        self._stop, self._clock, self._until = stop, clock, clock() + seconds
        self.best, self.best_round = math.inf, 0

    def __call__(self, state: Any) -> None:
        """Look at the errors after a round."""
        ((_, _, error, *_),) = state.evaluation_result_list
        if error < self.best:
            self.best, self.best_round = error, state.iteration
        if state.iteration - self.best_round >= PATIENCE or self._clock() >= self._until:
            raise self._stop(self.best_round, state.evaluation_result_list)


def _lightgbm() -> ModuleType:
    """Return the library.

    Raises:
        ConfigError: it is not installed, or the OpenMP library is missing.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ConfigError(
            "boosted trees without LightGBM", "the extra baselines", "run: pip install 'stunet-deploy[baselines]'"
        ) from error
    except OSError as error:  # its own library does not load
        raise ConfigError(
            f"LightGBM, which does not load ({error})",
            "the OpenMP library libgomp.so.1",
            "run: apt-get install libgomp1 (in other distributions the package libgomp)",
        ) from error
    return lightgbm
