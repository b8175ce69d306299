"""Training on several networks at once: shared weights, updates in turn, one validation error, one checkpoint."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import SRNNRunConfig
from stunet_deploy.errors import CheckpointError, ConfigError, DataError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.files import SensorGraph
from training.baselines import damped_departure
from training.evaluation import evaluate
from training.loop import Trainer
from training.processes import launch
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor
from training.validation import Validation

from .gloo import trained_together

pytestmark = pytest.mark.usefixtures("shapes_unchecked")


@pytest.fixture
def other(wave):
    """Another network: four other sensors in a line that count vehicles every half an hour."""
    series = wave(300, seed=9).aligned(["s4", "s0", "s2", "s5"], ["speed"])
    site = replace(
        series.site,
        sensor_ids=tuple("abcd"),
        features=("flow",),
        units=("veh/h",),
        interval_s=1800,
        timezone="Europe/Berlin",
    )
    stamps = series.timestamps[0] + 1800 * np.arange(300)
    line = np.eye(4, k=1) + np.eye(4, k=-1)
    graph = SensorGraph(Adjacency.from_matrix(line), series.sensor_ids, None, None, "a line")
    return replace(series, values=40 * series.values, timestamps=stamps, site=site, source="counts"), graph


@pytest.fixture
def profiled(config):
    """Return a function of training settings that gives the config of a tiny network with a profile."""

    def make(profile: bool = True, **training):
        settings = config(**training)
        return replace(settings, model=replace(settings.model, profile=profile))

    return make


def several(series, graph, other, config, **options) -> TrainingRun:
    return TrainingRun(series, graph, config, others=[other], seed=3, **options)


def own(name: str) -> bool:
    return name == "profile.damping"


def test_models_have_the_weights_in_common_and_the_rest_for_themselves(series, graph, other, profiled):
    first, second = several(series, graph, other, profiled()).prepare().networks
    ours, theirs = (dict(network.model.named_parameters()) for network in (first, second))

    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] is not theirs[name]} == {"profile.damping"}
    assert (first.model.sensors, second.model.sensors) == (6, 4)
    assert second.model.signal.targets == ("flow",)
    assert second.model.signal.mean[0] == pytest.approx(40 * 45, rel=0.05)
    alone = TrainingRun(*other, profiled(), seed=3).prepare().model
    assert second.model.signal == alone.signal
    own_tables = alone.state_dict()
    for name, tensor in second.model.state_dict().items():
        if own(name) or name not in ours:
            assert torch.equal(tensor, own_tables[name]), name


@pytest.mark.parametrize("profile", [False, True])
def test_the_checkpoint_is_the_first_networks_and_loads(series, graph, other, profiled, profile, tmp_path):
    epochs = []
    settings = profiled(profile, epochs=2, alone=5)
    result = several(series, graph, other, settings, report=epochs.append).run()
    result.save(tmp_path / "model.pt")
    again = Checkpoint.load(tmp_path / "model.pt")

    assert again.site.sensor_ids == series.sensor_ids
    assert again.model.config.fill == "usual"
    assert again.training["beside"] == [{"data": "counts", "graph": "a line", "sensors": 4}]
    assert len(epochs) == again.training["epochs"] == 2
    split = several(series, graph, other, settings).prepare().split
    there = Validation.of(series, split, "stream")
    assert again.training["validation_mae"] == pytest.approx(there.mae(result.model))
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)


def test_the_log_has_the_mean_over_the_networks_in_shares_of_the_damped_departures_error(
    series, graph, other, profiled
):
    epochs = []
    run = several(series, graph, other, profiled(False, epochs=1, average=0.0), report=epochs.append)
    prepared = run.prepare()
    run.fit(prepared)
    shares = []
    for network in prepared.networks:
        split = network.split
        issue = split.validation[split.validation + split.horizon <= split.test[0]]
        scored = replace(split, test=issue, test_start=int(issue[0]) - split.window + 1)
        predictors = [TorchPredictor(network.model), damped_departure(network.series, split)]
        found = evaluate(network.series, scored, predictors, regimes=["stream"])
        ours, table = ([one.mae for one in found if one.model == predictor.name] for predictor in predictors)
        shares.append(np.mean(ours) / np.mean(table))

    assert epochs[0].validation_mae == pytest.approx(np.mean(shares))
    assert abs(shares[0] - shares[1]) > 0.01


def test_networks_take_turns(series, graph, other, profiled, monkeypatch):
    turns = []
    update = Trainer.update

    def noted(trainer, draw, objective=None):
        turns.append((len(trainer.history), objective.model.sensors))
        return update(trainer, draw, objective)

    monkeypatch.setattr(Trainer, "update", noted)
    several(series, graph, other, profiled(epochs=2, alone=0)).run()

    for epoch in range(2):
        sensors = [of for done, of in turns if done == epoch]
        assert sensors == [6, 4] * (len(sensors) // 2)
        assert len(sensors) > 4


@pytest.mark.parametrize("profile", [False, True])
def test_both_networks_are_learnt_and_each_learns_its_own_damping(series, graph, other, profiled, profile):
    run = several(series, graph, other, profiled(profile, epochs=3, alone=0, learning_rate=1e-2, average=0.0))
    before, after = run.prepare(), run.prepare()
    run.fit(after)

    first, second = (network.model for network in after.networks)
    assert first.decoder.head.weight is second.decoder.head.weight
    for untrained, trained in zip(before.networks, after.networks, strict=True):
        if profile:
            assert not torch.equal(trained.model.profile.damping, untrained.model.profile.damping)
        else:  # beyond its profile there is nothing to learn of a wave
            validation = Validation.of(trained.series, trained.split, "stream")
            assert validation.mae(trained.model) < 0.8 * validation.mae(untrained.model)
    if profile:
        assert not torch.equal(first.profile.damping, second.profile.damping)


def test_an_interrupted_run_resumes_to_itself(series, graph, other, profiled, tmp_path):
    settings = profiled(epochs=3, alone=5)
    whole = several(series, graph, other, settings).run()

    def interrupt(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        several(series, graph, other, settings, state_file=tmp_path / "state", report=interrupt).run()
    resumed = several(series, graph, other, settings, state_file=tmp_path / "state", resume=True).run()

    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    with pytest.raises(CheckpointError, match="belongs to another run"):
        TrainingRun(series, graph, settings, seed=3, state_file=tmp_path / "state", resume=True).run()


@pytest.mark.slow
def test_two_processes_are_one(series, graph, other, profiled, tmp_path):
    settings = profiled(epochs=1, alone=2, average=0.0, hide=0.2)
    one = several(series, graph, other, settings).run()

    launch(2, "cpu", trained_together, [(series, graph), other], settings, tmp_path)

    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(first[0][name], weight, rtol=1e-4, atol=1e-5)
        assert torch.equal(first[0][name], second[0][name]), name
    assert (first[1], second[1]) == (1, 0)
    assert first[2] == second[2] == pytest.approx(one.training["validation_mae"], rel=1e-4)


def test_what_was_learnt_on_several_networks_starts_a_third(series, graph, other, profiled, wave):
    start = several(series, graph, other, profiled(epochs=1, alone=5)).run()
    third = TrainingRun(wave(seed=11), graph, profiled(), start=start, epochs=0).run()

    assert third.training["start"]["beside"] == start.training["beside"]
    weights = dict(start.model.named_parameters())
    assert all(own(name) or torch.equal(weight, weights[name]) for name, weight in third.model.named_parameters())


def test_networks_that_cannot_be_learnt_together_are_refused(series, graph, other, config, wave):
    counts, line = other
    settings = config()
    deconvolution = replace(settings, model=replace(settings.model, unpooling="ordered_deconv", scales=((2, 2),)))
    pair = Adjacency.from_matrix(np.eye(2, k=1) + np.eye(2, k=-1))
    two = counts.aligned(["a", "b"], ["flow"])
    cases = [
        ({"config": SRNNRunConfig(training=settings.training)}, other, ConfigError, "2 networks for a Structural-RNN"),
        ({}, (counts, graph), DataError, "graph of 6 sensors for a series of 4"),
        ({}, (wave(features=2), graph), ConfigError, r"2 features \(speed, flow\)"),
        ({}, (counts.rows(slice(0, 12)), line), DataError, "longer recording"),
        ({"config": deconvolution}, (two, replace(line, adjacency=pair)), ConfigError, "other members"),
    ]
    for options, beside, kind, message in cases:
        with pytest.raises(kind, match=message):
            several(series, graph, beside, **({"config": settings} | options)).run()
    start = TrainingRun(series, graph, settings, epochs=1).run()
    with pytest.raises(ConfigError, match="no epochs on 2 networks"):
        several(series, graph, other, settings, start=start, epochs=0)


def test_one_network_is_trained_as_it_was_without_others(series, graph, config):
    """Equal updates and errors in the target's unit: a yardstick of one divides nothing."""
    settings = config(epochs=2)
    epochs = []
    result = TrainingRun(series, graph, settings, seed=3, report=epochs.append).run()

    best = min(epoch.validation_mae for epoch in epochs)
    assert result.training["validation_mae"] == best
    assert "beside" not in result.training
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert all(np.isfinite(list(asdict(epoch).values())).all() for epoch in epochs)
