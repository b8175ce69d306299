"""The rule that fires, the weights and the scores, each by hand; folds whose parts share nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.errors import ConfigError
from training.tasks.anticipation.data import (
    Drives,
    best_threshold,
    chance,
    fire,
    from_front_padded,
    read_fold,
    recordings_of,
    score,
    time_weights,
)


def drives(label: list[int], steps: int = 3) -> Drives:
    present = np.ones((len(label), steps), dtype=bool)
    features = np.arange(len(label) * steps * 16.0).reshape(len(label), steps, 16)
    return Drives(features, present, np.array(label))


def probabilities(*rows: list[tuple[int, float]]) -> np.ndarray:
    """One sequence per row, one (class, its probability) per step; the rest is shared by the others."""
    result = np.zeros((len(rows), len(rows[0]), 5))
    for sequence, row in enumerate(rows):
        for step, (kind, probability) in enumerate(row):
            result[sequence, step] = (1 - probability) / 4
            result[sequence, step, kind] = probability
    return result


def test_the_first_step_that_is_sure_enough_fires() -> None:
    found = probabilities(
        [(1, 0.5), (2, 0.8), (1, 0.9)],  # fires at the second step, and stays
        [(0, 0.9), (0, 0.9), (3, 0.79)],  # never
        [(4, 0.8), (0, 0.9), (0, 0.9)],  # at once
    )

    predicted, ahead = fire(found, np.ones((3, 3), dtype=bool), 0.8)

    assert predicted.tolist() == [2, 0, 4]
    np.testing.assert_allclose(ahead, [0.8, 0.0, 1.6])


def test_nothing_fires_after_the_end() -> None:
    found = probabilities([(0, 0.9), (1, 0.9), (2, 0.9)], [(0, 0.9), (0, 0.9), (2, 0.9)])
    present = np.array([[True, True, False]] * 2)

    predicted, ahead = fire(found, present, 0.5)

    assert predicted.tolist() == [1, 0]
    assert ahead.tolist() == [0.0, 0.0]


def test_the_loss_weighs_the_end_of_each_sequence_most() -> None:
    weights = time_weights(np.array([[True, True, True], [True, True, False]]))

    np.testing.assert_allclose(weights, [[np.exp(-2), np.exp(-1), 1], [np.exp(-1), 1, 0]])
    assert time_weights(np.array([[True, False]]), uniform=True).tolist() == [[1, 0]]


def test_scores_by_hand() -> None:
    label = np.array([1, 1, 2, 2, 3, 4, 0, 0])
    predicted = np.array([1, 2, 2, 2, 0, 1, 0, 1])
    ahead = np.array([4.0, 1.0, 2.0, 4.0, 0.0, 1.0, 0.0, 2.0])

    found = score(predicted, ahead, label)

    assert found.precision == pytest.approx((1 / 3 + 2 / 3 + 0 + 0) / 4)
    assert found.recall == pytest.approx((1 / 2 + 2 / 2 + 0 + 0) / 4)
    assert found.time == pytest.approx((4.0 + 3.0) / 2)
    assert found.f1 == pytest.approx(2 * 0.25 * 0.375 / 0.625)
    assert found.false_alarms == pytest.approx(0.5)


def test_a_silent_predictor_scores_nothing() -> None:
    found = score(np.zeros(3, dtype=np.int64), np.zeros(3), np.array([0, 1, 2]))

    assert (found.precision, found.recall, found.time, found.f1, found.false_alarms) == (0, 0, 0, 0, 0)


def test_the_best_threshold_is_above_the_false_alarms() -> None:
    found = probabilities([(1, 0.7), (1, 0.9), (1, 0.9)], [(2, 0.61), (0, 0.9), (0, 0.9)])

    assert best_threshold(found, drives([1, 0])) == 0.9


def test_padding_moves_from_the_front_to_the_end() -> None:
    x = np.arange(3.0)[:, None, None] * np.ones((3, 2, 16)) + 1
    y = np.array([[0, 4], [2, 4], [2, 4]])

    found = from_front_padded(x, y)

    assert found.features[..., 0].tolist() == [[2, 3, 0], [1, 2, 3]]
    assert found.present.tolist() == [[True, True, False], [True, True, True]]
    assert found.label.tolist() == [1, 3]


def test_sequences_with_a_step_in_common_are_one_recording() -> None:
    one = drives([0, 0, 0])
    other = drives([0, 0])
    other.features[:] += 1000
    other.features[1, 2] = one.features[2, 0]  # a step of the third
    one.features[0, 1] = one.features[1, 1]

    group = recordings_of(one, other)

    assert group[0] == group[1] != group[2]
    assert group[2] == group[4] != group[3]


def test_chance_draws_as_often_as_training_shows() -> None:
    predicted, ahead = chance(drives([1, 1, 1, 0]), drives([0] * 4000), np.random.default_rng(0))

    assert np.bincount(predicted)[1] / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(ahead[predicted == 1]) == {1.6}
    assert set(ahead[predicted == 0]) == {0.0}


@pytest.mark.parametrize(("fold", "tested"), [(1, 94), (2, 93)])
def test_the_parts_of_a_real_fold_share_no_step(shared_data: Path, fold: int, tested: int) -> None:
    found = read_fold(shared_data / "brain4cars.npz", fold)
    group = recordings_of(found.train, found.validation, found.test)
    parts = np.repeat([0, 1, 2], [len(found.train), len(found.validation), len(found.test)])

    assert len(found.test) == tested
    assert found.test.present.all()
    assert len(found.train) > 1_000
    assert len(found.validation) > 100
    assert all(len(set(parts[group == one])) == 1 for one in np.unique(group))


def test_other_folds_are_refused(shared_data: Path) -> None:
    with pytest.raises(ConfigError, match="identical"):
        read_fold(shared_data / "brain4cars.npz", 3)
