"""Evaluation with predictors whose errors are known, in both regimes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.metrics import score
from stunet_deploy.series.series import Series, read_series
from stunet_deploy.series.times import parse_time
from stunet_deploy.site import Site
from tests.paths import DATA
from training.baselines import baselines, persistence
from training.evaluation import Result, constant_in_training, evaluate, remarks, table, to_json, units_in_words
from training.protocols import choose_protocol, protocol_a, protocol_b

needs_data = pytest.mark.skipif(not (DATA / "metr-la.npz").is_file(), reason=f"no public data in {DATA}")


def make_series(days: int = 7, *, weekdays: bool = False) -> Series:
    """Hourly readings of two sensors; as weekdays it starts on a Tuesday and jumps the weekend."""
    rng = np.random.default_rng(11)
    first = np.datetime64("2012-05-01")
    dates = np.busday_offset(first, list(range(days))) if weekdays else first + np.arange(days)
    midnight = dates.astype("datetime64[s]").astype(np.int64)
    values = rng.uniform(10, 70, (24 * days, 2, 1)).astype(np.float32)
    observed = rng.random(values.shape) > 0.1
    return Series(
        values=np.where(observed, values, 0),
        observed=observed,
        timestamps=(midnight[:, None] + 3600 * np.arange(24)).ravel(),
        site=Site(("a", "b"), ("speed",), ("mph",), 3600),
    )


@dataclass
class LastRows:
    """Forecasts how many rows it has stepped through since zero state; remembers what it was asked for."""

    horizon: int
    chunk: int = 5
    name: str = "rows since zero state"
    runs: list[tuple[int, int, int]] = field(default_factory=list)

    def window(self, series: Series, issue: np.ndarray, length: int) -> Iterator[np.ndarray]:
        for first in range(0, len(issue), self.chunk):
            yield self._forecast(series, np.full(len(issue[first : first + self.chunk]), length))

    def stream(self, series: Series, start: int, issue: np.ndarray) -> Iterator[np.ndarray]:
        self.runs.append((start, int(issue[0]), int(issue[-1])))
        for first in range(0, len(issue), self.chunk):
            yield self._forecast(series, issue[first : first + self.chunk] - start + 1)

    def _forecast(self, series: Series, stepped: np.ndarray) -> np.ndarray:
        shape = (len(stepped), self.horizon, len(series.sensor_ids), 1)
        return np.broadcast_to(stepped[:, None, None, None], shape).astype(np.float32)


def assert_same_scores(results: list[Result], expected: list[Result]) -> None:
    def facts(result: Result) -> tuple[object, ...]:
        return (result.model, result.target, result.horizon_minutes, result.count)

    assert [facts(result) for result in results] == [facts(result) for result in expected]
    for name in ("mae", "wape", "mape", "rmse"):
        np.testing.assert_allclose(
            [getattr(result, name) for result in results],
            [getattr(result, name) for result in expected],
            rtol=1e-12,
        )


def test_window_forecasts_see_exactly_the_window() -> None:
    series = make_series()
    split = protocol_a(series, window=6, horizon=4)
    results = evaluate(series, split, [LastRows(4)], regimes=("window",))
    assert [result.horizon_minutes for result in results] == [60, 120, 240]
    for result, ahead in zip(results, (1, 2, 4), strict=True):
        rows = split.test + ahead
        errors = np.abs(series.values[rows] - 6)[series.observed[rows]]
        assert result.mae == pytest.approx(errors.mean())
        assert result.rmse == pytest.approx(np.sqrt((errors**2).mean()))
        assert result.count == series.observed[rows].sum()
        assert result.protocol == "window"


@pytest.mark.parametrize(("warm_up", "before"), [(None, 24), (0, 0), (5, 5), (10_000, 10_000)])
def test_stream_starts_before_the_test_span(warm_up: int | None, before: int) -> None:
    series = make_series()
    split = protocol_a(series, window=6, horizon=4)
    predictor = LastRows(4)
    results = evaluate(series, split, [predictor], regimes=("stream",), warm_up=warm_up)
    start = max(0, split.test_start - before)
    assert predictor.runs == [(start, split.test[0], split.test[-1])]
    rows = split.test + 4
    errors = np.abs(series.values[rows] - (split.test - start + 1)[:, None, None])[series.observed[rows]]
    assert results[-1].mae == pytest.approx(errors.mean())


def test_stream_starts_anew_after_a_weekend() -> None:
    series = make_series(9, weekdays=True)  # test days: Friday, Monday, Tuesday
    split = protocol_b(series, (2, 1, 3), window=6, horizon=4)
    predictor = LastRows(4)
    evaluate(series, split, [predictor], regimes=("stream",))
    monday = 4 * 24
    assert split.test_start == 3 * 24
    assert predictor.runs == [
        (2 * 24, 3 * 24 + 5, monday - 5),
        (monday, monday + 5, 6 * 24 - 5),
    ]


def test_the_stream_of_pemsd7_scores_265_slots_a_day_and_resets_over_the_weekend() -> None:
    rng = np.random.default_rng(4)
    days = np.busday_offset(np.datetime64("2012-05-01"), list(range(44))).astype("datetime64[s]").astype(np.int64)
    values = rng.uniform(20, 70, (44 * 288, 1, 1)).astype(np.float32)
    series = Series(
        values=values,
        observed=np.ones(values.shape, np.bool_),
        timestamps=(days[:, None] + 300 * np.arange(288)).ravel(),
        site=Site(("a",), ("speed",), ("mph",), 300),
    )
    split = protocol_b(series)
    predictor = LastRows(12)

    results = evaluate(series, split, [predictor])

    # The test days are the last five of 44 weekdays: Monday 25 June to Friday 29 June, one unbroken run.
    assert predictor.runs == [(39 * 288, 39 * 288 + 11, 44 * 288 - 13)]
    assert [result.count for result in results] == [5 * 265] * 6
    tuesday = protocol_b(series, (33, 5, 6))
    predictor = LastRows(12)
    results = evaluate(series, tuesday, [predictor])
    monday = 39 * 288
    assert predictor.runs == [(37 * 288, 38 * 288 + 11, monday - 13), (monday, monday + 11, 44 * 288 - 13)]
    assert [result.count for result in results] == [6 * 265] * 6


def test_forecasters_see_the_inputs_and_are_held_to_the_series() -> None:
    series = make_series()
    split = protocol_a(series, window=6, horizon=4)
    other = replace(series, values=series.values + 5)

    results = evaluate(series, split, [persistence(other, split)], inputs=other)

    shifted = persistence(series, split).predict(split.test) + 5
    rows = split.test[:, None] + np.arange(1, 5)
    assert results[-1].mae == pytest.approx(score(shifted, series.values[rows], series.observed[rows]).mae[3, 0])


def test_both_regimes_score_the_same_labels() -> None:
    series = make_series(9, weekdays=True)
    split = protocol_b(series, (2, 1, 3), window=6, horizon=4)
    results = evaluate(series, split, baselines(series, split))
    assert len(results) == 4 * 2 * 3
    window, stream = ([r for r in results if r.protocol == regime] for regime in ("window", "stream"))
    assert_same_scores(window, stream)


def test_protocol_b_has_its_own_percentage() -> None:
    series = make_series()
    series.observed[:] = True
    series.values[series.values < 40] += 20
    split = protocol_b(series, (5, 1, 1), window=6, horizon=4)
    (baseline,) = baselines(series, split)[:1]
    result = evaluate(series, split, [baseline], regimes=("window",))[-1]
    label = series.values[split.test[:, None] + np.arange(1, 5)].astype(np.float64)
    error = np.abs(baseline.predict(split.test) - label)
    assert result.mape == pytest.approx(100 * (error / (label + 1e-5)).mean(axis=(0, 2))[3, 0], rel=1e-9)


def test_targets_are_scored_apart() -> None:
    single = make_series()
    series = replace(
        single,
        values=np.concatenate([single.values, 10 * single.values], axis=2),
        observed=np.concatenate([single.observed, single.observed], axis=2),
        site=replace(single.site, features=("speed", "flow"), units=("mph", "veh/h")),
    )
    split = protocol_a(series, window=6, horizon=4)
    both = evaluate(series, split, [persistence(series, split)], regimes=("window",))
    speed, flow = ([result for result in both if result.target == name] for name in ("speed", "flow"))
    np.testing.assert_allclose([r.mae for r in flow], [10 * r.mae for r in speed], rtol=1e-6)
    only = evaluate(series, split, [persistence(series, split, ("flow",))], targets=("flow",), regimes=("window",))
    assert_same_scores(only, flow)
    assert {"target"} == set(to_json(series, split, both)["results"][0]) - set(
        to_json(series, split, only)["results"][0]
    )
    assert "persistence (flow)" in table(both)


def test_json_has_the_promised_keys_and_no_nan() -> None:
    series = make_series()
    split = protocol_a(series, window=6, horizon=4)
    series.observed[split.test[0] :] = False
    report = to_json(series, split, evaluate(series, split, baselines(series, split)))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert list(report) == ["data", "split", "results"]
    assert report["split"]["missing"] == "unobserved"
    assert to_json(series, split, [], missing="zeros")["split"] == report["split"] | {"missing": "zeros"}
    assert report["split"]["test"] == len(split.test)
    assert parse_time(report["split"]["first_test_issue"]) == series.timestamps[split.test[0]]
    assert {result["model"] for result in report["results"]} == {
        "persistence",
        "historical_average",
        "time_of_day_average",
        "damped_departure",
    }
    for result in report["results"]:
        assert list(result) == ["model", "protocol", "horizon_minutes", "mae", "wape", "mape", "rmse", "count"]
        assert (result["mae"], result["wape"], result["mape"], result["count"]) == (None, None, None, 0)


def quiet_series() -> Series:
    """Counts at three sensors; one counts 0 until the test span, one is silent until then."""
    values = np.tile(np.array([[[100.0], [0.0], [0.0]]], np.float32), (168, 1, 1))
    values[::2, 0] = 200
    values[130:, 1:] = 50
    observed = np.ones(values.shape, np.bool_)
    observed[:130, 2] = False
    return Series(
        values=values,
        observed=observed,
        timestamps=1_335_830_400 + 3600 * np.arange(168),
        site=Site(("busy", "still", "silent"), ("flow",), ("veh/h",), 3600),
    )


def test_sensors_constant_in_training_are_told_apart_and_count() -> None:
    series = quiet_series()
    split = protocol_a(series, window=6, horizon=4)
    assert split.train_rows.stop < 130 <= split.test[0]
    assert constant_in_training(series, split)[:, 0].tolist() == [False, True, True]

    # 150 everywhere: wrong by 50 at the busy sensor, by 100 at the other two.
    class Same(LastRows):
        def _forecast(self, series: Series, stepped: np.ndarray) -> np.ndarray:
            return np.full((len(stepped), 4, 3, 1), 150, np.float32)

    results = evaluate(series, split, [Same(4, name="same")])

    for result in results:
        assert result.mae == pytest.approx((50 + 100 + 100) / 3)
        assert (result.constant, result.mae_changing) == (2, pytest.approx(50))
    report = to_json(series, split, results)
    assert report["data"]["constant_in_training"] == {"flow": 2}
    assert {result["mae_changing"] for result in report["results"]} == {50}
    assert remarks(series.site, results) == [
        "2 of 3 sensors are constant in training (flow); carried MAE over the others: same 50.00 / 50.00 / 50.00 veh/h"
    ]


def test_without_constant_sensors_nothing_is_said_of_them() -> None:
    series = make_series()
    split = protocol_a(series, window=6, horizon=4)

    results = evaluate(series, split, baselines(series, split))

    assert {(result.constant, result.mae_changing) for result in results} == {(0, None)}
    assert "constant_in_training" not in to_json(series, split, results)["data"]
    assert remarks(series.site, results) == []


def test_mape_is_not_shown_of_labels_near_zero() -> None:
    series = make_series()
    split = protocol_a(series, window=6, horizon=4)
    series.values[split.test[::10] + 1, 0] = 0.5
    series.observed[split.test[::10] + 1, 0] = True

    results = evaluate(series, split, baselines(series, split))

    assert {result.mape for result in results} == {None}
    assert all(result.wape > 0 for result in results)
    assert {result["mape"] for result in to_json(series, split, results)["results"]} == {None}
    lines = table(results).splitlines()
    assert all(line.count("–") == 3 for line in lines[2:])
    assert len({len(line) for line in lines[1:]}) == 1
    (line,) = remarks(series.site, results)
    assert line.startswith("MAPE of speed is not shown: 1 % or more of the labels are below 5 % of their mean")


def test_units_are_those_of_the_site() -> None:
    site = Site(("a",), ("speed", "flow", "index"), ("km/h", "veh/h", ""), 300)

    assert units_in_words(site, ["flow"]) == "veh/h"
    assert units_in_words(site, ["speed", "flow"]) == "km/h (speed) and veh/h (flow)"
    assert units_in_words(site, ["index"]) == "the unit of the data"
    assert (site.unit_of(["speed"]), site.unit_of(["speed", "flow"]), site.unit_of(["index"])) == ("km/h", "", "")


def test_table_lines_up() -> None:
    series = make_series()
    split = protocol_a(series, window=6, horizon=4)
    results = evaluate(series, split, baselines(series, split))
    lines = table(results).splitlines()
    assert len(lines) == 2 + 4 * 2
    assert len({len(line) for line in lines[1:]}) == 1
    assert [minutes in lines[0] for minutes in ("60 min", "120 min", "240 min")] == [True] * 3
    assert f"{results[0].mae:.2f}" in lines[2]


def test_wrong_forecasts_are_refused() -> None:
    series = make_series()
    split = protocol_a(series, window=6, horizon=4)
    with pytest.raises(DataError, match="one shape"):
        evaluate(series, split, [LastRows(3)])
    with pytest.raises(ConfigError, match="warm-up of -1"):
        evaluate(series, split, [], warm_up=-1)

    class Short(LastRows):
        def window(self, series: Series, issue: np.ndarray, length: int) -> Iterator[np.ndarray]:
            yield from list(super().window(series, issue, length))[:-1]

    with pytest.raises(RuntimeError, match="forecasts for"):
        evaluate(series, split, [Short(4)], regimes=("window",))


@needs_data
@pytest.mark.parametrize("name", ["metr-la.npz", "pemsd7-m.npz"])
def test_public_weeks_equal_one_array_of_all_forecasts(name: str) -> None:
    series = read_series(DATA / name)
    split = choose_protocol(series)
    baseline = persistence(series, split)
    results = evaluate(series, split, [baseline], regimes=("stream",))
    rows = split.test[:, None] + np.arange(1, 13)
    whole = score(baseline.predict(split.test), series.values[rows], series.observed[rows])
    assert [result.horizon_minutes for result in results] == [15, 30, 60]
    for result, horizon in zip(results, (3, 6, 12), strict=True):
        assert result.mae == pytest.approx(whole.mae[horizon - 1, 0], rel=1e-12)
        assert result.rmse == pytest.approx(whole.rmse[horizon - 1, 0], rel=1e-12)
        assert result.mape == pytest.approx(whole.mape[horizon - 1, 0], rel=1e-5)
