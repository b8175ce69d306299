"""A Structural-RNN of human-object activities, with a head for the human and one for the objects."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from training.tasks.activity.data import AFFORDANCES, KINDS, SUB_ACTIVITIES, Activities, Labels
from training.tasks.learning import (
    Array,
    Report,
    as_inputs,
    channel_signal,
    fit,
    forecast,
    forecast_all,
    label_loss,
    without_edges,
)
from training.tasks.settings import TaskConfig


def build_activity(config: TaskConfig, model: str) -> StructuralRNN:
    """Return an untrained model.

    Args:
        config: the architecture.
        model: ``srnn``, or ``lstm`` for the same model with every node by itself.
    """
    graph = read_st_graph(config.st_graph, {"object": len(KINDS)})
    names = [f"feature{number:03d}" for number in range(graph.channels)]
    probabilities = [f"human {name}" for name in SUB_ACTIVITIES]
    probabilities += [f"object{number + 1} {name}" for number in range(len(KINDS)) for name in AFFORDANCES]
    signal = channel_signal(names, [0.0] * len(names), [1.0] * len(names), probabilities)
    return StructuralRNN(config.model, graph if model == "srnn" else without_edges(graph), signal)


def train_activity(
    config: TaskConfig,
    model: StructuralRNN,
    train: Activities,
    seed: int,
    report: Report = lambda update, loss: None,
) -> None:
    """Train a model in place: cross-entropy of both heads, of the step itself and of the next, all weighted alike."""
    inputs = as_inputs(channels_of(train)[:, :, None])
    labels = [torch.from_numpy(found) for found in (train.sub_activity, train.affordance)]
    rng = np.random.default_rng(seed)

    def loss_at(update: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(train), size=config.training.batch))
        heads = split_heads(forecast(model, StepInputs(*(tensor[chosen] for tensor in inputs))))
        losses = []
        for found, label in zip(heads, labels, strict=True):
            now, following = found.unbind(2)
            losses.append(label_loss(now, label[chosen]).mean())
            losses.append(label_loss(following[:, :-1], label[chosen][:, 1:]).mean())
        return torch.stack(losses).sum()

    fit(model, config.training, loss_at, report)


def split_heads(forecasts: Tensor) -> tuple[Tensor, Tensor]:
    """Return forecasts [batch, time, horizon, 1, class] as [batch, time, horizon, class] and [..., object, class]."""
    flat = forecasts.squeeze(3)
    human = len(SUB_ACTIVITIES)
    return flat[..., :human], torch.unflatten(flat[..., human:], -1, (len(KINDS), len(AFFORDANCES)))


def predicted(model: StructuralRNN, found: Activities) -> tuple[tuple[Labels, Labels], tuple[Labels, Labels]]:
    """Return the most probable labels of every step, then of the step after it, as ``activity_scores`` takes them."""
    heads = split_heads(torch.from_numpy(forecast_all(model, as_inputs(channels_of(found)[:, :, None]))))
    best = [head.argmax(-1).numpy() for head in heads]
    return (best[0][:, :, 0], best[1][:, :, 0]), (best[0][:, :, 1], best[1][:, :, 1])


def channels_of(found: Activities) -> Array:
    """Return the channels of the st-graph, [sequence, step, channel]: the human's, then each object's."""
    objects = found.objects.reshape(*found.objects.shape[:2], -1)
    return np.concatenate([found.human, objects], axis=-1)
