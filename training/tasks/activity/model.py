"""Human-object activities with a Structural-RNN: two heads, for now and for the next step, on generated sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from training.tasks.activity.data import (
    AFFORDANCES,
    KINDS,
    SUB_ACTIVITIES,
    Activities,
    Labels,
    activity_scores,
    generate,
    most_probable_next,
)
from training.tasks.learning import (
    Array,
    Outcome,
    as_inputs,
    channel_signal,
    fit,
    forecast,
    forecast_all,
    task_checkpoint,
    without_edges,
)
from training.tasks.settings import TaskConfig

MODELS = ("srnn", "lstm", "rule")
#: Generated test sequences, and the seed that they are always generated from.
TEST_SEQUENCES, TEST_SEED = 500, 1_000_003
_SMALLEST = 1e-7


def run_activity(config: TaskConfig, model: str, seed: int, report: Callable[[int, float], None]) -> Outcome:
    """Train one model on generated sequences and score it on others.

    Args:
        config: the architecture and its training; the LSTM takes both, every node by itself.
        model: one of :data:`MODELS`; ``rule`` knows what happens now and the rule.
        seed: of the training sequences, weights and batches.
        report: called with the number of updates made and the loss.
    """
    training = config.training
    test = generate(TEST_SEQUENCES, training.steps, np.random.default_rng(TEST_SEED))
    if model == "rule":
        return Outcome(activity_scores((test.sub_activity, test.affordance), most_probable_next(test), test))
    train = generate(training.sequences, training.steps, np.random.default_rng(seed))
    torch.manual_seed(seed)
    learner = build_activity(config, model)
    train_activity(config, learner, train, seed, report)
    now, following = predicted(learner, test)
    checkpoint = task_checkpoint(
        learner,
        ["scene"],
        ["1"] * len(learner.signal.features),
        channels_of(train)[:40].reshape(-1, 1, len(learner.signal.features)),
        None,
        {"task": "activity (generated)", "config": asdict(training), "seed": seed},
    )
    return Outcome(activity_scores(now, following, test), checkpoint)


def build_activity(config: TaskConfig, model: str) -> StructuralRNN:
    """Return an untrained model with a head for the human and one for the objects."""
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
    report: Callable[[int, float], None] = lambda update, loss: None,
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
            told = label[chosen][..., None]
            now, following = found.unbind(2)
            losses.append(-torch.log(now.gather(-1, told).clamp(min=_SMALLEST)).mean())
            losses.append(-torch.log(following[:, :-1].gather(-1, told[:, 1:]).clamp(min=_SMALLEST)).mean())
        return torch.stack(losses).sum()

    fit(model, config.training, loss_at, report)


def split_heads(forecasts: Tensor) -> tuple[Tensor, Tensor]:
    """Cut [batch, time, horizon, 1, class] into [batch, time, horizon, class] and [..., object, class]."""
    flat = forecasts.squeeze(3)
    human = len(SUB_ACTIVITIES)
    return flat[..., :human], torch.unflatten(flat[..., human:], -1, (len(KINDS), len(AFFORDANCES)))


def predicted(model: StructuralRNN, found: Activities) -> tuple[tuple[Labels, Labels], tuple[Labels, Labels]]:
    """Return the most probable labels of every step itself, and of the one after, as :func:`activity_scores` takes."""
    heads = split_heads(torch.from_numpy(forecast_all(model, as_inputs(channels_of(found)[:, :, None]))))
    best = [head.argmax(-1).numpy() for head in heads]
    return (best[0][:, :, 0], best[1][:, :, 0]), (best[0][:, :, 1], best[1][:, :, 1])


def channels_of(found: Activities) -> Array:
    """Return the channels of the st-graph, [sequence, step, channel]: the human's, then each object's."""
    objects = found.objects.reshape(*found.objects.shape[:2], -1)
    return np.concatenate([found.human, objects], axis=-1)
