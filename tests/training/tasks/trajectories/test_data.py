"""Tracks cut into slots by hand, the errors of a known walk, and constant velocity on the real scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.errors import ConfigError, DataError
from training.tasks.trajectories.data import (
    FORECAST,
    LENGTH,
    OBSERVED,
    SCENES,
    Recording,
    ade_fde,
    constant_velocity,
    displacement_errors,
    people_seen,
    read_recordings,
    recording,
    split_scenes,
    windows,
)


def track(person: int, first: int, last: int, velocity: float = 0.0) -> np.ndarray:
    """Rows of a person who is there from interval ``first`` to ``last`` and walks along x."""
    times = np.arange(first, last + 1)
    return np.stack([10.0 * times, np.full(len(times), person), velocity * times, np.full(len(times), person)], axis=1)


def crowd(*tracks: np.ndarray) -> Recording:
    return recording("crowd", np.concatenate(tracks))


def test_who_is_there_throughout_is_scored_and_first() -> None:
    found = crowd(track(1, 5, 12), track(2, 0, 19, 1.0), track(3, 8, 19), track(4, 0, 3))

    cut = windows(found, capacity=4)

    assert (len(cut), cut.capacity, people_seen(found)) == (1, 4, 3)
    assert cut.scored.tolist() == [[True, False, False, False]]
    assert cut.positions[0, :, 0, 0].tolist() == list(range(LENGTH))
    assert cut.present[0, :, 1].tolist() == [5 <= t <= 12 for t in range(LENGTH)]
    assert cut.present[0, :, 2].tolist() == [t <= 3 for t in range(LENGTH)]  # person 3 came too late to be seen
    assert not cut.present[0, :, 3].any()


def test_windows_lie_side_by_side() -> None:
    cut = windows(crowd(track(1, 0, 19, 1.0), track(2, 1, 20, 1.0)), 2)

    assert cut.scored.tolist() == [[True, False], [True, False]]
    assert cut.positions[:, 0, 0, 0].tolist() == [0, 1]


def test_no_window_spans_a_gap() -> None:
    cut = windows(crowd(track(1, 0, 9, 1.0), track(1, 15, 40, 1.0)), 1)

    assert cut.positions[:, 0, 0, 0].tolist() == list(range(15, 22))


def test_too_few_slots_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 slots"):
        windows(crowd(track(1, 0, 19), track(2, 0, 7)), 1)


def test_constant_velocity_goes_on_as_it_went() -> None:
    found = crowd(track(1, 0, 19, 0.5), track(2, 0, 19))
    found.positions[OBSERVED:, 1, 1] += 3.0  # the second steps aside by three metres and stays there

    cut = windows(found, 3)
    forecast = constant_velocity(cut)
    averages, finals = displacement_errors(forecast, cut)

    assert forecast.shape == (1, FORECAST, 3, 2)
    np.testing.assert_allclose(averages, [0, 3], atol=1e-12)
    np.testing.assert_allclose(finals, [0, 3], atol=1e-12)
    assert ade_fde([(averages, finals), (np.array([6.0]), np.array([9.0]))]) == (3.0, 4.0)


def test_the_average_is_over_the_steps() -> None:
    cut = windows(crowd(track(1, 0, 19, 1.0)), 1)
    standing = np.repeat(cut.positions[:, OBSERVED - 1 : OBSERVED], FORECAST, axis=1)

    averages, finals = displacement_errors(standing, cut)

    assert averages.tolist() == [6.5]  # of 1 … 12
    assert finals.tolist() == [12.0]


def test_rows_that_contradict_are_refused() -> None:
    with pytest.raises(DataError, match="two places"):
        crowd(track(1, 0, 3), track(1, 2, 2))
    with pytest.raises(DataError, match="off the grid"):
        recording("crowd", np.array([[0.0, 1, 0, 0], [7.0, 1, 0, 0]]))


def test_the_scene_left_out_is_in_no_training_recording() -> None:
    names = ["biwi_eth", "biwi_hotel", "students001", "students003", "crowds_zara01", "crowds_zara02", "crowds_zara03"]
    found = {name: Recording(name, *([np.zeros(0)] * 3)) for name in names}  # type: ignore[list-item]

    train, test = split_scenes(found, "univ")

    assert [one.name for one in test] == ["students001", "students003"]
    assert {one.name for one in train} == set(names) - {"students001", "students003"}
    with pytest.raises(ConfigError, match="zara2"):
        split_scenes(found, "zara3")


@pytest.mark.parametrize(
    ("scene", "expected", "tracks"),
    [
        ("eth", (1.075, 2.282), 364),
        ("hotel", (0.319, 0.614), 1_197),
        ("univ", (0.524, 1.165), 24_334),
        ("zara1", (0.427, 0.952), 2_356),
        ("zara2", (0.324, 0.724), 5_910),
    ],
)
def test_constant_velocity_on_the_real_scenes(
    shared_data: Path, scene: str, expected: tuple[float, float], tracks: int
) -> None:
    found = read_recordings(shared_data / "eth-ucy.npz")
    cuts = [windows(one, people_seen(one)) for one in split_scenes(found, scene)[1]]

    errors = [displacement_errors(constant_velocity(cut), cut) for cut in cuts]

    assert sum(len(averages) for averages, _ in errors) == tracks
    assert ade_fde(errors) == pytest.approx(expected, abs=6e-4)


def test_every_scene_has_its_recordings(shared_data: Path) -> None:
    found = read_recordings(shared_data / "eth-ucy.npz")

    assert len(found) == 8
    assert sum(int(one.present.sum()) for one in found.values()) == 74_428
    assert all(name in found for scene in SCENES.values() for name in scene)
