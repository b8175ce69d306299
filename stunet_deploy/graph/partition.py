"""Pair up the sensors of a graph, level by level, into the super nodes of a coarser graph.

Every step is ordered by sorted edges and node ids and adds weights one after the other, so the same adjacency
gives the same partition, byte for byte, on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.config import PartitionMethod
from stunet_deploy.graph.adjacency import Adjacency


class Edges(NamedTuple):
    """The edges of an undirected graph, each once, heaviest first, ties by (lower id, higher id)."""

    low: NDArray[np.int64]
    """The lower node id of every edge, [edge]."""
    high: NDArray[np.int64]
    """The higher node id of every edge, [edge]."""
    weight: NDArray[np.float64]
    """Weights above zero, [edge]."""


class Path(NamedTuple):
    """A path through a graph, or a cycle; edge ``i`` joins ``nodes[i]`` and ``nodes[i + 1]``, cyclically."""

    nodes: list[int]
    weights: list[float]
    """One fewer than the nodes on a path, as many as the nodes on a cycle."""

    @property
    def is_cycle(self) -> bool:
        """Whether the last edge leads back to the first node."""
        return len(self.weights) == len(self.nodes)


class Partition(NamedTuple):
    """The clusters of a fine graph and the coarse graph whose nodes they are."""

    cluster: NDArray[np.int64]
    """Coarse node of every fine node, [fine]; coarse ids ascend by their smallest member."""
    adjacency: Adjacency
    """The coarse graph: parallel edges summed, inner edges dropped."""


def sorted_edges(adjacency: Adjacency) -> Edges:
    """List the edges of a symmetric graph, sorted."""
    once = adjacency.source < adjacency.target
    low, high, weight = adjacency.source[once], adjacency.target[once], adjacency.weight[once]
    order = np.lexsort((high, low, -weight))
    return Edges(low[order], high[order], weight[order])


def global_paths(edges: Edges, nodes: int) -> list[Path]:
    """Collect heavy edges into disjoint paths and even cycles, the first half of the Global Path Algorithm.

    Heaviest first, an edge is taken if both ends are still path end points and it joins two paths, or closes
    one whose edge count is odd. A path is read from its lower end, a cycle from its lowest node along its
    heavier edge.

    Source: Maue & Sanders, "Engineering Algorithms for Approximate Weighted Matching" (2007), section 3.
    """
    links: list[list[tuple[int, float]]] = [[] for _ in range(nodes)]
    other_end = list(range(nodes))
    edge_count = [0] * nodes  # both are kept up to date at the two ends of a path only
    for u, v, weight in _rows(edges):
        if len(links[u]) == 2 or len(links[v]) == 2:
            continue
        if other_end[u] != v:
            u_end, v_end = other_end[u], other_end[v]
            joined = edge_count[u] + 1 + edge_count[v]
            other_end[u_end], other_end[v_end] = v_end, u_end
            edge_count[u_end] = edge_count[v_end] = joined
        elif edge_count[u] % 2 == 0:
            continue
        links[u].append((v, weight))
        links[v].append((u, weight))

    visited = [False] * nodes
    ends = [node for node in range(nodes) if len(links[node]) == 1]
    on_cycles = [node for node in range(nodes) if len(links[node]) == 2]
    paths = [_follow(start, links, visited) for start in ends if not visited[start]]
    for start in on_cycles:
        if not visited[start]:
            cycle = _follow(start, links, visited)
            cycle.weights.append(links[start][1][1])  # the walk left by the first link, the second one closes it
            paths.append(cycle)
    return paths


def growing_paths(edges: Edges, nodes: int) -> list[Path]:
    """Grow disjoint paths along heaviest edges, lines 2-12 of ST-UNet's Algorithm 1 (PGA').

    Each path starts at the lowest node with edges left and follows the heaviest edge to a node that no path
    has visited, ties to the lowest id.

    Source: Yu, Yin & Zhu, "ST-UNet" (2019), Algorithm 1, after Drake & Hougardy (2003).
    """
    neighbours: list[list[tuple[int, float]]] = [[] for _ in range(nodes)]
    for u, v, weight in _rows(edges):  # the order of the edges makes every list sorted by (-weight, id)
        neighbours[u].append((v, weight))
        neighbours[v].append((u, weight))
    visited = [False] * nodes
    paths = (_follow(start, neighbours, visited) for start in range(nodes) if not visited[start])
    return [path for path in paths if path.weights]


def _rows(edges: Edges) -> zip[tuple[int, int, float]]:
    return zip(edges.low.tolist(), edges.high.tolist(), edges.weight.tolist(), strict=True)


def _follow(start: int, neighbours: list[list[tuple[int, float]]], visited: list[bool]) -> Path:
    """Walk from `start` along the first listed neighbour not visited yet, and mark the way."""
    nodes, weights = [start], list[float]()
    visited[start] = True
    while step := next((link for link in neighbours[nodes[-1]] if not visited[link[0]]), None):
        nodes.append(step[0])
        weights.append(step[1])
        visited[step[0]] = True
    return Path(nodes, weights)


def best_on_path(weights: Sequence[float]) -> tuple[float, list[int]]:
    """Find the heaviest set of edges of a path no two of which touch; return its weight and its edge indices.

    Dynamic programming over the path; an edge is taken on strict improvement only, which settles ties.
    """
    before, best = 0.0, 0.0
    taken = []
    for weight in weights:
        taken.append(before + weight > best)
        before, best = best, max(best, before + weight)
    chosen = []
    index = len(taken) - 1
    while index >= 0:
        if taken[index]:
            chosen.append(index)
            index -= 1
        index -= 1
    return best, chosen[::-1]


def best_on_cycle(weights: Sequence[float]) -> tuple[float, list[int]]:
    """Like `best_on_path` for a closed path: the better of leaving out its last edge or its first one."""
    without_last = best_on_path(weights[:-1])
    total, chosen = best_on_path(weights[1:])
    if total > without_last[0]:
        return total, [index + 1 for index in chosen]
    return without_last


def match(adjacency: Adjacency, method: PartitionMethod = "gpa") -> NDArray[np.int64]:
    """Match the nodes of a graph in heavy pairs, until no two unmatched nodes are joined by an edge.

    Args:
        adjacency: a symmetric graph.
        method: how paths are found, `global_paths` ("gpa") or `growing_paths` ("pga").

    Returns:
        The partner of every node, [node]; an unmatched node is its own partner. The pairs weigh at least half
        as much as the heaviest matching.
    """
    nodes = len(adjacency)
    edges = sorted_edges(adjacency)
    paths = global_paths(edges, nodes) if method == "gpa" else growing_paths(edges, nodes)
    partner = list(range(nodes))
    for path in paths:
        _, chosen = best_on_cycle(path.weights) if path.is_cycle else best_on_path(path.weights)
        for index in chosen:
            u, v = path.nodes[index], path.nodes[(index + 1) % len(path.nodes)]
            partner[u], partner[v] = v, u
    # The best matching of the paths can leave both ends of some other edge free: make it maximal.
    for u, v, _ in _rows(edges):
        if partner[u] == u and partner[v] == v:
            partner[u], partner[v] = v, u
    return np.array(partner, dtype=np.int64)


def coarsen(adjacency: Adjacency, partner: NDArray[np.int64]) -> Partition:
    """Merge every matched pair into one node.

    Args:
        adjacency: a symmetric graph.
        partner: partner of every node [node], as `match` returns it.
    """
    smallest_member = np.minimum(np.arange(len(partner)), partner)
    leaders, cluster = np.unique(smallest_member, return_inverse=True)
    edges = sorted_edges(adjacency)
    low, high = cluster[edges.low], cluster[edges.high]
    between, coarse = low != high, len(leaders)
    pairs = np.minimum(low, high)[between] * coarse + np.maximum(low, high)[between]
    keys, place = np.unique(pairs, return_inverse=True)
    weight = np.zeros(len(keys))
    # Unbuffered, so parallel edges are added one after the other in the order of the sorted edges.
    np.add.at(weight, place, edges.weight[between])
    one, other = keys // coarse, keys % coarse
    ends = np.concatenate([one, other]), np.concatenate([other, one])
    return Partition(cluster.astype(np.int64), Adjacency.from_edges(coarse, *ends, np.tile(weight, 2)))


def partitioned(adjacency: Adjacency, levels: int, method: PartitionMethod = "gpa") -> Partition:
    """Coarsen a graph by `levels` matchings, into clusters of 1 to 2**levels nodes.

    Args:
        adjacency: a symmetric graph.
        levels: number of matchings; none gives the graph itself.
        method: see `match`.

    Source: ST-UNet, Algorithm 1, with the maximal extension after the loop instead of inside it.
    """
    result = Partition(np.arange(len(adjacency), dtype=np.int64), adjacency)
    for _ in range(levels):
        coarser = coarsen(result.adjacency, match(result.adjacency, method))
        result = Partition(coarser.cluster[result.cluster], coarser.adjacency)
    return result
