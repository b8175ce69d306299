"""A Structural-RNN of pedestrians in slots with presence, trained by roll-out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from training.tasks.learning import (
    Array,
    Report,
    as_inputs,
    channel_signal,
    fit,
    forecast,
    forecast_all,
    without_edges,
)
from training.tasks.settings import TaskConfig
from training.tasks.trajectories.data import (
    LENGTH,
    OBSERVED,
    Recording,
    Windows,
    in_slots,
    people_seen,
    windows,
)

#: Name of the nodes in the st-graph file, whose count is the capacity.
PERSON = "person"
#: About the length of a walk of one interval, in metres.
STEP_M = 0.4
#: Capacities that test windows are sorted into: a window costs what it holds.
CAPACITIES = (4, 8, 12, 16, 24, 32, 48, 64, 80, 128)


def build_trajectories(config: TaskConfig, model: str, capacity: int) -> StructuralRNN:
    """Return an untrained model; its parameters do not depend on the number of slots.

    Readings are normalised by about the step of a walking person; the model sees differences alone.

    Args:
        config: the architecture.
        model: ``srnn``, or ``lstm`` for the same model without neighbours.
        capacity: number of slots.
    """
    graph = read_st_graph(config.st_graph, {PERSON: capacity})
    signal = channel_signal(["x", "y"], [0.0, 0.0], [STEP_M, STEP_M])
    return StructuralRNN(config.model, graph if model == "srnn" else without_edges(graph), signal)


def train_trajectories(
    config: TaskConfig,
    model: StructuralRNN,
    recordings: list[Recording],
    seed: int,
    report: Report = lambda update, loss: None,
) -> None:
    """Train a model in place: 8 intervals seen, 12 rolled out, the distance averaged over all who are present.

    Every window is turned by a random angle, mirrored or not, and scaled by up to a fifth.
    """
    training = config.training
    cuts = [windows(found, people_seen(found)) for found in recordings]
    places = [(cut, window) for cut, found in enumerate(cuts) for window in range(len(found))]
    rng = np.random.default_rng(seed)

    def loss_at(update: int) -> Tensor:
        chosen = [places[index] for index in rng.integers(len(places), size=training.batch)]
        drawn = [crowded(cuts[cut], window, training.capacity, rng) for cut, window in chosen]
        positions = np.stack([turned(one, rng) for one, _ in drawn])
        present = np.stack([there for _, there in drawn])
        inputs = as_inputs(positions[:, :OBSERVED], present[:, :OBSERVED, :, None])
        found = forecast(model, inputs, [OBSERVED - 1])[:, 0]
        truth = torch.from_numpy(positions[:, OBSERVED:].astype(np.float32))
        # Those who have left have no label; those absent at the last observed interval have no forecast.
        labelled = torch.from_numpy(present[:, OBSERVED:] & present[:, None, OBSERVED - 1])
        distance = torch.sqrt(torch.square(found - truth).sum(-1) + 1e-6)
        return torch.where(labelled, distance, 0.0).sum() / labelled.sum().clamp(min=1)

    fit(model, training, loss_at, report)


def crowded(cut: Windows, window: int, capacity: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    """Return positions [20, slot, 2] and presence of a window; of too many people the nearest to one of them."""
    positions, present = cut.positions[window], cut.present[window]
    people = np.flatnonzero(present[:OBSERVED].any(axis=0))
    if len(people) > capacity:
        scored = np.flatnonzero(cut.scored[window])
        centre = rng.choice(scored)
        away = np.linalg.norm(positions[OBSERVED - 1] - positions[OBSERVED - 1, centre], axis=-1)
        away[~present[OBSERVED - 1]] = np.inf
        people = people[np.argsort(away[people], kind="stable")[:capacity]]
    return in_slots(positions, present, people, capacity)


def turned(positions: Array, rng: np.random.Generator) -> Array:
    """Return positions [..., 2] turned by a random angle, mirrored or not, scaled by a random factor near one."""
    angle, mirror, scale = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0]), rng.uniform(0.8, 1.2)
    matrix = scale * np.array([[np.cos(angle), np.sin(angle)], [-mirror * np.sin(angle), mirror * np.cos(angle)]])
    return positions @ matrix


def forecast_trajectories(config: TaskConfig, model: str, trained: StructuralRNN, cut: Windows) -> Array:
    """Return forecasts [window, 12, slot, 2] of a trained model, each window in as many slots as it needs."""
    result = np.zeros((len(cut), LENGTH - OBSERVED, cut.capacity, 2))
    held = cut.present.any(axis=1).sum(axis=1)
    for low, capacity in zip((0, *CAPACITIES), CAPACITIES, strict=False):
        chosen = np.flatnonzero((held > low) & (held <= capacity))
        if not len(chosen):
            continue
        slots = min(capacity, cut.capacity)
        sized = build_trajectories(config, model, slots)
        sized.load_state_dict(trained.state_dict())
        positions, present = cut.positions[chosen, :OBSERVED, :slots], cut.present[chosen, :OBSERVED, :slots]
        inputs = as_inputs(positions, present[..., None])
        result[chosen, :, :slots] = forecast_all(sized, inputs, [OBSERVED - 1], batch=max(1, 1024 // slots))[:, 0]
    return result


def seated(found: Recording, capacity: int) -> tuple[Array, NDArray[np.bool_]]:
    """Return positions [frame, slot, 2] and presence [frame, slot] of a recording as a stream has them.

    A person keeps a slot from joining to leaving; a person who finds no free slot is not seen.
    """
    positions = np.zeros((len(found.frames), capacity, 2))
    present = np.zeros((len(found.frames), capacity), dtype=bool)
    slot_of: dict[int, int] = {}
    for frame, there in enumerate(found.present):
        slot_of = {person: slot for person, slot in slot_of.items() if there[person]}
        for person in np.flatnonzero(there).tolist():
            free = sorted(set(range(capacity)) - set(slot_of.values()))
            if person not in slot_of and free:
                slot_of[person] = free[0]
        for person, slot in slot_of.items():
            positions[frame, slot], present[frame, slot] = found.positions[frame, person], True
    return positions, present
