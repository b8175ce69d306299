"""A Structural-RNN through the whole way: checkpoint, step graph, bundle, stream, without a word about its class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export.bundle import export_bundle
from export.golden import make_golden
from runtime.backends.gpu.flavor import Flavor
from runtime.backends.onnxruntime.cpu import OnnxRuntimeBackend
from runtime.backends.onnxruntime.session import open_cpu_session
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from runtime.verify import verify
from stunet_deploy.bundle import Bundle
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import Signal, SRNNConfig
from stunet_deploy.errors import CheckpointError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import time_of_week
from stunet_deploy.site import Site
from stunet_deploy.st_graph.files import parse_st_graph, read_st_graph, st_graph_of_sensors
from stunet_deploy.st_graph.st_graph import STGraph
from stunet_deploy.testing import verify_step_contract
from tests.sharing import Shared

from .engine_proof import assert_builds, assert_clean

SMALL: dict[str, Any] = {
    "edge_embedding": (5,),
    "edge_hidden": 4,
    "node_embedding": (5,),
    "node_hidden": 6,
    "head": (5,),
    "window": 6,
}
ZONE = "America/Los_Angeles"
GAUSSIAN = ("x", "y", "x deviation", "y deviation", "correlation")
PARTS = """
node_types = ["torso", "arm"]
edge_types = [{ name = "torso-arm", between = ["torso", "arm"], complete = true }]
nodes = [
    { name = "arm", type = "arm", slice = [1, 3], count = 3 },
    { name = "torso", type = "torso", slice = [7, 10] },
]
"""


def sensors(count: int) -> STGraph:
    """A ring of sensors with one more that nobody is joined to; it is gathered where it is large."""
    weights = np.roll(np.eye(count), 1, axis=1) * np.linspace(0.5, 1, count)
    weights[-1], weights[:, -1] = 0, 0
    return st_graph_of_sensors(Adjacency.from_matrix(weights), [f"s{n}" for n in range(count)], 1)


def signal(features: int, targets: tuple[str, ...] = ()) -> Signal:
    names = tuple(f"f{n}" for n in range(features))
    numbers = {
        key: (number,) * features for key, number in {"mean": 45.0, "std": 12.0, "low": 0.0, "high": 90.0}.items()
    }
    return Signal(
        names, targets or names, **numbers, target_std=(1.0,) * len(targets), target_units=("",) * len(targets)
    )


#: (config, graph, signal): every head, both cells, every way along an edge, both sums.
NETWORKS: dict[str, tuple[SRNNConfig, STGraph, Signal]] = {
    "sensors": (SRNNConfig(**SMALL, horizon=2), sensors(7), signal(1)),
    "many sensors": (SRNNConfig(**SMALL, horizon=2, cell="gru"), sensors(40), signal(1)),
    "roll-out": (
        SRNNConfig(**SMALL, horizon=2, decoder="recurrent", time_features="none"),
        parse_st_graph(PARTS, "parts", {}),
        signal(11),
    ),
    "attention": (
        SRNNConfig(**SMALL, horizon=2, edge_state="per_edge", combine="attention", fill="mean"),
        parse_st_graph(PARTS, "parts", {}),
        signal(11),
    ),
    "classes": (
        SRNNConfig(**SMALL, horizon=2, output="classification", classes={"arm": ("up", "down")}),
        parse_st_graph(PARTS, "parts", {}),
        signal(11, tuple(f"t{n}" for n in range(6))),
    ),
    "crowd": (
        SRNNConfig(
            **SMALL,
            horizon=2,
            presence=True,
            fill="mean",
            output="gaussian",
            decoder="recurrent",
            edge_state="per_edge",
            combine="attention",
            edge_features="difference",
        ),
        read_st_graph("pedestrians", {"person": 4}),
        signal(2, GAUSSIAN),
    ),
}


def make_checkpoint(name: str, intervals: int = 120) -> Checkpoint:
    """Return an untrained network with random weights everywhere and a random reference stream."""
    config, graph, of = NETWORKS[name]
    rng = np.random.default_rng(8)
    model = StructuralRNN(config, graph, of).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.4, parameter.shape)))
    shape = (intervals, model.sensors, len(of.features))
    observed = (
        np.broadcast_to(rng.random((*shape[:2], 1)) > 0.15, shape) if config.presence else rng.random(shape) > 0.15
    )
    values = np.where(observed, rng.uniform(5, 80, shape), 0).astype(np.float32)
    timestamps = 1_330_588_800 + 300 * np.arange(intervals, dtype=np.int64)
    ids = tuple(f"s{n}" for n in range(model.sensors))
    site = Site(ids, of.features, ("mph",) * len(of.features), 300, "end", ZONE)
    return Checkpoint(model, Series(values, observed.copy(), timestamps, site), {"seed": 8})


@pytest.fixture(
    # Per edge and by attention is the crowd, too.
    params=[pytest.param(name, marks=pytest.mark.slow if name == "attention" else ()) for name in NETWORKS],
    scope="module",
)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return make_checkpoint(request.param)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(make_checkpoint("sensors"), tmp_path_factory.mktemp("srnn") / "model.bundle")


def test_a_checkpoint_comes_back_as_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "model.pt")
    again = Checkpoint.load(tmp_path / "model.pt")

    assert isinstance(again.model, StructuralRNN)
    assert again.model.config == checkpoint.model.config
    assert again.model.stored_graph() == checkpoint.model.stored_graph()
    assert again.model.contract == checkpoint.model.contract
    for name, weight in checkpoint.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name])


def test_a_checkpoint_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    make_checkpoint("sensors").save(tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    content["meta"] = content["meta"].replace('"model": "srnn"', '"model": "transformer"')
    torch.save(content, tmp_path / "other.pt")

    with pytest.raises(CheckpointError, match="transformer"):
        Checkpoint.load(tmp_path / "other.pt")


@pytest.fixture(scope="module")
def step_graph(checkpoint: Checkpoint, shared: Shared) -> onnx.ModelProto:
    return shared.step(checkpoint.model, {})


@pytest.fixture(scope="module")
def onnx_step(checkpoint: Checkpoint, step_graph: onnx.ModelProto) -> Any:
    """The exported step as the function that stunet_deploy.testing checks."""
    contract = checkpoint.model.contract
    session = open_cpu_session(step_graph.SerializeToString())

    def step(inputs: Any, lines: Any) -> Any:
        feed = inputs | {tap.name: lines[tap.state.name][tap.state.delay - tap.age] for tap in contract.taps}
        named = dict(zip(contract.output_names, session.run(contract.output_names, feed), strict=True))
        written = {s.name: named[name] for s, name in zip(contract.states, contract.next_state_names, strict=True)}
        return {"forecast": named["forecast"]}, written

    return step


def test_the_step_graph_keeps_the_contract(checkpoint: Checkpoint, onnx_step: Any) -> None:
    # Products of other batch sizes are added in another order.
    verify_step_contract(checkpoint.model.contract, onnx_step, np.random.default_rng(3), time=5, tolerance=1e-3)


def test_the_step_graph_is_the_model_over_a_thousand_intervals(checkpoint: Checkpoint, onnx_step: Any) -> None:
    model, rng = checkpoint.model, np.random.default_rng(6)
    time = 1_000
    shape = (1, time, model.sensors, len(model.signal.features))
    seen = rng.random((*shape[:3], 1) if model.config.presence else shape) < 0.8
    observed = np.broadcast_to(seen, shape).astype(np.float32)
    values = np.clip(45 + np.cumsum(rng.normal(0, 2, shape), axis=1), 0, 90).astype(np.float32)
    seconds = (300.0 * np.arange(time, dtype=np.float32) % 604_800)[None, :, None]
    with torch.no_grad():
        expected, final = model(StepInputs(*map(torch.from_numpy, (values, observed, seconds))), model.initial_lines(1))
    lines, found = model.contract.initial_lines(1), []
    for t in range(time):
        inputs = {"values": values[:, t], "observed": observed[:, t], "time_of_week": seconds[:, t]}
        outputs, written = onnx_step(inputs, lines)
        lines = {name: state[None] for name, state in written.items()}
        found.append(outputs["forecast"])

    reference = expected.numpy()
    error = np.abs(np.stack(found, axis=1) - reference) / np.abs(reference).max()
    assert error.max() < 1e-4
    for name, line in final.items():
        np.testing.assert_allclose(lines[name], line.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "name", ["sensors", *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name != "sensors")]
)
def test_tensorrt_builds_the_step_in_every_precision(name: str, shared: Shared, rtx: Flavor, tmp_path: Path) -> None:
    model = make_checkpoint(name).model
    step_graph = shared.step(model, {})

    assert_clean(step_graph, tmp_path, reads_time=model.config.time_features != "none")
    assert_builds(step_graph, model.contract, rtx)


@pytest.mark.parametrize("name", ["sensors", "classes", "crowd"])
def test_a_bundle_verifies_itself_whatever_its_targets_are(name: str, bundle: Bundle, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(name)
    made = bundle if name == "sensors" else export_bundle(checkpoint, tmp_path / "model.bundle")

    outcome = verify(made)
    assert outcome.passed
    assert made.manifest.model == "srnn"
    assert STGraph.from_json(made.manifest.config["st_graph"]) == checkpoint.model.graph
    assert len(made.manifest.units_of_targets) == len(made.manifest.targets)
    scored = made.manifest.accuracy["fp32"]["results"]
    assert bool(scored) == checkpoint.model.signal.forecasts_features


def test_a_stream_forecasts_what_the_model_does(bundle: Bundle) -> None:
    checkpoint = make_checkpoint("sensors")
    reference = checkpoint.reference
    stream = Stream.open(bundle)
    found = [
        stream.push(values, int(timestamp), observed).values
        for values, timestamp, observed in zip(reference.values, reference.timestamps, reference.observed, strict=True)
    ]
    stream.close()
    seconds = time_of_week(reference.timestamps, ZONE)[:, None].astype(np.float32)
    inputs = StepInputs(
        *(torch.from_numpy(part)[None] for part in (reference.values, reference.observed.astype(np.float32), seconds))
    )
    with torch.no_grad():
        expected, _ = checkpoint.model(inputs, checkpoint.model.initial_lines(1))

    np.testing.assert_allclose(np.stack(found), expected[0].numpy(), rtol=1e-4, atol=1e-3)


def test_restored_states_go_on_bit_for_bit(bundle: Bundle) -> None:
    contract = bundle.manifest.contract
    rng = np.random.default_rng(1)
    readings = [
        {
            "values": rng.uniform(0, 80, (1, 7, 1)).astype(np.float32),
            "observed": (rng.random((1, 7, 1)) < 0.8).astype(np.float32),
            "time_of_week": np.full((1, 1), 300.0 * t, np.float32),
        }
        for t in range(40)
    ]
    whole, first, second = (OnnxRuntimeBackend(bundle) for _ in range(3))
    expected = [whole.step(reading)["forecast"].copy() for reading in readings]
    for reading in readings[:17]:
        first.step(reading)
    second.step(readings[0])
    second.write_lines(first.read_lines())

    found = [second.step(reading)["forecast"].copy() for reading in readings[17:]]

    np.testing.assert_array_equal(np.stack(found), np.stack(expected[17:]))
    assert {name for name in second.read_lines()} == {state.name for state in contract.states}


@pytest.mark.parametrize("name", ["sensors", "crowd", "roll-out"])
def test_a_stream_restored_from_a_file_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(name)
    made, reference = export_bundle(checkpoint, tmp_path / "model.bundle"), checkpoint.reference
    rows = list(zip(reference.values, reference.timestamps.tolist(), reference.observed, strict=True))
    stream, other = Stream.open(made), Stream.open(made)
    for row in rows[:60]:
        stream.push(*row)
    stream.snapshot().save(tmp_path / "stream.snapshot")
    expected = [stream.push(*row).values for row in rows[60:]]

    other.restore(Snapshot.load(tmp_path / "stream.snapshot"))

    np.testing.assert_array_equal([other.push(*row).values for row in rows[60:]], expected)
    stream.close()
    other.close()


def test_the_golden_stream_is_the_models_own_in_float64() -> None:
    golden = make_golden(make_checkpoint("roll-out"))

    assert golden.forecast.shape == (120, 2, 1, 11)
    assert np.isfinite(golden.forecast).all()
