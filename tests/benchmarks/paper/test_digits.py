"""Digits move as they should, and a sequence is one window of a recording."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.paper.digits import SPEEDS, grid, moving_digits, recording, small_digits
from benchmarks.paper.figure2 import Scene, scored
from benchmarks.paper.figure2_report import packed, picture, report, unpacked
from stunet_deploy.errors import ConfigError
from training.baselines import historical_average, persistence
from training.protocols import choose_protocol

SIDE, SIZE = 9, 3


def squares(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return digits [digit, row, column] that are told apart by their brightness."""
    brightness = (np.arange(1, count + 1) / count).astype(np.float32)
    return np.broadcast_to(brightness[:, None, None], (count, SIZE, SIZE)).copy()


def test_a_digit_stays_whole_within_the_frame_and_moves() -> None:
    scenes = moving_digits(squares(4), 30, 12, SIDE, 1, np.random.default_rng(0))

    lit = scenes > 0
    assert lit.sum(axis=(2, 3)).tolist() == [[SIZE * SIZE] * 12] * 30
    corners = np.stack([lit.any(axis=axis).argmax(axis=-1) for axis in (3, 2)], axis=-1)
    moved = np.abs(np.diff(corners, axis=1))
    assert moved.max() <= np.ceil(SPEEDS[1])
    assert (moved.sum(axis=(1, 2)) > 0).all()
    assert corners.min() == 0
    assert corners.max() == SIDE - SIZE


@pytest.mark.parametrize(("side", "together"), [(SIZE - 1, 1), (SIDE, 0)])
def test_a_frame_without_room_or_digits_is_refused(side: int, together: int) -> None:
    with pytest.raises(ConfigError, match=f"at least one on at least {SIZE} pixels"):
        moving_digits(squares(4), 3, 4, side, together, np.random.default_rng(0))


def test_of_two_digits_the_brighter_pixel_is_seen() -> None:
    scenes = moving_digits(squares(2), 50, 5, SIDE, 2, np.random.default_rng(0))

    assert set(np.unique(scenes)) == {np.float32(0), np.float32(0.5), np.float32(1)}
    assert (scenes > 0).sum(axis=(2, 3)).min() < 2 * SIZE * SIZE


def test_every_sequence_is_a_window_and_the_last_ones_have_digits_of_their_own() -> None:
    series = recording(squares(10), 44, 8, SIDE, 1, seed=0)
    split = choose_protocol(series, "b", 4, 4)

    assert [len(part) for part in (split.train, split.validation, split.test)] == [34, 5, 5]
    assert split.train.tolist() == list(range(3, 34 * 8, 8))
    brightness = series.values.reshape(44, -1).max(axis=1)
    assert not set(brightness[:34].tolist()) & set(brightness[34:].tolist())


def test_pixels_are_joined_to_the_eight_around_them() -> None:
    weights = grid(3).adjacency.dense()

    assert np.array_equal(weights, weights.T)
    assert (weights > 0).sum(axis=1).tolist() == [3, 5, 3, 5, 8, 5, 3, 5, 3]
    assert weights[4].tolist() == pytest.approx([0.5**0.5, 1, 0.5**0.5, 1, 0, 1, 0.5**0.5, 1, 0.5**0.5])


def test_the_digits_of_scikit_learn_are_real_ones() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, whose digits move, is not installed")
    digits = small_digits()

    assert digits.shape == (1797, 8, 8)
    assert (digits.min(), digits.max()) == (0, 1)


def test_frames_are_packed_a_byte_a_pixel() -> None:
    frames = np.array([[0, 0.5, 1, 2], [1 / 255, -1, 0, 0.25]], np.float32)

    assert unpacked(packed(frames), 2).tolist() == [[[0, 128], [255, 255]], [[1, 0], [0, 64]]]


def test_errors_are_of_every_frame_ahead() -> None:
    series = recording(squares(10), 44, 8, SIDE, 1, seed=0)
    scene = Scene(None, 44, 4, SIDE, 1)
    split = scene.split(series)

    found = scored(persistence(series, split), scene, series)

    frames = series.values.reshape(44, 8, -1)[-5:]
    missed = frames[:, 3:4] - frames[:, 4:]
    assert found["mae"] == pytest.approx(np.abs(missed).mean(axis=(0, 2)), rel=1e-5)
    assert found["rmse"] == pytest.approx(np.sqrt((missed**2).mean(axis=(0, 2))), rel=1e-5)
    expected = np.rint(255 * frames[0, 3]).reshape(SIDE, SIDE)
    assert (unpacked(found["example"], SIDE) == expected).all()


def test_the_page_and_the_picture_are_of_the_runs_of_one_training() -> None:
    series, scene = recording(squares(10), 44, 8, SIDE, 1, seed=0), Scene(None, 44, 4, SIDE, 1)
    split = scene.split(series)
    still = {
        name: scored(fit(series, split), scene, series)
        for name, fit in (("copy of the last frame", persistence), ("mean frame of training", historical_average))
    }
    known: dict[str, Any] = {"scene": {"path": None, "seen": 4, "side": SIDE, "digits": 1}}
    known |= {"hidden": 2, "decoder": "direct", "minutes": 1.0}
    where = {"cpu": "a processor", "cores": 2, "commit": "0" * 40}
    run = known | {"environment": where, "epochs": 3, "parameters": 1234, "cpu_seconds": 60.0}
    errors = {"mae": [0.1] * 4, "example": still["copy of the last frame"]["example"]}
    runs = [
        run | errors | {"model": name, "seed": seed, "rmse": [0.1 + seed / 10, 0.2, 0.3, 0.4]}
        for name in ("ST-UNet", "GCGRU")
        for seed in (0, 1)
    ]
    runs.append(runs[0] | {"minutes": 9.0, "rmse": [9.0] * 4})
    frames = packed(series.values[:4, :, 0])
    counts = {"train": 34, "validation": 5, "test": 5}
    result = known | {"command": "a command", "environment": where, "sequences": counts, "runs": runs}
    result |= {"seen": frames, "truth": frames, "still": still}

    page, drawn = report(result), picture(result)

    assert "| ST-UNet | 0.150 | 0.200 | 0.300 | 0.400 | 0.263 ±0.018 | 1,234 | 3 | 1.0 |" in page
    assert drawn == picture(result)
    assert "GCGRU, three layers" in drawn
