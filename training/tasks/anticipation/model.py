"""A Structural-RNN of driver manoeuvres: a label at every step, a loss that grows towards the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from training.tasks.anticipation.data import FEATURES, MANOEUVRES, Drives, time_weights
from training.tasks.learning import (
    Array,
    Report,
    as_inputs,
    channel_signal,
    count_parameters,
    fit,
    forecast,
    forecast_all,
    label_loss,
    of_equal_size,
    one_node,
)
from training.tasks.settings import TaskConfig


def build_anticipation(config: TaskConfig, model: str, train: Drives) -> StructuralRNN:
    """Return an untrained model, which labels its driver or its one node.

    Args:
        config: the architecture.
        model: ``srnn``, or ``lstm`` for a model of equal size without the structure.
        train: sequences whose features it is normalised by.
    """
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
    report: Report = lambda update, loss: None,
) -> None:
    """Train a model in place: the logarithm of the label's probability at every step, weighted by time."""
    inputs = as_inputs(train.features[:, :, None])
    weights = torch.from_numpy(time_weights(train.present, uniform=not config.training.time_weighted)).float()
    labels = torch.from_numpy(train.label)
    rng = np.random.default_rng(seed)

    def loss_at(update: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(train), size=config.training.batch))
        found = forecast(model, StepInputs(*(tensor[chosen] for tensor in inputs)))[:, :, 0, 0]
        losses = label_loss(found, labels[chosen, None].expand(-1, found.shape[1]))
        return (weights[chosen] * losses).sum() / len(chosen)

    fit(model, config.training, loss_at, report)


def manoeuvre_probabilities(model: StructuralRNN, drives: Drives) -> Array:
    """Return the probabilities [sequence, step, manoeuvre] of a model."""
    return forecast_all(model, as_inputs(drives.features[:, :, None]))[:, :, 0, 0]
