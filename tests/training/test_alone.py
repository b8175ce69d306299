"""What knows a sensor alone: trained first, by teachers too, and left as it is while the rest is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from training.run import TrainingRun

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


def test_an_encoder_that_makes_it_worse_is_not_kept(series, graph, config):
    """A learning rate of 1 for the U ruins every epoch: the network is then the one that was trained alone."""
    run = TrainingRun(series, graph, config(epochs=2, learning_rate=3e-3), seed=3)
    prepared = run.prepare()
    run._fit_alone(prepared)
    alone = prepared.model.state_dict()
    ruined = config(epochs=2, learning_rate=1.0, schedule="step", average=0.0, clip_norm=1e6)
    object.__setattr__(run, "_fit_alone", lambda prepared: 0.0)  # it is trained already

    fit = run.fit(replace(prepared, config=ruined))

    assert fit.best_epoch == 0
    assert fit.validation_mae < min(epoch.validation_mae for epoch in fit.history)
    assert all(torch.equal(weight, alone[name]) for name, weight in prepared.model.state_dict().items())


def test_half_of_the_loss_is_the_distance_from_the_mean_of_the_teachers(make_trainer, series, graph, config):
    objective = make_trainer(series, graph, config(loss="mae", hide=0.2)).objective
    model = objective.model.eval()
    draw = objective.draw(torch.tensor([3, 40, 90])[:, None] + torch.arange(17))
    labels = objective.labels(draw)
    loss = objective.part_loss(draw, labels)

    itself = replace(objective, teachers=(model, model)).part_loss(draw, labels)

    torch.testing.assert_close(itself, loss / 2)
    other = make_trainer(series, graph, config(), seed=9).model.eval()
    with torch.no_grad():
        for weight in (*model.decoder.perceptron.parameters(), *other.decoder.perceptron.parameters()):
            weight.copy_(0.1 * torch.randn_like(weight))
    first, second = (replace(objective, teachers=(one,)).part_loss(draw, labels) for one in (other, model))
    both = replace(objective, teachers=(other, model)).part_loss(draw, labels)
    assert second < both < first  # of the two the one is the pupil itself


def test_teachers_change_what_is_learnt_and_every_one_has_weights_of_its_own(series, graph, config):
    seen = []

    def learnt(**settings):
        run = TrainingRun(series, graph, config(epochs=2, learning_rate=1e-2, **settings), seed=3)
        prepared, trainer = run.prepare(), run._trainer

        def remembered(networks, *arguments, **options):
            seen.append([teacher.state_dict() for teacher in networks[0].teachers])
            return trainer(networks, *arguments, **options)

        object.__setattr__(run, "_trainer", remembered)
        run._fit_alone(prepared)
        return weights(prepared.model, "perceptron")

    without, taught, again = learnt(), learnt(teachers=2), learnt(teachers=2)

    assert [len(teachers) for teachers in seen] == [0, *(0, 0, 2) * 2]
    first, second = seen[3]
    name = "decoder.perceptron.own_weight"
    assert not torch.equal(first[name], second[name])
    assert not torch.equal(without[name], taught[name])
    assert all(torch.equal(again[name], weight) for name, weight in taught.items())
