"""The absent change no forecast, bit for bit; slots, crowds and turns by hand; walking straight is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stunet_deploy.config import SRNNConfig
from stunet_deploy.models.srnn.model import StructuralRNN
from training.tasks.learning import as_inputs, forecast_all
from training.tasks.settings import TaskConfig, TaskTraining
from training.tasks.trajectories.data import OBSERVED, Recording, ade_fde, displacement_errors, recording, windows
from training.tasks.trajectories.model import (
    build_trajectories,
    crowded,
    forecast_trajectories,
    seated,
    train_trajectories,
    turned,
)

SUMMED = SRNNConfig(
    edge_features="difference",
    edge_embedding=(4,),
    edge_hidden=8,
    node_embedding=(4,),
    node_hidden=8,
    head=(8,),
    decoder="recurrent",
    presence=True,
    fill="mean",
    time_features="none",
    mask_channel=False,
    horizon=12,
    window=8,
)
PAIRS = SRNNConfig(**{**SUMMED.__dict__, "edge_state": "per_edge", "combine": "attention"})


def config(model: SRNNConfig, **training: int | float) -> TaskConfig:
    return TaskConfig("pedestrians", model, TaskTraining(**training))  # type: ignore[arg-type]


def random_model(settings: TaskConfig, capacity: int) -> StructuralRNN:
    torch.manual_seed(0)
    model = build_trajectories(settings, "srnn", capacity)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return model.eval()


def straight_walkers(people: int, intervals: int, seed: int) -> Recording:
    rng = np.random.default_rng(seed)
    start, velocity = rng.uniform(-5, 5, (people, 2)), rng.normal(0, 0.4, (people, 2))
    rows = [
        (10.0 * time, person, *(start[person] + time * velocity[person]))
        for time in range(intervals)
        for person in range(people)
    ]
    return recording("walkers", np.array(rows))


@pytest.mark.parametrize("model", [SUMMED, PAIRS], ids=["summed", "attention"])
def test_an_absent_pedestrian_changes_no_others_forecast_bit_for_bit(model: SRNNConfig) -> None:
    network = random_model(config(model), 5)
    positions = np.random.default_rng(1).uniform(-4, 4, (3, OBSERVED, 5, 2))
    present = np.ones((3, OBSERVED, 5, 1), dtype=bool)
    present[:, 5:, 3] = False  # leaves
    present[:, :, 4] = False  # never comes
    quiet, loud = positions.copy(), positions.copy()
    quiet[np.broadcast_to(~present, quiet.shape)] = 0.0
    loud[:, 5:, 3], loud[:, :, 4] = 1e30, np.nan

    found = [forecast_all(network, as_inputs(one, present)) for one in (quiet, loud)]

    np.testing.assert_array_equal(found[0][..., :3, :], found[1][..., :3, :])


@pytest.mark.parametrize("model", [SUMMED, PAIRS], ids=["summed", "attention"])
def test_a_present_pedestrian_does_change_them(model: SRNNConfig) -> None:
    network = random_model(config(model), 3)
    positions = np.random.default_rng(1).uniform(-4, 4, (1, OBSERVED, 3, 2))
    present = np.ones((1, OBSERVED, 3, 1), dtype=bool)
    without = present.copy()
    without[:, :, 2] = False

    found = [forecast_all(network, as_inputs(positions, one)) for one in (present, without)]

    assert np.abs(found[0][..., :2, :] - found[1][..., :2, :]).max() > 1e-4


@pytest.mark.parametrize("model", [SUMMED, PAIRS], ids=["summed", "attention"])
def test_forecasts_do_not_depend_on_the_number_of_slots(model: SRNNConfig) -> None:
    settings = config(model)
    cut = windows(straight_walkers(3, 22, 0), 7)
    network = random_model(settings, 7)

    fitted = forecast_trajectories(settings, "srnn", network, cut)
    direct = forecast_all(network, as_inputs(cut.positions[:, :OBSERVED], cut.present[:, :OBSERVED, :, None]), [7])

    np.testing.assert_allclose(fitted[:, :, :3], direct[:, 0, :, :3], atol=1e-4)


@pytest.mark.usefixtures("shapes_unchecked")
def test_walking_straight_is_learned() -> None:
    settings = config(SUMMED, updates=30, batch=8, capacity=4, learning_rate=3e-2)
    torch.manual_seed(0)
    network = build_trajectories(settings, "lstm", 4)
    losses: list[float] = []

    train_trajectories(settings, network, [straight_walkers(4, 30, 0)], 0, lambda update, loss: losses.append(loss))

    cut = windows(straight_walkers(4, 20, 7), 4)
    standing = np.repeat(cut.positions[:, OBSERVED - 1 : OBSERVED], 12, axis=1)
    ade, _ = ade_fde([displacement_errors(forecast_trajectories(settings, "lstm", network, cut), cut)])
    still, _ = ade_fde([displacement_errors(standing, cut)])
    assert ade < 0.8 * still
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_of_a_crowd_the_nearest_are_taken() -> None:
    rows = [(10.0 * time, person, float(2**person), 0.0) for time in range(20) for person in range(6)]
    cut = windows(recording("row", np.array(rows)), 6)
    cut.scored[0] = [False, False, False, False, False, True]  # the last one, at 32 m

    positions, present = crowded(cut, 0, 3, np.random.default_rng(0))

    assert positions[0, :, 0].tolist() == [32, 16, 8]
    assert present.all()


def test_turning_keeps_what_matters() -> None:
    walk = np.stack([np.arange(4.0), np.zeros(4)], axis=-1)

    for seed in range(5):
        steps = np.linalg.norm(np.diff(turned(walk, np.random.default_rng(seed)), axis=0), axis=-1)
        np.testing.assert_allclose(steps, steps[0])
        assert 0.8 <= steps[0] <= 1.2


def test_people_keep_their_seat_until_they_leave() -> None:
    rows = [(0, 1, 1, 0), (0, 2, 2, 0), (10, 2, 2, 0), (10, 3, 3, 0), (10, 4, 4, 0), (20, 4, 4, 0), (20, 2, 2, 0)]
    positions, present = seated(recording("hall", np.array(rows, dtype=float)), 2)

    assert positions[..., 0].tolist() == [[1, 2], [3, 2], [4, 2]]  # 4 finds no seat at first
    assert present.all()
