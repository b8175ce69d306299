"""Weights of perceptrons of earlier checkpoints, brought into the order of their channels now."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from stunet_deploy.models.stunet.decoders import STEEPNESS
from stunet_deploy.models.stunet.model import STUNet


def reordered(weights: Mapping[str, Tensor], model: STUNet) -> dict[str, Tensor]:
    """Return the weights of a checkpoint of schema 7 or earlier as ``model`` has them now.

    Its window had a lag's departures and their marks side by side; now all marks come last, and are not compressed.

    Args:
        weights: by name.
        model: with the config of the checkpoint.
    """
    found = dict(weights)
    if model.knowledge is None or not model.knowledge.inputs.seen:
        return found
    inputs, targets = model.knowledge.inputs, len(model.signal.targets)
    by_lag = torch.arange(2 * inputs.seen).reshape(-1, 2, targets)
    departed, marks = by_lag[:, 0].flatten(), by_lag[:, 1].flatten()
    rest = torch.arange(2 * inputs.seen, inputs.own + inputs.seen)
    for name, weight in weights.items():
        if name.endswith(".common_weight"):
            found[name] = torch.cat([weight[departed], weight[marks], weight[2 * inputs.seen :]])
        if name.endswith(".own_weight") and name.startswith("decoder."):
            plain, *compressed = weight.split(inputs.own + inputs.seen)
            own, of_marks = torch.cat([departed, rest]), plain[marks]
            for part in compressed:
                of_marks = of_marks + math.log(1 + STEEPNESS) * part[marks]  # of 1, and of 0 nothing
            found[name] = torch.cat([plain[own], *(part[own] for part in compressed), of_marks])
    return found
