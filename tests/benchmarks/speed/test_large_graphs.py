"""A step in blocks costs as much as its graph has nodes: counted in the exported graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.networks import SPEED
from export.cost import GraphCost, graph_cost
from export.step_graph import export_step
from stunet_deploy.config import STUNetConfig
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.hierarchy import GraphHierarchy, SparseBasis
from stunet_deploy.models.stunet.model import STUNet


def cost_of_a_grid(side: int) -> GraphCost:
    """Count the cost of a model's step on a square of crossings."""
    crossings = np.arange(side**2).reshape(side, side)
    source = np.concatenate([crossings[:, :-1].ravel(), crossings[:-1].ravel()])
    target = np.concatenate([crossings[:, 1:].ravel(), crossings[1:].ravel()])
    weight = np.random.default_rng(side).uniform(0.1, 1, len(source))
    hierarchy = GraphHierarchy.build(Adjacency.from_edges(side**2, source, target, weight), pool_levels=[2])
    assert all(isinstance(level.basis, SparseBasis) for level in hierarchy.levels)
    return graph_cost(export_step(STUNet(STUNetConfig(hidden=4, horizon=3), hierarchy, SPEED).eval(), {}))


@pytest.mark.slow
def test_work_and_size_grow_with_the_nodes_and_not_with_their_square():
    small, large = cost_of_a_grid(36), cost_of_a_grid(72)
    assert 3.2 < large.multiplications / small.multiplications < 4.8
    assert 3.2 < large.values / small.values < 4.8
    assert 3.2 < large.constant_bytes / small.constant_bytes < 4.8
    dense_bases = 2 * 4 * (72**2) ** 2
    assert large.constant_bytes < dense_bases / 20


def test_the_benchmark_writes_its_page(run_benchmark: Callable[..., tuple[Any, str]]) -> None:
    result, page = run_benchmark("speed.large_graphs")
    steps, memory = result["graphs"]["METR-LA"], result["memory"]
    assert steps["levels"] == [1, 1]
    assert steps["auto 4"]["difference"] == 0
    assert steps["blocks 4"]["difference"] < 1e-3  # of six sensors often none
    assert steps["blocks 4"]["onnx_mb"] != steps["auto 4"]["onnx_mb"]  # they are two graphs
    assert memory["export"]["max_abs_error"] < 1e-3
    assert all(memory[part]["peak_mb"] > 0 for part in ("training", "export", "stream"))
    assert "| METR-LA | 6 | 4 | dense → dense |" in page
