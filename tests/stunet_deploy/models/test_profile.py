"""The profile's look-up against the calendar, and a network that has one."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
import torch

from stunet_deploy.config import STUNetConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.testing import verify_step_contract

SLOTS = 288
MONDAY = dt.datetime(2025, 3, 10)


def make_profile(nodes: int = 5, horizon: int = 12, seed: int = 0) -> DailyProfile:
    generator = torch.Generator().manual_seed(seed)
    return DailyProfile(torch.randn(2 * SLOTS, nodes, 1, generator=generator), horizon)


def test_every_interval_of_the_week_finds_its_slots() -> None:
    profile = make_profile(horizon=3)
    seconds = torch.arange(0, 7 * 86_400, 300, dtype=torch.float32)[:, None]

    index = profile.index(seconds)

    for row in (0, 1, 287, 288, 1439, 1440, 1727, 2015):
        moments = [MONDAY + dt.timedelta(seconds=300 * (row + ahead)) for ahead in range(4)]
        expected = [(at.hour * 60 + at.minute) // 5 + SLOTS * (at.weekday() >= 5) for at in moments]
        assert index[row].tolist() == expected
    assert torch.equal(profile.index(seconds.double()), index)


@pytest.mark.parametrize("seconds", [3.4e38, -3.4e38, -1.0, 604_800.0, 1e-45, float("nan"), float("inf")])
def test_any_time_stays_within_the_table(seconds: float) -> None:
    index = make_profile().index(torch.tensor([[seconds]]))

    assert 0 <= int(index.min()) <= int(index.max()) < 2 * SLOTS


def test_a_network_with_a_profile_holds_the_step_contract(build_model, as_numpy) -> None:
    adjacency = np.array([[0, 1, 0, 0, 0], [1, 0, 2, 0, 0], [0, 2, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0.0]])
    config = STUNetConfig(hidden=3, scales=((1, 2),), horizon=12, profile=True)
    model = build_model(config, adjacency, profile=make_profile().table)
    torch.nn.init.normal_(model.profile.blend, std=0.3)
    step, forward = as_numpy(model)

    verify_step_contract(model.contract, step, np.random.default_rng(0), forward=forward, tolerance=1e-3)


@pytest.mark.parametrize("damping", [None, 0.0, 0.4])
def test_an_untrained_network_forecasts_the_damped_departure(build_model, damping: float | None) -> None:
    damped = damping is not None
    config = STUNetConfig(hidden=3, scales=((0, 1),), horizon=12, profile=True, fill="mean", damped=damped)
    profile = make_profile(nodes=2)
    model = build_model(config, np.array([[0.0, 1], [1, 0]]), profile=profile.table)
    for parameter in model.decoder.parameters():
        torch.nn.init.zeros_(parameter)  # as in training
    torch.nn.init.ones_(model.profile.blend)
    if damping is not None:
        torch.nn.init.constant_(model.profile.damping, damping)
    values = torch.full((1, 1, 2, len(model.signal.features)), 50.0)
    time = torch.tensor([[[90_000.0]]])

    with torch.no_grad():
        forecast, _ = model(StepInputs(values, torch.ones_like(values), time), model.initial_lines(1))

    column = model.signal.target_index[0]
    mean, std = model.signal.mean[column], model.signal.std[column]
    now, ahead = profile(time)[0, 0, :1, :, 0], profile(time)[0, 0, 1:, :, 0]
    expected = (ahead + (damping or 0.0) * ((50 - mean) / std - now)) * std + mean
    expected = expected.clamp(model.signal.low[column], model.signal.high[column])
    torch.testing.assert_close(forecast[0, 0, ..., 0], expected)


@pytest.mark.parametrize(("wanted", "table"), [(True, None), (False, make_profile().table)])
def test_config_and_table_belong_together(build_model, wanted: bool, table: torch.Tensor | None) -> None:
    with pytest.raises(ConfigError, match=r"model\.profile"):
        build_model(STUNetConfig(hidden=3, profile=wanted), np.zeros((5, 5)), profile=table)
