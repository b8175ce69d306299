"""Scheduled sampling: how often a recurrent decoder is fed the label in training, instead of its own forecast."""

from __future__ import annotations

import math

from scipy.special import expit, lambertw


def sampling_probability(update: float, decay: float) -> float:
    """Return k / (k + exp(i / k)), the chance that a decoder step is fed the label at update i, with k = ``decay``.

    Source: Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks" (2015), inverse
    sigmoid decay; as in DCRNN's code.
    """
    return float(expit(math.log(decay) - update / decay))


def sampling_decay(planned: int) -> float:
    """Return the k whose chance reaches one half after half of the ``planned`` updates: k ln k = planned / 2.

    DCRNN's k = 2,000 suits tens of thousands of updates; a run of a few hundred would never feed a forecast back.
    """
    half = planned / 2
    return float(half / lambertw(half).real)
