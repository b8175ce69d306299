"""Statistics of sensors: by hand from the training span, and what a silent or constant sensor gets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stunet_deploy.config import Signal
from stunet_deploy.models.sensors import QUANTILES, STATIC_FEATURES
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from training.sensors import LEAST_SPREAD, sensor_statistics
from training.usual_days import UsualDays

ROWS = slice(0, 7 * 24)
SIGNAL = Signal(("flow", "speed"), ("speed",), mean=(40.0, 50.0), std=(10.0, 20.0), low=(0.0, 0.0), high=(99.0, 99.0))


@pytest.fixture
def series() -> Series:
    """Hourly readings of a steady, a restless, a constant and a silent sensor."""
    generator = np.random.default_rng(5)
    values = generator.uniform(20, 80, (9 * 24, 4, 2)).astype(np.float32)
    values[:, 0, 1] = 60 + values[:, 0, 1] / 20
    values[:, 2, 1] = 30
    observed = generator.random(values.shape) < 0.8
    observed[:, 3] = False
    times = 1_741_564_800 + 3600 * np.arange(len(values))
    return Series(values, observed, times, Site(("a", "b", "c", "d"), ("flow", "speed"), ("", "km/h"), 3600))


@pytest.mark.parametrize("profiled", [False, True])
def test_statistics_are_those_of_the_training_span(series: Series, profiled: bool) -> None:
    days = UsualDays.of(series, ROWS, ("speed",)) if profiled else None

    found = sensor_statistics(series, ROWS, SIGNAL, days)

    assert found.static.shape == (4, STATIC_FEATURES)
    spreads = []
    for node in range(3):
        seen = series.observed[ROWS, node, 1]
        readings = series.values[ROWS, node, 1][seen].astype(np.float64)
        usual = readings.mean() if days is None else days.of_row[ROWS, node, 0][seen]
        spreads.append(np.abs(readings - usual).mean())
        quantiles = [(np.quantile(readings, share) - 50) / 20 for share in QUANTILES]
        np.testing.assert_allclose(found.static[node, :-1], quantiles, atol=1e-5)
        np.testing.assert_allclose(found.mean[node, 1], (readings.mean() - 50) / 20, atol=1e-5)
    typical = np.mean(spreads)
    expected = [max(spread, LEAST_SPREAD * typical) for spread in spreads] + [typical]
    np.testing.assert_allclose(found.static[:, -1], np.log(np.array(expected) / 20), rtol=1e-4)
    np.testing.assert_allclose(found.scale[:, 0] ** 2, np.array(expected) / typical, rtol=1e-4)
    # The silent sensor has the quantiles of all.
    of_all = series.values[ROWS, :3, 1][series.observed[ROWS, :3, 1]]
    np.testing.assert_allclose(found.static[3, :-1], (np.quantile(of_all, QUANTILES) - 50) / 20, atol=1e-5)


def test_rows_after_the_training_span_change_nothing(series: Series) -> None:
    other = series.values.copy()
    other[ROWS.stop :] += 7

    first, second = (
        sensor_statistics(one, ROWS, SIGNAL, UsualDays.of(one, ROWS, ("speed",)))
        for one in (series, replace(series, values=other))
    )

    for ours, theirs in zip(first, second, strict=True):
        assert ours.equal(theirs)


def test_sensors_that_are_all_constant_have_finite_statistics(series: Series) -> None:
    still = replace(series, values=np.full_like(series.values, 30))

    found = sensor_statistics(still, ROWS, SIGNAL)

    assert all(bool(statistic.isfinite().all()) for statistic in found)
    assert bool((found.scale > 0).all())
