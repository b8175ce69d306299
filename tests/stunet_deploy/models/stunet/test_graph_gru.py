"""Graph convolution and GCGRU cell against Eq. (2) and (7) of ST-UNet, written out, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.models.stunet.graph_gru import GCGRUCell, GraphConvolution
from stunet_deploy.models.stunet.propagation import propagate

TIGHT = {"rtol": 0, "atol": 1e-10}


def random_basis(rng: np.random.Generator, order: int, nodes: int) -> np.ndarray:
    """Not symmetric and no Chebyshev polynomials: the layers must not depend on either."""
    return rng.uniform(-1, 1, (order - 1, nodes, nodes))


def randomise(module: torch.nn.Module, rng: np.random.Generator) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (4, 4), (5, 2)])
def test_graph_convolution_is_eq_2_in_either_order_of_products(literal, order, inputs, outputs):
    rng = np.random.default_rng([order, inputs])
    basis, x = random_basis(rng, order, 6), rng.standard_normal((2, 3, 6, inputs))
    layer = GraphConvolution(torch.from_numpy(basis), inputs, outputs).double()
    randomise(layer, rng)

    found = layer(torch.from_numpy(x)).detach().numpy()

    weights = literal.tree(layer)
    for row in range(2):
        for time in range(3):
            expected = literal.graph_convolution(basis, x[row, time], weights["weight"], weights["bias"])
            np.testing.assert_allclose(found[row, time], expected, **TIGHT)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), order=st.integers(1, 4), nodes=st.integers(1, 6), channels=st.integers(1, 4))
def test_cell_is_eq_7_with_reset_before_the_convolution(literal, seed, order, nodes, channels):
    rng = np.random.default_rng(seed)
    hidden = int(rng.integers(1, 4))
    basis = random_basis(rng, order, nodes)
    cell = GCGRUCell(torch.from_numpy(basis), channels, hidden).double()
    randomise(cell, rng)
    x, h = rng.standard_normal((2, nodes, channels)), rng.uniform(-1, 1, (2, nodes, hidden))

    found = cell.update(cell.project(torch.from_numpy(x)), torch.from_numpy(h)).detach().numpy()

    for row in range(2):
        np.testing.assert_allclose(found[row], literal.gcgru(basis, literal.tree(cell), x[row], h[row]), **TIGHT)


def test_cell_of_one_node_and_channel_by_hand():
    cell = GCGRUCell(torch.zeros(0, 1, 1, dtype=torch.float64), 1, 1).double()
    with torch.no_grad():
        cell.input_weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
        cell.gate_weight.copy_(torch.tensor([[0.5, -1.0]]))
        cell.candidate_weight.copy_(torch.tensor([[2.0]]))
        cell.bias.copy_(torch.tensor([0.0, 0.1, 0.2]))

    found = cell.update(cell.project(torch.full((1, 1, 1), 0.3).double()), torch.full((1, 1, 1), 0.4).double())

    keep = 1 / (1 + np.exp(-(0.3 + 0.2)))
    reset = 1 / (1 + np.exp(-(0.6 + 0.1 - 0.4)))
    candidate = np.tanh(0.9 + 0.2 + 2.0 * (reset * 0.4))
    # 0.3 and 0.4 pass through float32 above.
    assert found.item() == pytest.approx(keep * 0.4 + (1 - keep) * candidate, abs=1e-7)


def test_propagate_keeps_the_input_first():
    x = torch.arange(6.0).reshape(3, 2)
    swap = torch.eye(3)[[2, 1, 0]]
    torch.testing.assert_close(propagate(swap[None], x), torch.cat([x, x.flip(0)], dim=1), rtol=0, atol=0)


def test_gates_start_open_and_weights_differ():
    cell = GCGRUCell(torch.zeros(2, 4, 4), 3, 5)
    assert cell.bias.tolist() == [1.0] * 10 + [0.0] * 5
    for weight in (cell.input_weight, cell.gate_weight, cell.candidate_weight):
        for gate in weight.split(5, dim=1):  # every gate within the bound of its own fan-in and fan-out
            bound = (6 / sum(gate.shape)) ** 0.5
            assert 0.5 * bound < gate.abs().max() <= bound
            assert len(gate.unique()) == gate.numel()


def test_the_basis_is_a_constant_of_the_graph_and_no_weight():
    cell, layer = GCGRUCell(torch.zeros(2, 4, 4), 3, 5), GraphConvolution(torch.zeros(2, 4, 4), 3, 5)
    for module in (cell, layer):
        assert "basis" not in module.state_dict()
        assert "basis" in dict(module.named_buffers())
