"""The step in the form for processors: the same step, with fewer multiplications, where a graph allows it."""

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
import torch

from export.bundle import export_bundle
from export.cost import graph_cost
from export.cpu_graph import SIZES, Blocks, cpu_graph
from export.step_graph import check_step
from runtime.backends.onnxruntime.session import open_cpu_session
from runtime.stream import Stream
from runtime.verify import verify
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.contract import NEXT_STATE, advance, read_taps
from stunet_deploy.errors import BundleError
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.precisions import CPU_STEP, STEP
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from stunet_deploy.testing import sample_inputs
from tests.sharing import Shared

SPEED = Signal(("speed",), ("speed",), (45.0,), (12.0,), (0.0,), (90.0,))


def ladder(nodes: int, rng: np.random.Generator) -> np.ndarray:
    """Return weights of a road of two lanes whose sensors come in any order: few neighbours each."""
    joined = np.zeros((nodes, nodes))
    for distance in (1, 2):
        place = np.arange(nodes - distance)
        joined[place, place + distance] = rng.uniform(0.2, 1, len(place))
    order = rng.permutation(nodes)
    return joined[np.ix_(order, order)]


def make_checkpoint(adjacency: np.ndarray, polynomials: int = 3) -> Checkpoint:
    """Return a network on a graph with random weights everywhere and a random reference stream."""
    rng, nodes = np.random.default_rng(3), len(adjacency)
    config = STUNetConfig(hidden=16, horizon=3, window=6, chebyshev_order=polynomials)
    hierarchy = GraphHierarchy.build(adjacency, pool_levels=[2], chebyshev_order=polynomials)
    model = STUNet(config, hierarchy, SPEED).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.15, parameter.shape)))
    observed = rng.random((60, nodes, 1)) > 0.15
    values = np.where(observed, rng.uniform(5, 80, observed.shape), 0).astype(np.float32)
    timestamps = 1_330_588_800 + 300 * np.arange(60, dtype=np.int64)
    site = Site(tuple(f"s{node}" for node in range(nodes)), ("speed",), ("mph",), 300, "end", "America/Los_Angeles")
    return Checkpoint(model, Series(values, observed, timestamps, site), {"seed": 3})


@pytest.fixture(scope="session")
def exported(shared: Shared) -> Callable[[int], tuple[Checkpoint, onnx.ModelProto, onnx.ModelProto]]:
    """Return a function that gives a network on a road, its step and the form of it for processors."""

    @cache
    def get(polynomials: int) -> tuple[Checkpoint, onnx.ModelProto, onnx.ModelProto]:
        checkpoint = make_checkpoint(ladder(100, np.random.default_rng(1)), polynomials)
        step = shared.step(checkpoint.model, {"stunet.model": '"stunet"'})
        lighter = cpu_graph(step)
        assert lighter is not None
        return checkpoint, step, lighter

    return get


def carried(graph: onnx.ModelProto, checkpoint: Checkpoint, batch: int) -> tuple[list[np.ndarray], dict]:
    """Return the forecasts of a graph over some intervals from zero state, and the state after them."""
    contract = checkpoint.model.contract
    session = open_cpu_session(graph.SerializeToString())
    inputs, lines = sample_inputs(contract, np.random.default_rng(4), batch, 8), contract.initial_lines(batch)
    forecasts = []
    for t in range(8):
        now = {name: array[:, t] for name, array in inputs.items()}
        arrays = session.run(None, now | dict(read_taps(contract, lines)))
        found = dict(zip(contract.output_names, arrays, strict=True))
        forecasts.append(found["forecast"])
        lines = advance(lines, {state.name: found[NEXT_STATE + state.name] for state in contract.states})
    return forecasts, lines


@pytest.mark.parametrize(
    "polynomials", [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_is_the_same_step(exported, polynomials, batch):
    checkpoint, step, lighter = exported(polynomials)

    check_step(lighter, checkpoint.model.contract)
    expected, expected_lines = carried(step, checkpoint, batch)
    found, lines = carried(lighter, checkpoint, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-4)
    assert np.std(expected) > 1
    for name, line in expected_lines.items():
        np.testing.assert_allclose(lines[name], line, rtol=1e-4, atol=1e-5)


def test_it_multiplies_less_and_is_no_larger(exported):
    _, step, lighter = exported(3)

    assert graph_cost(lighter).multiplications < 0.75 * graph_cost(step).multiplications
    assert lighter.ByteSize() < 1.2 * step.ByteSize()


def test_equal_steps_give_equal_bytes_and_the_step_is_left_alone(exported):
    _, step, lighter = exported(3)
    before = step.SerializeToString(deterministic=True)

    again = cpu_graph(step)

    assert again is not None
    assert again.SerializeToString(deterministic=True) == lighter.SerializeToString(deterministic=True)
    assert step.SerializeToString(deterministic=True) == before
    assert "stunet.model" in {entry.key for entry in lighter.metadata_props}


@pytest.mark.parametrize(
    "adjacency",
    [
        pytest.param(ladder(20, np.random.default_rng(1)), id="few"),
        pytest.param(np.random.default_rng(2).random((60, 60)), id="full", marks=pytest.mark.slow),
    ],
)
def test_a_graph_for_which_dense_bases_cost_least_has_none(shared, adjacency):
    assert cpu_graph(shared.step(make_checkpoint(adjacency).model, {})) is None


@pytest.mark.parametrize("size", SIZES[::4])
@pytest.mark.parametrize("nodes", [1, 16, 75])
def test_blocks_are_the_matrix(nodes, size):
    rng = np.random.default_rng(nodes + size)
    matrix = rng.normal(size=(nodes, nodes)) * (rng.random((nodes, nodes)) < 0.1)
    matrix = (matrix + matrix.T).astype(np.float32)
    x = rng.normal(size=(nodes, 3)).astype(np.float32)

    blocks = Blocks.cut(matrix, size)

    product = (blocks.blocks @ x[blocks.columns]).reshape(-1, 3)
    np.testing.assert_allclose(product[blocks.slots.slots], matrix @ x, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(blocks.slots.nodes[blocks.slots.slots], np.arange(nodes))


def test_a_bundle_has_it_and_a_processor_runs_it(exported, tmp_path):
    checkpoint, _, _ = exported(3)

    bundle = export_bundle(checkpoint, tmp_path / "road.bundle", precisions=["fp16"], force=True)

    assert bundle.cpu_graph().path == bundle.path / CPU_STEP
    assert bundle.graph().path == bundle.path / STEP
    assert bundle.manifest.precisions == ("fp32", "fp16")
    assert verify(bundle)
    assert bundle.manifest.parity["fp32"]["max_abs_error"] == verify(bundle).max_abs_error

    (bundle.path / CPU_STEP).write_bytes(bundle.read(STEP))
    with pytest.raises(BundleError, match=r"step\.cpu\.onnx was altered"):
        Stream.open(bundle)


def test_a_bundle_without_it_runs_the_step(exported_bundle):
    assert exported_bundle.cpu_graph() == exported_bundle.graph()
