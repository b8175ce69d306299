"""Contributions are those of models without the edge, states are those of the step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stunet_deploy.config import Signal, SRNNConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.models.forecaster import StepInputs, unroll
from stunet_deploy.models.srnn.explanation import explain
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import st_graph_of_sensors
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph

SMALL: dict[str, Any] = {
    "edge_embedding": (3,),
    "edge_hidden": 3,
    "node_embedding": (3,),
    "node_hidden": 4,
    "head": (5,),
    "horizon": 2,
}
SPEED = Signal(("speed",), ("speed",), mean=(50.0,), std=(12.0,), low=(0.0,), high=(90.0,))
#: a → b → c, a → c; d is alone. Along `upstream` a sensor sees those that lead to it.
ROAD = np.array([[0, 1, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def random_model(config: SRNNConfig, graph: STGraph, signal: Signal = SPEED) -> StructuralRNN:
    rng = np.random.default_rng(6)
    model = StructuralRNN(config, graph, signal).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.3, parameter.shape)))
    return model


def road(**options: Any) -> StructuralRNN:
    graph = st_graph_of_sensors(Adjacency.from_matrix(ROAD), list("abcd"), 1)
    return random_model(SRNNConfig(**SMALL, **options), graph)


def readings(model: StructuralRNN, time: int = 9) -> StepInputs:
    rng = np.random.default_rng(7)
    shape = (1, time, model.sensors, len(model.signal.features))
    arrays = (rng.uniform(20, 80, shape), rng.random(shape) > 0.1, 300.0 * np.arange(time).reshape(1, -1, 1))
    return StepInputs(*(torch.from_numpy(np.asarray(array, np.float32)) for array in arrays))


@pytest.mark.parametrize(
    "options",
    [{}, {"edge_state": "per_edge", "combine": "attention"}, {"decoder": "recurrent", "cell": "gru"}],
    ids=["summed", "attention", "roll-out"],
)
def test_a_contribution_is_the_forecast_minus_that_without_the_edge(options: dict[str, Any]) -> None:
    model = road(**options)
    inputs = readings(model)
    found = explain(model, inputs, "c", warm_up=4)

    assert [(one.edge_type, one.neighbour) for one in found.contributions] == [
        ("upstream", None),
        ("upstream", "a"),
        ("upstream", "b"),
    ]
    for one in found.contributions:
        gone = {"a", "b"} if one.neighbour is None else {one.neighbour}
        kept = tuple(
            edge
            for edge in model.graph.edges
            if not (edge.type == "upstream" and edge.target == "c" and edge.source in gone)
        )
        assert len(kept) == len(model.graph.edges) - len(gone)
        other = random_model(model.config, replace(model.graph, edges=kept))
        with torch.no_grad():
            change = [unroll(one, inputs, one.initial_lines(1))[0][0, 4:, :, 2] for one in (model, other)]
        np.testing.assert_allclose(one.change, (change[0] - change[1]).numpy(), atol=1e-4)
        assert one.size > 0.01
        np.testing.assert_allclose(one.over_time, one.change.mean(axis=1)[:, 0], atol=1e-6)


def test_what_a_nodernn_does_not_weigh_adds_nothing() -> None:
    model = road()
    channels = model.network.factors["spatial_upstream"].channels
    with torch.no_grad():  # first come the states of the first edge type
        model.network.factors["node_sensor"].cell.input_weight[:channels] = 0
    found = explain(model, readings(model), "b")

    sizes = {(one.edge_type, one.neighbour): one.size for one in found.contributions}
    assert sizes["upstream", None] < 1e-5
    assert sizes["downstream", None] == sizes["downstream", "c"] > 0.01


def test_a_node_without_edges_has_states_and_no_contributions() -> None:
    model = road()
    found = explain(model, readings(model), "d")

    assert found.contributions == ()
    assert list(found.traces) == ["temporal sensor", "node sensor"]


@pytest.mark.parametrize("edge_state", ["summed", "per_edge"])
def test_traces_are_the_states_of_the_step(edge_state: str) -> None:
    model = road(edge_state=edge_state)
    inputs = readings(model)
    found = explain(model, inputs, "c")

    if edge_state == "summed":
        assert list(found.traces) == ["spatial upstream", "temporal sensor", "node sensor"]
        rows = [("spatial.upstream.hidden", 1), ("temporal.sensor.hidden", 2), ("node.sensor.hidden", 2)]
    else:  # pairs (b, a), (c, a), (c, b)
        assert list(found.traces)[:2] == ["spatial upstream, a", "spatial upstream, b"]
        rows = [("spatial.upstream.hidden", 1), ("spatial.upstream.hidden", 2)]
    for time in (1, 5, 9):
        until = StepInputs(*(tensor[:, :time] for tensor in inputs))
        with torch.no_grad():
            forecast, lines = unroll(model, until, model.initial_lines(1))
        np.testing.assert_allclose(found.forecast[time - 1], forecast[0, -1, :, 2].numpy(), atol=1e-4)
        for trace, (state, row) in zip(found.traces.values(), rows, strict=False):
            np.testing.assert_allclose(trace[time - 1], lines[state][0, 0, row].numpy(), atol=1e-5)


def two_kinds() -> STGraph:
    nodes = (Node("arm", "arm", (0, 2)), Node("leg", "leg", (2, 3)), Node("other", "arm", (4, 6)))
    kinds = (EdgeType("joint", ("arm", "leg")), EdgeType("pair", ("arm", "arm")))
    return STGraph(("arm", "leg"), kinds, nodes, (Edge("leg", "arm", "joint"), Edge("arm", "other", "pair")))


def test_outputs_are_the_channels_of_the_node() -> None:
    names = tuple(f"f{n}" for n in range(6))
    numbers = {"mean": (40.0,) * 6, "std": (10.0,) * 6, "low": (0.0,) * 6, "high": (90.0,) * 6}
    signal = Signal(names, ("f5", "f1", "f4"), **numbers)
    model = random_model(SRNNConfig(**SMALL), two_kinds(), signal)
    inputs = readings(model)
    found = explain(model, inputs, "other")

    assert found.outputs == ("f4", "f5")
    with torch.no_grad():
        forecast, _ = model(inputs, model.initial_lines(1))
    np.testing.assert_allclose(found.forecast, forecast[0, :, :, 0][..., [2, 0]].numpy(), atol=1e-4)
    assert [(one.edge_type, one.neighbour) for one in found.contributions] == [("pair", None), ("pair", "arm")]
    change = found.contributions[0].change.mean(axis=1)
    np.testing.assert_allclose(found.contributions[0].over_time, np.linalg.norm(change, axis=1), rtol=1e-5)
    with pytest.raises(ConfigError, match="forecasts nothing"):
        explain(model, inputs, "leg")


def test_classes_belong_to_their_node() -> None:
    names = tuple(f"f{n}" for n in range(6))
    numbers = {"mean": (40.0,) * 6, "std": (10.0,) * 6, "low": (0.0,) * 6, "high": (90.0,) * 6}
    targets = tuple(f"t{n}" for n in range(4))
    signal = Signal(names, targets, **numbers, target_std=(1.0,) * 4, target_units=("",) * 4)
    config = SRNNConfig(**SMALL, output="classification", classes={"arm": ("up", "down")})
    found = explain(model := random_model(config, two_kinds(), signal), readings(model), "other")

    assert found.outputs == ("up", "down")
    np.testing.assert_allclose(found.forecast.sum(axis=-1), 1, atol=1e-5)


def test_an_unknown_node_and_a_short_recording_are_refused() -> None:
    model = road()
    with pytest.raises(ConfigError, match="no node 'x'"):
        explain(model, readings(model), "x")
    with pytest.raises(ConfigError, match="9 of them to fill"):
        explain(model, readings(model), "a", warm_up=9)
