"""A Structural-RNN of human motion, trained with noise or by roll-out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from training.tasks.learning import (
    Array,
    Report,
    as_inputs,
    channel_signal,
    count_parameters,
    fit,
    forecast,
    forecast_all,
    of_equal_size,
    one_node,
)
from training.tasks.motion.data import CHANNELS, GLOBAL_CHANNELS, MotionSplit, Scale, windows
from training.tasks.settings import TaskConfig, TaskTraining


def build_motion(config: TaskConfig, model: str, scale: Scale) -> StructuralRNN:
    """Return an untrained model of all channels of a body.

    Args:
        config: the architecture.
        model: ``srnn``, or ``lstm`` for a model of equal size without the structure.
        scale: of the training sequences.
    """
    graph = read_st_graph(config.st_graph)
    names = [f"channel{number:03d}" for number in range(CHANNELS)]
    signal = channel_signal(names, scale.mean.tolist(), scale.std.tolist())
    structural = StructuralRNN(config.model, graph, signal)
    if model == "srnn":
        return structural
    plain = one_node(graph)
    return StructuralRNN(of_equal_size(config.model, plain, signal, count_parameters(structural)), plain, signal)


def train_motion(
    config: TaskConfig,
    model: StructuralRNN,
    split: MotionSplit,
    scale: Scale,
    seed: int,
    report: Report = lambda update, loss: None,
) -> StructuralRNN:
    """Train a model and return it.

    With ``rollout = 1`` a training window has a loss after every frame and noise in its frames (the paper); otherwise
    the model sees ``seed_frames`` frames, then its own forecasts.
    """
    training = config.training
    learner = StructuralRNN(replace(model.config, horizon=training.rollout), model.graph, model.signal)
    learner.load_state_dict(model.state_dict())
    cut = np.concatenate([windows(sequence, training.seed_frames + training.rollout, 1) for sequence in split.train])
    std = torch.from_numpy(scale.std.astype(np.float32))
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def loss_at(update: int) -> Tensor:
        chosen = torch.from_numpy(cut[rng.integers(len(cut), size=training.batch)].astype(np.float32))
        seen, ahead = chosen[:, : training.seed_frames], chosen[:, training.seed_frames :]
        inputs = as_inputs(_noisy(seen, std, training, update, generator)[:, :, None].numpy())
        if training.rollout == 1:
            truth, issued = chosen[:, 1:, None], None
        else:
            truth, issued = ahead[:, None], [training.seed_frames - 1]
        found = forecast(learner, inputs, issued)[..., 0, :]
        return (found - truth)[..., GLOBAL_CHANNELS:].abs().mean()

    fit(learner, training, loss_at, report)
    model.load_state_dict(learner.state_dict())
    return model.eval()


def forecast_motion(model: StructuralRNN, seeds: Array, frames: int) -> Array:
    """Return the forecast of the next poses [window, frame, channel] after seeds of the same axes."""
    return forecast_all(model, as_inputs(seeds[:, :, None]), [seeds.shape[1] - 1])[:, 0, :frames, 0]


def _noisy(frames: Tensor, std: Tensor, training: TaskTraining, update: int, generator: torch.Generator) -> Tensor:
    """Add the noise of the schedule to about half of the (window, frame), in units of the channels' deviations."""
    size = training.noise_std(update)
    if size == 0:
        return frames
    chosen = torch.rand(*frames.shape[:2], 1, generator=generator) < 0.5
    return frames + chosen * size * std * torch.randn(frames.shape, generator=generator)
