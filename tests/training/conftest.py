"""A small recording that a small network can learn: a daily wave that travels round a ring of sensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stunet_deploy.config import RunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from training.loop import Trainer
from training.preparation import prepare_signal
from training.protocols import Split, protocol_a
from training.resume import StateFile, run_identity

HOUR_S = 3600
MONDAY = 1_330_905_600  # 2012-03-05T00:00:00Z
NODES = 6


def make_wave(hours: int = 360, features: int = 1, seed: int = 5) -> Series:
    """Hourly readings; every eleventh hour of a sensor or so is unobserved, with garbage under it."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * (np.arange(hours)[:, None] / 24 - np.arange(NODES) / NODES)
    speed = 45 + 20 * np.sin(phase) + rng.normal(0, 1, phase.shape)
    values = np.stack([speed, 30 + rng.normal(0, 4, phase.shape)], axis=-1)[..., :features].astype(np.float32)
    observed = rng.random(values.shape) > 0.09
    return Series(
        values=np.where(observed, values, np.float32(0)),
        observed=observed,
        timestamps=MONDAY + HOUR_S * np.arange(hours, dtype=np.int64),
        site=Site(
            tuple(f"s{node}" for node in range(NODES)),
            ("speed", "flow")[:features],
            ("mph", "veh/h")[:features],
            HOUR_S,
        ),
        source="a wave",
    )


@pytest.fixture
def wave() -> Callable[..., Series]:
    """Return the function of hours, features and seed that makes the recording."""
    return make_wave


@pytest.fixture
def series() -> Series:
    """Return 15 days of the wave."""
    return make_wave()


@pytest.fixture
def broken() -> Series:
    """Return the wave with 3 days missing after the fifth: rows 120 and on are three days later."""
    whole = make_wave()
    return replace(whole, timestamps=whole.timestamps + np.where(np.arange(360) >= 120, 72 * HOUR_S, 0))


@pytest.fixture
def graph() -> SensorGraph:
    """Return the ring."""
    ring = np.roll(np.eye(NODES), 1, axis=1)
    return SensorGraph(Adjacency.from_matrix(ring + ring.T), None, None, None, "a ring")


@pytest.fixture
def config() -> Callable[..., RunConfig]:
    """Return a function of training settings that gives a tiny network's config."""

    def make(targets: tuple[str, ...] = (), **training: object) -> RunConfig:
        network = STUNetConfig(scales=((1, 2),), hidden=4, horizon=3, window=6, time_features="day")
        settings = {"epochs": 2, "chunk": 12, "warm_up": 5, "batch": 8, "threads": 1} | training
        return RunConfig(network, TrainingConfig(**settings), targets)

    return make


@pytest.fixture(scope="session")
def make_trainer() -> Callable[..., Trainer]:
    """Return the function of a recording, its graph and a config that makes a trainer of a fresh network."""

    def make(
        series: Series,
        graph: SensorGraph,
        config: RunConfig,
        *,
        split: Split | None = None,
        seed: int = 1,
        path: Path | None = None,
        **options: Any,
    ) -> Trainer:
        split = split or protocol_a(series, config.model.window, config.model.horizon)
        hierarchy = GraphHierarchy.build(graph.adjacency, pool_levels=[levels for levels, _ in config.model.scales])
        torch.manual_seed(seed)
        model = STUNet(config.model, hierarchy, prepare_signal(series, split, config.targets))
        state_file = None
        if path is not None:
            state_file = StateFile(path, run_identity(model, series, split, config.training, seed))
        return Trainer(model, series, split, config.training, seed, state_file=state_file, **options)

    return make
