"""Weights between the sensors of a graph, from weights, distances, edges or coordinates, in float64.

They are kept as a list of edges, since a network of N sensors has a few N of them and not N squared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.config import SymmetriseMethod
from stunet_deploy.errors import ConfigError, DataError

DCRNN_THRESHOLD = 0.1
"""Weights below this are cut in the DCRNN kernel, whose scale is the spread of the listed distances."""
STGCN_SIGMA_METRES = 10_000 * math.sqrt(0.1)
"""Scale of the STGCN kernel: variance 0.1 with distances in units of 10 km."""
STGCN_THRESHOLD = 0.5
"""Weights below this are cut in the STGCN kernel."""

EARTH_RADIUS_METRES = 6_371_008.8
"""Mean radius of the Earth (IUGG)."""
NEAREST_NEIGHBOURS = 8
"""Neighbours a sensor gets at least when only coordinates are known."""
_ROWS_AT_ONCE = 256


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
    _check_square(matrix, name)
    np.fill_diagonal(matrix, 0)  # also of non-finite values: a sensor's weight to itself is never used
    valid = np.isfinite(matrix) & (matrix >= 0)
    _check_cells(matrix, valid, name, "finite weights of at least 0", "use 0 where two sensors are not joined")
    return matrix


def _check_square(matrix: NDArray[np.float64], name: str) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise DataError(f"{name} of shape {list(matrix.shape)}", "a square matrix", "give one row per sensor")


def _check_cells(matrix: NDArray[np.float64], valid: NDArray[np.bool_], name: str, expected: str, action: str) -> None:
    if not valid.all():
        row, column = np.argwhere(~valid)[0].tolist()
        raise DataError(f"{name}[{row}, {column}] is {matrix[row, column]}", expected, action)


def kernel_adjacency(
    distances: NDArray[np.float64], *, sigma: float | None = None, threshold: float = DCRNN_THRESHOLD
) -> NDArray[np.float64]:
    """Weights exp(-(d / sigma)^2) from distances, [node, node]; below the threshold 0, as is the diagonal.

    The defaults are DCRNN's kernel. STGCN's is ``sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD``.

    Args:
        distances: finite where listed, infinite where two sensors are not joined, [node, node]; may be
            directed.
        sigma: scale in the unit of the distances. Default: the standard deviation of all listed distances,
            the diagonal's included where listed. Where that would cut every weight (equally spaced sensors
            have no spread), their root mean square.
        threshold: weights below it are cut.

    Raises:
        DataError: the matrix is not square, or holds a distance that is negative or NaN; the cell is named.

    Source: Li et al., "DCRNN" (2018), section 4; Yu et al., "STGCN" (2018), Eq. (10).
    """
    _check_square(distances, "distances")
    action = "leave out pairs of sensors that are not joined"
    _check_cells(distances, distances >= 0, "distances", "distances of at least 0", action)
    listed = np.isfinite(distances)
    weights = np.zeros_like(distances)
    weights[listed] = _kernel(distances[listed], np.eye(len(distances), dtype=np.bool_)[listed], sigma, threshold)
    return weights


def _kernel(
    distances: NDArray[np.float64], itself: NDArray[np.bool_], sigma: float | None, threshold: float
) -> NDArray[np.float64]:
    """Return the weights of listed distances, [edge]; those of a sensor to itself are 0 but count in the scale."""
    return _cut_kernel(distances, itself, _scale(distances, itself, threshold) if sigma is None else sigma, threshold)


def _scale(distances: NDArray[np.float64], itself: NDArray[np.bool_], threshold: float) -> float:
    """Return the spread of listed distances, or their root mean square where the spread would cut every weight."""
    if not distances.size:
        return 1.0
    spread = float(distances.std())
    if spread and _cut_kernel(distances, itself, spread, threshold).any():
        return spread
    return float(np.sqrt(np.square(distances).mean())) or 1.0


def _cut_kernel(
    distances: NDArray[np.float64], itself: NDArray[np.bool_], sigma: float, threshold: float
) -> NDArray[np.float64]:
    weights = np.exp(-np.square(distances / sigma))
    weights[(weights < threshold) | itself] = 0
    return weights


def adjacency_from_edges(sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]]) -> Adjacency:
    """Directed graph of (from, to, weight) with weights of at least zero; the largest of a repeated edge counts.

    Raises:
        DataError: an edge names a sensor that is not in ``sensor_ids``.
    """
    return Adjacency.from_edges(len(sensor_ids), *_edge_arrays(sensor_ids, edges, np.maximum))


def adjacency_from_distances(
    sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]]
) -> tuple[Adjacency, float]:
    """Directed graph of (from, to, distance) with the weights of DCRNN's kernel, and the kernel's scale.

    The shortest distance of a repeated edge counts. For the scale see `kernel_adjacency`.

    Raises:
        DataError: an edge names a sensor that is not in ``sensor_ids``.
    """
    source, target, distance = _edge_arrays(sensor_ids, edges, np.minimum)
    sigma = _scale(distance, source == target, DCRNN_THRESHOLD)
    weight = _kernel(distance, source == target, sigma, DCRNN_THRESHOLD)
    return Adjacency.from_edges(len(sensor_ids), source, target, weight), sigma


def _edge_arrays(
    sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]], keep: np.ufunc
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return source, target and value of edges, ordered, each once; ``keep`` chooses among values of one edge."""
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


def haversine_metres(
    latitude: NDArray[np.float64], longitude: NDArray[np.float64], rows: slice = slice(None)
) -> NDArray[np.float64]:
    """Great-circle distances in metres between coordinates in degrees, [node] each.

    Args:
        latitude, longitude: of all nodes.
        rows: the nodes from which to measure, all by default.

    Returns:
        Distances [row, node].
    """
    phi, theta = np.radians(latitude), np.radians(longitude)
    half_phi = np.sin((phi[rows, None] - phi[None, :]) / 2)
    half_theta = np.sin((theta[rows, None] - theta[None, :]) / 2)
    chord = half_phi**2 + np.cos(phi)[rows, None] * np.cos(phi)[None, :] * half_theta**2
    distances: NDArray[np.float64] = 2 * EARTH_RADIUS_METRES * np.arcsin(np.sqrt(np.minimum(chord, 1)))
    return distances


def adjacency_from_coordinates(
    latitude: NDArray[np.float64], longitude: NDArray[np.float64], *, neighbours: int = NEAREST_NEIGHBOURS
) -> Adjacency:
    """Symmetric graph of sensors of which only the positions are known.

    Every sensor is joined to its nearest neighbours as the crow flies (ties: lowest index), in either
    direction. The weight is `kernel_adjacency` at the root mean square of those distances: with DCRNN's
    scale, their spread, the cut-off would take most neighbours away again, as they are about equally far.

    Args:
        latitude: degrees north, [node].
        longitude: degrees east, [node].
        neighbours: nearest neighbours per sensor.

    Raises:
        DataError: a coordinate is missing or is not on Earth.
    """
    for name, degrees, limit in (("latitude", latitude, 90), ("longitude", longitude, 180)):
        bad = np.flatnonzero(~(np.abs(degrees) <= limit))
        if len(bad):
            raise DataError(
                f"{name} {degrees[bad[0]]} of sensor {bad[0]}",
                f"degrees from -{limit} to {limit}",
                "correct the coordinates, in the order latitude, longitude",
            )
    nodes = len(latitude)
    nearest = np.empty((nodes, min(neighbours, nodes - 1)), dtype=np.int64)
    reach = np.empty(nearest.shape)
    for first in range(0, nodes, _ROWS_AT_ONCE):  # distances of all pairs would not fit for a large network
        rows = slice(first, min(nodes, first + _ROWS_AT_ONCE))
        distances = haversine_metres(latitude, longitude, rows)
        distances[np.arange(rows.stop - first), np.arange(first, rows.stop)] = np.inf
        nearest[rows] = np.argsort(distances, axis=1, kind="stable")[:, : nearest.shape[1]]
        reach[rows] = np.take_along_axis(distances, nearest[rows], axis=1)
    one, other = np.repeat(np.arange(nodes), nearest.shape[1]), nearest.flatten()
    keys, place = np.unique(np.concatenate([one * nodes + other, other * nodes + one]), return_index=True)
    listed = np.tile(reach.flatten(), 2)[place]
    scale = float(np.sqrt(np.square(listed).mean())) if listed.size else 0.0
    weight = _kernel(listed, np.zeros(len(listed), dtype=np.bool_), scale or 1.0, DCRNN_THRESHOLD)
    return Adjacency.from_edges(nodes, keys // nodes, keys % nodes, weight)
