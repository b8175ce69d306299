"""Daily profiles: means by hand, a row's own day left out, and nothing of the test span."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stunet_deploy.config import Signal
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from training.profile import SMOOTHING_SLOTS, ProfileTables, sensor_means

INTERVAL_S = 3600
SLOTS = 24
DAYS = 9
MONDAY = 1_741_564_800  # 2025-03-10T00:00:00Z
SIGNAL = Signal(("flow", "speed"), ("speed",), (0.0, 50.0), (1.0, 10.0), (0.0, 0.0), (9.0, 120.0))


@pytest.fixture
def series() -> Series:
    generator = np.random.default_rng(3)
    values = generator.uniform(20, 80, (DAYS * SLOTS, 3, 2)).astype(np.float32)
    observed = generator.random(values.shape) < 0.8
    observed[:, 2] = False
    times = MONDAY + INTERVAL_S * np.arange(DAYS * SLOTS)
    return Series(values, observed, times, Site(("a", "b", "c"), ("flow", "speed"), ("", "km/h"), INTERVAL_S))


def literal_mean(series: Series, slot: int, weekend: bool, node: int, rows: slice, without: int | None = None) -> float:
    """Normalised mean of the observed readings within the smoothing distance of a slot, day by day."""
    found = []
    for row in range(*rows.indices(len(series.timestamps))):
        day, hour = divmod(row, SLOTS)
        distance = min((hour - slot) % SLOTS, (slot - hour) % SLOTS)
        if (
            (day % 7 >= 5) == weekend
            and distance <= SMOOTHING_SLOTS
            and day != without
            and series.observed[row, node, 1]
        ):
            found.append((float(series.values[row, node, 1]) - 50) / 10)
    return float(np.mean(found))


def test_sensor_means_are_those_of_the_training_span_where_something_was_observed(series: Series) -> None:
    rows = slice(0, 8 * SLOTS)

    found = sensor_means(series, rows, SIGNAL)

    assert found.shape == (3, 2)
    for node in (0, 1):
        flow, speed = (series.values[rows, node, f][series.observed[rows, node, f]] for f in (0, 1))
        assert float(found[node, 0]) == pytest.approx(np.mean(flow), rel=1e-5)
        assert float(found[node, 1]) == pytest.approx((np.mean(speed) - 50) / 10, rel=1e-4)
    assert found[2].tolist() == [0, 0]  # a sensor that was always silent: the mean of all


def test_tables_are_the_smoothed_means_of_the_training_span(series: Series) -> None:
    rows = slice(0, 8 * SLOTS)

    tables = ProfileTables.of(series, rows, SIGNAL)

    assert tables.whole.shape == (2 * SLOTS, 3, 1)
    for slot, weekend, node in ((0, False, 0), (7, False, 1), (23, True, 0)):
        expected = literal_mean(series, slot, weekend, node, rows)
        assert float(tables.whole[slot + SLOTS * weekend, node, 0]) == pytest.approx(expected, abs=1e-5)
        expected = literal_mean(series, slot, weekend, node, rows, without=5 if weekend else 2)
        found = tables.without_day[5 if weekend else 2, slot + SLOTS * weekend, node, 0]
        assert float(found) == pytest.approx(expected, abs=1e-5)
    assert (tables.whole[:, 2] == 0).all()  # never observed: the training mean


def test_a_kind_of_day_never_seen_takes_the_other_one(series: Series) -> None:
    tables = ProfileTables.of(series, slice(0, 4 * SLOTS), SIGNAL)

    torch.testing.assert_close(tables.whole[:SLOTS], tables.whole[SLOTS:])


def test_what_training_sees_never_holds_the_day_at_hand(series: Series) -> None:
    rows = slice(0, 8 * SLOTS)
    changed = series.values.copy()
    changed[2 * SLOTS : 3 * SLOTS] += 30
    tables = ProfileTables.of(series, rows, SIGNAL)
    other = ProfileTables.of(replace(series, values=changed), rows, SIGNAL)
    chunk = torch.arange(2 * SLOTS, 2 * SLOTS + 10)[None]
    time = torch.from_numpy(series.time_of_week())[chunk][..., None]
    profile = DailyProfile(tables.whole, 4)

    assert torch.equal(tables.at(chunk, time, profile), other.at(chunk, time, profile))
    assert not torch.equal(tables.whole, other.whole)


def test_the_test_span_is_not_in_the_tables(series: Series) -> None:
    changed = series.values.copy()
    changed[8 * SLOTS :] = 0
    tables = [ProfileTables.of(one, slice(0, 8 * SLOTS), SIGNAL) for one in (series, replace(series, values=changed))]

    assert torch.equal(tables[0].whole, tables[1].whole)
