"""What knows a sensor alone: trained first, and left as it is while the rest is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.config import TrainingConfig
from training.perceptrons import perceptron_training
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

pytestmark = pytest.mark.usefixtures("shapes_unchecked")


def weights(model, part):
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if part in name}


def test_the_perceptron_is_trained_first_and_alone(series, graph, config):
    whole = TrainingRun(series, graph, config(epochs=2, learning_rate=1e-2), seed=3)
    prepared = whole.prepare()
    before = weights(prepared.model, "")

    whole._fit_alone(prepared)

    changed = {name for name, weight in prepared.model.named_parameters() if not torch.equal(weight, before[name])}
    perceptron = prepared.model.decoder.perceptron
    assert changed == {f"decoder.perceptron.{name}" for name in perceptron._parameters.keys() - {"encoded_weight"}}
    assert whole._fit_alone(replace(prepared, config=config(alone=0))) == 0


def test_it_stays_as_it_is_while_the_rest_is_trained(series, graph, config):
    settings = config(epochs=2, learning_rate=1e-2)
    run = TrainingRun(series, graph, settings, seed=3)
    alone = run.prepare()
    run._fit_alone(alone)
    before = alone.model.state_dict()

    run.fit(trained := run.prepare())

    after = trained.model.state_dict()
    kept = {name for name in before if torch.equal(after[name], before[name])}
    assert {name for name in before if "perceptron" in name and "encoded" not in name} <= kept
    assert not {name for name in before if name.startswith(("encoder", "decoder.head"))} & kept
    assert all(weight.requires_grad for weight in trained.model.parameters())


@pytest.mark.parametrize("rate", [1.0, 3e36])
def test_an_encoder_that_makes_it_worse_is_not_kept(series, graph, config, rate):
    """Such a rate for the U ruins every epoch, or makes it no number: the network is the one that was trained alone."""
    run = TrainingRun(series, graph, config(epochs=2, learning_rate=3e-3), seed=3)
    prepared = run.prepare()
    run._fit_alone(prepared)
    alone = prepared.model.state_dict()
    ruined = config(epochs=2, learning_rate=rate, schedule="step", average=0.0, clip_norm=1e6)
    object.__setattr__(run, "_fit_alone", lambda prepared: 0.0)  # it is trained already

    fit = run.fit(replace(prepared, config=ruined))

    assert fit.best_epoch == 0
    assert np.isfinite(fit.validation_mae)
    assert not any(epoch.validation_mae <= fit.validation_mae for epoch in fit.history)
    assert all(torch.equal(weight, alone[name]) for name, weight in prepared.model.state_dict().items())


def test_every_member_is_trained_by_itself_and_their_mean_counts(series, graph, config):
    settings = config(epochs=2, learning_rate=1e-2)
    several = replace(settings, model=replace(settings.model, members=2))
    found = {}
    for name, run_config in (("one", settings), ("several", several)):
        run = TrainingRun(series, graph, run_config, seed=3)
        found[name] = run.prepare()
        run._fit_alone(found[name])
    one, both = found["one"].model.eval(), found["several"].model.eval()
    first, second = both.decoder.members

    assert not torch.equal(first.own_weight, second.own_weight)
    split = found["one"].split
    forecasts = [
        next(TorchPredictor(model).window(series, split.test[:3], 6)) for model in (both.alone(0), both.alone(1), both)
    ]
    np.testing.assert_allclose((forecasts[0] + forecasts[1]) / 2, forecasts[2], rtol=1e-4)
    assert np.abs(forecasts[0] - forecasts[1]).max() > 0.01
    assert one.decoder.perceptron.own_weight.shape == first.own_weight.shape


@given(st.integers(1, 3000), st.integers(1, 40_000), st.integers(1, 5000))
def test_of_a_longer_recording_there_are_more_updates_of_more_windows_each(sensors, windows, updates):
    training = TrainingConfig(alone=updates, updates=1)
    found = perceptron_training(training, sensors, windows)
    twice = perceptron_training(training, sensors, 2 * windows)

    assert found.regime == "window"
    assert found.batch >= 4
    assert found.batch * sensors >= 2500
    assert found.updates >= updates
    assert found.updates * found.batch >= 10 * windows
    assert twice.updates >= found.updates
    assert twice.batch >= found.batch
    # A short one takes the updates that are asked for, as small as they may be.
    if 10 * windows * sensors <= 2500 * updates:
        assert (found.updates, found.batch) == (updates, max(4, -(-2500 // sensors)))


@pytest.mark.parametrize(("epochs", "expected"), [(1, 25), (3, 75), (1000, 3000)])
def test_whoever_counts_passes_gets_no_more_of_them(epochs, expected):
    assert perceptron_training(TrainingConfig(epochs=epochs), 100, 601).updates == expected
