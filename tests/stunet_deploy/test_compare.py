from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stunet_deploy.compare import compare, course
from stunet_deploy.errors import DataError


def test_a_comparison_says_by_how_much_and_where():
    expected = np.zeros((20, 3, 4, 1), np.float32)
    found = expected.copy()
    found[13, 2, 1, 0] = -0.25
    comparison = compare(found, expected, 0.5)
    assert comparison
    assert comparison.passed
    assert comparison.max_abs_error == 0.25
    assert comparison.mean_abs_error == pytest.approx(0.25 / 240)
    assert comparison.worst == (13, 2, 1, 0)
    assert comparison.intervals == 20
    assert comparison.block_max == (0, 0, 0, 0, 0, 0, 0.25, 0, 0, 0)
    assert not compare(found, expected, 0.24)


def test_growth_shows_in_blocks():
    expected = np.ones((40, 2))
    drift = 1 + 1e-6 * np.arange(40)[:, None]
    growing = compare(drift * expected, expected, 1e-3)
    assert list(growing.block_mean) == sorted(growing.block_mean)
    assert growing.growth == pytest.approx(29.5 / 9.5)
    steady = compare(expected + 1e-6, expected, 1e-3)
    assert steady.growth == pytest.approx(1)
    assert compare(expected, expected, 0).growth == 1
    late = expected.copy()
    late[-1] += 1
    assert compare(late, expected, 0).growth == math.inf
    assert compare(expected[:1], expected[:1], 0).growth == 1


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_never_passes(number):
    expected = np.zeros((5, 2))
    found = expected.copy()
    found[3, 1] = number
    comparison = compare(found, expected, 1e30)
    assert not comparison
    assert comparison.worst == (3, 1)
    assert json.loads(json.dumps(course(comparison), allow_nan=False))["max"] == [0, 0, 0, None, 0]


def test_shapes_must_agree():
    with pytest.raises(DataError, match="one shape"):
        compare(np.zeros((3, 2)), np.zeros((3, 1)), 1)
    with pytest.raises(DataError, match="not empty"):
        compare(np.zeros((0, 2)), np.zeros((0, 2)), 1)
