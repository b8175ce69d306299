"""A chunk of a stream in which no forecast is wanted: the state goes on as if all were, in every family and option."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stunet_deploy.config import Signal, SRNNConfig, STUNetConfig
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.models.forecaster import Forecaster, StepInputs
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import st_graph_of_sensors

NODES = 12
SIGNAL = Signal(("speed", "flow"), ("flow",), (52.0, 310.5), (12.5, 96.0), (0.0, 0.0), (84.0, 700.0))


def ring() -> np.ndarray:
    return np.roll(np.eye(NODES), 1, axis=1) * np.linspace(0.5, 1, NODES)


def table() -> torch.Tensor:
    return torch.randn(48, NODES, 1, generator=torch.Generator().manual_seed(1))


def check(model: Forecaster) -> None:
    """Compare a forward pass in which no forecast is wanted with one in which all are."""
    rng = np.random.default_rng(2)
    shape = (2, 5, NODES, 2)
    values, observed = rng.uniform(0, 80, shape), (rng.random(shape) < 0.7).astype(float)
    arrays = (values, observed, rng.uniform(0, 600_000, (2, 5, 1)))
    inputs = StepInputs(*(torch.from_numpy(array.astype(np.float32)) for array in arrays))
    with torch.inference_mode():
        every, expected = model(inputs, model.initial_lines(2))
        none, lines = model(inputs, model.initial_lines(2), issued=torch.tensor([], dtype=torch.int64))

    assert none.shape == (2, 0, *every.shape[2:])
    assert lines.keys() == expected.keys()
    for name, line in expected.items():
        torch.testing.assert_close(lines[name], line, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("basis", "unpooling"),
    [("dense", "copy"), ("blocks", "copy"), ("dense", "ordered_deconv"), ("blocks", "weighted_deconv")],
)
@pytest.mark.parametrize("profile", [False, True])
@pytest.mark.parametrize("fill", ["usual", "forecast", "last", "mean"])
@pytest.mark.parametrize("decoder", ["direct", "recurrent"])
def test_st_unet(build_model, basis, unpooling, decoder, fill, profile):
    config = STUNetConfig(
        hidden=4, horizon=3, basis=basis, unpooling=unpooling, decoder=decoder, fill=fill, profile=profile
    )
    check(build_model(config, ring(), signal=SIGNAL, profile=table() if profile else None))


@pytest.mark.parametrize("fill", ["usual", "last", "mean"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("decoder", "profile"), [("direct", False), ("direct", True), ("recurrent", False)])
def test_structural_rnn(decoder, cell, fill, profile):
    sizes = {"edge_embedding": (4,), "edge_hidden": 4, "node_embedding": (4,), "node_hidden": 6, "head": (4,)}
    config = SRNNConfig(**sizes, horizon=3, decoder=decoder, cell=cell, fill=fill, profile=profile)
    graph = st_graph_of_sensors(Adjacency.from_matrix(ring()), tuple(f"s{n}" for n in range(NODES)), 2)
    torch.manual_seed(3)
    check(StructuralRNN(config, graph, SIGNAL, table() if profile else None).eval())
