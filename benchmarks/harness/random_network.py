"""An untrained model of an invented network of any size: time does not depend on weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site

INTERVAL_S = 300
START_S = 1_330_588_800  # 2012-03-01T08:00:00Z
NEIGHBOURS = 4
SPEED = Signal(("speed",), ("speed",), mean=(55.0,), std=(12.0,), low=(0.0,), high=(90.0,))


def random_adjacency(sensors: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return weights [sensor, sensor] of sensors strewn over a square, each joined to the nearest four."""
    places = rng.random((sensors, 2))
    distance, nearest = cKDTree(places).query(places, k=NEIGHBOURS + 1)
    scale = distance[:, 1:].mean()
    adjacency = np.zeros((sensors, sensors))
    adjacency[np.arange(sensors)[:, None], nearest[:, 1:]] = np.exp(-((distance[:, 1:] / scale) ** 2))
    return adjacency


def random_checkpoint(sensors: int, hidden: int, intervals: int, seed: int = 0) -> Checkpoint:
    """Return a model with random weights, and a stream of daily speeds with one reading in twenty missing."""
    rng = np.random.default_rng(seed)
    config = STUNetConfig(hidden=hidden)
    pools = [levels for levels, _ in config.scales]
    hierarchy = GraphHierarchy.build(random_adjacency(sensors, rng), pool_levels=pools)
    torch.manual_seed(seed)
    model = STUNet(config, hierarchy, SPEED).eval()
    torch.nn.init.normal_(model.decoder.head.weight, std=0.02)  # an untrained head forecasts persistence
    timestamps = START_S + INTERVAL_S * np.arange(intervals)
    daily = 12 * np.sin(2 * np.pi * timestamps[:, None] / 86_400 + rng.uniform(0, 1, sensors))
    speeds = 55 + daily + rng.normal(0, 3, (intervals, sensors))
    observed = rng.random((intervals, sensors, 1)) > 0.05
    values = np.where(observed, np.clip(speeds, 0, 90)[..., None], 0).astype(np.float32)
    site = Site(tuple(f"s{node}" for node in range(sensors)), ("speed",), ("mph",), INTERVAL_S)
    return Checkpoint(model, Series(values, observed, timestamps, site), {"note": "random weights"})
