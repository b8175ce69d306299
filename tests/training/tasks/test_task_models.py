"""Motion, anticipation and activity: tiny models learn what tiny data hold; the paper's sizes build and train."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from stunet_deploy.config import SRNNConfig
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from tests.paths import ROOT
from training.tasks.activity import model as activity_model
from training.tasks.activity.data import activity_scores, generate
from training.tasks.anticipation import model as anticipation_model
from training.tasks.anticipation.data import MANOEUVRES, Drives, fire, score
from training.tasks.learning import as_inputs, channel_signal, count_parameters, fit, forecast, forecast_all
from training.tasks.motion.data import CHANNELS, MotionSplit, Scale, Sequence, errors_of, zero_velocity
from training.tasks.motion.model import build_motion, forecast_motion, train_motion
from training.tasks.settings import TaskConfig, TaskTraining, read_task_config

CONFIGS = ROOT / "benchmarks" / "configs" / "tasks"
SMALL = SRNNConfig(
    edge_embedding=(4,),
    edge_hidden=8,
    node_embedding=(4,),
    node_hidden=8,
    head=(8,),
    fill="mean",
    time_features="none",
    mask_channel=False,
)
MOTION = replace(
    SMALL, edge_embedding=(), node_embedding=(), node_hidden=24, head=(24,), decoder="recurrent", horizon=25, window=50
)
CLASSES = replace(SMALL, output="classification", residual=False, horizon=1, window=7, classes={"driver": MANOEUVRES})


def waving(phase: float) -> Sequence:
    """A body that turns every joint to and fro, once in two seconds."""
    frames = np.zeros((90, CHANNELS))
    angle = 0.8 * np.sin(np.pi * np.arange(90) / 25 + phase)
    frames[:, 6::3] = angle[:, None]
    return Sequence(f"train/waving_{phase}", "waving", frames)


@pytest.fixture(scope="module")
def waves() -> MotionSplit:
    return MotionSplit((waving(0.0), waving(2.0), waving(4.0)), (waving(1.0),))


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("rollout", [1, 5], ids=["the paper's training", "roll-out"])
def test_a_wave_is_forecast_better_than_by_standing_still(waves: MotionSplit, rollout: int) -> None:
    training = TaskTraining(
        updates=30, batch=8, learning_rate=1e-2, seed_frames=25, rollout=rollout, noise=((0, 0.01),)
    )
    settings = TaskConfig("body-five-parts", MOTION, training)
    scale = Scale.of(waves.train)
    torch.manual_seed(0)
    model = build_motion(settings, "srnn", scale)

    predict = partial(forecast_motion, model)
    untrained = errors_of(waves, predict)
    train_motion(settings, model, waves, scale, 0)

    still, learned = errors_of(waves, zero_velocity), errors_of(waves, predict)
    assert untrained["mean"][2] == pytest.approx(still["mean"][2])  # it begins as persistence
    assert learned["mean"][2] < 0.8 * still["mean"][2]
    assert learned["mean"][4] < 0.8 * still["mean"][4]


def test_the_plain_motion_model_has_equal_size(waves: MotionSplit) -> None:
    settings = TaskConfig("body-five-parts", MOTION, TaskTraining())
    sizes = [count_parameters(build_motion(settings, model, Scale.of(waves.train))) for model in ("srnn", "lstm")]

    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


@pytest.mark.parametrize("model", ["srnn", "lstm"])
def test_manoeuvres_that_announce_themselves_are_anticipated(model: str) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(len(MANOEUVRES), size=120)
    features = 0.1 * rng.normal(size=(120, 7, 16))
    features[np.arange(120), 3:, label] += 2.0  # from the fourth step on, the driver looks that way
    drives = Drives(features, np.ones((120, 7), dtype=bool), label)
    settings = TaskConfig("driver-road", CLASSES, TaskTraining(updates=40, batch=40, learning_rate=3e-2))
    torch.manual_seed(0)
    network = anticipation_model.build_anticipation(settings, model, drives)

    anticipation_model.train_anticipation(settings, network, drives, 0)

    found = anticipation_model.manoeuvre_probabilities(network, drives)
    scores = score(*fire(found, drives.present, 0.8), label)
    assert scores.f1 > 0.9
    assert 0 < scores.time <= 3 * 0.8 + 1e-9
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


def test_activities_are_detected_from_what_objects_show() -> None:
    settings = read_task_config(CONFIGS / "activity.toml")
    model = replace(SMALL, output="classification", residual=False, horizon=2, classes=settings.model.classes)
    training = TaskTraining(updates=60, batch=32, learning_rate=3e-2, sequences=200, steps=8)
    settings = TaskConfig(settings.st_graph, model, training)
    train, test = (generate(200, 8, np.random.default_rng(seed)) for seed in (0, 1))
    torch.manual_seed(0)
    network = activity_model.build_activity(settings, "srnn")
    before = activity_scores(*activity_model.predicted(network, test), test)

    activity_model.train_activity(settings, network, train, 0)

    after = activity_scores(*activity_model.predicted(network, test), test)
    assert all(after[name] > before[name] for name in before)
    assert after["detection sub-activity"] > 0.4


def test_motion_at_the_papers_sizes() -> None:
    paper = read_task_config(CONFIGS / "motion-paper.toml")
    assert (paper.model.horizon, paper.training.noise[-1], paper.model.edge_hidden) == (100, (3300, 0.7), 512)
    training = replace(paper.training, updates=1, batch=1, seed_frames=3)
    settings = TaskConfig(paper.st_graph, replace(paper.model, horizon=2), training)
    split = MotionSplit((waving(0.0),), ())
    scale = Scale.of(split.train)
    losses: list[float] = []

    model = build_motion(settings, "srnn", scale)
    train_motion(settings, model, split, scale, 0, lambda update, loss: losses.append(loss))

    assert count_parameters(model) > 10_000_000
    assert np.isfinite(losses).all()
    assert np.isfinite(forecast_all(model, as_inputs(waving(1.0).frames[None, :3, None]), [2])).all()


def test_activity_at_the_sizes_of_cad_120() -> None:
    settings = read_task_config(CONFIGS / "activity-cad120.toml")
    graph = read_st_graph(settings.st_graph)
    classes = settings.model.classes
    names = [f"human {name}" for name in classes["human"]]
    names += [f"object{number} {name}" for number in range(5) for name in classes["object"]]
    count = graph.channels
    signal = channel_signal([f"f{number}" for number in range(count)], [0.0] * count, [1.0] * count, names)
    model = StructuralRNN(settings.model, graph, signal)
    inputs = as_inputs(np.random.default_rng(0).normal(size=(1, 2, 1, count)))

    once = TaskTraining(updates=1)
    fit(model, once, lambda update: -torch.log(forecast(model, inputs)).mean(), lambda update, loss: None)

    found = forecast_all(model, inputs)
    assert found.shape == (1, 2, 2, 1, 10 + 5 * 12)
    np.testing.assert_allclose(found[..., :10].sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_configs_of_the_tasks_are_read(path: Path) -> None:
    if path.stem.startswith("human-object"):
        assert read_st_graph(path).channels == 19
    else:
        settings = read_task_config(path)
        assert read_st_graph(settings.st_graph).nodes
