"""Filling: readings clipped and normalised, gaps filled, for an interval and for a sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.config import Signal, SRNNConfig, STUNetConfig
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.models.fill import Fill, return_share
from stunet_deploy.models.signal import SignalInput
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import st_graph_of_sensors

# Numbers that float32 holds exactly, so that float64 needs no excuse.
SIGNAL = Signal(
    features=("speed", "flow", "occupancy"),
    targets=("flow", "speed"),
    mean=(52.0, 310.5, 0.125),
    std=(12.5, 96.0, 0.0625),
    low=(0.0, 0.0, 0.0),
    high=(84.0, 700.0, 0.375),
)


def readings(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Readings that run over the limits on both sides."""
    low, high = np.array(SIGNAL.low), np.array(SIGNAL.high)
    return rng.uniform(low - 0.3 * high, 1.3 * high, (*shape, 3))


def normalised(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, SIGNAL.low, SIGNAL.high) - SIGNAL.mean) / np.array(SIGNAL.std)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(["last", "mean", "zeros"]), time=st.integers(1, 9))
def test_filling_a_sequence_and_step_by_step_is_the_literal_fill(literal, seed, name, time):
    rng = np.random.default_rng(seed)
    values, observed = readings(rng, 2, time, 4), (rng.random((2, time, 4, 3)) < rng.choice([0.1, 0.6])).astype(float)
    poisoned = np.where(observed == 1, values, rng.choice([np.nan, np.inf, -1e30], values.shape))
    fill = Fill(name, SignalInput(SIGNAL, "week", True).double())
    last = rng.standard_normal((2, 4, 3))
    carried = {"substitute": torch.from_numpy(last)}

    usual = torch.full(values.shape, torch.nan, dtype=torch.float64)  # these fills do not read it
    inputs = torch.from_numpy(poisoned), torch.from_numpy(observed)
    sequence = fill.sequence(*inputs, {"substitute": torch.from_numpy(last)[None]}, usual)

    for interval in range(time):
        state = {f"state.{entry}": tensor for entry, tensor in carried.items()}
        step = fill.step(*(tensor[:, interval] for tensor in inputs), state, usual[:, interval])
        carried = fill.written(step, usual[:, interval])
        torch.testing.assert_close(sequence[:, interval], step, rtol=0, atol=0)
    assert carried.keys() == ({"substitute"} if name == "last" else set())
    for row in range(2):
        expected = literal.fill(name, SIGNAL, normalised(values[row]), observed[row], last[row])
        np.testing.assert_allclose(sequence[row], expected, rtol=0, atol=1e-10)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), horizon=st.integers(1, 12), time=st.integers(1, 9))
def test_usual_fills_a_sequence_and_step_by_step_by_its_equation(literal, seed, horizon, time):
    rng = np.random.default_rng(seed)
    values, observed = readings(rng, 2, time, 4), (rng.random((2, time, 4, 3)) < rng.choice([0.1, 0.6])).astype(float)
    poisoned = np.where(observed == 1, values, rng.choice([np.nan, np.inf, -1e30], values.shape))
    usual, departed = rng.standard_normal(values.shape), rng.standard_normal((2, 4, 3))
    fill = Fill("usual", SignalInput(SIGNAL, "week", True).double(), horizon=horizon)
    carried = {"departed": torch.from_numpy(departed)}
    inputs = [torch.from_numpy(array) for array in (poisoned, observed, usual)]

    sequence = fill.sequence(*inputs[:2], {"departed": carried["departed"][None]}, inputs[2])

    for interval in range(time):
        reading, seen, day = (tensor[:, interval] for tensor in inputs)
        step = fill.step(reading, seen, {f"state.{entry}": tensor for entry, tensor in carried.items()}, day)
        carried = fill.written(step, day)
        torch.testing.assert_close(sequence[:, interval], step, rtol=0, atol=1e-12)
        assert torch.equal(sequence[:, interval][seen > 0], step[seen > 0])  # a reading is no sum of two parts
    assert carried.keys() == {"departed"}
    for row in range(2):
        told = (normalised(values[row]), observed[row], usual[row], departed[row])
        expected = literal.fill_usual(*told, 2 / (1 + horizon))
        np.testing.assert_allclose(sequence[row], expected, rtol=0, atol=1e-10)


def test_a_fresh_silent_sensor_is_at_its_usual_reading_and_a_departure_shrinks() -> None:
    fill = Fill("usual", SignalInput(SIGNAL, "week", True).double(), horizon=3)  # half the way back in an interval
    usual = torch.from_numpy(np.random.default_rng(4).standard_normal((1, 6, 2, 3)))
    values = torch.full((1, 6, 2, 3), torch.nan, dtype=torch.float64)
    observed = torch.zeros_like(values)
    values[:, 1, 1], observed[:, 1, 1] = SIGNAL.high[0], 1  # one sensor is read once, and is silent again
    (entry,) = fill.states(2)

    filled = fill.sequence(values, observed, {entry.name: torch.zeros(1, 1, 2, 3, dtype=torch.float64)}, usual)

    assert entry.shape == (None, 2, 3)
    torch.testing.assert_close(filled[:, :, 0], usual[:, :, 0], rtol=0, atol=0)
    torch.testing.assert_close(filled[:, 0, 1], usual[:, 0, 1], rtol=0, atol=0)
    departed = filled[0, 1:, 1] - usual[0, 1:, 1]
    shares = torch.tensor([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16], dtype=torch.float64)
    torch.testing.assert_close(departed, shares[:, None] * departed[0], rtol=0, atol=1e-12)
    assert (departed[0].abs() > 0.1).all()


@pytest.mark.parametrize(("fill", "channels"), [("zeros", 3), ("mean", 6)])
def test_a_network_with_zeros_for_a_fill_is_not_told_what_is_missing(build_model, fill, channels):
    options = {"fill": fill, "time_features": "none", "mask_channel": True}
    graph = st_graph_of_sensors(Adjacency.from_matrix(np.eye(2)), ["a", "b"], 3)

    stunet = build_model(STUNetConfig(hidden=3, **options), np.zeros((2, 2)), signal=SIGNAL)
    srnn = StructuralRNN(SRNNConfig(**options), graph, SIGNAL)

    assert (stunet.input.channels, srnn.input.channels) == (channels, channels)


@pytest.mark.parametrize(("span", "share"), [(0.0, 1.0), (1.0, 1.0), (3.0, 0.5), (12.0, 2 / 13), (float("inf"), 0.0)])
def test_the_share_of_the_return_is_that_of_an_exponential_average(span: float, share: float) -> None:
    assert return_share(span) == share


def test_forecast_cuts_before_every_interval_that_lacks_a_reading():
    fill = Fill("forecast", SignalInput(SIGNAL, "week", True))
    observed = torch.ones(2, 7, 4, 3)
    observed[1, 3, 0, 2] = observed[0, 4, 1, 0] = 0

    pieces = list(fill.pieces(observed, torch.tensor([1, 2, 5])))

    assert [(rows.start, rows.stop) for rows, _, _ in pieces] == [(0, 3), (3, 4), (4, 7)]
    # Counted from the first interval of a piece; the last of each is decoded too, and not part of the answer.
    assert [decoded.tolist() for _, decoded, _ in pieces] == [[1, 2], [0], [1, 2]]
    assert [wanted for _, _, wanted in pieces] == [2, 0, 1]
    for name in ("usual", "last"):
        assert list(Fill(name, fill.source).pieces(observed, None)) == [(slice(0, 7), None, None)]
