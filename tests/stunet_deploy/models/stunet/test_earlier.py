"""Perceptrons of earlier checkpoints: with their weights brought into the order of now they compute what they did."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.stunet.decoders import Known, PerceptronInputs
from stunet_deploy.models.stunet.earlier import reordered
from stunet_deploy.models.stunet.model import STUNet

NODES, LAGS, COMMON_TIME = 5, 4, 4


def model_of(targets: int, mask: bool, compress: bool) -> STUNet:
    names = tuple("ab"[:targets])
    signal = Signal(names, names, *((number,) * targets for number in (0.0, 1.0, -9.0, 9.0)))
    adjacency = np.ones((NODES, NODES)) - np.eye(NODES)
    config = STUNetConfig(
        hidden=0, horizon=2, lags=LAGS, head=6, profile=True, changes=False, harmonics=1, members=2,
        mask_channel=mask, compress=compress,
    )  # fmt: skip
    table = torch.zeros(16, NODES, targets)
    return STUNet(config, GraphHierarchy.build(adjacency, pool_levels=[2]), signal, table).double()


def fed_twice(inputs: PerceptronInputs, own: torch.Tensor) -> torch.Tensor:
    """What the first layer of schemas 4 to 7 received of a sensor: every channel twice, marks too."""
    return torch.cat([own, own.sign() * torch.log1p(4 * own.abs())], dim=-1) if inputs.compress else own


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("targets", [1, 2])
def test_reordered_weights_compute_the_same(targets: int, mask: bool, compress: bool) -> None:
    model, generator = model_of(targets, mask, compress), torch.Generator().manual_seed(1)
    random = partial(torch.randn, generator=generator, dtype=torch.float64)
    assert model.knowledge is not None
    inputs = model.knowledge.inputs
    departed, seen = random(NODES, LAGS, targets), (random(NODES, LAGS, targets) > 0).double()
    rest = random(NODES, inputs.own - LAGS * targets)
    time = random(1, COMMON_TIME)
    window = torch.cat([departed, seen], dim=-1) if mask else departed  # a lag's marks beside its departures
    before = torch.cat([window.flatten(1), rest], dim=1)
    names = ["decoder.perceptron", "decoder.others.0"]
    old = {f"{name}.own_weight": random((2 if compress else 1) * before.shape[1], 6) for name in names}
    old |= {f"{name}.common_weight": random(window[0].numel() + COMMON_TIME, 6) for name in names}
    common = torch.cat([window.flatten(1).mean(0, keepdim=True), time], dim=1)

    new = reordered(old, model)

    own = torch.cat([departed.flatten(1), rest], dim=1)
    means = [departed.flatten(1).mean(0), *([seen.flatten(1).mean(0)] if mask else []), time[0]]
    known = Known(own, seen.flatten(1) if mask else None, torch.cat(means)[None], None)
    for name, perceptron in zip(names, model.decoder.members, strict=True):
        perceptron.own_weight.data = new[f"{name}.own_weight"]
        perceptron.common_weight.data = new[f"{name}.common_weight"]
        perceptron.hidden_weight.data, perceptron.out_weight.data = torch.eye(6).double(), random(6, 2 * targets)
        found = perceptron(known, None)
        hidden = fed_twice(inputs, before) @ old[f"{name}.own_weight"] + common @ old[f"{name}.common_weight"]
        torch.testing.assert_close(found, hidden.relu() @ perceptron.out_weight, rtol=1e-12, atol=1e-12)
