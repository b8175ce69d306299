"""Rotations by hand, the resampling of a known turn, and the error of a known difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stunet_deploy.errors import DataError
from training.tasks.motion.data import (
    CHANNELS,
    HORIZONS,
    SEED_FRAMES,
    Scale,
    Sequence,
    euler_error,
    mean_errors,
    read_motion,
    resample,
    split_motion,
    windows,
    zero_velocity,
)
from training.tasks.motion.rotations import continuous, euler_angles, resample_rotations

QUARTER = np.pi / 2


def poses(*shape: int) -> np.ndarray:
    return np.zeros((*shape, CHANNELS))


def test_a_turn_about_one_axis_has_that_euler_angle() -> None:
    maps = 0.3 * np.eye(3)

    np.testing.assert_allclose(euler_angles(maps), 0.3 * np.eye(3), atol=1e-12)


def test_euler_angles_are_turned_one_after_the_other() -> None:
    # A quarter turn about x, then one about the new y: x goes to -z of the second frame, which is +y of the first.
    turned = Rotation.from_euler("XYZ", [QUARTER, 0.5, 0.0]).as_rotvec()

    x_axis = _rotate(turned, np.array([1.0, 0.0, 0.0]))

    np.testing.assert_allclose(x_axis, [np.cos(0.5), np.sin(0.5), 0.0], atol=1e-12)


def _rotate(rotation: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(rotation))
    axis = rotation / angle
    return np.asarray(
        vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle) + axis * (axis @ vector) * (1 - np.cos(angle))
    )


def test_the_angles_are_those_of_the_published_formula_with_the_sign_turned() -> None:
    maps = np.random.default_rng(0).uniform(-1.5, 1.5, (200, 3))

    columns = np.stack([[_rotate(one, axis) for axis in np.eye(3)] for one in maps])  # rows are R's columns
    matrix = columns.transpose(0, 2, 1)
    second = -np.arcsin(matrix[:, 0, 2])
    first = np.arctan2(matrix[:, 1, 2] / np.cos(second), matrix[:, 2, 2] / np.cos(second))
    third = np.arctan2(matrix[:, 0, 1] / np.cos(second), matrix[:, 0, 0] / np.cos(second))

    np.testing.assert_allclose(euler_angles(maps), -np.stack([first, second, third], axis=1), atol=1e-9)


def test_interpolation_takes_the_short_way_whatever_the_numbers() -> None:
    # 170° and 190° about x; the second is written as -170°, so the numbers' mean would be no turn at all.
    maps = np.radians([[[170.0, 0, 0]], [[-170.0, 0, 0]]])

    halfway = resample_rotations(maps, np.array([0.5]))

    np.testing.assert_allclose(np.abs(halfway), [[[np.pi, 0, 0]]], atol=1e-12)


def test_a_turn_past_half_a_circle_is_continuous() -> None:
    angles = np.linspace(0, 5.5, 40)
    maps = np.zeros((40, 1, 3))
    maps[:, 0, 1] = np.where(angles > np.pi, angles - 2 * np.pi, angles)

    np.testing.assert_allclose(continuous(maps)[:, 0, 1], angles, atol=1e-12)


def test_resampling_a_constant_turn_keeps_its_speed_and_its_ends() -> None:
    recorded = poses(121)  # one second
    recorded[:, 5] = np.arange(121) / 120  # a radian a second about z
    recorded[:, 0] = 3.0 * np.arange(121) / 120

    frames = resample(recorded)

    assert len(frames) == 26
    np.testing.assert_allclose(frames[:, 5], np.arange(26) / 25, atol=1e-12)
    np.testing.assert_allclose(frames[:, 0], 3.0 * np.arange(26) / 25, atol=1e-12)
    assert len(resample(recorded[:120])) == 25


def test_the_error_is_the_distance_of_the_angles_that_move() -> None:
    truth, forecast = poses(1, 3), poses(1, 3)
    truth[0, :, 6] = [0.1, 0.2, 0.3]  # a joint about x
    truth[0, :, 10] = [0.0, 0.4, 0.8]  # another about y
    forecast[0, :, 6] = [0.1, 0.2, 0.6]
    forecast[0, :, 10] = [0.0, 0.4, 1.2]
    forecast[0, :, 20] = 0.5  # a joint that stands still in truth
    forecast[0, :, :6] = 9.0  # where the body is

    np.testing.assert_allclose(euler_error(forecast, truth), [[0.0, 0.0, 0.5]], atol=1e-12)


def test_standing_still_errs_by_the_way_gone() -> None:
    walk = poses(1, 6)
    walk[0, :, 8] = 0.1 * np.arange(6)

    held = zero_velocity(walk[:, :3], 3)

    np.testing.assert_allclose(euler_error(held, walk[:, 3:]), [[0.1, 0.2, 0.3]], atol=1e-12)


def test_the_mean_is_over_actions_not_over_windows() -> None:
    table = mean_errors({"walking": np.full((1, 25), 1.0), "jumping": np.full((9, 25), 3.0)})

    assert table["mean"] == {frame: 2.0 for frame in HORIZONS}
    assert list(mean_errors({"walking": np.ones((2, 8))})["mean"]) == [2, 4, 8]


def test_a_sequence_is_either_trained_on_or_tested() -> None:
    lengths = {"test/a_1": 80, "train/a_1": 90, "train/b_1": 80, "train/b_2": 90, "test/c_1": 20, "train/c_1": 30}
    sequences = [Sequence(name, name[-3], poses(length)) for name, length in lengths.items()]

    split = split_motion(sequences)

    assert [one.name for one in split.train] == ["train/a_1", "train/b_1", "train/c_1"]
    assert [one.name for one in split.test] == ["test/a_1", "train/b_2"]


def test_still_channels_do_not_blow_up() -> None:
    frames = poses(10)
    frames[:, 7] = np.arange(10)
    frames[:, 8] = 4.0

    scale = Scale.of([Sequence("train/a_1", "a", frames)])

    assert (scale.mean[7], scale.mean[8]) == (4.5, 4.0)
    assert scale.std[7] == pytest.approx(np.sqrt(8.25))
    assert (np.delete(scale.std, 7) == 1).all()


def test_windows_lie_within_a_sequence() -> None:
    sequence = Sequence("train/a_1", "a", np.arange(10.0)[:, None] * np.ones(CHANNELS))

    assert windows(sequence, 4, 3)[:, 0, 0].tolist() == [0, 3, 6]
    assert windows(sequence, 11, 1).shape == (0, 11, CHANNELS)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, speed=np.zeros(3))

    with pytest.raises(DataError, match="walking_1"):
        read_motion(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_motion(tmp_path / "absent.npz")


@pytest.fixture(scope="module")
def sequences(shared_data: Path) -> tuple[Sequence, ...]:
    return read_motion(shared_data / "cmu-mocap.npz")


def test_the_real_sequences(sequences: tuple[Sequence, ...]) -> None:
    split = split_motion(sequences)

    assert len(sequences) == 38
    assert len({one.action for one in sequences}) == 8
    assert {one.action for one in split.test} == {one.action for one in sequences} - {"running"}
    assert {one.name for one in split.test if one.name.startswith("train/")} == {
        "train/basketball_signal_5",
        "train/directing_traffic_4",
    }
    assert all(len(one.frames) >= SEED_FRAMES + HORIZONS[-1] for one in split.test)


def test_the_real_zero_velocity_errs_more_the_further_ahead(sequences: tuple[Sequence, ...]) -> None:
    split, found = split_motion(sequences), {}
    for sequence in split.test:
        cut = windows(sequence, SEED_FRAMES + HORIZONS[-1], 25)
        found[sequence.action] = euler_error(zero_velocity(cut[:, :SEED_FRAMES], 25), cut[:, SEED_FRAMES:])

    mean = mean_errors(found)["mean"]

    assert 0.2 < mean[2] < mean[4] < mean[8] < mean[25] < 3
