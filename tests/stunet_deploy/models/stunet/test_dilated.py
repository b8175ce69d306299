"""The dilated layer against Eq. (8), and its sequence against its steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.models.stunet.dilated import DilatedGCGRU, final_line, recent_states


def random_layer(rng: np.random.Generator, nodes: int, channels: int, hidden: int, dilation: int, norm: bool):
    basis = rng.uniform(-1, 1, (1, nodes, nodes))
    layer = DilatedGCGRU(torch.from_numpy(basis), channels, hidden, dilation, norm).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)))
    return basis, layer


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    dilation=st.integers(1, 4),
    time=st.integers(1, 9),
    nodes=st.integers(1, 4),
    norm=st.booleans(),
)
def test_a_sequence_is_eq_8_from_any_line(literal, seed, dilation, time, nodes, norm):
    rng = np.random.default_rng(seed)
    basis, layer = random_layer(rng, nodes, 2, 3, dilation, norm)
    x = rng.standard_normal((2, time, nodes, 2))
    line = rng.uniform(-1, 1, (dilation, 2, nodes, 3))

    with torch.no_grad():
        outputs, states = layer(layer.cell.project(torch.from_numpy(x)), torch.from_numpy(line))
        final = final_line(torch.from_numpy(line), states)

    assert outputs.shape == (2, time, nodes, 3)
    assert final.shape == line.shape
    scale = literal.tree(layer.norm) if norm else None
    for row in range(2):
        expected, left = literal.dilated(basis, literal.tree(layer.cell), scale, dilation, x[row], line[:, row])
        np.testing.assert_allclose(outputs[row], expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(final[:, row], left, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
@pytest.mark.parametrize("time", [1, 2, 5, 8])
def test_a_sequence_is_its_steps(dilation, time):
    rng = np.random.default_rng(7)
    _, layer = random_layer(rng, 3, 2, 4, dilation, True)
    x = torch.from_numpy(rng.standard_normal((2, time, 3, 2)))
    line = torch.from_numpy(rng.uniform(-1, 1, (dilation, 2, 3, 4)))

    with torch.no_grad():
        outputs, states = layer(layer.cell.project(x), line)
        final, recent = final_line(line, states), recent_states(line, states)
        steps = []
        for t, interval in enumerate(x.unbind(1)):
            output, hidden = layer.step(layer.cell.project(interval), line[0])
            line = torch.cat([line[1:], hidden[None]])
            steps.append(output)
            torch.testing.assert_close(torch.stack([aged[:, t] for aged in recent]), line, rtol=0, atol=1e-12)

    torch.testing.assert_close(outputs, torch.stack(steps, dim=1), rtol=0, atol=1e-12)
    torch.testing.assert_close(final, line, rtol=0, atol=1e-12)


def test_dilated_chains_do_not_see_each_other():
    rng = np.random.default_rng(2)
    _, layer = random_layer(rng, 3, 2, 4, 2, False)
    x, line = rng.standard_normal((1, 7, 3, 2)), np.zeros((2, 1, 3, 4))
    changed = x.copy()
    changed[:, ::2] += 1

    with torch.no_grad():
        before, _ = layer(layer.cell.project(torch.from_numpy(x)), torch.from_numpy(line))
        after, _ = layer(layer.cell.project(torch.from_numpy(changed)), torch.from_numpy(line))

    np.testing.assert_array_equal(before[:, 1::2], after[:, 1::2])
    assert (before[:, ::2] != after[:, ::2]).all()


def test_normalisation_stays_out_of_the_recurrence():
    rng = np.random.default_rng(3)
    _, layer = random_layer(rng, 3, 2, 4, 1, True)
    x, hidden = torch.from_numpy(rng.standard_normal((1, 3, 2))), torch.zeros(1, 3, 4, dtype=torch.float64)

    with torch.no_grad():
        output, state = layer.step(layer.cell.project(x), hidden)

    assert state.abs().max() < 1  # a mix of tanh values
    torch.testing.assert_close(output, layer.norm(state), rtol=0, atol=0)
    assert not torch.allclose(output, state)


def test_gradients_reach_inputs_line_and_every_weight():
    rng = np.random.default_rng(4)
    _, layer = random_layer(rng, 3, 2, 4, 3, True)
    x = torch.from_numpy(rng.standard_normal((2, 5, 3, 2))).requires_grad_()
    line = torch.from_numpy(rng.uniform(-1, 1, (3, 2, 3, 4))).requires_grad_()

    outputs, _ = layer(layer.cell.project(x), line)
    outputs.pow(3).sum().backward()

    for tensor in (x, line, *layer.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert (tensor.grad != 0).any()
