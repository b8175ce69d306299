"""What is trained first of an ST-UNet: its perceptrons, which know every sensor alone, as networks of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from stunet_deploy.config import TrainingConfig
from stunet_deploy.models.stunet.model import STUNet
from training.course import Network

#: Sensors times windows of an update, but so many windows at least.
CELLS, LEAST_WINDOWS = 2500, 4
#: Passes over the training span at least: of a longer one there are more updates, of more windows each.
PASSES = 10


def perceptrons(networks: Sequence[Network]) -> list[list[Network]]:
    """Return, for every perceptron, the networks with it in place of their whole models; none where there is no other.

    Args:
        networks: with models that share their weights.
    """
    found = list[list[Network]]()
    for number in range(getattr(networks[0].model.config, "members", 0)):
        models = [network.model.alone(number) if isinstance(network.model, STUNet) else None for network in networks]
        alone = [
            replace(network, model=model.to(next(network.model.parameters()).device))
            for network, model in zip(networks, models, strict=True)
            if model is not None
        ]
        found += [alone] if alone else []
    return found


def perceptron_training(training: TrainingConfig, sensors: int, windows: int) -> TrainingConfig:
    """Return how a perceptron is trained: from windows, which are many issue times at once.

    Args:
        training: of the whole network; ``alone`` is not 0.
        sensors: of the recording.
        windows: of its training span.
    """
    longer = math.sqrt(max(1.0, PASSES * windows * sensors / (training.alone * CELLS)))
    batch = max(LEAST_WINDOWS, math.ceil(longer * CELLS / sensors))
    updates = math.ceil(longer * training.alone)
    if not training.updates:  # whoever counts passes wants no more of them here
        updates = min(updates, training.epochs * math.ceil(windows / batch))
    return replace(training, regime="window", batch=batch, accumulate=1, updates=updates)


@contextmanager
def fixed(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Keep weights as they are while others are trained."""
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
