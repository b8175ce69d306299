"""Motion forecasting on CMU motion capture: a Structural-RNN, an LSTM of equal size and zero velocity.

    python -m benchmarks.accuracy.srnn_motion [--seeds 3] [--models srnn lstm] [--checkpoints DIR]

Needs cmu-mocap.npz in the folder named by STUNET_DATA. Runs in benchmarks/results/srnn-motion.json are not repeated.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from benchmarks.accuracy.srnn_tasks import Experiment, Sections, TaskScores, reproduce
from training.tasks.learning import Report, task_checkpoint
from training.tasks.motion.data import (
    CHANNELS,
    HORIZONS,
    RATE,
    Scale,
    errors_of,
    read_motion,
    split_motion,
    zero_velocity,
)
from training.tasks.motion.model import build_motion, forecast_motion, train_motion
from training.tasks.settings import TaskConfig

STILL = "zero-velocity"


def run(options: Namespace, config: TaskConfig, model: str, fold: str, seed: int, report: Report) -> TaskScores:
    """Train one model and return its errors on the test sequences."""
    split = split_motion(read_motion(options.data / "cmu-mocap.npz"))
    if model == STILL:
        return TaskScores({"euler error": errors_of(split, zero_velocity)})
    scale = Scale.of(split.train)
    torch.manual_seed(seed)
    trained = train_motion(config, build_motion(config, model, scale), split, scale, seed, report)
    checkpoint = task_checkpoint(
        trained,
        ["body"],
        ["rad"] * CHANNELS,
        max((sequence.frames for sequence in split.test), key=len)[:, None],
        None,
        {"task": "motion", "config": asdict(config.training), "seed": seed, "horizon": trained.config.horizon},
    )
    return TaskScores({"euler error": errors_of(split, partial(forecast_motion, trained))}, checkpoint)


def sections(fold: str, scores: Mapping[str, Any]) -> Sections:
    """Return the errors by action and horizon, their mean over the actions first."""
    by_action = dict(scores["euler error"])
    ordered = {"mean over the actions": by_action.pop("mean"), **dict(sorted(by_action.items()))}
    return {
        action: {f"{round(1000 * frame / RATE)} ms": errors[str(frame)] for frame in HORIZONS if str(frame) in errors}
        for action, errors in ordered.items()
    }


MOTION = Experiment(
    "motion",
    "Motion forecasting on CMU motion capture",
    "Euler-angle error (radians; lower is better), 50 frames seen at 25 frames/s. 38 public sequences of 8 actions, "
    "split by sequence. The figures of the S-RNN paper are of Human3.6M and do not compare.",
    ("srnn", "lstm", STILL),
    run,
    sections,
    unseeded=(STILL,),
)

if __name__ == "__main__":
    reproduce(MOTION, __doc__)
