"""Metrics against values computed by hand, and against the wrong variants seen in the field."""

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.metrics import STGCN_EPSILON, ErrorSums, far_from_zero, label_mask, score, scored_horizons


def column(*values: float) -> np.ndarray:
    """One issue time, one horizon, one target, a node per value."""
    return np.array(values, np.float32).reshape(1, 1, -1, 1)


def recording(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts, labels and mask of 40 issue times, 4 horizons, 5 nodes, 2 targets; errors grow with both."""
    rng = np.random.default_rng(seed)
    label = rng.uniform(5, 70, (40, 4, 5, 2))
    growth = np.linspace(1, 6, 40)[:, None, None, None] * np.array([1, 2, 3, 4])[:, None, None]
    mask = rng.random(label.shape) > np.linspace(0, 0.9, 40)[:, None, None, None]
    return label + growth * rng.standard_normal(label.shape), label, mask


def test_hand_computed_values() -> None:
    scores = score(column(11, 18, 33), column(10, 20, 30))
    assert scores.mae.shape == (1, 1)
    assert scores.mae[0, 0] == pytest.approx((1 + 2 + 3) / 3)
    assert scores.rmse[0, 0] == pytest.approx(np.sqrt((1 + 4 + 9) / 3))
    assert scores.wape[0, 0] == pytest.approx(100 * (1 + 2 + 3) / (10 + 20 + 30))
    assert scores.mape[0, 0] == pytest.approx(100 * (0.1 + 0.1 + 0.1) / 3)
    assert scores.count[0, 0] == 3


def test_missing_labels_do_not_count_whatever_stands_there() -> None:
    for missing in (0.0, np.nan):
        scores = score(column(11, 18, 33, 50), column(10, 20, 30, missing))
        assert scores.mae[0, 0] == pytest.approx(2)
        assert scores.count[0, 0] == 3
    mask = np.array([True, True, True, False]).reshape(1, 1, -1, 1)
    for hidden in (np.nan, np.inf, 1e30, 7.0):
        scores = score(column(11, 18, 33, np.nan), column(10, 20, 30, hidden), mask)
        assert scores.rmse[0, 0] == pytest.approx(np.sqrt(14 / 3))


def test_a_measured_zero_counts_but_has_no_percentage() -> None:
    scores = score(column(11, 5), column(10, 0), np.ones((1, 1, 2, 1), np.bool_))
    assert scores.mae[0, 0] == pytest.approx(3)
    assert scores.count[0, 0] == 2
    assert scores.mape[0, 0] == pytest.approx(10)


def test_a_label_near_zero_decides_mape_and_not_wape() -> None:
    scores = score(column(11, 18, 33, 1.01), column(10, 20, 30, 0.01))
    assert scores.mape[0, 0] == pytest.approx((10 + 10 + 10 + 10_000) / 4)
    assert scores.wape[0, 0] == pytest.approx(100 * 7 / 60.01)


def test_wape_has_no_signs_and_is_none_of_labels_that_are_all_0() -> None:
    assert score(column(1, -1), column(2, -3)).wape[0, 0] == pytest.approx(100 * (1 + 2) / (2 + 3))
    assert np.isnan(score(column(1, 1), column(0, 0), np.ones((1, 1, 2, 1), np.bool_)).wape[0, 0])


def test_some_sensors_are_scored_alone() -> None:
    sums = ErrorSums()
    sums.add(column(11, 18, 33), column(10, 20, 30))
    scores = sums.scores(np.array([[True], [False], [True]]))
    assert scores.mae[0, 0] == pytest.approx((1 + 3) / 2)
    assert scores.wape[0, 0] == pytest.approx(100 * 4 / 40)
    assert scores.count[0, 0] == 2
    assert sums.scores().count[0, 0] == 3


@pytest.mark.parametrize(
    ("small", "told"),
    [([], True), ([4.0], True), ([4.0, 4.0], False), ([0.0, -4.0], False), ([5.5, 5.5], True)],
)
def test_percentages_hold_where_less_than_a_hundredth_of_the_labels_is_small(small: list[float], told: bool) -> None:
    # 200 labels of about 100: a label of less than 5 is small. Two of 200 are a hundredth.
    label = np.array(small + (200 - len(small)) * [100.0])
    assert far_from_zero(label, np.ones(200, np.bool_)) is told


def test_labels_that_do_not_count_do_not_decide_about_percentages() -> None:
    label = np.array([0.0, 0.0, 100.0, 100.0])
    assert far_from_zero(label, label > 0)
    assert not far_from_zero(label, np.ones(4, np.bool_))
    assert not far_from_zero(label, np.zeros(4, np.bool_))
    assert not far_from_zero(np.zeros(4), np.ones(4, np.bool_))


def test_protocol_b_divides_by_the_label_plus_epsilon() -> None:
    every = np.ones((1, 1, 2, 1), np.bool_)
    scores = score(column(11, 5), column(10, 0), every, epsilon=STGCN_EPSILON)
    assert scores.mape[0, 0] == pytest.approx(100 * (1 / (10 + 1e-5) + 5 / 1e-5) / 2)


def test_each_horizon_and_target_has_its_own_score() -> None:
    forecast, label, mask = recording()
    scores = score(forecast, label, mask)
    assert scores.mae.shape == (4, 2)
    for horizon in range(4):
        for target in range(2):
            cell = np.s_[:, horizon, :, target]
            errors = (forecast - label)[cell][mask[cell]]
            assert scores.mae[horizon, target] == pytest.approx(np.abs(errors).mean())
            assert scores.rmse[horizon, target] == pytest.approx(np.sqrt((errors**2).mean()))
            assert scores.mape[horizon, target] == pytest.approx(100 * np.abs(errors / label[cell][mask[cell]]).mean())
            assert scores.count[horizon, target] == mask[cell].sum()


def test_it_is_not_the_mean_over_the_first_horizons() -> None:
    forecast, label, mask = recording()
    up_to_the_last = np.abs(forecast - label)[mask].mean()
    assert score(forecast, label, mask).mae[-1].mean() > 1.3 * up_to_the_last


@pytest.mark.parametrize("pieces", [1, 3, 7, 40])
def test_pieces_of_any_size_give_the_score_of_the_whole(pieces: int) -> None:
    forecast, label, mask = recording()
    sums = ErrorSums()
    batch_means = []
    for rows in np.array_split(np.arange(40), pieces):
        sums.add(forecast[rows], label[rows], mask[rows])
        batch_means.append(score(forecast[rows], label[rows], mask[rows]).mae)
    whole, pieced = score(forecast, label, mask), sums.scores()
    for name in ("mae", "wape", "mape", "rmse", "count"):
        np.testing.assert_allclose(getattr(pieced, name), getattr(whole, name), rtol=1e-12)
    if 1 < pieces < 40:  # the mean of batch means, a common fault, is another number
        assert (np.abs(np.mean(batch_means, axis=0) / whole.mae - 1) > 0.02).any()


def test_a_mask_taken_after_scaling_would_count_missing_labels() -> None:
    label = column(10, 20, 0)
    scaled = (label - 10) / 5
    assert label_mask(label).ravel().tolist() == [True, True, False]
    assert label_mask(scaled).ravel().tolist() == [False, True, True]


def test_a_forecast_that_is_nan_is_seen() -> None:
    assert np.isnan(score(column(np.nan, 20), column(10, 20)).mae[0, 0])


def test_nothing_to_count_is_nan_without_a_warning() -> None:
    scores = score(column(1, 2), column(0, 0))
    assert np.isnan([scores.mae[0, 0], scores.mape[0, 0], scores.rmse[0, 0]]).all()
    assert scores.count[0, 0] == 0


def test_sums_are_float64_even_for_float32_forecasts() -> None:
    sums = ErrorSums()
    for _ in range(50):
        sums.add(np.full((1000, 1, 20, 1), 60.1, np.float32), np.full((1000, 1, 20, 1), 60.0, np.float32))
    assert sums.scores().mae[0, 0] == pytest.approx(float(np.float32(60.1)) - 60.0, rel=1e-9)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        score(np.zeros((2, 3, 4, 1)), np.zeros((2, 3, 4, 2)))
    with pytest.raises(DataError, match="one shape"):
        score(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)))
    with pytest.raises(DataError, match="at least one forecast"):
        ErrorSums().scores()


@pytest.mark.parametrize(
    ("horizon", "expected"), [(12, (3, 6, 12)), (1, (1,)), (2, (1, 2)), (6, (2, 3, 6)), (24, (6, 12, 24))]
)
def test_tables_show_a_quarter_half_and_all_of_the_horizon(horizon: int, expected: tuple[int, ...]) -> None:
    assert scored_horizons(horizon) == expected
