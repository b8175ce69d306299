"""Real sensor and road graphs from 207 to 33,113 nodes, as lists of edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.graph.adjacency import Adjacency

#: Names of the graphs, smallest first.
GRAPHS = ("METR-LA", "PEMS-BAY", "PEMS07", "PeMS stations", "Chicago", "Sydney")


def real_graph(name: str, folder: Path) -> Adjacency:
    """Return a graph of ``GRAPHS``; without published weights, those are 1 / (1 + length / mean length).

    Args:
        name: of the graph.
        folder: of the data sets that are not part of the repository.
    """
    if name in ("METR-LA", "PEMS-BAY"):
        with np.load(folder / ("metr-la.npz" if name == "METR-LA" else "pems-bay-graph.npz")) as arrays:
            return Adjacency.from_matrix(arrays["adjacency"])
    if name == "PEMS07":
        with np.load(folder / "pems0x-graphs.npz") as arrays:
            return _weighted(int(arrays["p07_nodes"]), arrays["p07_from"], arrays["p07_to"], arrays["p07_distance"])
    if name == "PeMS stations":
        with np.load(folder / "pems-typical-weekday.npz") as arrays:
            return _weighted(len(arrays["station_ids"]), arrays["src"], arrays["dst"], arrays["gap_miles"])
    with np.load(folder / "road-networks.npz") as arrays:
        columns = [arrays[f"{name.lower()}_{column}"] for column in ("node_ids", "src", "dst", "length")]
    return _weighted(len(columns[0]), *columns[1:])


def _weighted(
    nodes: int, source: NDArray[np.int32], target: NDArray[np.int32], length: NDArray[np.float32]
) -> Adjacency:
    length = length.astype(np.float64)
    weight = 1 / (1 + length / length.mean())
    # Two roads between the same crossings are one edge, the nearer one.
    keys, place = np.unique(source.astype(np.int64) * nodes + target, return_inverse=True)
    largest = np.zeros(len(keys))
    np.maximum.at(largest, place, weight)
    return Adjacency.from_edges(nodes, keys // nodes, keys % nodes, largest)
