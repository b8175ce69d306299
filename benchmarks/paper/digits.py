"""Moving digits on a graph whose nodes are the pixels of a frame: sequences as days of a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.sensor_graph import SensorGraph
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S
from stunet_deploy.site import Site

Frames = NDArray[np.float32]

#: A frame a minute, a sequence a day: the split by day keeps sequences apart.
INTERVAL_S = 60
_MONDAY = 1_704_067_200  # 2024-01-01T00:00:00Z
#: Pixels a frame that a digit moves, at least and at most.
SPEEDS = (1.0, 2.0)
#: Of the digits, those of the training sequences; the others are never seen in training.
TRAINING_SHARE = 0.8


def read_digits(path: Path) -> Frames:
    """Return the digits of mnist-5k.npz at half their size, [digit, 14, 14], 0 to 1."""
    with np.load(path, allow_pickle=False) as arrays:
        images = arrays["images"].astype(np.float32) / 255
    count, height, width = images.shape
    halved: Frames = images.reshape(count, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return halved


def small_digits() -> Frames:
    """Return the digits that scikit-learn ships (UCI, 8 × 8), [digit, 8, 8], 0 to 1."""
    from sklearn.datasets import load_digits

    images: Frames = (load_digits().images / 16).astype(np.float32)
    return images


def moving_digits(
    digits: Frames, sequences: int, frames: int, side: int, together: int, rng: np.random.Generator
) -> Frames:
    """Return digits that move on straight lines and bounce off the borders, [sequence, frame, row, column].

    Where digits overlap, the brighter pixel is seen. Source: Srivastava, Mansimov, Salakhutdinov: Unsupervised Learning
    of Video Representations using LSTMs (2015), section 4.1; there with two of 28 × 28 on 64 × 64.

    Args:
        digits: to choose from, [digit, row, column].
        sequences, frames: how many.
        side: of a frame in pixels.
        together: digits in a frame.
        rng: source of randomness.

    Raises:
        ConfigError: no digit, or a frame that is smaller than one.
    """
    size = digits.shape[-1]
    room = side - size
    if room < 0 or together < 1:
        found, expected = f"{together} digits on frames of {side} pixels", f"at least one on at least {size} pixels"
        raise ConfigError(found, expected, "give --side or --digits more")
    chosen = rng.integers(len(digits), size=(sequences, together))
    start = rng.uniform(0, room, (sequences, together, 1, 2))
    angle = rng.uniform(0, 2 * np.pi, (sequences, together))
    velocity = rng.uniform(*SPEEDS, (sequences, together, 1)) * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    path = start + velocity[:, :, None] * np.arange(frames)[:, None]
    # A path that is reflected at 0 and at `room` is a straight one folded up.
    folded = np.abs((path + room) % (2 * room) - room) if room else np.zeros_like(path)
    corner = np.rint(folded).astype(np.int64)
    scenes = np.zeros((sequences, frames, side, side), np.float32)
    for sequence in range(sequences):
        for digit, places in zip(chosen[sequence], corner[sequence], strict=True):
            for frame, (row, column) in enumerate(places):
                seen = scenes[sequence, frame, row : row + size, column : column + size]
                np.maximum(seen, digits[digit], out=seen)
    return scenes


def recording(digits: Frames, sequences: int, frames: int, side: int, together: int, seed: int) -> Series:
    """Return sequences as a recording [time, pixel, intensity], one a day, the last ones of digits of their own.

    The split by day (protocol B, 34/5/5 of 44) gives every sequence of ``frames`` one window if inputs and forecasts
    are as many as that together.

    Args:
        digits, sequences, frames, side, together: see :func:`moving_digits`.
        seed: of digits and movements.
    """
    rng = np.random.default_rng(seed)
    mixed = digits[rng.permutation(len(digits))]
    known = round(TRAINING_SHARE * len(mixed))
    tail = max(1, round(sequences * 5 / 44))  # as protocol B counts days
    parts = ((mixed[:known], sequences - 2 * tail), (mixed[known:], 2 * tail))
    scenes = np.concatenate([moving_digits(some, count, frames, side, together, rng) for some, count in parts])
    values = scenes.reshape(sequences * frames, side * side, 1)
    times = _MONDAY + DAY_S * np.arange(sequences)[:, None] + INTERVAL_S * np.arange(frames)
    names = tuple(f"r{row:02d}c{column:02d}" for row in range(side) for column in range(side))
    site = Site(names, ("intensity",), ("",), INTERVAL_S)
    return Series(values, np.ones_like(values, dtype=np.bool_), times.ravel().astype(np.int64), site, "moving digits")


def grid(side: int) -> SensorGraph:
    """Return the graph of pixels, each joined to the eight around it with the inverse of the distance as weight."""
    node = np.arange(side * side).reshape(side, side)
    source, target, weight = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left, end = max(0, -right), side - max(0, right)
        one, other = node[: side - down, left:end], node[down:, left + right : end + right]
        source += [one.ravel(), other.ravel()]
        target += [other.ravel(), one.ravel()]
        weight += [np.full(2 * one.size, 1 / np.hypot(down, right))]
    adjacency = Adjacency.from_edges(node.size, *(np.concatenate(part) for part in (source, target, weight)))
    return SensorGraph(adjacency, None, None, None, f"a grid of {side} × {side}")
