"""Structural-RNN: the step's contract for every head and option, who is absent, what is shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stunet_deploy.config import Signal, SRNNConfig
from stunet_deploy.contract import read_taps
from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.models.forecaster import StepInputs, Teacher, unroll
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.series.wall_clock import WEEK_S
from stunet_deploy.st_graph.files import parse_st_graph, read_st_graph, st_graph_of_sensors
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph
from stunet_deploy.testing import sample_inputs, verify_step_contract

SMALL: dict[str, Any] = {
    "edge_embedding": (5,),
    "edge_hidden": 4,
    "node_embedding": (5,),
    "node_hidden": 6,
    "head": (5,),
}
CROWD: dict[str, Any] = SMALL | {"presence": True, "fill": "mean", "time_features": "none", "horizon": 3}
#: Of float32 forecasts in physical units up to 84.
ROUND_OFF = 1e-3

ARMS = """
node_types = ["torso", "arm"]
edge_types = [
    { name = "torso-arm", between = ["torso", "arm"] },
    { name = "arm-arm", between = ["arm", "arm"], complete = true },
    { name = "looks", between = ["arm", "torso"], directed = true },
]
nodes = [
    { name = "arm", type = "arm", slice = [1, 3], count = 3 },
    { name = "torso", type = "torso", slice = [7, 10] },
]
edges = [
    { from = "torso", to = "arm1", type = "torso-arm" },
    { from = "arm2", to = "torso", type = "torso-arm", weight = 0.5 },
    { from = "arm3", to = "torso", type = "looks" },
]
"""


def make_signal(features: int, targets: tuple[str, ...] | None = None) -> Signal:
    names = tuple(f"f{n}" for n in range(features))
    whole = {"mean": 52.0, "std": 12.5, "low": 0.0, "high": 84.0}
    numbers = {key: (number,) * features for key, number in whole.items()}
    if targets is None:
        return Signal(names, names, **numbers)
    return Signal(names, targets, **numbers, target_std=(1.0,) * len(targets), target_units=("",) * len(targets))


def build(config: SRNNConfig, graph: STGraph, signal: Signal, profile: torch.Tensor | None = None) -> StructuralRNN:
    torch.manual_seed(3)  # of the weights that the noise is added to
    model = StructuralRNN(config, graph, signal, profile).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            width = parameter.shape[-2] if parameter.ndim > 1 else 4
            parameter += torch.randn(parameter.shape, generator=generator) / width**0.5
    return model


def sensors(features: int = 1, directed: bool = True) -> STGraph:
    """Five sensors of two types, one of them isolated."""
    weights = np.zeros((5, 5))
    weights[0, 1], weights[1, 2], weights[2, 0], weights[2, 3] = 0.9, 0.5, 0.25, 1.0
    types = {"a": "freeway", "b": "freeway", "c": "ramp", "d": "ramp", "e": "freeway"}
    adjacency = Adjacency.from_matrix(weights if directed else weights + weights.T)
    return st_graph_of_sensors(adjacency, tuple(types), features, types)


def crowd(people: int = 4) -> STGraph:
    return read_st_graph("pedestrians", {"person": people})


GAUSSIAN = ("x", "y", "x deviation", "y deviation", "correlation")
CLASSES = {"torso": ("still", "turning"), "arm": ("up", "down")}
NETWORKS: dict[str, Callable[[], StructuralRNN]] = {
    "sensors": lambda: build(SRNNConfig(**SMALL, horizon=2), sensors(2), make_signal(2)),
    "sensors, GRU, roll-out, fill mean": lambda: build(
        SRNNConfig(**SMALL, horizon=3, cell="gru", decoder="recurrent", fill="mean"), sensors(), make_signal(1)
    ),
    "sensors, undirected, per edge, fill zeros": lambda: build(
        SRNNConfig(**SMALL, horizon=2, edge_state="per_edge", fill="zeros", time_features="day"),
        sensors(directed=False),
        make_signal(1),
    ),
    "sensors, profile": lambda: build(
        SRNNConfig(**SMALL, horizon=2, profile=True),
        sensors(),
        make_signal(1),
        torch.randn((48, 5, 1), generator=torch.Generator().manual_seed(1)),
    ),
    "body, roll-out of values": lambda: build(
        SRNNConfig(**SMALL, horizon=3, decoder="recurrent", residual=False, mask_channel=False, edge_skip=False),
        parse_st_graph(ARMS, "arms", {}),
        make_signal(11),
    ),
    "body, attention": lambda: build(
        SRNNConfig(**SMALL, horizon=2, edge_state="per_edge", combine="attention"),
        parse_st_graph(ARMS, "arms", {}),
        make_signal(11),
    ),
    "body, classes": lambda: build(
        SRNNConfig(**SMALL, horizon=2, output="classification", classes=CLASSES),
        parse_st_graph(ARMS, "arms", {}),
        make_signal(11, tuple(f"t{n}" for n in range(8))),
    ),
    "crowd": lambda: build(SRNNConfig(**CROWD), crowd(), make_signal(2)),
    "crowd, differences, attention, roll-out": lambda: build(
        SRNNConfig(
            **CROWD, edge_state="per_edge", combine="attention", edge_features="difference", decoder="recurrent"
        ),
        crowd(),
        make_signal(2),
    ),
    "crowd, distributions": lambda: build(
        SRNNConfig(**CROWD, output="gaussian", edge_state="per_edge"), crowd(), make_signal(2, GAUSSIAN)
    ),
    "crowd, distributions, roll-out": lambda: build(
        SRNNConfig(**CROWD, output="gaussian", decoder="recurrent"), crowd(), make_signal(2, GAUSSIAN)
    ),
}


@pytest.fixture(params=NETWORKS)
def model(request: pytest.FixtureRequest) -> StructuralRNN:
    return NETWORKS[request.param]()


def test_the_step_keeps_its_contract(model: StructuralRNN, as_numpy: Any) -> None:
    step, forward = as_numpy(model)

    verify_step_contract(
        model.contract, step, np.random.default_rng(7), forward=forward, time=7, tolerance=ROUND_OFF, exact=True
    )


def test_only_the_wanted_forecasts_are_those_of_all(model: StructuralRNN) -> None:
    inputs, lines = tensors(model, 2, 9), model.initial_lines(2)
    with torch.no_grad():
        whole, after = model(inputs, lines)
        some, same = model(inputs, lines, issued=torch.tensor([0, 4, 8]))

    torch.testing.assert_close(some, whole[:, [0, 4, 8]], rtol=1e-5, atol=ROUND_OFF)
    for name, line in after.items():
        torch.testing.assert_close(same[name], line, rtol=0, atol=0)


def test_states_are_named_after_their_factors() -> None:
    contract = NETWORKS["sensors"]().contract

    assert {state.name: state.shape[1:] for state in contract.states} == {
        "substitute": (5, 2),
        "previous.features": (5, 4),
        "spatial.upstream-freeway-freeway.hidden": (1, 4),
        "spatial.upstream-freeway-freeway.cell": (1, 4),
        "spatial.upstream-freeway-ramp.hidden": (1, 4),
        "spatial.upstream-freeway-ramp.cell": (1, 4),
        "spatial.upstream-ramp-freeway.hidden": (1, 4),
        "spatial.upstream-ramp-freeway.cell": (1, 4),
        "spatial.upstream-ramp-ramp.hidden": (1, 4),
        "spatial.upstream-ramp-ramp.cell": (1, 4),
        "spatial.downstream-freeway-freeway.hidden": (1, 4),
        "spatial.downstream-freeway-freeway.cell": (1, 4),
        "spatial.downstream-freeway-ramp.hidden": (1, 4),
        "spatial.downstream-freeway-ramp.cell": (1, 4),
        "spatial.downstream-ramp-freeway.hidden": (1, 4),
        "spatial.downstream-ramp-freeway.cell": (1, 4),
        "spatial.downstream-ramp-ramp.hidden": (1, 4),
        "spatial.downstream-ramp-ramp.cell": (1, 4),
        "temporal.freeway.hidden": (3, 4),
        "temporal.freeway.cell": (3, 4),
        "temporal.ramp.hidden": (2, 4),
        "temporal.ramp.cell": (2, 4),
        "node.freeway.hidden": (3, 6),
        "node.freeway.cell": (3, 6),
        "node.ramp.hidden": (2, 6),
        "node.ramp.cell": (2, 6),
    }
    assert all(state.delay == 1 for state in contract.states)


def test_an_untrained_model_forecasts_persistence() -> None:
    model = StructuralRNN(SRNNConfig(**SMALL, horizon=2), sensors(), make_signal(1)).eval()
    values = torch.rand(1, 5, 1) * 80
    lines = {f"state.{name}": line[0] for name, line in model.initial_lines(1).items()}
    outputs, _ = model.step(StepInputs(values, torch.ones_like(values), torch.zeros(1, 1)), lines)

    torch.testing.assert_close(outputs.forecast, values[:, None].expand(1, 2, 5, 1), rtol=1e-5, atol=1e-4)


def test_a_channel_of_no_node_keeps_its_value() -> None:
    model = NETWORKS["body, roll-out of values"]()
    inputs = tensors(model, 1, 3)
    inputs = StepInputs(inputs.values, torch.ones_like(inputs.observed), inputs.time_of_week)
    with torch.no_grad():
        forecast, _ = unroll(model, inputs, model.initial_lines(1))

    for channel in (0, 10):
        torch.testing.assert_close(
            forecast[0, :, :, 0, channel], inputs.values[0, :, 0, channel, None].expand(3, 3), rtol=1e-5, atol=1e-4
        )


def test_weights_belong_to_types_and_run_on_another_graph() -> None:
    small, large = (
        build(SRNNConfig(**CROWD, edge_state="per_edge", combine="attention"), crowd(n), make_signal(2)) for n in (2, 9)
    )
    large.load_state_dict(small.state_dict())

    assert {name: tensor.shape for name, tensor in small.state_dict().items()} == {
        name: tensor.shape for name, tensor in large.state_dict().items()
    }
    # Two people alone in a larger room forecast what they forecast in the small one.
    inputs = tensors(small, 1, 6)
    wide = StepInputs(
        *(torch.cat([part, torch.zeros(1, 6, 7, 2)], dim=2) for part in inputs[:2]), time_of_week=inputs.time_of_week
    )
    with torch.no_grad():
        expected, _ = unroll(small, inputs, small.initial_lines(1))
        found, _ = unroll(large, wide, large.initial_lines(1))
    torch.testing.assert_close(found[..., :2, :], expected, rtol=1e-5, atol=1e-4)


CROWDS = [name for name in NETWORKS if name.startswith("crowd")]


@pytest.mark.parametrize("name", CROWDS)
def test_who_is_absent_changes_nobodys_forecast_bit_for_bit(name: str) -> None:
    """Slot 2 is empty in one stream; in the other it had somebody, whose readings go on unobserved, as NaN."""
    model, left, others = NETWORKS[name](), 4, [0, 1, 3]
    inputs = everybody(model, 1, 10)
    observed = inputs.observed.clone()
    observed[:, left:, 2] = 0
    ghost = inputs.values.clone()
    ghost[:, left:, 2] = float("nan")
    half = observed.clone()  # seen with one channel alone, which does not count
    half[:, left + 2 :, 2, 0] = 1
    ghost[:, left + 2 :, 2, 0] = 70
    with torch.no_grad():
        _, before = unroll(model, cut(inputs, 0, left), model.initial_lines(1))
        never = {entry: line.clone() for entry, line in before.items()}
        for entry, line in never.items():
            forget(model, entry, line, slot=2)
        rest = StepInputs(ghost, half, inputs.time_of_week)
        found, _ = unroll(model, cut(rest, left, 10), before)
        expected, _ = unroll(model, cut(StepInputs(inputs.values, observed, inputs.time_of_week), left, 10), never)

    assert torch.equal(found[..., others, :], expected[..., others, :])
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", CROWDS)
def test_who_joins_an_empty_slot_finds_nothing_of_who_was_there_before(name: str) -> None:
    model = NETWORKS[name]()
    inputs = everybody(model, 1, 9)
    observed = inputs.observed.clone()
    observed[:, 3, 2] = 0  # leaves after interval 2, and somebody comes at 4
    stream = StepInputs(inputs.values, observed, inputs.time_of_week)
    with torch.no_grad():
        _, lines = unroll(model, cut(stream, 0, 4), model.initial_lines(1))
        other = {entry: line.clone() for entry, line in lines.items()}
        for entry, line in other.items():
            forget(model, entry, line, slot=2)
        found, _ = unroll(model, cut(stream, 4, 9), lines)
        expected, _ = unroll(model, cut(stream, 4, 9), other)

    assert torch.equal(found, expected)


def forget(model: StructuralRNN, entry: str, line: torch.Tensor, slot: int) -> None:
    """Put other numbers where a slot's own states are: its row, or every pair that it is in."""
    if entry == "presence":
        return  # the slot is there, or was: what is tested is that nothing else of it counts
    rows = [slot]
    if entry.startswith("spatial") and model.config.edge_state == "per_edge":
        people = len(model.graph.nodes)
        pairs = [(v, u) for v in range(people) for u in range(people) if u != v]
        rows = [number for number, pair in enumerate(pairs) if slot in pair]
    line[:, :, rows] = 0.37


def everybody(model: StructuralRNN, batch: int, time: int) -> StepInputs:
    inputs = tensors(model, batch, time)
    return StepInputs(inputs.values, torch.ones_like(inputs.observed), inputs.time_of_week)


def cut(inputs: StepInputs, first: int, after: int) -> StepInputs:
    return StepInputs(*(tensor[:, first:after] for tensor in inputs))


def tensors(model: StructuralRNN, batch: int, time: int) -> StepInputs:
    inputs = sample_inputs(model.contract, np.random.default_rng(11), batch, time)
    return StepInputs(**{name: torch.from_numpy(array) for name, array in inputs.items()})


def test_a_taught_roll_out_is_fed_the_label() -> None:
    model = NETWORKS["sensors, GRU, roll-out, fill mean"]()
    inputs, lines = tensors(model, 2, 4), model.initial_lines(2)
    labels = torch.randn((2, 4, 3, 5, 1), generator=torch.Generator().manual_seed(2))
    known = torch.ones_like(labels, dtype=torch.bool)
    with torch.no_grad():
        free, _ = model(inputs, lines)
        unknown, _ = model(inputs, lines, teacher=Teacher(labels, ~known, torch.tensor([True, True, True])))
        first, _ = model(inputs, lines, teacher=Teacher(labels, known, torch.tensor([True, False, False])))
        taught, _ = model(inputs, lines, teacher=Teacher(labels, known, torch.tensor([False, True, False])))

    assert torch.equal(free, unknown)
    assert torch.equal(free, first)
    assert torch.equal(free[:, :, 0], taught[:, :, 0])
    assert not torch.equal(free[:, :, 1], taught[:, :, 1])


def test_probabilities_are_probabilities() -> None:
    model = NETWORKS["body, classes"]()
    with torch.no_grad():
        forecast, _ = unroll(model, tensors(model, 2, 3), model.initial_lines(2))

    torch.testing.assert_close(forecast.unflatten(-1, (4, 2)).sum(-1), torch.ones(2, 3, 2, 1, 4))
    assert (forecast >= 0).all()


def test_distributions_are_within_their_bounds() -> None:
    model = NETWORKS["crowd, distributions"]()
    with torch.no_grad():
        forecast, _ = unroll(model, tensors(model, 2, 3), model.initial_lines(2))

    assert (forecast[..., 2:4] > 0).all()
    assert (forecast[..., 4].abs() < 1).all()
    assert ((forecast[..., :2] >= 0) & (forecast[..., :2] <= 84)).all()


SENSORS_3 = (Node("a", "s", (0, 3)), Node("b", "s", (3, 6)))


@pytest.mark.parametrize(
    ("config", "graph", "signal", "message"),
    [
        (SRNNConfig(output="gaussian", decoder="recurrent"), STGraph(("s",), (), SENSORS_3), GAUSSIAN, "two channels"),
        (SRNNConfig(output="gaussian"), crowd(), GAUSSIAN[:4], "4 targets in 4 rows for 20"),
        (SRNNConfig(output="gaussian"), crowd(), None, "targets that are features"),
        (SRNNConfig(), crowd(), GAUSSIAN, "no features of the recording"),
        (SRNNConfig(output="classification", classes={"dog": ("a", "b")}), crowd(), GAUSSIAN, "classes of 'dog'"),
        (SRNNConfig(profile=True), crowd(), None, "no table"),
        (SRNNConfig(**CROWD), sensors(2), None, "mean = true and presence"),
        (SRNNConfig(**CROWD, edge_features="difference"), parse_st_graph(ARMS, "", {}), None, "nodes of equal width"),
    ],
)
def test_what_does_not_fit_is_refused(
    config: SRNNConfig, graph: STGraph, signal: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        StructuralRNN(config, graph, make_signal(2, signal))


def test_a_profile_needs_a_node_per_sensor() -> None:
    with pytest.raises(ConfigError, match="no sensors"):
        StructuralRNN(SRNNConfig(profile=True), parse_st_graph(ARMS, "", {}), make_signal(11), torch.zeros(48, 1, 11))


def test_a_type_may_be_called_what_modules_call_their_methods() -> None:
    nodes = (Node("a", "train", (0, 1)), Node("b", "type", (1, 2)))
    graph = STGraph(("train", "type"), (EdgeType("keys", ("train", "type")),), nodes, (Edge("a", "b", "keys"),))
    model = build(SRNNConfig(**SMALL, horizon=1), graph, make_signal(1))

    again = StructuralRNN.restored(vars(model.config), model.signal, model.stored_graph(), model.state_dict())

    again.load_state_dict(model.state_dict())
    assert again.contract == model.contract


def test_inputs_are_weeks_of_seconds() -> None:
    """The time of week reaches every node, whatever its type."""
    model = NETWORKS["sensors"]()
    inputs = {
        name: array[:, 0] for name, array in sample_inputs(model.contract, np.random.default_rng(1), 1, 1).items()
    }
    taps = {name: torch.from_numpy(line) for name, line in read_taps(model.contract, model.contract.initial_lines(1))}
    forecasts = []
    for moment in (0.0, WEEK_S / 3):
        now = inputs | {"time_of_week": np.full((1, 1), moment, np.float32)}
        with torch.no_grad():
            outputs, _ = model.step(StepInputs(**{name: torch.from_numpy(array) for name, array in now.items()}), taps)
        forecasts.append(outputs.forecast)

    early, late = forecasts
    assert (early != late).any(dim=-1).any(dim=1).all()
