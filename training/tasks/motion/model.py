"""Motion forecasting with a Structural-RNN: training with noise or by roll-out, and errors beside standing still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from stunet_deploy.st_graph.st_graph import STGraph
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
from training.tasks.motion.data import (
    CHANNELS,
    GLOBAL_CHANNELS,
    HORIZONS,
    SEED_FRAMES,
    MotionSplit,
    Scale,
    euler_error,
    mean_errors,
    read_motion,
    split_motion,
    windows,
    zero_velocity,
)
from training.tasks.settings import TaskConfig, TaskTraining

#: Frames between test windows.
TEST_STRIDE = 5
MODELS = ("srnn", "lstm", "zero-velocity")


def run_motion(path: Path, config: TaskConfig, model: str, seed: int, report: Callable[[int, float], None]) -> Outcome:
    """Train and score one model on ``cmu-mocap.npz``.

    Args:
        path: of the file.
        config: the architecture and its training; an LSTM takes both, without the structure and of equal size.
        model: one of :data:`MODELS`.
        seed: of weights and batches.
        report: called with the number of updates made and the loss.
    """
    split = split_motion(read_motion(path))
    if model == "zero-velocity":
        return Outcome({"euler error": errors_of(split, lambda seeds, frames: zero_velocity(seeds, frames))})
    scale = Scale.of(split.train)
    torch.manual_seed(seed)
    trained = train_motion(config, build_motion(config, model, scale), split, scale, seed, report)
    horizon = trained.config.horizon

    def predict(seeds: Array, frames: int) -> Array:
        found = forecast_all(trained, as_inputs(seeds[:, :, None]), [seeds.shape[1] - 1])
        return found[:, 0, :frames, 0]

    longest = max(split.test, key=lambda sequence: len(sequence.frames))
    checkpoint = task_checkpoint(
        trained,
        ["body"],
        ["rad"] * CHANNELS,
        longest.frames[:, None],
        None,
        {"task": "motion", "config": asdict(config.training), "seed": seed, "horizon": horizon},
    )
    return Outcome({"euler error": errors_of(split, predict)}, checkpoint)


def build_motion(config: TaskConfig, model: str, scale: Scale) -> StructuralRNN:
    """Return an untrained model for the channels of a body, its horizon that of the config."""
    graph: STGraph = read_st_graph(config.st_graph)
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
    report: Callable[[int, float], None] = lambda update, loss: None,
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


def _noisy(frames: Tensor, std: Tensor, training: TaskTraining, update: int, generator: torch.Generator) -> Tensor:
    """Add the schedule's noise to every second (frame, window) or so, in units of the channels' deviations."""
    size = training.noise_std(update)
    if size == 0:
        return frames
    struck = torch.rand(*frames.shape[:2], 1, generator=generator) < 0.5
    return frames + struck * size * std * torch.randn(frames.shape, generator=generator)


def errors_of(split: MotionSplit, predict: Callable[[Array, int], Array]) -> dict[str, dict[int, float]]:
    """Return the Euler-angle errors per action of forecasts of 25 frames from seeds of 50.

    Args:
        split: with the test sequences.
        predict: (seeds [window, frame, channel], frames) -> poses [window, frame, channel].
    """
    frames, found = HORIZONS[-1], {}
    for sequence in split.test:
        cut = windows(sequence, SEED_FRAMES + frames, TEST_STRIDE)
        found[sequence.action] = euler_error(predict(cut[:, :SEED_FRAMES], frames), cut[:, SEED_FRAMES:])
    return mean_errors(found)
