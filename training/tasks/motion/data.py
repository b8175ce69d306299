"""Human motion: CMU motion capture at 25 frames/s, the error in Euler angles, and the zero-velocity baseline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stunet_deploy.errors import DataError
from training.tasks.arrays import pick, read_arrays
from training.tasks.motion.rotations import Array, euler_angles, resample_rotations

RECORDED_RATE, RATE = 120.0, 25.0
CHANNELS = 117
#: Channels that are not scored: translation and rotation of the whole body.
GLOBAL_CHANNELS = 6
SEED_FRAMES = 50
#: Frames after the seed at which the literature states errors: 80, 160, 320, 400, 560 and 1000 ms.
HORIZONS = (2, 4, 8, 10, 14, 25)
#: Frames between two test windows.
TEST_STRIDE = 5
#: Standard deviation in radians up to which a channel counts as still.
STILL = 1e-4


@dataclass(frozen=True)
class Sequence:
    """One recording.

    Attributes:
        name: as in the file, such as ``train/walking_2``.
        action: what is done.
        frames: [frame, channel] at 25 frames/s: translation, then exponential maps in radians.
    """

    name: str
    action: str
    frames: Array


@dataclass(frozen=True)
class MotionSplit:
    """Whole sequences for training and for testing."""

    train: tuple[Sequence, ...]
    test: tuple[Sequence, ...]


def read_motion(path: str | Path) -> tuple[Sequence, ...]:
    """Read ``cmu-mocap.npz`` and resample it from 120 to 25 frames/s.

    Raises:
        DataError: it is not that file.
    """
    arrays = read_arrays(path)
    names = sorted(name for name in arrays if re.fullmatch(r"(train|test)/\w+_\d+", name))
    if not names:
        raise DataError(
            f"{path} without any array like train/walking_1", "recordings [frame, 117]", "give cmu-mocap.npz"
        )
    return tuple(
        Sequence(
            name,
            name.partition("/")[2].rpartition("_")[0],
            resample(pick(arrays, name, (None, CHANNELS), Path(path).name).astype(np.float64)),
        )
        for name in names
    )


def resample(frames: Array) -> Array:
    """Return a recording [frame, 117] of 120 frames/s at 25, from its first frame to at most its last.

    Rotations are interpolated along the shortest arc, the translation linearly. There is no low-pass filter, as in the
    literature, which takes every second frame.
    """
    count = int(np.floor((len(frames) - 1) * RATE / RECORDED_RATE + 1e-9)) + 1
    positions = np.arange(count, dtype=np.float64) * (RECORDED_RATE / RATE)
    rotations = resample_rotations(frames[:, 3:].reshape(len(frames), -1, 3), positions)
    times = np.arange(len(frames))
    translation = np.stack([np.interp(positions, times, column) for column in frames[:, :3].T], axis=1)
    return np.concatenate([translation, rotations.reshape(len(positions), -1)], axis=1)


def split_motion(sequences: Iterable[Sequence]) -> MotionSplit:
    """Split by whole sequences, so that no test frame has a neighbour in training.

    The sequences under ``test/`` are the test, as in Li et al. (2018). Two actions have none in the file: their last
    training sequence is taken. Test sequences too short for a seed and its forecast are left out; every ``running`` is
    (1.4 s at most), so that this action is trained on and not scored.
    """
    length = SEED_FRAMES + HORIZONS[-1]
    held, train = [], []
    by_action: dict[str, list[Sequence]] = {}
    for sequence in sequences:
        by_action.setdefault(sequence.action, []).append(sequence)
    for found in by_action.values():
        test = [one for one in found if one.name.startswith("test/")] or found[-1:]
        held += [one for one in test if len(one.frames) >= length]
        train += [one for one in found if one not in test]
    return MotionSplit(tuple(train), tuple(held))


@dataclass(frozen=True)
class Scale:
    """Normalisation of the channels over the training sequences.

    Attributes:
        mean, std: [channel]; std is 1 where the channel is still.
    """

    mean: Array
    std: Array

    @classmethod
    def of(cls, sequences: Iterable[Sequence]) -> Scale:
        """Return the scale of some sequences."""
        frames = np.concatenate([sequence.frames for sequence in sequences])
        std = frames.std(axis=0)
        return cls(frames.mean(axis=0), np.where(std > STILL, std, 1.0))


def windows(sequence: Sequence, length: int, stride: int) -> Array:
    """Return the windows [window, frame, channel] of a sequence, ``stride`` frames apart; none if it is too short."""
    starts = range(0, len(sequence.frames) - length + 1, stride)
    if not starts:
        return np.empty((0, length, sequence.frames.shape[1]))
    return np.stack([sequence.frames[start : start + length] for start in starts])


def zero_velocity(seed: Array, frames: int) -> Array:
    """Return the last pose of a seed [window, frame, channel], held for some frames (Martinez et al. 2017)."""
    return np.repeat(seed[:, -1:], frames, axis=1)


def euler_error(forecast: Array, truth: Array) -> Array:
    """Return the error per frame, [window, frame] in radians, of poses [window, frame, 117].

    The Euclidean distance of the Euler angles as they are, not modulo 2π, without the body's own translation and
    rotation and without angles whose standard deviation over the true forecast is at most 1e-4: as the authors of
    S-RNN and all after them measure.
    """
    angles, true = (_scored_angles(poses) for poses in (forecast, truth))
    moving = true.std(axis=1, keepdims=True) > STILL
    error: Array = np.sqrt((np.square(angles - true) * moving).sum(axis=-1))
    return error


def _scored_angles(poses: Array) -> Array:
    maps = poses[..., GLOBAL_CHANNELS:]
    return euler_angles(maps.reshape(*maps.shape[:-1], -1, 3)).reshape(maps.shape)


def errors_of(split: MotionSplit, predict: Callable[[Array, int], Array]) -> dict[str, dict[int, float]]:
    """Return the Euler-angle errors per action and horizon of forecasts on the test sequences.

    Args:
        split: with the test sequences.
        predict: (seeds [window, frame, channel], frames) -> poses [window, frame, channel].
    """
    frames, found = HORIZONS[-1], {}
    for sequence in split.test:
        cut = windows(sequence, SEED_FRAMES + frames, TEST_STRIDE)
        found[sequence.action] = euler_error(predict(cut[:, :SEED_FRAMES], frames), cut[:, SEED_FRAMES:])
    return mean_errors(found)


def mean_errors(errors: Mapping[str, Array]) -> dict[str, dict[int, float]]:
    """Return per action, and for ``mean`` over the actions, the mean error at every horizon that the errors reach.

    Args:
        errors: per action [window, frame].
    """
    table = {
        action: {frame: float(found[:, frame - 1].mean()) for frame in HORIZONS if frame <= found.shape[1]}
        for action, found in errors.items()
    }
    reached = [frame for frame in HORIZONS if all(frame in row for row in table.values())]
    table["mean"] = {frame: float(np.mean([row[frame] for row in table.values()])) for frame in reached}
    return table
