"""The faults that published code has been caught with, each on an example small enough to work out by hand.

Every test computes the right number and the wrong one on paper, shows that the fault gives the wrong one, that the two
differ, and that ours is the right one.
"""

from __future__ import annotations

import numpy as np
import pytest

from stunet_deploy.metrics import STGCN_EPSILON, ErrorSums, label_mask, score

Array = np.ndarray


def cells(rows: list[list[float]]) -> Array:
    """Issue times by horizons, of one sensor and one target."""
    return np.array(rows, np.float64)[:, :, None, None]


def mae(forecast: Array, label: Array, mask: Array) -> float:
    return float(np.abs(forecast - label)[mask].mean())


def mape(forecast: Array, label: Array, mask: Array, epsilon: float = 0.0) -> float:
    return float(100 * (np.abs(forecast - label) / (label + epsilon))[mask].mean())


def test_the_mean_over_1_to_h_looks_better_than_the_error_at_h() -> None:
    label = cells([[50, 50, 50], [60, 60, 60]])
    forecast = cells([[51, 52, 56], [59, 56, 52]])

    at_h = (6 + 8) / 2
    up_to_h = (1 + 2 + 6 + 1 + 4 + 8) / 6
    assert mae(forecast, label, label_mask(label)) == pytest.approx(up_to_h)  # the fault
    assert up_to_h < at_h / 1.5

    scores = score(forecast, label)
    assert scores.mae[:, 0] == pytest.approx([(1 + 1) / 2, (2 + 4) / 2, at_h])
    assert scores.rmse[:, 0] == pytest.approx([1, np.sqrt((4 + 16) / 2), np.sqrt((36 + 64) / 2)])
    assert scores.mape[2, 0] == pytest.approx(100 * (6 / 50 + 8 / 60) / 2)


def test_the_mean_of_batch_means_weighs_cells_by_the_luck_of_their_batch() -> None:
    # Two batches; in the second two of three labels are missing, and a short last batch does the same.
    label = cells([[40], [40], [40], [40], [0], [0]])
    forecast = cells([[41], [42], [43], [50], [40], [40]])

    per_cell = (1 + 2 + 3 + 10) / 4
    per_batch = ((1 + 2 + 3) / 3 + 10) / 2
    batches = [slice(0, 3), slice(3, 6)]
    assert np.mean([score(forecast[b], label[b]).mae[0, 0] for b in batches]) == pytest.approx(per_batch)  # the fault
    rmse_per_cell, rmse_per_batch = np.sqrt((1 + 4 + 9 + 100) / 4), (np.sqrt(14 / 3) + 10) / 2
    assert np.mean([score(forecast[b], label[b]).rmse[0, 0] for b in batches]) == pytest.approx(rmse_per_batch)
    assert (per_cell, per_batch) == (4, 6)

    sums = ErrorSums()
    for batch in batches:
        sums.add(forecast[batch], label[batch])
    assert sums.scores().mae[0, 0] == pytest.approx(per_cell)
    assert sums.scores().rmse[0, 0] == pytest.approx(rmse_per_cell)
    # Even with batches of equal weight a mean of roots is not the root of the mean.
    whole = cells([[40], [40]]), cells([[41], [47]])
    assert score(*whole[::-1]).rmse[0, 0] == pytest.approx(5)
    assert np.mean([score(whole[1][i : i + 1], whole[0][i : i + 1]).rmse[0, 0] for i in (0, 1)]) == pytest.approx(4)


def test_a_mask_of_the_scaled_label_drops_the_mean_and_counts_the_missing() -> None:
    mean, std = 50.0, 10.0
    label = cells([[50], [60], [0]])  # the last is missing
    forecast = cells([[53], [61], [45]])

    right = (3 + 1) / 2
    wrong = (1 + 45) / 2
    scaled = (label - mean) / std
    assert scaled.ravel().tolist() == [0, 1, -5]
    assert mae(forecast, label, scaled != 0) == pytest.approx(wrong)  # the fault
    assert (right, wrong) == (2, 23)

    scores = score(forecast, label)
    assert scores.mae[0, 0] == pytest.approx(right)
    assert scores.rmse[0, 0] == pytest.approx(np.sqrt((9 + 1) / 2))
    assert scores.count[0, 0] == 2


def test_a_mask_after_rescaling_misses_zeros_that_round_off_moved() -> None:
    mean, std = np.float32(58.3), np.float32(13.1)
    label = np.array([62, 0, 48], np.float32).reshape(3, 1, 1, 1)
    there_and_back = (label - mean) / std * std + mean
    forecast = label + np.array([2, 50, 4], np.float32).reshape(3, 1, 1, 1)

    assert there_and_back[1] != 0  # the fault: a number like any other now
    wrong = mae(forecast, there_and_back, there_and_back != 0)
    assert wrong == pytest.approx((2 + 50 + 4) / 3, rel=1e-5)

    assert score(forecast, label).mae[0, 0] == pytest.approx(3)


def test_missing_labels_in_mape_swamp_it_or_thin_it_out() -> None:
    label = cells([[50], [40], [0], [0]])
    forecast = cells([[45], [44], [30], [20]])
    every = np.ones(label.shape, np.bool_)

    right = 100 * (5 / 50 + 4 / 40) / 2
    swamped = 100 * (5 / (50 + 1e-5) + 4 / (40 + 1e-5) + 30 / 1e-5 + 20 / 1e-5) / 4
    thinned = 100 * (5 / 50 + 4 / 40 + 0 + 0) / 4
    assert mape(forecast, label, every, 1e-5) == pytest.approx(swamped)  # a small divisor
    share = np.divide(np.abs(forecast - label), label, out=np.zeros_like(label), where=label > 0)
    assert 100 * share.mean() == pytest.approx(thinned)  # a mean that still counts them
    assert (right, thinned) == (pytest.approx(10), pytest.approx(5))
    assert swamped > 1e7

    assert score(forecast, label).mape[0, 0] == pytest.approx(right)


def test_weights_that_renormalise_the_mask_count_the_same_as_leaving_cells_out() -> None:
    # DCRNN multiplies by mask / mean(mask) and takes the mean of all: the same number, per horizon.
    label = cells([[50], [40], [0], [30], [0]])
    forecast = cells([[45], [44], [30], [33], [20]])
    mask = label_mask(label)
    weight = mask / mask.mean()

    scores = score(forecast, label)

    assert scores.mae[0, 0] == pytest.approx((np.abs(forecast - label) * weight).mean()) == pytest.approx(4)
    assert scores.rmse[0, 0] == pytest.approx(np.sqrt((25 + 16 + 9) / 3))


def test_protocol_b_divides_by_the_label_plus_epsilon_over_every_cell() -> None:
    label = cells([[50], [40], [2]])
    forecast = cells([[45], [44], [3]])
    every = np.ones(label.shape, np.bool_)

    by_hand = 100 * (5 / 50.00001 + 4 / 40.00001 + 1 / 2.00001) / 3
    found = score(forecast, label, every, epsilon=STGCN_EPSILON)

    assert found.mape[0, 0] == pytest.approx(by_hand, rel=1e-12)
    assert found.mape[0, 0] != score(forecast, label, every).mape[0, 0]
    assert found.mae[0, 0] == score(forecast, label, every).mae[0, 0] == pytest.approx(10 / 3)
    # A measured 0 counts in it, which protocol A leaves out.
    label[2] = 0
    assert score(forecast, label, every, epsilon=STGCN_EPSILON).mape[0, 0] == pytest.approx(100 * (0.2 + 3e5) / 3)
    assert score(forecast, label, every).mape[0, 0] == pytest.approx(10)


def test_an_error_in_scaled_units_is_another_number() -> None:
    mean, std = 50.0, 10.0
    label, forecast = cells([[40], [60]]), cells([[45], [63]])

    scaled = score((forecast - mean) / std, (label - mean) / std)

    assert score(forecast, label).mae[0, 0] == pytest.approx(4)
    assert scaled.mae[0, 0] == pytest.approx(0.4)  # the fault
    assert score(forecast, label).mape[0, 0] == pytest.approx(100 * (5 / 40 + 3 / 60) / 2)
    assert scaled.mape[0, 0] == pytest.approx(100 * (0.5 / 1 + 0.3 / 1) / 2)
