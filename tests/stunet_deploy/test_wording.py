"""Numbers in messages and tables keep their figures, whatever their size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.wording import exactly, in_figures, span_in_words


@given(st.floats(1e-12, 1e9), st.integers(1, 4))
def test_what_is_shown_differs_by_little(number: float, decimals: int) -> None:
    shown = float(in_figures(number, decimals))
    assert math.isclose(shown, number, rel_tol=0.5 * 10**-decimals * 1.01, abs_tol=0)
    assert in_figures(-number, decimals) == "-" + in_figures(number, decimals)


@pytest.mark.parametrize(
    ("number", "shown"), [(3.456, "3.46"), (0, "0.00"), (0.01234, "0.0123"), (0.5, "0.500"), (1e-7, "1.00e-07")]
)
def test_errors_of_any_size(number: float, shown: str) -> None:
    assert in_figures(number) == shown


@pytest.mark.parametrize(
    ("minutes", "shown"),
    [
        (0.5, "0.5 min"),
        (15, "15 min"),
        (120, "120 min"),
        (360, "6 h"),
        (390, "390 min"),
        (1440, "1 d"),
        (30240, "21 d"),
    ],
)
def test_spans_have_the_unit_that_suits_them(minutes: float, shown: str) -> None:
    assert span_in_words(minutes) == shown


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (2046, "2046"), (-1, "-1"), (0, "0"), (9999999, "9999999"), (0.3, "0.3"), (-9999.9, "-9999.9"),
        (float(np.float32(0.3)), "0.3"), (1e7, "10000000"), (1e-7, "0.0000001"),
    ],
)  # fmt: skip
def test_a_number_as_it_is_kept(number: float, text: str) -> None:
    assert exactly(number) == text
    assert np.float32(text) == np.float32(number)
