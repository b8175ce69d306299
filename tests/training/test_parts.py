"""A batch in parts: accumulated batches and the shares of processes give the loss and the step of the whole."""

from __future__ import annotations

import pytest
import torch

from stunet_deploy.errors import ConfigError, StunetError
from training.processes import launch

from .gloo import RECURRENT, fail, trained, trained_in_a_process, weighed

#: Chunks of very different numbers of labels, and everything random that training knows.
RANDOM = {"hide": 0.2, "hide_sensors": 0.3, "time_jitter": 20.0, "loss_every": 2}


@pytest.fixture
def gappy(wave):
    """The recording with two long outages: chunks differ in their number of labels, some have none."""
    return weighed(wave(640))


@pytest.mark.parametrize("kind", ["mae", "paper"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_the_losses_of_parts_sum_up_to_that_of_the_batch(make_trainer, gappy, graph, config, kind, count):
    objective = make_trainer(gappy, graph, config(loss=kind, **RANDOM)).objective
    rows = torch.tensor([3, 40, 48, 52, 120, 150, 200])[:, None] + torch.arange(17)
    draw = objective.draw(rows)
    labels = objective.labels(draw)

    parts = [part for part in draw.parts(count) if len(part.rows)]
    losses = [objective.part_loss(part, labels) for part in parts]

    assert count == 1 or len({int(objective.labels(part)) for part in parts}) > 1
    assert sum(len(part.rows) for part in parts) == 7
    torch.testing.assert_close(sum(losses), objective.part_loss(draw, labels))


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("settings", [RANDOM, {"regime": "window", "loss": "paper"}, RECURRENT])
def test_accumulated_batches_are_one_large_batch(gappy, graph, settings):
    whole = trained(gappy, graph, batch=12, **settings)
    accumulated = trained(gappy, graph, batch=4, accumulate=3, **settings)

    assert len(whole.losses) == len(accumulated.losses) >= 18
    assert accumulated.losses == pytest.approx(whole.losses, rel=1e-4)
    for name, weight in whole.weights.items():
        torch.testing.assert_close(accumulated.weights[name], weight, rtol=1e-4, atol=1e-5)
    assert all(sizes == [4, 4, 4] for sizes in accumulated.batches)
    assert all(sizes == [12] for sizes in whole.batches)


@pytest.mark.slow
def test_two_processes_are_one(gappy, graph, tmp_path):
    one = trained(gappy, graph, batch=5, accumulate=2, **RANDOM)

    launch(2, "cpu", trained_in_a_process, gappy, graph, tmp_path, {"batch": 5, "accumulate": 2, **RANDOM})

    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    for found in both:
        assert found.losses == pytest.approx(one.losses, rel=1e-5)
        assert found.errors == pytest.approx(one.errors, rel=1e-5)
        for name, weight in one.weights.items():
            torch.testing.assert_close(found.weights[name], weight, rtol=1e-5, atol=1e-5)
    for name, weight in both[0].weights.items():
        assert torch.equal(both[1].weights[name], weight), name
    assert len(one.losses) >= 20
    assert [found.batches[0] for found in both] == [[3, 2], [3, 2]]
    assert [found.reported for found in both] == [len(one.errors), 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [("refuse", ConfigError, "no such thing"), ("die", StunetError, "process 2 of 2 ended early .SIGKILL")],
)
def test_a_process_that_fails_ends_all_with_its_error(how, kind, words):
    with pytest.raises(kind, match=words):
        launch(2, "cpu", fail, how)


def test_more_processes_than_gpus_are_refused():
    gpus = torch.cuda.device_count()

    with pytest.raises(ConfigError, match=f"{gpus + 1} processes on {gpus} GPUs"):
        launch(gpus + 1, "cuda", fail, "refuse")
