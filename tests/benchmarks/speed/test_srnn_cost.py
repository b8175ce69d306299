"""A step of a Structural-RNN costs as much as its graph has nodes and edges: counted in the exported graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.harness.networks import SPEED
from export.cost import GraphCost, graph_cost
from export.step_graph import export_step
from stunet_deploy.config import SRNNConfig
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph

pytestmark = pytest.mark.slow

SUMMED: dict[str, Any] = {}
ATTENTION: dict[str, Any] = {"edge_state": "per_edge", "combine": "attention"}


def ring(count: int) -> list[tuple[int, int]]:
    """Edges of a ring in which every node has four neighbours."""
    return [(node, (node + step) % count) for node in range(count) for step in (1, 2)]


def hub(count: int) -> list[tuple[int, int]]:
    """Edges from every node to the first one, and a path along the others."""
    return [(0, node) for node in range(1, count)] + [(node, node + 1) for node in range(1, count - 1)]


def cost(edges: list[tuple[int, int]], count: int, options: dict[str, Any]) -> GraphCost:
    """Count the cost of a model's step on a graph."""
    nodes = tuple(Node(f"s{node}", "sensor", (node, node + 1)) for node in range(count))
    kinds = (EdgeType("near", ("sensor", "sensor"), mean=True),)
    joined = tuple(Edge(f"s{one}", f"s{other}", "near") for one, other in edges)
    graph = STGraph(("sensor",), kinds, nodes, joined)
    return graph_cost(export_step(StructuralRNN(SRNNConfig(**options), graph, SPEED).eval(), {}))


@pytest.mark.parametrize(("edges_of", "options"), [(ring, SUMMED), (hub, SUMMED), (hub, ATTENTION)])
def test_cost_grows_with_nodes_and_edges(edges_of: Any, options: dict[str, Any]) -> None:
    counts = (50, 2000)
    sizes = {count: count + len(edges_of(count)) for count in counts}
    found = {count: cost(edges_of(count), count, options) for count in counts}
    for what in ("multiplications", "values"):
        each = [getattr(found[count], what) / sizes[count] for count in counts]
        assert max(each) < 1.1 * min(each), (what, each)
    small, large = counts
    grown = found[large].constant_bytes - found[small].constant_bytes
    # A few indices and weights for every node and edge; a matrix of 2,000 nodes would be 2,700 bytes each.
    assert 0 < grown < 160 * (sizes[large] - sizes[small])


def test_a_graph_without_edges_costs_its_nodes_alone() -> None:
    small, large = cost([], 50, SUMMED), cost([], 500, SUMMED)
    assert large.multiplications == pytest.approx(10 * small.multiplications, rel=0.01)


def test_the_benchmark_writes_its_page(run_benchmark: Callable[..., tuple[Any, str]]) -> None:
    result, page = run_benchmark("speed.srnn_cost")
    assert [row["nodes"] for row in result["sizes"]] == [10, 20, 40]
    assert [row["edges"] for row in result["sizes"]] == [20, 40, 80]
    assert all(row["time"]["count"] == 2 and len(row["samples_us"]) == 2 for row in result["sizes"])
    assert "| 40 | 80 |" in page
