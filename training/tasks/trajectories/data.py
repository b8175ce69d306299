"""Pedestrians: scenes of ETH and UCY in windows of slots with presence, ADE and FDE, and constant velocity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import ConfigError, DataError
from training.tasks.arrays import pick, read_arrays

#: Intervals of 0.4 s that are observed, then forecast.
OBSERVED, FORECAST = 8, 12
LENGTH = OBSERVED + FORECAST
#: Frame numbers between two intervals.
FRAME_STEP = 10

#: The five scenes of the literature and the recordings that each is tested on.
SCENES: Mapping[str, tuple[str, ...]] = {
    "eth": ("biwi_eth",),
    "hotel": ("biwi_hotel",),
    "univ": ("students001", "students003"),
    "zara1": ("crowds_zara01",),
    "zara2": ("crowds_zara02",),
}
#: Recordings that are trained on whatever scene is left out, and never tested on (Gupta et al. 2018).
ALWAYS_TRAINED = ("crowds_zara03", "uni_examples")

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Recording:
    """The tracks of one file.

    Attributes:
        name: of the file.
        frames: [frame] frame numbers with at least one person, ascending.
        positions: [frame, person, 2] in metres; 0 where absent.
        present: [frame, person].
    """

    name: str
    frames: NDArray[np.int64]
    positions: Array
    present: Mask


@dataclass(frozen=True)
class Windows:
    """Windows of 8 + 12 intervals.

    Attributes:
        positions: [window, interval, slot, 2] in metres; 0 where absent.
        present: [window, interval, slot]; a person who appears only in the forecast part has no slot.
        scored: [window, slot] present in all 20 intervals.
    """

    positions: Array
    present: Mask
    scored: Mask

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def capacity(self) -> int:
        """Number of slots."""
        return int(self.positions.shape[2])


def read_recordings(path: str | Path) -> dict[str, Recording]:
    """Read ``eth-ucy.npz``.

    Raises:
        DataError: it is not that file.
    """
    arrays = read_arrays(path)
    names = [*(name for scene in SCENES.values() for name in scene), *ALWAYS_TRAINED]
    return {name: recording(name, pick(arrays, name, (None, 4), Path(path).name)) for name in names}


def recording(name: str, rows: NDArray[np.floating]) -> Recording:
    """Turn rows of (frame, person, x, y) into tracks.

    Raises:
        DataError: a person twice in one frame, or frames that do not lie on one grid.
    """
    numbers = rows[:, 0].astype(np.int64)
    frames, frame_index = np.unique(numbers, return_inverse=True)
    people, person_index = np.unique(rows[:, 1], return_inverse=True)
    if (np.diff(frames) % FRAME_STEP).any():
        raise DataError(f"{name}: frame numbers off the grid of {FRAME_STEP}", "0.4 s a step", "repair the file")
    present = np.zeros((len(frames), len(people)), dtype=bool)
    positions = np.zeros((*present.shape, 2))
    present[frame_index, person_index] = True
    positions[frame_index, person_index] = rows[:, 2:]
    if present.sum() != len(rows):
        raise DataError(f"{name}: a person in two places at once", "one row per frame and person", "repair the file")
    return Recording(name, frames, positions, present)


def people_seen(found: Recording) -> int:
    """Return the largest number of people that the observed part of a window holds: the capacity that suffices."""
    seen = (found.present[first : first + OBSERVED].any(axis=0).sum() for first in _starts(found))
    return max((int(number) for number in seen), default=0)


def windows(found: Recording, capacity: int) -> Windows:
    """Return all windows of 20 consecutive intervals with a person to score; none spans a gap without people.

    Args:
        found: the recording.
        capacity: number of slots.

    Raises:
        ConfigError: more people in a window than there are slots.
    """
    positions, presents, scored = [], [], []
    for first in _starts(found):
        rows = slice(first, first + LENGTH)
        present = found.present[rows]
        whole: Mask = np.asarray(present.all(axis=0))
        if not whole.any():
            continue
        # Those who are scored come first: a fixed order, so that windows of any capacity agree on the slots.
        people = np.flatnonzero(present[:OBSERVED].any(axis=0))
        people = people[np.argsort(~whole[people], kind="stable")]
        if len(people) > capacity:
            raise ConfigError(
                f"capacity = {capacity} with {len(people)} people in {found.name} from frame {found.frames[first]}",
                f"at least {people_seen(found)} slots",
                "raise the capacity",
            )
        placed, there = in_slots(found.positions[rows], present, people, capacity)
        positions.append(placed)
        presents.append(there)
        scored.append(np.pad(whole[people], (0, capacity - len(people))))
    return Windows(
        np.array(positions).reshape(-1, LENGTH, capacity, 2),
        np.array(presents, dtype=bool).reshape(-1, LENGTH, capacity),
        np.array(scored, dtype=bool).reshape(-1, capacity),
    )


def in_slots(positions: Array, present: Mask, people: NDArray[np.int64], capacity: int) -> tuple[Array, Mask]:
    """Return positions [interval, slot, 2] and presence of some people, in their order; further slots are empty."""
    spare = (0, capacity - len(people))
    return np.pad(positions[:, people], ((0, 0), spare, (0, 0))), np.pad(present[:, people], ((0, 0), spare))


def _starts(found: Recording) -> list[int]:
    last = found.frames[LENGTH - 1 :]
    spans = last - found.frames[: len(last)]
    return [first for first, span in enumerate(spans.tolist()) if span == (LENGTH - 1) * FRAME_STEP]


def split_scenes(recordings: Mapping[str, Recording], scene: str) -> tuple[list[Recording], list[Recording]]:
    """Return the recordings to train on and to test on, when ``scene`` is left out.

    Raises:
        ConfigError: an unknown scene.
    """
    if scene not in SCENES:
        raise ConfigError(f"scene {scene!r}", f"one of {', '.join(SCENES)}", "choose one of these")
    test = SCENES[scene]
    return [found for name, found in recordings.items() if name not in test], [recordings[name] for name in test]


def constant_velocity(cut: Windows) -> Array:
    """Return forecasts [window, 12, slot, 2] that repeat the last observed step (Schöller et al. 2020)."""
    last, before = cut.positions[:, OBSERVED - 1], cut.positions[:, OBSERVED - 2]
    known = cut.present[:, OBSERVED - 1] & cut.present[:, OBSERVED - 2]
    velocity = np.where(known[..., None], last - before, 0.0)
    steps = np.arange(1, FORECAST + 1).reshape(-1, 1, 1)
    return last[:, None] + steps * velocity[:, None]


def displacement_errors(forecast: Array, cut: Windows) -> tuple[Array, Array]:
    """Return per scored track, in metres, the mean distance over the 12 steps and the distance at the last.

    Args:
        forecast: [window, 12, slot, 2] in metres.
        cut: the windows that it is of.
    """
    distance = np.linalg.norm(forecast - cut.positions[:, OBSERVED:], axis=-1)
    scored = cut.scored
    return distance.mean(axis=1)[scored], distance[:, -1][scored]


def ade_fde(errors: Iterable[tuple[Array, Array]]) -> tuple[float, float]:
    """Return the average and the final displacement error over the tracks of some recordings."""
    averages, finals = zip(*errors, strict=True)
    return float(np.concatenate(averages).mean()), float(np.concatenate(finals).mean())
