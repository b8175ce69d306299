"""Anticipating driver manoeuvres with a Structural-RNN: a label at every step, a loss that grows towards the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from training.tasks.anticipation.data import (
    FEATURES,
    MANOEUVRES,
    Drives,
    best_threshold,
    chance,
    fire,
    read_fold,
    score,
    time_weights,
)
from training.tasks.learning import (
    Array,
    Outcome,
    as_inputs,
    channel_signal,
    count_parameters,
    fit,
    forecast,
    forecast_all,
    of_equal_size,
    one_node,
    task_checkpoint,
)
from training.tasks.settings import TaskConfig

MODELS = ("srnn", "lstm", "chance")
_SMALLEST = 1e-7


def run_anticipation(
    path: Path, config: TaskConfig, model: str, fold: str, seed: int, report: Callable[[int, float], None]
) -> Outcome:
    """Train one model on a fold and score it, with the threshold that is best on other training recordings.

    Args:
        path: of ``brain4cars.npz``.
        config: the architecture and its training; an LSTM takes both, without the structure and of equal size.
        model: one of :data:`MODELS`.
        fold: ``1`` or ``2``.
        seed: of weights and batches; the choice of the validation recordings does not depend on it.
        report: called with the number of updates made and the loss.
    """
    parts = read_fold(path, int(fold))
    if model == "chance":
        return Outcome(asdict(score(*chance(parts.train, parts.test, np.random.default_rng(seed)), parts.test.label)))
    torch.manual_seed(seed)
    learner = build_anticipation(config, model, parts.train)
    train_anticipation(config, learner, parts.train, seed, report)
    kept_back = _probabilities(learner, parts.validation)
    threshold = best_threshold(kept_back, parts.validation)
    validated = score(*fire(kept_back, parts.validation.present, threshold), parts.validation.label).f1
    found = score(*fire(_probabilities(learner, parts.test), parts.test.present, threshold), parts.test.label)
    checkpoint = task_checkpoint(
        learner,
        ["car"],
        ["1"] * FEATURES,
        parts.train.features[parts.train.present][:, None],
        None,
        {"task": "anticipation", "fold": fold, "config": asdict(config.training), "seed": seed, "threshold": threshold},
    )
    return Outcome(asdict(found) | {"threshold": threshold, "validation_f1": validated}, checkpoint)


def build_anticipation(config: TaskConfig, model: str, train: Drives) -> StructuralRNN:
    """Return an untrained model; its driver is labelled, or its one node."""
    steps = train.features[train.present]
    names = [f"feature{number:02d}" for number in range(FEATURES)]
    std = np.maximum(steps.std(axis=0), 1e-3)
    signal = channel_signal(names, steps.mean(axis=0).tolist(), std.tolist(), MANOEUVRES)
    graph = read_st_graph(config.st_graph)
    structural = StructuralRNN(config.model, graph, signal)
    if model == "srnn":
        return structural
    plain, labelled = one_node(graph), replace(config.model, classes={"all": MANOEUVRES})
    return StructuralRNN(of_equal_size(labelled, plain, signal, count_parameters(structural)), plain, signal)


def train_anticipation(
    config: TaskConfig,
    model: StructuralRNN,
    train: Drives,
    seed: int,
    report: Callable[[int, float], None] = lambda update, loss: None,
) -> None:
    """Train a model in place: the logarithm of the label's probability at every step, weighted by time."""
    inputs = as_inputs(train.features[:, :, None])
    weights = torch.from_numpy(time_weights(train.present, uniform=not config.training.time_weighted)).float()
    labels = torch.from_numpy(train.label)
    rng = np.random.default_rng(seed)

    def loss_at(update: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(train), size=config.training.batch))
        found = forecast(model, StepInputs(*(tensor[chosen] for tensor in inputs)))[:, :, 0, 0]
        of_label = found.gather(-1, labels[chosen].reshape(-1, 1, 1).expand(-1, found.shape[1], 1))[..., 0]
        return -(weights[chosen] * torch.log(of_label.clamp(min=_SMALLEST))).sum() / len(chosen)

    fit(model, config.training, loss_at, report)


def _probabilities(model: StructuralRNN, drives: Drives) -> Array:
    return forecast_all(model, as_inputs(drives.features[:, :, None]))[:, :, 0, 0]
