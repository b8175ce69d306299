"""The input and output of the network in physical units: mask, time of day and week, and the limits of forecasts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.config import Signal
from stunet_deploy.models.signal import TIME_CHANNELS, ForecastOutput, SignalInput

# Numbers that float32 holds exactly, so that float64 needs no excuse.
SIGNAL = Signal(
    features=("speed", "flow", "occupancy"),
    targets=("flow", "speed"),
    mean=(52.0, 310.5, 0.125),
    std=(12.5, 96.0, 0.0625),
    low=(0.0, 0.0, 0.0),
    high=(84.0, 700.0, 0.375),
)
DAY, WEEK = 86_400, 604_800


def signal_input(time_features: str = "week", mask: bool = True) -> SignalInput:
    return SignalInput(SIGNAL, time_features, mask).double()


@pytest.mark.parametrize("how", TIME_CHANNELS)
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("shape", [(5,), (2, 5)], ids=["step", "sequence"])
def test_channels_are_readings_mask_and_time(literal, how, mask, shape):
    rng = np.random.default_rng(3)
    filled, observed = rng.standard_normal((*shape, 4, 3)), (rng.random((*shape, 4, 3)) < 0.5).astype(float)
    seconds = rng.uniform(0, WEEK, (*shape, 1))
    module = signal_input(time_features=how, mask=mask)

    found = module.channelise(*map(torch.from_numpy, (filled, observed, seconds))).numpy()

    assert found.shape == (*shape, 4, module.channels)
    for index in np.ndindex(*shape):
        time = np.tile(literal.time_channels(how, seconds[index][0]), (4, 1))
        expected = np.concatenate([filled[index], *([observed[index]] if mask else []), time], axis=1)
        np.testing.assert_allclose(found[index], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, [0, 1, 0, 1]),
        (DAY / 4, [1, 0, np.sin(np.pi / 14), np.cos(np.pi / 14)]),
        (3.5 * DAY, [0, -1, 0, -1]),
        (WEEK, [0, 1, 0, 1]),
        (-DAY / 4, [-1, 0, -np.sin(np.pi / 14), np.cos(np.pi / 14)]),
    ],
)
def test_time_channels_by_hand(seconds, expected):
    one = torch.zeros(1, 1, 3, dtype=torch.float64)
    channels = signal_input(mask=False).channelise(one, one, torch.tensor([[float(seconds)]], dtype=torch.float64))
    np.testing.assert_allclose(channels[0, 0, 3:], expected, rtol=0, atol=1e-12)


@given(st.floats(0, WEEK, exclude_max=True, width=32))
def test_time_channels_in_float32_are_close_to_the_exact_ones(seconds):
    one = torch.zeros(1, 1, 3)
    for how in ("week", "fraction"):
        module = SignalInput(SIGNAL, how, False)
        found = module.channelise(one, one, torch.tensor([[seconds]]))[0, 0, 3:].numpy()
        day, week = seconds % DAY / DAY, seconds % WEEK / WEEK
        if how == "fraction":
            # Just before midnight the fraction may round up and start again at 0.
            assert min(abs(found[0] - day), 1 - abs(found[0] - day)) < 1e-6
            assert 0 <= found[0] < 1
        else:
            exact = [wave(2 * np.pi * share) for share in (day, week) for wave in (np.sin, np.cos)]
            np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("targets", [("flow", "speed"), ("occupancy",), SIGNAL.features])
@pytest.mark.parametrize("shape", [(2,), (2, 3)], ids=["step", "sequence"])
def test_forecasts_come_out_in_physical_units_within_the_limits(literal, targets, shape):
    signal = Signal(SIGNAL.features, targets, SIGNAL.mean, SIGNAL.std, SIGNAL.low, SIGNAL.high)
    output = ForecastOutput(signal).double()
    normalised = np.random.default_rng(5).normal(0, 3, (*shape, 6, 4, len(targets)))

    found = output(torch.from_numpy(normalised)).numpy()

    for index in np.ndindex(*shape):
        np.testing.assert_allclose(found[index], literal.denormalise(signal, normalised[index]), rtol=0, atol=1e-10)
    low, high = ([getattr(signal, name)[index] for index in signal.target_index] for name in ("low", "high"))
    assert (found == low).any()
    assert (found == high).any()
    inside = (found > low) & (found < high)
    back = output.normalise(torch.from_numpy(found)).numpy()
    np.testing.assert_allclose(back[inside], normalised[inside], rtol=0, atol=1e-10)
    clipped = output(output.clip(torch.from_numpy(normalised))).numpy()
    np.testing.assert_allclose(clipped, found, rtol=0, atol=1e-10)
