"""Baselines against values worked out by hand and by plain loops."""

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.series.series import Series
from stunet_deploy.series.times import parse_time
from stunet_deploy.series.wall_clock import local_times
from stunet_deploy.site import Site
from training.baselines import baselines, damped_departure, historical_average, persistence, time_of_day_average
from training.protocols import Split, protocol_a, protocol_b
from training.usual_days import UsualDays


def make_series(rows: int = 5 * 24, *, zone: str = "UTC", start: str = "2012-03-01") -> Series:
    """Hourly readings of three sensors with a daily shape, a fifth of them missing."""
    rng = np.random.default_rng(5)
    hour = np.arange(rows)
    shape = 40 + 20 * np.sin(2 * np.pi * hour / 24)[:, None] + np.array([0, 5, 10])
    values = np.stack([shape, 10 * shape], axis=2) + rng.standard_normal((rows, 3, 2))
    observed = rng.random(values.shape) > 0.2
    return Series(
        values=np.where(observed, values, 0).astype(np.float32),
        observed=observed,
        timestamps=parse_time(start, zone) + 3600 * hour,
        site=Site(("a", "b", "c"), ("speed", "flow"), ("mph", "veh/h"), 3600, timezone=zone),
    )


def hide(series: Series, rows: slice, node: int) -> Series:
    observed, values = series.observed.copy(), series.values.copy()
    observed[rows, node], values[rows, node] = False, 0
    return replace(series, observed=observed, values=values)


def training_mean(series: Series, split: Split, node: int, feature: int) -> float:
    cells = np.s_[split.train_rows, node, feature]
    return float(series.values[cells][series.observed[cells]].astype(np.float64).mean())


def test_persistence_holds_the_last_observed_value() -> None:
    series = make_series()
    split = protocol_a(series)
    issue = split.test
    forecast = persistence(series, split).predict(issue)
    assert forecast.shape == (len(issue), 12, 3, 2)
    for place, row in enumerate(issue):
        for node in range(3):
            for feature in range(2):
                last = row
                while not series.observed[last, node, feature]:
                    last -= 1
                assert (forecast[place, :, node, feature] == series.values[last, node, feature]).all()


def test_persistence_before_the_first_reading_is_the_training_mean() -> None:
    series = hide(make_series(), slice(0, 30), 1)
    split = protocol_a(series)
    forecast = persistence(series, split, ("speed",)).predict(np.array([20, 29, 40]))
    expected = training_mean(series, split, 1, 0)
    np.testing.assert_allclose(forecast[:2, :, 1], expected, rtol=1e-6)
    assert (forecast[2, :, 1] != np.float32(expected)).all()


def test_historical_average_is_the_training_mean_of_each_sensor() -> None:
    series = make_series()
    split = protocol_a(series)
    forecast = historical_average(series, split).predict(split.test)
    for node in range(3):
        for feature in range(2):
            np.testing.assert_allclose(
                forecast[..., node, feature], training_mean(series, split, node, feature), rtol=1e-6
            )


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_time_of_day_average_is_the_usual_reading_at_the_time_that_is_forecast(zone: str) -> None:
    series = make_series(20 * 24, zone=zone)
    split = protocol_a(series)
    forecast = time_of_day_average(series, split, ("flow",)).predict(split.test)
    table = UsualDays.of(series, split.train_rows, ("flow",)).table
    for place, row in enumerate(split.test):
        for ahead in range(1, 13):
            local = dt.datetime.fromtimestamp(int(series.timestamps[row + ahead]), ZoneInfo(zone))
            slot = local.hour + 24 * (local.weekday() >= 5)
            assert forecast[place, ahead - 1, 2, 0] == table[slot, 2, 0]


def test_damped_departure_adds_a_share_of_the_last_departure() -> None:
    series = make_series(20 * 24)
    split = protocol_a(series)
    days = UsualDays.of(series, split.train_rows)
    usual = time_of_day_average(series, split).predict(split.test)
    forecast = damped_departure(series, split).predict(split.test)
    for place, row in enumerate(split.test[:20]):
        for node in range(3):
            last = max(t for t in range(row + 1) if series.observed[t, node, 1])
            departed = series.values[last, node, 1] - days.of_row[last, node, 1]
            left = days.damping(split)[:, 0, 1] * departed
            np.testing.assert_allclose(forecast[place, :, node, 1], usual[place, :, node, 1] + left, rtol=1e-6)


def test_time_of_day_follows_the_wall_clock_over_a_clock_change() -> None:
    series = make_series(14 * 24, zone="America/Los_Angeles", start="2012-03-05")
    split = protocol_b(series, (8, 1, 3), window=2, horizon=3)
    midnight = split.test[local_times(series.timestamps[split.test], series.timezone) % 86_400 == 4 * 3600]
    forecast = time_of_day_average(series, split).predict(midnight)
    assert len(midnight) == 3
    assert (forecast == forecast[0]).all()


def test_slots_and_sensors_never_observed_fall_back() -> None:
    series = make_series()
    # Sensor a is never read at 3 o'clock alone, sensor c not in the training span.
    series.observed[:, 0] = True
    series.observed[3::24, 0] = False
    series = hide(series, slice(0, 100), 2)
    split = protocol_a(series)
    one_o_clock = np.array([4 * 24 + 1])
    profile = time_of_day_average(series, split, ("speed",)).predict(one_o_clock)
    mean = training_mean(series, split, 0, 0)
    assert [profile[0, ahead, 0, 0] == pytest.approx(mean, rel=1e-6) for ahead in range(3)] == [
        False,
        True,
        False,
    ]
    train = np.s_[split.train_rows, :, 0]
    overall = series.values[train][series.observed[train]].astype(np.float64).mean()
    np.testing.assert_allclose(profile[:, :, 2], overall, rtol=1e-6)
    held = historical_average(series, split, ("speed",)).predict(split.test)
    np.testing.assert_allclose(held[:, :, 2], overall, rtol=1e-6)


def test_no_baseline_looks_past_its_issue_time_or_at_hidden_values() -> None:
    series = make_series()
    split = protocol_a(series)
    issue = split.test[:3]
    before = [baseline.predict(issue) for baseline in baselines(series, split)]
    series.values[~series.observed] = np.nan
    series.values[issue[-1] + 1 :] = 1e9
    for baseline, expected in zip(baselines(series, split), before, strict=True):
        np.testing.assert_array_equal(baseline.predict(issue), expected)


def test_window_and_stream_give_the_same_chunks_in_order() -> None:
    series = make_series(60 * 24)
    split = protocol_a(series)
    for baseline in baselines(series, split):
        whole = baseline.predict(split.test)
        for chunks in (baseline.window(series, split.test, 12), baseline.stream(series, 0, split.test)):
            np.testing.assert_array_equal(np.concatenate(list(chunks)), whole)


def test_unknown_targets_and_empty_training_are_refused() -> None:
    series = make_series()
    split = protocol_a(series)
    with pytest.raises(DataError, match="feature 'occupancy'"):
        baselines(series, split, ("occupancy",))
    series.observed[split.train_rows] = False
    with pytest.raises(DataError, match="without any reading"):
        baselines(series, split)
