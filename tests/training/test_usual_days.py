"""Usual days: means by hand, a row's own day left out, and nothing of the test span."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from training.protocols import protocol_a
from training.usual_days import PRIOR_DAYS, UsualDays, sensor_means

INTERVAL_S = 3600
SLOTS = 24
DAYS = 9
REACH = 1
MONDAY = 1_741_564_800  # 2025-03-10T00:00:00Z
SPEED = ("speed",)


@pytest.fixture
def series() -> Series:
    generator = np.random.default_rng(3)
    values = generator.uniform(20, 80, (DAYS * SLOTS, 3, 2)).astype(np.float32)
    observed = generator.random(values.shape) < 0.8
    observed[:, 2] = False
    times = MONDAY + INTERVAL_S * np.arange(DAYS * SLOTS)
    return Series(values, observed, times, Site(("a", "b", "c"), ("flow", "speed"), ("", "km/h"), INTERVAL_S))


def literal_mean(
    series: Series, slot: int, weekend: bool, node: int, rows: slice, without: tuple[int, ...] = ()
) -> float:
    """Usual reading at a slot, by hand: that of both kinds of day is drawn to any time's, each kind's to that."""
    at_any_time, of_both, of_kind = [], [], []
    for row in range(*rows.indices(len(series.timestamps))):
        day, hour = divmod(row, SLOTS)
        if day not in without and series.observed[row, node, 1]:
            reading = float(series.values[row, node, 1])
            at_any_time.append(reading)
            if min((hour - slot) % SLOTS, (slot - hour) % SLOTS) <= REACH:
                of_both.append(reading)
                of_kind += [reading] if (day % 7 >= 5) == weekend else []
    weight = PRIOR_DAYS * (2 * REACH + 1)
    any_time = float(np.mean(at_any_time))
    both = (sum(of_both) + weight * any_time) / (len(of_both) + weight)
    return (sum(of_kind) + weight * both) / (len(of_kind) + weight)


def test_sensor_means_are_those_of_the_training_span_where_something_was_observed(series: Series) -> None:
    rows = slice(0, 8 * SLOTS)

    found = sensor_means(series, rows)

    assert found.shape == (3, 2)
    seen = [[series.values[rows, node, f][series.observed[rows, node, f]] for f in (0, 1)] for node in (0, 1)]
    for node in (0, 1):
        assert found[node].tolist() == pytest.approx([np.mean(readings) for readings in seen[node]], rel=1e-5)
    # A sensor that was always silent: the mean of all.
    assert found[2].tolist() == pytest.approx([np.mean([*seen[0][f], *seen[1][f]]) for f in (0, 1)], rel=1e-5)
    assert sensor_means(series, rows, ("speed",)).tolist() == found[:, 1:].tolist()


def test_tables_are_the_smoothed_means_of_the_training_span(series: Series) -> None:
    rows = slice(0, 8 * SLOTS)

    days = UsualDays.of(series, rows, SPEED)

    assert days.table.shape == (2 * SLOTS, 3, 1)
    assert days.smoothing_minutes == 60 * REACH  # readings without a pattern: the more are averaged, the better
    for slot, weekend, node in ((0, False, 0), (7, False, 1), (23, True, 0), (12, True, 1)):
        expected = literal_mean(series, slot, weekend, node, rows)
        assert float(days.table[slot + SLOTS * weekend, node, 0]) == pytest.approx(expected, abs=1e-3)
        day = 5 if weekend else 2
        expected = literal_mean(series, slot, weekend, node, rows, without=(day,))
        assert float(days.of_row[day * SLOTS + slot, node, 0]) == pytest.approx(expected, abs=1e-3)
        apart = UsualDays.of(series, rows, SPEED, apart=(1, 4))
        expected = literal_mean(series, slot, weekend, node, rows, without=(day, day - 1, day - 4))
        assert float(apart.of_row[day * SLOTS + slot, node, 0]) == pytest.approx(expected, abs=1e-3)
        assert np.array_equal(apart.table, days.table)
    after = slice(8 * SLOTS, None)  # a Tuesday: all days of the training span count
    np.testing.assert_array_equal(days.of_row[after], days.table[:SLOTS])


def test_the_smoothing_is_the_best_on_days_left_out() -> None:
    """A day of sharp steps without noise is not smoothed, one of noise is."""
    times = MONDAY + 300 * np.arange(5 * 288)
    steps = np.where(np.arange(288) // 2 % 2 == 0, 30.0, 70.0)
    noise = np.random.default_rng(1).normal(50, 10, len(times))
    site = Site(("a",), ("flow", "speed"), ("", "km/h"), 300)
    chosen = []
    for speed in (np.tile(steps, 5), noise):
        values = np.stack([speed, speed], axis=-1).astype(np.float32)[:, None]
        series = Series(values, np.ones(values.shape, bool), times, site)
        chosen.append(UsualDays.of(series, slice(0, len(times)), SPEED).smoothing_minutes)

    assert chosen == [0, 60]


def test_the_damping_is_the_share_of_a_departure_that_is_left() -> None:
    """Departures of a process that keeps 0.9 of itself in an interval: 0.9 of it is left after one, 0.81 after two."""
    rng = np.random.default_rng(2)
    departure = np.zeros(60 * 48)
    for t in range(1, len(departure)):
        departure[t] = 0.9 * departure[t - 1] + rng.normal()
    values = np.repeat((50 + 3 * departure)[:, None, None], 2, axis=-1).astype(np.float32)
    times = MONDAY + 1800 * np.arange(len(values))
    series = Series(values, np.ones(values.shape, bool), times, Site(("a",), ("flow", "speed"), ("", "km/h"), 1800))
    split = protocol_a(series, 4, 3)
    days = UsualDays.of(series, split.train_rows, SPEED)

    found = days.damping(split)

    assert found.shape == (3, 1, 1)
    assert found.flatten().tolist() == pytest.approx([0.9, 0.81, 0.73], abs=0.08)


def test_a_kind_of_day_never_seen_takes_the_other_one(series: Series) -> None:
    rows = slice(0, 4 * SLOTS)

    saturday = UsualDays.of(series, rows, SPEED).table[SLOTS + 7, 0, 0]

    assert float(saturday) == pytest.approx(literal_mean(series, 7, True, 0, rows), abs=1e-3)
    assert float(saturday) == pytest.approx(literal_mean(series, 7, False, 0, rows), abs=2)


def test_the_usual_reading_of_a_training_row_never_holds_its_day(series: Series) -> None:
    rows = slice(0, 8 * SLOTS)
    changed = series.values.copy()
    changed[2 * SLOTS : 3 * SLOTS] += 30
    days, other = (UsualDays.of(one, rows, SPEED) for one in (series, replace(series, values=changed)))
    of_day = slice(2 * SLOTS, 3 * SLOTS)

    np.testing.assert_allclose(days.of_row[of_day], other.of_row[of_day], rtol=1e-5)
    assert not np.array_equal(days.table, other.table)
    ahead = days.ahead(np.array([50]), 4)
    assert ahead.shape == (1, 4, 3, 1)
    assert np.array_equal(ahead[0, 1], days.of_row[52])


def test_the_test_span_is_not_in_the_table(series: Series) -> None:
    changed = series.values.copy()
    changed[8 * SLOTS :] = 0
    days = [UsualDays.of(one, slice(0, 8 * SLOTS), SPEED) for one in (series, replace(series, values=changed))]

    assert np.array_equal(days[0].table, days[1].table)
