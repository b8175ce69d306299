"""Driver manoeuvres: Brain4Cars sequences, weights of the loss, predictions that fire, and their scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stunet_deploy.errors import ConfigError
from training.tasks.arrays import pick, read_arrays

#: Labels, the first being that of no manoeuvre.
MANOEUVRES = ("straight", "left lane", "right lane", "left turn", "right turn")
STRAIGHT = 0
#: A step is 20 frames at 25 frames/s.
STEP_S = 0.8
#: Test files of the other folds are identical to fold 1's in the public data.
FOLDS = (1, 2)
FEATURES = 16

#: Thresholds that are tried.
THRESHOLDS = tuple(percent / 100 for percent in range(30, 100, 2))

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drives:
    """Labelled sequences, each beginning at step 0.

    Attributes:
        features: [sequence, step, 16]: 12 of the driver, 4 of the road and the car; 0 after the end.
        present: [sequence, step] whether the sequence lasts until that step.
        label: [sequence] index in :data:`MANOEUVRES`.
    """

    features: Array
    present: NDArray[np.bool_]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def select(self, chosen: NDArray[np.bool_]) -> Drives:
        """Return the sequences where ``chosen``."""
        return Drives(self.features[chosen], self.present[chosen], self.label[chosen])


@dataclass(frozen=True)
class Fold:
    """Sequences to train on, to choose a threshold with, and to test on; no two parts share a step."""

    train: Drives
    validation: Drives
    test: Drives


def read_fold(path: str | Path, fold: int, validation: float = 0.15, seed: int = 0) -> Fold:
    """Read a fold of ``brain4cars.npz``.

    The public training files hold sub-sequences of recordings, and 35 of fold 1's 94 test sequences share steps with
    training ones. Training sequences that share a step with a test sequence are left out, and sub-sequences of one
    recording go to training or to validation as a whole.

    Args:
        path: of the file.
        fold: 1 or 2.
        validation: share of the training recordings that the threshold is chosen with.
        seed: of the choice of these.

    Raises:
        ConfigError: another fold.
        DataError: it is not that file.
    """
    if fold not in FOLDS:
        raise ConfigError(f"fold {fold}", "1 or 2; the other test files are identical to fold 1's", "choose --fold 1 2")
    arrays = read_arrays(path)
    name = Path(path).name
    parts = []
    for part in ("train", "test"):
        x = pick(arrays, f"fold{fold}_{part}_x", (None, None, FEATURES), name)
        y = pick(arrays, f"fold{fold}_{part}_y", (x.shape[0], x.shape[1]), name)
        parts.append(from_front_padded(x.astype(np.float64), y.astype(np.int64)))
    train, test = parts
    group = recordings_of(train, test)
    own = group[: len(train)]
    tested = np.isin(own, group[len(train) :])
    kept_back = _choose(own, train.label, ~tested, validation, np.random.default_rng(seed))
    return Fold(train.select(~tested & ~kept_back), train.select(kept_back), test)


def _choose(
    group: NDArray[np.int64],
    label: NDArray[np.int64],
    free: NDArray[np.bool_],
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose whole groups, for every label about a ``share`` of its sequences."""
    chosen = np.zeros(len(label), dtype=bool)
    for kind in range(len(MANOEUVRES)):
        wanted = share * (free & (label == kind)).sum()
        for one in rng.permutation(np.unique(group[free & (label == kind)])):
            members = free & (group == one)
            if (chosen & (label == kind)).sum() + members.sum() <= wanted:
                chosen |= members
    return chosen


def from_front_padded(x: Array, y: NDArray[np.int64]) -> Drives:
    """Turn x [step, sequence, 16] and y [step, sequence], 0 where padded in front, 1 … 5 elsewhere, into sequences.

    A sequence is moved to the front, so that its first step meets a fresh state.
    """
    length = (y > 0).sum(axis=0)
    steps = np.arange(len(y))[:, None]
    present = (steps < length).T
    source = np.minimum(steps + len(y) - length, len(y) - 1)
    moved = np.take_along_axis(x, source[..., None], axis=0).swapaxes(0, 1)
    return Drives(np.where(present[..., None], moved, 0.0), present, y[-1] - 1)


def recordings_of(*parts: Drives) -> NDArray[np.int64]:
    """Return a number per sequence of all parts in order, equal where sequences are linked by a step in common."""
    steps = np.concatenate([part.features.astype(np.float32) for part in parts])
    present = np.concatenate([part.present for part in parts])
    sequence, _ = np.nonzero(present)
    _, step = np.unique(steps[present], axis=0, return_inverse=True)
    links = coo_array((np.ones(len(step)), (sequence, step.ravel())))
    return np.asarray(connected_components(links @ links.T, directed=False)[1], dtype=np.int64)


def time_weights(present: NDArray[np.bool_], *, uniform: bool = False) -> Array:
    """Return the weight of every step's loss, [sequence, step]: e^{−(T−1−t)} until the sequence's own last step T − 1.

    Source: Jain et al., "Recurrent neural networks for driver activity anticipation" (2016), equation 7; as in their
    code, the weights are not divided by their sum.
    """
    remaining = present.sum(axis=1, keepdims=True) - 1 - np.arange(present.shape[1])
    weights = np.ones(present.shape) if uniform else np.exp(-remaining.astype(np.float64))
    return np.where(present, weights, 0.0)


def fire(probabilities: Array, present: NDArray[np.bool_], threshold: float) -> tuple[NDArray[np.int64], Array]:
    """Return the prediction for every sequence, and how long before its end it fires, in seconds.

    A prediction fires at the first step whose most probable class is a manoeuvre with at least the probability
    ``threshold``; a sequence in which none fires is predicted to go straight, 0 s ahead.

    Args:
        probabilities: [sequence, step, class].
        present: [sequence, step].
        threshold: as found best on other data than is tested.
    """
    best = probabilities.argmax(axis=-1)
    fires = present & (best != STRAIGHT) & (probabilities.max(axis=-1) >= threshold)
    first = fires.argmax(axis=1)
    fired = fires.any(axis=1)
    predicted = np.where(fired, np.take_along_axis(best, first[:, None], axis=1)[:, 0], STRAIGHT)
    ahead = np.where(fired, (present.sum(axis=1) - 1 - first) * STEP_S, 0.0)
    return predicted, ahead


@dataclass(frozen=True)
class Scores:
    """The scores of the Brain4Cars papers.

    Attributes:
        precision: mean over the four manoeuvres of the share of its predictions that are right; 0 where none was made.
        recall: mean over the four manoeuvres of the share of its sequences that are predicted.
        time: mean over the manoeuvres of the seconds between a right prediction and the sequence's end, over those
            manoeuvres that were predicted right at least once; 0 without any.
        f1: 2 · precision · recall / (precision + recall).
        false_alarms: share of the straight sequences that a manoeuvre was predicted for.
    """

    precision: float
    recall: float
    time: float
    f1: float
    false_alarms: float


def score(predicted: NDArray[np.int64], ahead: Array, label: NDArray[np.int64]) -> Scores:
    """Compare predictions with labels, [sequence] each."""
    classes = len(MANOEUVRES)
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (predicted, label), 1)
    right = np.diag(confusion)
    seconds = np.bincount(label, weights=np.where(predicted == label, ahead, 0.0), minlength=classes)
    precision = float((right / np.maximum(confusion.sum(axis=1), 1))[1:].mean())
    recall = float((right / np.maximum(confusion.sum(axis=0), 1))[1:].mean())
    known = right[1:] > 0
    time = float((seconds[1:][known] / right[1:][known]).mean()) if known.any() else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    straight = confusion[:, STRAIGHT]
    return Scores(precision, recall, time, f1, float(straight[1:].sum() / max(straight.sum(), 1)))


def best_threshold(probabilities: Array, drives: Drives) -> float:
    """Return the threshold in 0.30, 0.32, … 0.98 of the best F1; among equals the highest.

    The published figures chose it, and the checkpoint, on the test sequences. Here ``drives`` are others.
    """
    found = {one: score(*fire(probabilities, drives.present, one), drives.label).f1 for one in THRESHOLDS}
    return max(reversed(THRESHOLDS), key=lambda one: found[one])


def chance(train: Drives, test: Drives, rng: np.random.Generator) -> tuple[NDArray[np.int64], Array]:
    """Return predictions drawn at the first step from the frequencies of the labels in training."""
    frequency = np.bincount(train.label, minlength=len(MANOEUVRES)) / len(train)
    predicted = rng.choice(len(MANOEUVRES), len(test), p=frequency)
    ahead = np.where(predicted == STRAIGHT, 0.0, (test.present.sum(axis=1) - 1) * STEP_S)
    return predicted, ahead
