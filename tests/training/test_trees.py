"""Boosted trees and the features that they read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.series.series import Series
from training.baselines import damped_departure
from training.cells import Cells
from training.evaluation import Predictor, evaluate
from training.protocols import Split, protocol_a
from training.trees import BoostedTrees, TreeSettings, boosted_trees
from training.usual_days import UsualDays

QUICK = {"sensor": ("quantiles",), "min_data_in_leaf": (20,), "num_leaves": (7,), "learning_rate": (0.2,)}
SETTINGS = TreeSettings(rows=1000, rounds=20, grid=QUICK)
DAY = 24


def later_changed(series: Series, row: int) -> Series:
    """Return the series with other readings, and others missing, after a row."""
    rng = np.random.default_rng(1)
    values, observed = series.values.copy(), series.observed.copy()
    observed[row + 1 :] = rng.random(observed[row + 1 :].shape) > 0.5
    values[row + 1 :] = np.where(observed[row + 1 :], rng.normal(500, 200, observed[row + 1 :].shape), 0)
    return replace(series, values=values, observed=observed)


@pytest.fixture
def split(series: Series) -> Split:
    return protocol_a(series, 6, 3)


@pytest.fixture
def trees(series: Series, split: Split, graph: SensorGraph) -> BoostedTrees:
    return boosted_trees(series, split, None, graph.adjacency, SETTINGS)


def test_trees_learn_what_neighbours_know(series: Series, split: Split) -> None:
    rng = np.random.default_rng(0)
    passing = rng.normal(0, 10, (len(series.timestamps) + 6, 1))
    passing = np.concatenate([passing[6 - node : len(passing) - node] for node in range(6)], axis=1)[..., None]
    series = replace(series, values=np.where(series.observed, series.values + passing, 0).astype(np.float32))
    along = Adjacency.from_matrix(np.eye(6, k=1))  # a sensor hears what the one before it heard an interval earlier
    predictors = [
        replace(boosted_trees(series, split, None, along, SETTINGS), name="with"),
        replace(boosted_trees(series, split, None, None, SETTINGS), name="without"),
        damped_departure(series, split),
    ]

    found = evaluate(series, split, predictors, regimes=("stream",))

    assert all(isinstance(one, Predictor) for one in predictors)
    knowing, alone, start = (one.mae for one in found if one.horizon_minutes == 60)
    assert knowing < 0.7 * min(alone, start)


def test_horizons_that_are_not_scored_are_not_forecast(series: Series, trees: BoostedTrees) -> None:
    split = protocol_a(series, 6, 8)
    more = boosted_trees(series, split, settings=SETTINGS)

    forecast = more.predict(series, split.test[:2])

    assert forecast.shape == (2, 8, 6, 1)
    np.testing.assert_array_equal(np.isfinite(forecast).all(axis=(0, 2, 3)), np.isin(np.arange(1, 9), [2, 4, 8]))


def test_no_forecast_looks_past_its_issue_row(series: Series, split: Split, trees: BoostedTrees) -> None:
    for row in (split.test[0], split.test[17], split.test[-1]):
        issue = np.array([row])
        np.testing.assert_array_equal(
            trees.predict(series, issue), trees.predict(later_changed(series, int(row)), issue)
        )


def test_the_fit_does_not_look_at_the_test_span(
    series: Series, split: Split, trees: BoostedTrees, graph: SensorGraph
) -> None:
    last = int(split.validation[-1]) + split.horizon
    again = boosted_trees(later_changed(series, last), split, None, graph.adjacency, SETTINGS)

    np.testing.assert_array_equal(again.predict(series, split.test[:5]), trees.predict(series, split.test[:5]))


def test_features_look_neither_ahead_nor_at_the_own_day_of_a_training_row(wave: Callable[..., Series]) -> None:
    series = wave(400, features=2)
    split = protocol_a(series, 6, 3)
    (cells,) = Cells.of(series, split, ("speed",))
    row, node = int(split.train[150]), 2
    rows, nodes = np.array([row]), np.array([node])
    before = cells.features(rows, nodes, 3, "quantiles")
    values = series.values.copy()
    values[row + 1 : (row // DAY + 1) * DAY, node] += 9  # the rest of that day
    (changed,) = Cells.of(replace(series, values=values), split, ("speed",))

    after = changed.features(rows, nodes, 3, "quantiles")

    quantiles = cells.quantiles.shape[1]  # of the whole training span
    np.testing.assert_allclose(after[0, quantiles:], before[0, quantiles:], rtol=1e-5)


def test_a_row_of_the_table_holds_what_it_should(series: Series, split: Split) -> None:
    weights = np.zeros((6, 6))
    weights[0, 1], weights[2, 1] = 1, 3
    (cells,) = Cells.of(series, split, None, Adjacency.from_matrix(weights))
    days = UsualDays.of(series, split.train_rows)
    row, node, ahead = int(split.test[3]), 1, 2
    table = cells.features(np.array([row]), np.array([node]), ahead, "number")[0]
    observed, values = series.observed[..., 0], series.values[..., 0]

    seen = [values[row - back, node] if observed[row - back, node] else np.nan for back in range(6)]
    usual = days.of_row[row + ahead, node, 0]
    yesterday = [row + ahead - DAY + step for step in (-1, 0, 1)]
    earlier = [values[at, node] - usual if observed[at, node] else np.nan for at in yesterday]
    assert table[0] == node
    np.testing.assert_array_equal(table[1:7], np.float32(seen))
    np.testing.assert_allclose(table[13:16], [cells.present[row, node], days.of_row[row, node, 0], usual], rtol=1e-6)
    np.testing.assert_allclose(table[16:19], earlier, rtol=1e-4)
    hour = (row + ahead) % DAY
    np.testing.assert_array_equal(table[22:24], [3600 * hour, (row + ahead) // DAY % 7])
    # Of the last row: all sensors, then those that an edge leads to, then those that it comes from.
    around = cells.state[row, :, 5:8]
    np.testing.assert_allclose(around[:, 0], days.departure[row, :, 0].sum() / observed[row].sum(), rtol=1e-4)
    into = sum(w * days.departure[row, n, 0] for n, w in ((0, 1), (2, 3))) / sum(
        w * observed[row, n] for n, w in ((0, 1), (2, 3))
    )
    np.testing.assert_allclose(around[1, 2], into, rtol=1e-4)
    assert np.isnan(around[1, 1])


def test_a_time_that_is_not_in_the_recording_has_no_reading(broken: Series) -> None:
    split = protocol_a(broken, 6, 3)
    (cells,) = Cells.of(broken, split)
    table = cells.features(np.array([30, 125]), np.array([0, 0]), 3, "number")

    yesterday, last_week = table[:, 16:19], table[:, 19:22]
    np.testing.assert_array_equal(np.isnan(yesterday), [np.isnan(cells.readings[8:11, 0]), [True] * 3])  # in the break
    assert np.isnan(last_week[0]).all()  # before the recording
    np.testing.assert_allclose(last_week[1], cells.readings[31:34, 0] - cells.usual[128, 0], rtol=1e-4)


def test_with_a_horizon_of_a_day_the_same_time_of_yesterday_has_not_come_yet(series: Series) -> None:
    split = protocol_a(series, 6, 25)
    row, nodes = int(split.test[0]), np.arange(6)
    tables = [
        Cells.of(one, split)[0].features(np.full(6, row), nodes, 24, "number")
        for one in (series, later_changed(series, row))
    ]

    np.testing.assert_array_equal(*tables)
    assert np.isnan(tables[0][:, 18]).all()
    assert not np.isnan(tables[0][:, 16:18]).all()


def test_settings_are_searched_within_the_time(series: Series, split: Split) -> None:
    ticks = iter(range(10**9))
    lines: list[str] = []
    grid = QUICK | {"sensor": ("quantiles", "number"), "num_leaves": (7, 3)}
    settings = replace(SETTINGS, grid=grid, minutes=5.0, clock=lambda: float(next(ticks)))

    found = boosted_trees(series, split, settings=settings, report=lines.append)

    assert [line.partition(":")[0] for line in lines] == ["sensor = number", "num_leaves = 3", "speed"]
    assert found.chosen["speed"]["sensor"] in grid["sensor"]
    assert found.models.keys() == {("speed", 1), ("speed", 2), ("speed", 3)}
    short = boosted_trees(series, split, settings=replace(settings, grid=QUICK, minutes=0.05))
    assert max(model.num_trees() for model in short.models.values()) <= 3


def test_every_target_has_its_trees(wave: Callable[..., Series]) -> None:
    series = wave(300, features=2)
    split = protocol_a(series, 6, 3)
    both = boosted_trees(series, split, settings=SETTINGS)
    flow = boosted_trees(series, split, ("flow",), settings=SETTINGS)

    forecast = both.predict(series, split.test[:4])

    assert forecast.shape == (4, 3, 6, 2)
    np.testing.assert_array_equal(forecast[..., 1:], flow.predict(series, split.test[:4]))


def test_what_cannot_be_fitted_is_refused(series: Series, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="a graph of 2 sensors"):
        boosted_trees(series, split, None, Adjacency.from_matrix(np.eye(2)), SETTINGS)
    with pytest.raises(ConfigError, match="minutes = 0"):
        TreeSettings(minutes=0)
    observed = series.observed.copy()
    observed[split.validation[0] + 1 :] = False
    with pytest.raises(DataError, match="no label in the validation span"):
        boosted_trees(replace(series, observed=observed), split, settings=SETTINGS)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ConfigError, match=r"stunet-deploy\[baselines\]"):
        boosted_trees(series, split)


def test_a_missing_openmp_library_is_named(series: Series, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        """What the import system asks first; it answers as the loader does without the library."""

        def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> None:
            if name == "lightgbm":
                raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])

    with pytest.raises(ConfigError, match="libgomp1"):
        boosted_trees(series, split)
