"""Shared by the tasks: signals of channels other than sensors, sequences as input of a model, and the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import Signal, SRNNConfig
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from stunet_deploy.st_graph.st_graph import EdgeType, Node, STGraph
from training.tasks.settings import TaskTraining

#: Limits of the readings of a task, which are never out of range; a bundle wants finite ones.
LIMIT = 1e6
#: Intervals of the stream that a checkpoint keeps for verification.
REFERENCE_INTERVALS = 1_000

Array = NDArray[np.float64]
#: Called after every update with its number and the loss.
Report = Callable[[int, float], None]


def channel_signal(
    names: Sequence[str], mean: Sequence[float], std: Sequence[float], classes: Sequence[str] = ()
) -> Signal:
    """Return the signal of some channels; ``classes`` name the probabilities that are forecast instead of them."""
    count = len(names)
    return Signal(
        tuple(names),
        tuple(classes or names),
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        low=(-LIMIT,) * count,
        high=(LIMIT,) * count,
        target_std=(1.0,) * len(classes),
        target_units=("1",) * len(classes),
    )


def as_inputs(values: Array, observed: NDArray[np.bool_] | None = None) -> StepInputs:
    """Return sequences [batch, time, node, feature] as a model's input; all observed by default."""
    seen = np.broadcast_to(True if observed is None else observed, values.shape)
    return StepInputs(
        torch.from_numpy(values.astype(np.float32)),
        torch.from_numpy(seen.astype(np.float32)),
        torch.zeros(*values.shape[:2], 1),
    )


def forecast(
    model: StructuralRNN, inputs: StepInputs, issued: Sequence[int] | None = None
) -> Float[Tensor, "batch issue horizon node target"]:
    """Return the forecasts of fresh streams after the intervals ``issued``; after all by default."""
    lines = model.initial_lines(len(inputs.values))
    chosen = None if issued is None else torch.tensor(issued)
    found: Tensor = model(inputs, lines, issued=chosen)[0]
    return found


@torch.no_grad()
def forecast_all(
    model: StructuralRNN, inputs: StepInputs, issued: Sequence[int] | None = None, batch: int = 64
) -> Array:
    """Return the forecasts of any number of sequences, a batch at a time."""
    model.eval()
    parts = [
        forecast(model, StepInputs(*(tensor[first : first + batch] for tensor in inputs)), issued).numpy()
        for first in range(0, len(inputs.values), batch)
    ]
    return np.concatenate(parts).astype(np.float64)


def label_loss(probabilities: Tensor, label: Tensor) -> Tensor:
    """Return the negative logarithm of the probability of the label, [...], of probabilities [..., class]."""
    return -torch.log(probabilities.gather(-1, label[..., None]).squeeze(-1).clamp(min=1e-7))


def fit(model: StructuralRNN, training: TaskTraining, loss_at: Callable[[int], Tensor], report: Report) -> None:
    """Train a model in place: AdamW, a cosine to zero, clipped gradients.

    Args:
        model: to be trained.
        training: number of updates, learning rate, largest gradient.
        loss_at: draws a batch and returns its loss, given the number of updates made.
        report: called after every update.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.updates)
    for update in range(training.updates):
        optimizer.zero_grad()
        loss = loss_at(update)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        schedule.step()
        report(update, float(loss.detach()))
    model.eval()


def one_node(graph: STGraph) -> STGraph:
    """Return the st-graph without structure: one node that takes all channels of the nodes, which must adjoin.

    A Structural-RNN on it is a plain recurrent network of two layers, the lower one fed the present and the previous
    frame, the upper one that and the present frame.
    """
    first = min(node.slice[0] for node in graph.nodes)
    whole = Node("all", "all", (first, graph.channels))
    return STGraph(("all",), (), (whole,), name=f"{graph.name}, as one node")


def without_edges(graph: STGraph) -> STGraph:
    """Return the st-graph with its nodes alone, which share weights within a type."""
    return STGraph(graph.node_types, tuple[EdgeType, ...](), graph.nodes, name=f"{graph.name}, without edges")


def of_equal_size(config: SRNNConfig, graph: STGraph, signal: Signal, parameters: int) -> SRNNConfig:
    """Return the config with hidden widths scaled by one factor, so that the model has about as many parameters."""

    def scaled(node_hidden: int) -> SRNNConfig:
        share = node_hidden / config.node_hidden
        return replace(config, node_hidden=node_hidden, edge_hidden=max(1, round(share * config.edge_hidden)))

    def size(node_hidden: int) -> int:
        return count_parameters(StructuralRNN(scaled(node_hidden), graph, signal))

    low, high = 1, config.node_hidden
    while size(high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < parameters else (low, middle)
    return scaled(min((low, high), key=lambda hidden: abs(size(hidden) - parameters)))


def count_parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def task_checkpoint(
    model: StructuralRNN,
    sensor_ids: Sequence[str],
    units: Sequence[str],
    values: Array,
    observed: NDArray[np.bool_] | None,
    training: Mapping[str, Any],
) -> Checkpoint:
    """Return a checkpoint that ``stunet-export`` takes, with a recorded stream [time, node, feature] to verify with.

    A bundle's clock counts whole seconds and these tasks have steps of 0.04 to 0.8 s: a step of the task is a second
    of the stream.
    """
    rows = slice(0, REFERENCE_INTERVALS)
    seen = np.broadcast_to(True if observed is None else observed, values.shape)
    reference = Series(
        np.where(seen, values, 0.0)[rows].astype(np.float32),
        seen[rows].copy(),
        np.arange(len(values[rows]), dtype=np.int64),
        Site(tuple(sensor_ids), model.signal.features, tuple(units), interval_s=1, stamp="end"),
    )
    return Checkpoint(model.eval(), reference, dict(training))
