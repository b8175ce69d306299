"""Settings of the training of a task: one TOML file per task and size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from stunet_deploy.config import SRNNConfig, require
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.toml_files import read_toml


@dataclass(frozen=True)
class TaskTraining:
    """How a model of a task is trained: a fixed number of updates, no early stopping, the last weights kept.

    Attributes:
        updates: number of updates.
        batch: windows or sequences per update.
        learning_rate: Adam's, falling to zero along a cosine.
        clip_norm: largest norm of the gradient.
        weight_decay: decoupled weight decay (AdamW).
        noise: for motion, ((update, std), …): from an update on, Gaussian noise of this standard deviation (of
            normalised channels) is added to a frame with probability ½; empty for none.
        seed_frames: for motion, frames before the first forecast of a training window.
        rollout: for motion, frames that the model forecasts by itself in training; 1 is the paper's training, with a
            loss after every frame.
        capacity: for trajectories, slots in training; of fuller windows, the nearest to one person are taken.
        time_weighted: for anticipation, whether the loss grows exponentially towards the end (the paper).
        sequences: for activities, the number of generated training sequences.
        steps: for activities, their length.
    """

    updates: int = 1000
    batch: int = 32
    learning_rate: float = 1e-3
    clip_norm: float = 5.0
    weight_decay: float = 0.0
    noise: tuple[tuple[int, float], ...] = ()
    seed_frames: int = 25
    rollout: int = 25
    capacity: int = 16
    time_weighted: bool = True
    sequences: int = 500
    steps: int = 12

    def __post_init__(self) -> None:
        for name in ("updates", "batch", "seed_frames", "rollout", "capacity", "sequences", "steps"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("learning_rate", "clip_norm"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a positive number")
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "a number of 0 or more")
        starts = [start for start, _ in self.noise]
        rising = starts == sorted(set(starts)) and all(std >= 0 for _, std in self.noise)
        require(rising, "noise", self.noise, "pairs of a later and later update and a std of 0 or more")

    def noise_std(self, update: int) -> float:
        """Return the standard deviation of the noise at an update, counted from 0."""
        return max(((start, std) for start, std in self.noise if start <= update), default=(0, 0.0))[1]


@dataclass(frozen=True)
class TaskConfig:
    """A task's config file.

    Attributes:
        model, training: see there.
        st_graph: the st-graph: a file beside the config, or one that ships with the package.
    """

    st_graph: str
    model: SRNNConfig = field(default_factory=SRNNConfig)
    training: TaskTraining = field(default_factory=TaskTraining)


def read_task_config(path: Path) -> TaskConfig:
    """Read a task's TOML file; an st-graph file is looked for beside it.

    Raises:
        ConfigError: it cannot be read, or a field is unknown or out of range.
    """
    data = read_toml(path)
    if isinstance(data.get("st_graph"), str) and data["st_graph"].endswith(".toml"):
        data["st_graph"] = str(path.parent / data["st_graph"])
    return from_mapping(TaskConfig, data)
