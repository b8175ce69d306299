"""Scheduled sampling: the inverse sigmoid by hand, and the decay that halves midway."""

from __future__ import annotations

import math

import pytest

from training.sampling import sampling_decay, sampling_probability


@pytest.mark.parametrize(
    ("update", "decay", "expected"),
    [
        (0, 2000, 2000 / 2001),
        (2000 * math.log(2000), 2000, 0.5),  # DCRNN's, at update 15,202
        (100, 10, 10 / (10 + math.exp(10))),
        (10**9, 2, 0.0),
    ],
)
def test_the_chance_of_a_label_by_hand(update, decay, expected):
    assert sampling_probability(update, decay) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("planned", [1, 10, 500, 30_404])
def test_the_default_decay_reaches_one_half_midway(planned):
    decay = sampling_decay(planned)

    assert decay * math.log(decay) == pytest.approx(planned / 2)
    assert sampling_probability(planned / 2, decay) == pytest.approx(0.5)


def test_the_default_decay_of_a_full_run_is_about_dcrnns():
    assert sampling_decay(2 * 15_202) == pytest.approx(2000, rel=1e-3)
