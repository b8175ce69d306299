"""Codes for no data and impossible readings among readings, drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.series.extremes import credible_range, find_codes

SHAPE = (400, 6)


def speeds(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(60, 8, SHAPE), 5, 75).round(1).astype(np.float32)


def counts(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(np.array([0.2, 2, 9, 40, 150, 600]), SHAPE).astype(np.float32)


quantities = pytest.mark.parametrize("quantity", [speeds, counts])


@quantities
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_readings_alone_have_no_codes_and_their_own_range(quantity, seed: int) -> None:
    values = quantity(seed)
    assert find_codes(values.ravel()) == []
    assert credible_range(values, np.ones(SHAPE, bool)) == (values.min(), values.max())


@quantities
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    codes=st.sampled_from([(9999,), (32767,), (-9999,), (-8888.25,), (65535, 65534), (14095, 14094, 14093)]),
    share=st.floats(0.005, 0.5),
)
def test_repeated_numbers_far_from_all_else_are_codes(quantity, seed: int, codes: tuple, share: float) -> None:
    values, rng = quantity(seed), np.random.default_rng(seed + 1)
    spoilt = values.copy()
    hit = rng.random(SHAPE) < share
    spoilt[hit] = rng.choice(np.float32(codes), int(hit.sum()))
    often = np.unique(spoilt[hit], return_counts=True)[1]
    if len(often) < len(codes) or often.min() < 5:
        return

    assert sorted(code.value for code in find_codes(spoilt.ravel())) == sorted(np.float32(codes).tolist())
    left = values[~hit]
    assert credible_range(spoilt, np.ones(SHAPE, bool)) == (left.min(), left.max())


def test_what_may_be_a_reading_is_named_and_stays() -> None:
    occupancy = np.round(np.random.default_rng(0).beta(2, 8, SHAPE) * 40).astype(np.float32)
    occupancy[100:104] = 100  # a queue
    (code,) = find_codes(occupancy.ravel())
    assert (code.value, code.certain) == (100, False)
    assert credible_range(occupancy, np.ones(SHAPE, bool)) == (0, 100)

    demand = counts(4)
    demand[200:206, 0] = 70  # at a stop where hardly anybody waits
    assert credible_range(demand, np.ones(SHAPE, bool))[1] == demand.max()


@quantities
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), wrong=st.sampled_from([1e6, 3e7, -1e6]), where=st.integers(0, 399))
def test_a_single_impossible_reading_does_not_widen_the_range(quantity, seed: int, wrong: float, where: int) -> None:
    values = quantity(seed)
    values[where, where % 6] = wrong
    left = values[values != np.float32(wrong)]
    assert find_codes(values.ravel()) == []
    assert credible_range(values, np.ones(SHAPE, bool)) == (left.min(), left.max())


def test_a_sensor_of_its_own_kind_keeps_its_readings() -> None:
    values = np.repeat(counts(0), 300, axis=1)
    values[:, 7] = np.random.default_rng(3).poisson(50_000, SHAPE[0])  # one of 1,800 sensors, 80 times as large
    assert credible_range(values, np.ones(values.shape, bool)) == (0, values.max())


def test_what_was_not_observed_does_not_count() -> None:
    values = speeds(1)
    observed = np.ones(SHAPE, bool)
    values[:20, 2], observed[:20, 2] = 9999, False
    assert credible_range(values, observed)[1] <= 75


def test_few_values_are_a_state_and_no_quantity() -> None:
    assert find_codes(np.repeat([0.0, 1.0, 100.0], 50)) == []
    assert credible_range(np.full((30, 2), 4.0, np.float32), np.ones((30, 2), bool)) == (4, 4)
