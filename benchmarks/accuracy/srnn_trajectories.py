"""Pedestrian trajectories on ETH and UCY: a Structural-RNN, the same without neighbours, and constant velocity.

    python -m benchmarks.accuracy.srnn_trajectories [--seeds 3] [--folds eth] [--models srnn] [--checkpoints DIR]

Needs eth-ucy.npz in the folder named by STUNET_DATA. Runs in benchmarks/results/srnn-trajectories.json are not
repeated.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.accuracy.srnn_tasks import Experiment, Sections, TaskScores, reproduce
from training.tasks.learning import Array, Report, task_checkpoint
from training.tasks.settings import TaskConfig
from training.tasks.trajectories.data import (
    SCENES,
    Windows,
    ade_fde,
    constant_velocity,
    displacement_errors,
    people_seen,
    read_recordings,
    split_scenes,
    windows,
)
from training.tasks.trajectories.model import build_trajectories, forecast_trajectories, seated, train_trajectories

CONSTANT = "constant-velocity"


def run(options: Namespace, config: TaskConfig, model: str, scene: str, seed: int, report: Report) -> TaskScores:
    """Train one model on all recordings but those of a scene, and return its errors on that scene."""
    train, test = split_scenes(read_recordings(options.data / "eth-ucy.npz"), scene)
    cuts = [windows(found, people_seen(found)) for found in test]
    if model == CONSTANT:
        return TaskScores(_scores([(constant_velocity(cut), cut) for cut in cuts]))
    capacity = config.training.capacity
    torch.manual_seed(seed)
    learner = build_trajectories(config, model, capacity)
    train_trajectories(config, learner, train, seed, report)
    found = [(forecast_trajectories(config, model, learner, cut), cut) for cut in cuts]
    positions, present = seated(train[0], capacity)
    checkpoint = task_checkpoint(
        learner,
        [f"slot{number + 1}" for number in range(capacity)],
        ["m", "m"],
        positions,
        present[..., None],
        {"task": "trajectories", "scene left out": scene, "config": asdict(config.training), "seed": seed},
    )
    return TaskScores(_scores(found), checkpoint)


def _scores(found: list[tuple[Array, Windows]]) -> dict[str, float]:
    ade, fde = ade_fde(displacement_errors(forecasts, cut) for forecasts, cut in found)
    return {"ADE": ade, "FDE": fde, "tracks": int(sum(cut.scored.sum() for _, cut in found))}


def sections(fold: str, scores: Mapping[str, Any]) -> Sections:
    """Return both errors of a scene."""
    return {"ADE, metres": {fold: scores["ADE"]}, "FDE, metres": {fold: scores["FDE"]}}


TRAJECTORIES = Experiment(
    "trajectories",
    "Pedestrian trajectories on ETH and UCY, one scene left out",
    "8 intervals of 0.4 s seen, 12 forecast, one forecast per person; every track that is there for all 20 intervals "
    "is scored. `lstm` is the same model without neighbours.",
    ("srnn", "lstm", CONSTANT),
    run,
    sections,
    folds=tuple(SCENES),
    unseeded=(CONSTANT,),
    mean=True,
)

if __name__ == "__main__":
    reproduce(TRAJECTORIES, __doc__)
