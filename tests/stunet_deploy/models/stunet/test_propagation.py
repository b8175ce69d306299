"""Products with the polynomials of a graph, dense and in blocks, against the equation in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.graph.hierarchy import GraphHierarchy, Level
from stunet_deploy.models.forecaster import StepInputs, unroll
from stunet_deploy.models.stunet.graph_gru import GCGRUCell
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.models.stunet.pooling import CopyUnpool
from stunet_deploy.models.stunet.propagation import (
    BlockBasis,
    level_basis,
    propagate,
    propagated_sum,
    unpooling_matrix,
)
from stunet_deploy.testing import verify_step_contract

#: Constants are stored in float32, by a dense basis and by blocks each in its own way.
STORED = 3e-6
TWO = Signal(("speed", "flow"), ("flow",), mean=(52.0, 310.5), std=(12.5, 96.0), low=(0.0, 0.0), high=(84.0, 700.0))


def sparse_graph(rng: np.random.Generator, nodes: int) -> np.ndarray:
    """Three random edges a node, one node in ten without any."""
    weights = rng.random((nodes, nodes)) * (rng.random((nodes, nodes)) < 3 / nodes)
    alone = rng.random(nodes) < 0.1
    weights[alone] = weights[:, alone] = 0
    return weights


def literal_terms(level: Level, polynomials: int) -> list[np.ndarray]:
    """T0 … TK of a level by their definition, in the order of the nodes."""
    weights = level.adjacency.dense()
    degree = weights.sum(axis=0)
    root = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    laplacian = np.eye(len(weights)) - root[:, None] * weights * root
    scaled = 2 * laplacian / np.linalg.eigvalsh(laplacian).max() - np.eye(len(weights))
    terms = [np.eye(len(weights)), scaled]
    while len(terms) <= polynomials:
        terms.append(2 * scaled @ terms[-1] - terms[-2])
    return terms[: polynomials + 1]


@settings(max_examples=30)
@given(
    nodes=st.integers(1, 90),
    order=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    form=st.sampled_from(["dense", "blocks"]),
)
def test_propagation_is_the_equation(nodes, order, seed, form):
    rng = np.random.default_rng(seed)
    (level,) = GraphHierarchy.build(sparse_graph(rng, nodes), pool_levels=[], chebyshev_order=order, basis=form).levels
    basis, slots = level_basis(level), level.slots
    basis = basis.double()
    x = rng.standard_normal((2, 3, nodes, 4))
    terms = rng.standard_normal((order, 2, nodes, 3))

    found = propagate(basis, torch.from_numpy(x[..., slots.nodes, :])).numpy()
    summed = propagated_sum(basis, [torch.from_numpy(term[:, slots.nodes]) for term in terms]).numpy()

    literal = literal_terms(level, order - 1)
    expected = np.concatenate([polynomial @ x for polynomial in literal], axis=-1)
    np.testing.assert_allclose(found[..., slots.slots, :], expected, rtol=0, atol=STORED * 2**order)
    expected = sum(polynomial @ term for polynomial, term in zip(literal, terms, strict=True))
    np.testing.assert_allclose(summed[:, slots.slots], expected, rtol=0, atol=STORED * 2**order)


@pytest.mark.parametrize("nodes", [5, 40])
def test_gradients_are_those_of_the_equation(nodes):
    rng = np.random.default_rng(nodes)
    hierarchy = GraphHierarchy.build(sparse_graph(rng, nodes), pool_levels=[1], basis="blocks")
    fine, coarse = hierarchy.levels
    step = hierarchy.transitions[0].between(fine.slots, coarse.slots)
    basis, unpooling = level_basis(fine).double(), unpooling_matrix(fine, step)
    assert unpooling is not None

    def inputs(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).requires_grad_()

    assert torch.autograd.gradcheck(lambda x: propagate(basis, x), [inputs(2, len(fine.slots.nodes), 2)])
    columns = 2 * len(coarse.slots.nodes)
    assert torch.autograd.gradcheck(unpooling.double(), [inputs(3, columns, 1)])


@pytest.mark.parametrize("skipped", [0, 2])
def test_an_unpooled_input_is_projected_as_if_it_were_copied_first(skipped):
    rng = np.random.default_rng(5)
    hierarchy = GraphHierarchy.build(sparse_graph(rng, 50), pool_levels=[2], basis="blocks")
    fine, coarse = hierarchy.levels
    step = hierarchy.transitions[0].between(fine.slots, coarse.slots)
    basis = level_basis(fine).double()
    cell = GCGRUCell(basis, 4 + skipped, 5).double()
    unpool = CopyUnpool(step, unpooling_matrix(fine, step)).double()
    x = torch.from_numpy(rng.standard_normal((2, len(coarse.slots.nodes), 4)))
    skip = torch.from_numpy(rng.standard_normal((2, len(fine.slots.nodes), skipped))) if skipped else None

    found = unpool.project(cell, x, skip)

    copied = unpool(x) if skip is None else torch.cat([unpool(x), skip], dim=-1)
    torch.testing.assert_close(found, cell.project(copied), rtol=0, atol=1e-5)


OPTIONS = {
    "defaults": {},
    "recurrent, ordered": {"decoder": "recurrent", "unpooling": "ordered_deconv"},
    "forecast, weighted": {"fill": "forecast", "unpooling": "weighted_deconv", "pooling": "mean"},
    "forecast, profile": {"fill": "forecast", "profile": True},
    "two scales": {"scales": ((1, 2), (2, 4)), "chebyshev_order": 4},
    "the same graph again": {"scales": ((2, 2), (0, 3))},
    "no neighbours": {"chebyshev_order": 1},
    "profile": {"profile": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("nodes", [1, 23, 70])
def test_a_model_in_blocks_forecasts_what_a_dense_one_does(build_model, options, nodes):
    rng = np.random.default_rng(nodes)
    graph = sparse_graph(rng, nodes)
    table = torch.from_numpy(rng.standard_normal((48, nodes, 1)).astype(np.float32)) if "profile" in options else None
    dense, blocks = (
        build_model(
            STUNetConfig(**({"hidden": 4, "horizon": 3, "basis": basis} | options)), graph, 0, TWO, table
        ).double()
        for basis in ("dense", "blocks")
    )
    blocks.load_state_dict(dense.state_dict())
    values, observed = rng.uniform(-20, 800, (2, 6, nodes, 2)), rng.random((2, 6, nodes, 2)) < 0.7
    seconds = rng.uniform(0, 600_000, (2, 6, 1))
    inputs = StepInputs(*(torch.from_numpy(array).double() for array in (values, observed, seconds)))

    with torch.no_grad():
        expected, _ = dense(inputs, dense.initial_lines(2))
        forecast, final = blocks(inputs, blocks.initial_lines(2))
        stepped, stepped_final = unroll(blocks, inputs, blocks.initial_lines(2))

    assert forecast.shape == (2, 6, 3, nodes, 1)
    # Both bases are rounded to float32, each in its own form, and layer norms over four channels magnify that.
    torch.testing.assert_close(forecast / 96, expected / 96, rtol=0, atol=1e-3)
    torch.testing.assert_close(stepped, forecast, rtol=0, atol=1e-9)
    for name, line in final.items():
        torch.testing.assert_close(stepped_final[name], line, rtol=0, atol=1e-9)


@pytest.mark.parametrize("nodes", [1, 30])
def test_a_model_in_blocks_keeps_the_contract(build_model, as_numpy, nodes):
    rng = np.random.default_rng(2)
    model = build_model(STUNetConfig(hidden=3, horizon=2, basis="blocks"), sparse_graph(rng, nodes))
    slots = model.hierarchy.levels[0].slots
    assert {spec.shape[1] for spec in model.contract.inputs[:2]} == {nodes}
    assert model.contract.states[0].shape[1] == len(slots.nodes) > nodes
    step, forward = as_numpy(model)
    verify_step_contract(model.contract, step, rng, forward=forward, time=5, tolerance=1e-3)


def test_states_of_spare_slots_reach_no_sensor(build_model):
    rng = np.random.default_rng(4)
    model: STUNet = build_model(STUNetConfig(hidden=3, horizon=2, basis="blocks"), sparse_graph(rng, 21))
    inputs = StepInputs(torch.full((1, 21, 1), 50.0), torch.ones(1, 21, 1), torch.zeros(1, 1))
    state = {tap.name: torch.randn(tap.state.with_batch(1)) for tap in model.contract.taps}
    poisoned = {name: tensor.clone() for name, tensor in state.items()}
    for name, tensor in poisoned.items():
        level = model.hierarchy.levels["contracting.1" in name]
        spare = np.setdiff1d(np.arange(len(level.slots.nodes)), level.slots.slots)
        assert len(spare)
        tensor[:, spare] = torch.nan

    with torch.no_grad():
        clean, written = model.step(inputs, state)
        other, rewritten = model.step(inputs, poisoned)

    assert torch.equal(clean.forecast, other.forecast)
    for name, tensor in written.items():
        level = model.hierarchy.levels["contracting.1" in name]
        assert torch.equal(tensor[:, level.slots.slots], rewritten[name][:, level.slots.slots])


def test_a_basis_is_chosen_per_level():
    side = 40
    nodes = np.arange(side * side).reshape(side, side)
    edges = np.zeros((side * side, side * side))
    edges[nodes[:, :-1].ravel(), nodes[:, 1:].ravel()] = 1
    edges[nodes[:-1].ravel(), nodes[1:].ravel()] = 1
    hierarchy = GraphHierarchy.build(edges, pool_levels=[5])
    assert isinstance(level_basis(hierarchy.levels[0]), BlockBasis)
    assert isinstance(level_basis(hierarchy.levels[1]), torch.Tensor)
