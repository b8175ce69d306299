"""Adjacency matrices of sensor graphs, from weights, distances, edges or coordinates, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.errors import ConfigError, DataError

SymmetriseMethod = Literal["max", "mean"]

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


def checked_adjacency(adjacency: ArrayLike, name: str = "adjacency") -> NDArray[np.float64]:
    """Return weights as a new float64 matrix [node, node] with zero diagonal.

    Raises:
        DataError: it is not square, is empty, or has a weight that is negative or not finite; names the cell.
    """
    matrix = np.array(adjacency, dtype=np.float64, order="C")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise DataError(f"{name} of shape {list(matrix.shape)}", "a square matrix", "give one row per sensor")
    np.fill_diagonal(matrix, 0)  # also of non-finite values: a sensor's weight to itself is never used
    bad = np.argwhere(~np.isfinite(matrix) | (matrix < 0))
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"{name}[{row}, {column}] is {matrix[row, column]}",
            "finite weights of at least 0",
            "use 0 where two sensors are not joined",
        )
    return matrix


def symmetrised(adjacency: ArrayLike, how: SymmetriseMethod = "max") -> NDArray[np.float64]:
    """Make a directed adjacency [node, node] symmetric, with zero diagonal.

    Args:
        adjacency: finite weights of at least zero.
        how: "max" keeps the larger of the two directions' weights, "mean" their mean.

    Raises:
        DataError: see `checked_adjacency`.
        ConfigError: ``how`` is unknown.
    """
    if how not in get_args(SymmetriseMethod):
        raise ConfigError(f"symmetrise {how!r}", "max or mean", "correct symmetrise in the config")
    matrix = checked_adjacency(adjacency)
    return np.maximum(matrix, matrix.T) if how == "max" else (matrix + matrix.T) / 2


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
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise DataError(f"distances of shape {list(distances.shape)}", "a square matrix", "give one row per sensor")
    bad = np.argwhere(~(distances >= 0))
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"distances[{row}, {column}] is {distances[row, column]}",
            "distances of at least 0",
            "leave out pairs of sensors that are not joined",
        )
    if sigma is not None:
        return _cut_kernel(distances, sigma, threshold)
    listed = distances[np.isfinite(distances)]
    if not listed.size:
        return np.zeros_like(distances)
    spread = float(listed.std())
    weights = _cut_kernel(distances, spread, threshold) if spread else np.zeros_like(distances)
    if not weights.any():
        weights = _cut_kernel(distances, float(np.sqrt(np.square(listed).mean())) or 1.0, threshold)
    return weights


def _cut_kernel(distances: NDArray[np.float64], sigma: float, threshold: float) -> NDArray[np.float64]:
    weights = np.exp(-np.square(distances / sigma))
    weights[weights < threshold] = 0
    np.fill_diagonal(weights, 0)
    return weights


def adjacency_from_edges(sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]]) -> NDArray[np.float64]:
    """Directed adjacency [node, node] from (from, to, weight); the largest weight of a repeated edge counts.

    Raises:
        DataError: an edge names a sensor that is not in ``sensor_ids``.
    """
    row, column, weight = _edge_arrays(sensor_ids, edges)
    adjacency = np.zeros((len(sensor_ids), len(sensor_ids)))
    np.maximum.at(adjacency, (row, column), weight)
    return checked_adjacency(adjacency)


def distances_from_edges(sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]]) -> NDArray[np.float64]:
    """Directed distances [node, node] from (from, to, distance), for `kernel_adjacency`.

    The shortest distance of a repeated edge counts; where no edge is listed it is infinite.

    Raises:
        DataError: an edge names a sensor that is not in ``sensor_ids``.
    """
    row, column, distance = _edge_arrays(sensor_ids, edges)
    distances = np.full((len(sensor_ids), len(sensor_ids)), np.inf)
    np.minimum.at(distances, (row, column), distance)
    return distances


def _edge_arrays(
    sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    position = {sensor: index for index, sensor in enumerate(sensor_ids)}
    edges = list(edges)
    for source, target, _ in edges:
        for sensor in (source, target):
            if sensor not in position:
                raise DataError(f"an edge at sensor {sensor!r}", "sensors of the list", "add it to the sensor list")
    row = np.array([position[source] for source, _, _ in edges], dtype=np.int64)
    column = np.array([position[target] for _, target, _ in edges], dtype=np.int64)
    return row, column, np.array([value for _, _, value in edges], dtype=np.float64)


def haversine_metres(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Great-circle distances [node, node] in metres between coordinates in degrees, [node] each."""
    phi, theta = np.radians(latitude), np.radians(longitude)
    half_phi = np.sin((phi[:, None] - phi[None, :]) / 2)
    half_theta = np.sin((theta[:, None] - theta[None, :]) / 2)
    chord = half_phi**2 + np.cos(phi)[:, None] * np.cos(phi)[None, :] * half_theta**2
    distances: NDArray[np.float64] = 2 * EARTH_RADIUS_METRES * np.arcsin(np.sqrt(np.minimum(chord, 1)))
    return distances


def adjacency_from_coordinates(
    latitude: NDArray[np.float64], longitude: NDArray[np.float64], *, neighbours: int = NEAREST_NEIGHBOURS
) -> NDArray[np.float64]:
    """Symmetric adjacency [node, node] of sensors of which only the positions are known.

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
    distances = haversine_metres(latitude, longitude)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : min(neighbours, len(distances) - 1)]
    joined = np.zeros(distances.shape, dtype=np.bool_)
    np.put_along_axis(joined, nearest, True, axis=1)
    distances[~(joined | joined.T)] = np.inf
    listed = distances[np.isfinite(distances)]
    scale = float(np.sqrt(np.square(listed).mean())) if listed.size else 0.0
    return kernel_adjacency(distances, sigma=scale or 1.0)
