"""The schedule: scheduled sampling by hand, the decay that halves midway, and how often a decoder is fed labels."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from training.schedule import sampling_decay, sampling_probability


@pytest.mark.parametrize(
    ("update", "decay", "expected"),
    [
        (0, 2000, 2000 / 2001),
        (2000 * math.log(2000), 2000, 0.5),  # DCRNN's, at update 15,202
        (100, 10, 10 / (10 + math.exp(10))),
        (10**9, 2, 0.0),
    ],
)
def test_the_chance_of_a_label_by_hand(update, decay, expected):
    assert sampling_probability(update, decay) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("planned", [1, 10, 500, 30_404])
def test_the_default_decay_reaches_one_half_midway(planned):
    decay = sampling_decay(planned)

    assert decay * math.log(decay) == pytest.approx(planned / 2)
    assert sampling_probability(planned / 2, decay) == pytest.approx(0.5)


def test_the_default_decay_of_a_full_run_is_about_dcrnns():
    assert sampling_decay(2 * 15_202) == pytest.approx(2000, rel=1e-3)


def test_a_loss_every_nth_interval_starts_at_random_past_the_warm_up(make_trainer, series, graph, config):
    trainer = make_trainer(series, graph, config(loss_every=3))
    rows = torch.tensor([[20], [90]]) + torch.arange(trainer.sampler.length)
    issued = []
    trainer.model.register_forward_pre_hook(lambda module, arguments: issued.append(arguments[3].tolist()))

    for _ in range(30):
        trainer.objective.loss(rows)

    firsts = {trainer.objective.warm_up + offset for offset in range(3)}
    assert {intervals[0] for intervals in issued} == firsts
    assert all(intervals == list(range(intervals[0], trainer.sampler.length, 3)) for intervals in issued)


@pytest.mark.parametrize(
    ("forcing", "expected"), [("never", [0, 0, 0]), ("always", [1, 1, 1]), ("scheduled", [0.98, 0.5, 0.02])]
)
def test_a_recurrent_decoder_is_taught_ever_more_rarely(make_trainer, series, graph, config, forcing, expected):
    settings = config(epochs=10, teacher_forcing=forcing)
    settings = replace(settings, model=replace(settings.model, decoder="recurrent", horizon=3))
    trainer = make_trainer(series, graph, settings)

    schedule = trainer.schedule
    found = [schedule.teacher_chance(done, schedule.progress(done, 0.0), 40) for done in (0.0, 5.0, 10.0)]

    assert found == pytest.approx(expected, abs=0.01)
    told = []
    trainer.model.register_forward_pre_hook(lambda module, arguments: told.append(arguments[4]))
    rows = torch.tensor([[20], [90]]) + torch.arange(trainer.sampler.length)
    for chance in found:
        trainer.objective.loss(rows, chance).backward()
    assert [teacher is not None for teacher in told] == [chance > 0 for chance in found]
    assert all(torch.isfinite(parameter.grad).all() for parameter in trainer.model.parameters())


@pytest.mark.parametrize(("updates", "epochs", "length"), [(1, 1, 1), (15, 15, 1), (41, 14, 3), (10**6, 20, 50_000)])
def test_a_number_of_updates_is_cut_into_epochs_whatever_a_pass_is(
    make_trainer, series, graph, config, updates, epochs, length
):
    trainer = make_trainer(series, graph, config(epochs=50, updates=updates, batch=8, chunk=4))
    assert (trainer.config.epochs, trainer.updates_per_epoch) == (epochs, length)
