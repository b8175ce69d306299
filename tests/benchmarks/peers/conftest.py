"""A small network whose sensors follow one another, and a task on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.task import Task
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from training.protocols import protocol_a

NODES, MONDAY = 4, 1_330_905_600  # 2012-03-05T00:00:00Z


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """A function that returns a task of hourly readings with lasting disturbances, some readings missing."""

    def make(rows: int = 300, missing: float = 0.1, **settings: Any) -> Task:
        rng = np.random.default_rng(3)
        disturbance = np.zeros((rows, NODES))
        for row in range(1, rows):
            disturbance[row] = 0.8 * disturbance[row - 1] + rng.normal(0, 2, NODES)
        values = (50 + 4 * np.arange(NODES) + disturbance)[..., None].astype(np.float32)
        observed = rng.random(values.shape) >= missing
        site = Site(tuple("abcd"), ("speed",), ("mph",), 3600)
        timestamps = MONDAY + 3600 * np.arange(rows, dtype=np.int64)
        series = Series(np.where(observed, values, np.float32(0)), observed, timestamps, site)
        graph = SensorGraph(Adjacency.from_matrix(np.eye(NODES, k=1)), None, None, None, "a chain")
        return Task(series, protocol_a(series, 12, 3), "speed", graph, **settings)

    return make
