"""Weights between the sensors of a graph, in float64.

They are kept as a list of edges, since a network of N sensors has a few N of them and not N squared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.config import SymmetriseMethod
from stunet_deploy.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Weights from node to node, those that are not zero, ordered by source, then by target."""

    nodes: int
    """Number of nodes."""
    source: NDArray[np.int64]
    """Where every edge starts, [edge]."""
    target: NDArray[np.int64]
    """Where every edge leads, [edge]; never where it starts, and no edge occurs twice."""
    weight: NDArray[np.float64]
    """Above zero, [edge]."""

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, name: str = "adjacency") -> Adjacency:
        """Take the weights of a square matrix from row to column, [node, node]; the diagonal is ignored.

        Raises:
            DataError: see `checked_adjacency`.
        """
        checked = checked_adjacency(matrix, name)
        source, target = np.nonzero(checked)
        return cls(len(checked), source.astype(np.int64), target.astype(np.int64), checked[source, target])

    @classmethod
    def from_edges(
        cls, nodes: int, source: NDArray[np.int64], target: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> Adjacency:
        """Sort edges, [edge] each; edges of a node to itself and those without weight are left out.

        Args:
            nodes: number of nodes.
            source, target: no pair of them twice.
            weight: finite and at least zero.
        """
        kept = np.flatnonzero((source != target) & (weight > 0))
        order = kept[np.lexsort((target[kept], source[kept]))]
        return cls(nodes, source[order], target[order], weight[order])

    def __len__(self) -> int:
        """Return the number of nodes."""
        return self.nodes

    def dense(self) -> NDArray[np.float64]:
        """Return the matrix [node, node]; for small graphs only."""
        matrix = np.zeros((self.nodes, self.nodes))
        matrix[self.source, self.target] = self.weight
        return matrix

    def transposed(self) -> Adjacency:
        """Return the graph with its edges reversed."""
        return Adjacency.from_edges(self.nodes, self.target, self.source, self.weight)

    def symmetrised(self, how: SymmetriseMethod = "max") -> Adjacency:
        """Make a directed graph symmetric.

        Args:
            how: "max" keeps the larger of the two directions' weights, "mean" their mean.

        Raises:
            ConfigError: ``how`` is unknown.
        """
        if how not in get_args(SymmetriseMethod):
            raise ConfigError(f"symmetrise {how!r}", "max or mean", "correct symmetrise in the config")
        forward, backward = self.source * self.nodes + self.target, self.target * self.nodes + self.source
        keys, place = np.unique(np.concatenate([forward, backward]), return_inverse=True)
        weights = np.zeros((2, len(keys)))
        weights[0, place[: len(forward)]] = self.weight
        weights[1, place[len(forward) :]] = self.weight
        weight = weights.max(axis=0) if how == "max" else (weights[0] + weights[1]) / 2
        return Adjacency(self.nodes, keys // self.nodes, keys % self.nodes, weight)

    def selected(self, order: NDArray[np.int64]) -> Adjacency:
        """Return some nodes, none twice, in a new order, with the edges between them."""
        place = np.full(self.nodes, -1, dtype=np.int64)
        place[order] = np.arange(len(order))
        source, target = place[self.source], place[self.target]
        kept = (source >= 0) & (target >= 0)
        return Adjacency.from_edges(len(order), source[kept], target[kept], self.weight[kept])

    @property
    def directed(self) -> bool:
        """Whether some edge has no equal one back."""
        back = self.transposed()
        same = all(np.array_equal(getattr(self, name), getattr(back, name)) for name in ("source", "target", "weight"))
        return not same

    @property
    def isolated(self) -> NDArray[np.bool_]:
        """Whether a node has no edge in either direction, [node]."""
        joined = np.zeros(self.nodes, dtype=np.bool_)
        joined[self.source] = joined[self.target] = True
        return ~joined


def checked_adjacency(adjacency: ArrayLike, name: str = "adjacency") -> NDArray[np.float64]:
    """Return weights as a new float64 matrix [node, node] with zero diagonal.

    Raises:
        DataError: it is not square, is empty, or has a weight that is negative or not finite; names the cell.
    """
    matrix = np.array(adjacency, dtype=np.float64, order="C")
    check_square(matrix, name)
    np.fill_diagonal(matrix, 0)  # also of non-finite values: a sensor's weight to itself is never used
    valid = np.isfinite(matrix) & (matrix >= 0)
    check_cells(matrix, valid, name, "finite weights of at least 0", "use 0 where two sensors are not joined")
    return matrix


def check_square(matrix: NDArray[np.float64], name: str) -> None:
    """Refuse what is no square matrix.

    Raises:
        DataError: it is not square, or is empty.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise DataError(f"{name} of shape {list(matrix.shape)}", "a square matrix", "give one row per sensor")


def check_cells(matrix: NDArray[np.float64], valid: NDArray[np.bool_], name: str, expected: str, action: str) -> None:
    """Refuse a matrix with cells that are not ``valid``, [node, node].

    Raises:
        DataError: names the first of them; ``expected`` and ``action`` are the clauses of its message.
    """
    if not valid.all():
        row, column = np.argwhere(~valid)[0].tolist()
        raise DataError(f"{name}[{row}, {column}] is {matrix[row, column]}", expected, action)


def adjacency_from_edges(sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]]) -> Adjacency:
    """Directed graph of (from, to, weight) with weights of at least zero; the largest of a repeated edge counts.

    Raises:
        DataError: an edge names a sensor that is not in ``sensor_ids``.
    """
    return Adjacency.from_edges(len(sensor_ids), *edge_arrays(sensor_ids, edges, np.maximum))


def edge_arrays(
    sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]], keep: np.ufunc
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return source, target and value of edges, ordered, each once; ``keep`` chooses among values of one edge.

    Raises:
        DataError: an edge names a sensor that is not in ``sensor_ids``.
    """
    position = {sensor: index for index, sensor in enumerate(sensor_ids)}
    edges = list(edges)
    for source, target, _ in edges:
        for sensor in (source, target):
            if sensor not in position:
                raise DataError(f"an edge at sensor {sensor!r}", "sensors of the list", "add it to the sensor list")
    nodes = len(sensor_ids)
    listed = np.array([position[source] * nodes + position[target] for source, target, _ in edges], dtype=np.int64)
    keys, place = np.unique(listed, return_inverse=True)
    values = np.array([value for _, _, value in edges], dtype=np.float64)
    kept = np.empty(len(keys))
    kept[place] = values
    keep.at(kept, place, values)
    return keys // max(1, nodes), keys % max(1, nodes), kept
