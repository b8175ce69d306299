"""The schedule of a training: its progress, learning rate, share of labels fed to a recurrent decoder, and its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import expit, lambertw

from stunet_deploy.config import TrainingConfig
from training.history import Epoch, best_epoch, seconds_spent


@dataclass(frozen=True)
class Schedule:
    """Everything in a training that depends on how far it is.

    Attributes:
        config: epochs, patience, and how the learning rate falls.
        max_minutes: limit of the training time; None for no limit.
        reserve: seconds of a limited time that the last validation takes: updates end before.
    """

    config: TrainingConfig
    max_minutes: float | None = None
    reserve: float = 0.0

    def progress(self, epochs_done: float, seconds: float) -> float:
        """Return the completed share of the training in [0, 1]: of the epochs or of the time, whichever is larger.

        Args:
            epochs_done: with the completed share of the present epoch.
            seconds: training time so far.
        """
        progress = epochs_done / self.config.epochs
        if self.max_minutes is not None and seconds > 0:
            # Without time for a single update the first one is the last.
            progress = max(progress, seconds / max(60 * self.max_minutes - self.reserve, seconds))
        return min(progress, 1.0)

    def time_is_up(self, seconds: float) -> bool:
        """Return whether what is left of a limited time is needed to validate.

        Args:
            seconds: training time so far.
        """
        return self.max_minutes is not None and seconds + self.reserve >= 60 * self.max_minutes

    def learning_rate(self, epochs_done: float, progress: float) -> float:
        """Return Adam's learning rate: in steps of epochs, or along a cosine of the progress."""
        if self.config.schedule == "step":
            factor = self.config.decay ** (int(epochs_done) // self.config.decay_every)
        else:
            factor = (1 + math.cos(math.pi * progress)) / 2
        return self.config.learning_rate * factor

    def teacher_chance(self, epochs_done: float, progress: float, updates_per_epoch: int) -> float:
        """Return the probability that a step of a recurrent decoder is fed the label."""
        if self.config.teacher_forcing != "scheduled":
            return float(self.config.teacher_forcing == "always")
        if self.config.sampling_decay:
            return sampling_probability(epochs_done * updates_per_epoch, self.config.sampling_decay)
        planned = self.config.epochs * updates_per_epoch
        return sampling_probability(progress * planned, sampling_decay(planned))

    def finished(self, history: Sequence[Epoch]) -> bool:
        """Return whether epochs, patience or time are used up."""
        if not history:
            return False
        without_gain = len(history) - best_epoch(history).epoch
        if len(history) >= self.config.epochs or without_gain >= self.config.patience:
            return True
        return self.time_is_up(seconds_spent(history))


def sampling_probability(update: float, decay: float) -> float:
    """Return k / (k + exp(i / k)), the probability of feeding a decoder step the label at update i, with k = ``decay``.

    Source: Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks" (2015), inverse
    sigmoid decay; as in DCRNN's code.
    """
    return float(expit(math.log(decay) - update / decay))


def sampling_decay(planned: int) -> float:
    """Return the k whose probability reaches one half after half of the ``planned`` updates: k ln k = planned / 2.

    DCRNN's k = 2,000 suits tens of thousands of updates; a run of a few hundred would never feed a forecast back.
    """
    half = planned / 2
    return float(half / lambertw(half).real)
