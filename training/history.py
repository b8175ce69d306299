"""The log of a training: its epochs and their validation errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One line of the training log; errors in the target's unit, averaged over the scored horizons."""

    epoch: int
    loss: float
    validation_mae: float
    learning_rate: float
    seconds: float


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """Return the first epoch with the smallest validation error."""
    return min(history, key=lambda epoch: epoch.validation_mae)


def seconds_spent(history: Sequence[Epoch]) -> float:
    """Return the training time of all epochs."""
    return sum((epoch.seconds for epoch in history), 0.0)
