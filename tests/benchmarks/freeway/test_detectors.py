"""Detectors: noise, rounding and lost readings."""

import numpy as np
import pytest

from benchmarks.freeway.detectors import SCALE, measure


@pytest.fixture
def traffic():
    rng = np.random.default_rng(1)
    vehicles = rng.integers(1, 400, size=(2016, 8))
    vehicles[:30, 2] = 0
    speed = np.where(vehicles > 0, rng.uniform(20.0, 105.0, size=vehicles.shape), np.nan)
    return speed, vehicles


def test_nothing_is_stored_under_the_mask(traffic):
    values, observed = measure(*traffic, np.random.default_rng(2))
    assert values.dtype == np.int16
    assert observed.dtype == bool
    assert (values[~observed] == 0).all()
    assert 0.01 < 1 - observed[..., 1].mean() < 0.1


def test_an_empty_road_has_a_flow_of_zero_and_no_speed(traffic):
    values, observed = measure(*traffic, np.random.default_rng(2))
    assert not observed[:30, 2, 0].any()
    assert observed[:30, 2, 1].any()
    assert (values[:30, 2, 1] == 0).all()


def test_readings_stay_near_the_traffic(traffic):
    speed, vehicles = traffic
    values, observed = measure(speed, vehicles, np.random.default_rng(2))
    flow = observed[..., 1]
    np.testing.assert_array_equal((values[..., 1] * SCALE[1])[flow], vehicles[flow] * 12.0)
    many = observed[..., 0] & (vehicles > 100)
    error = (values[..., 0] * SCALE[0] - speed)[many]
    assert 0.5 < np.abs(error).mean() < 3.0


def test_the_same_generator_gives_the_same_readings(traffic):
    first, second = (measure(*traffic, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
