"""A limit in minutes: it holds within an epoch, leaves time to validate, and a resume counts what was spent."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from training.loop import Trainer
from training.run import TrainingRun

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

UPDATE_S, VALIDATION_S = 4.0, 30.0


class Work:
    """A clock that only moves when a network computes: so much for an update, so much for a whole validation."""

    def __init__(self) -> None:
        self.now = 100.0
        self.updates = 0

    def __call__(self) -> float:
        return self.now

    def watch(self, trainer: Trainer) -> Trainer:
        """Let the clock follow a trainer's network, whose validation is one stream over so many rows."""
        split = trainer.validation.split
        rows = int(split.test[-1]) + 1 - (split.test_start - 24)

        def worked(module, arguments, result):
            if module.training:
                self.updates += 1
                self.now += UPDATE_S
            else:
                self.now += VALIDATION_S * arguments[0].values.shape[1] / rows

        trainer.model.register_forward_hook(worked)
        return trainer


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def limited(make_trainer, series, graph, config, work):
    """Return the function of a limit in seconds that makes a trainer with an epoch of 21 updates."""

    def make(seconds: float, **options) -> Trainer:
        settings = config(epochs=9, average=0.0, batch=2, warm_up=2, chunk=6)
        return work.watch(make_trainer(series, graph, settings, max_minutes=seconds / 60, clock=work, **options))

    return make


def per_epoch(trainer: Trainer) -> int:
    return trainer.sampler.draws(trainer.chunks, trainer.sampler.length - trainer.objective.warm_up)


def test_an_epoch_ends_early_and_is_validated_within_the_limit(limited, work):
    trainer = limited(60.0)

    (epoch,) = trainer.run()

    spent = work.now - 100.0
    assert per_epoch(trainer) * UPDATE_S > 60
    assert work.updates > 3
    assert spent == pytest.approx(60.0, abs=2 * UPDATE_S)
    assert epoch.seconds == pytest.approx(spent)
    assert epoch.validation_mae == trainer.validate()
    assert np.isfinite(epoch.loss)


def test_a_later_epoch_is_cut_too_and_the_learning_rate_has_annealed(limited, work):
    trainer = limited(220.0)

    first, second, *more = trainer.run()

    whole = per_epoch(trainer) * UPDATE_S
    assert not more
    assert whole + VALIDATION_S < first.seconds < whole + 2 * VALIDATION_S  # with what the estimate took
    assert second.seconds < whole + VALIDATION_S
    assert work.now - 100.0 == pytest.approx(220.0, abs=2 * UPDATE_S)
    assert second.learning_rate < 0.01 * trainer.config.learning_rate < first.learning_rate


def test_the_time_of_a_validation_is_estimated_from_a_part_of_it(limited, work):
    trainer = limited(60.0)
    began = work.now

    expected = trainer.validation.expected_seconds(trainer.model, work)

    assert expected == pytest.approx(VALIDATION_S, rel=0.15)
    assert work.now - began < 0.6 * VALIDATION_S  # a day of warm-up before 2 of 34 rows


def test_no_epoch_begins_that_could_not_be_validated(limited, work):
    trainer = limited(1000.0)
    whole = per_epoch(trainer) * UPDATE_S
    trainer = limited(whole + 2 * VALIDATION_S)

    assert len(trainer.run()) == 1


def test_one_update_is_made_however_short_the_time(limited, work):
    trainer = limited(0.001)

    assert len(trainer.run()) == 1
    assert work.updates == 1


def test_a_run_that_its_time_ended_resumes_to_itself(limited, work, tmp_path):
    first = limited(200.0, path=tmp_path / "run.state")
    first.run()
    updates = work.updates

    second = limited(200.0, path=tmp_path / "run.state")
    second.resume()
    second.run()

    assert work.updates == updates
    assert [asdict(epoch) for epoch in second.history] == [asdict(epoch) for epoch in first.history]
    for name, weight in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], weight), name


def test_a_resume_counts_the_time_before_and_the_time_of_the_perceptron_alone(limited, work, tmp_path):
    class InterruptedTrainingError(Exception):
        pass

    def interrupt(epoch):
        raise InterruptedTrainingError

    first = limited(350.0, path=tmp_path / "run.state", spent=150.0, report=interrupt)
    with pytest.raises(InterruptedTrainingError):
        first.run()
    between = work.now
    work.now += 10_000.0  # nobody trains

    second = limited(350.0, path=tmp_path / "run.state")
    second.resume()
    second.run()

    assert len(second.history) == 2
    assert (between - 100.0) + (work.now - between - 10_000.0) == pytest.approx(200.0, abs=2 * UPDATE_S)


def test_more_time_continues_a_run_that_its_time_ended(limited, tmp_path):
    limited(60.0, path=tmp_path / "run.state").run()

    second = limited(180.0, path=tmp_path / "run.state")
    second.resume()
    history = second.run()

    assert [epoch.epoch for epoch in history] == list(range(1, len(history) + 1))
    assert len(history) > 1
    assert second.validate() == min(epoch.validation_mae for epoch in history)


def test_the_first_training_of_the_perceptron_takes_its_share_of_the_time(series, graph, config):
    settings = config(epochs=60, alone=10_000, patience=1000)
    seconds = itertools.count(0.0, 0.25)  # the clock of a run is read a few times an update
    run = TrainingRun(series, graph, settings, max_minutes=1.0, clock=lambda: next(seconds))

    checkpoint = run.run()

    assert next(seconds) == pytest.approx(60.0, abs=15)
    assert checkpoint.training["epochs"] > 1


def test_the_time_is_that_of_the_clock_given(make_trainer, series, graph, config):
    stopped = make_trainer(series, graph, config(epochs=3), max_minutes=1e-6, clock=lambda: 5.0)

    assert len(stopped.run()) == 3


def test_without_a_limit_the_clock_changes_nothing(make_trainer, series, graph, config):
    settings = config(epochs=2)
    seconds = itertools.count(0.0, 1e6)
    slow = make_trainer(series, graph, settings, clock=lambda: next(seconds))
    fast = make_trainer(series, graph, settings)

    assert [replace(epoch, seconds=0.0) for epoch in slow.run()] == [
        replace(epoch, seconds=0.0) for epoch in fast.run()
    ]
