"""The sensor graph as the model needs it: adjacency, Chebyshev bases, and gather indices for pooling, over all scales.

Everything here is prepared once, in float64 with numpy and scipy, before training; a checkpoint stores the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.errors import CheckpointError, ConfigError, DataError
from stunet_deploy.partition import PartitionMethod, partition

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

LARGEST_DENSE_SPECTRUM = 1000
"""Above this many nodes the largest eigenvalue comes from the sparse solver."""


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of the hierarchy."""

    adjacency: NDArray[np.float64]
    """Symmetric weights with zero diagonal, [node, node]."""
    basis: NDArray[np.float32]
    """Chebyshev polynomials T1 ... T(K-1) of the scaled Laplacian, [order, node, node]; T0 = identity is left out."""


@dataclass(frozen=True, eq=False)
class Transition:
    """The way from a fine level to the next coarser one, and back."""

    pool: NDArray[np.int64]
    """Fine members of every coarse node, ascending, [coarse, member]; short rows repeat their first member."""
    unpool: NDArray[np.int64]
    """Coarse node of every fine node, [fine]."""

    @classmethod
    def from_cluster(cls, cluster: NDArray[np.int64]) -> Transition:
        """Derive both gather indices from the coarse node of every fine node, [fine]."""
        sizes = np.bincount(cluster)
        by_cluster = np.argsort(cluster, kind="stable")
        first = np.cumsum(sizes) - sizes
        column = np.arange(sizes.max())
        # Padding repeats a real member: exact for a maximum, and no mask is needed.
        pool = by_cluster[first[:, None] + np.where(column < sizes[:, None], column, 0)]
        return cls(pool.astype(np.int64), cluster.astype(np.int64))

    def mean_weights(self) -> NDArray[np.float32]:
        """Weights that make a sum over gathered members their mean, [coarse, member]; padding weighs zero."""
        sizes = np.bincount(self.unpool)[:, None]
        return np.where(np.arange(self.pool.shape[1]) < sizes, 1 / sizes, 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class GraphHierarchy:
    """The sensor graph, its coarser versions, and the gathers between them: constants of the model.

    Levels, transitions and gather indices are the same bytes for the same adjacency on every machine; the bases are
    so on one machine, and elsewhere up to the float32 rounding of what differs in the last bits of float64.
    """

    levels: tuple[Level, ...]
    """From the sensor graph to the coarsest."""
    transitions: tuple[Transition, ...]
    """``transitions[i]`` joins ``levels[i]`` and ``levels[i + 1]``."""

    @classmethod
    def build(
        cls,
        adjacency: ArrayLike,
        *,
        pool_levels: Sequence[int],
        chebyshev_order: int = 3,
        partition: PartitionMethod = "gpa",
        symmetrise: SymmetriseMethod = "max",
    ) -> GraphHierarchy:
        """Prepare the hierarchy of a sensor graph.

        Args:
            adjacency: weights [node, node], finite and at least zero; may be directed; the diagonal is ignored.
            pool_levels: for every transition the number of matchings (2 makes super nodes of up to 4 sensors);
                0 repeats the same graph.
            chebyshev_order: number K of Chebyshev polynomials, the identity included.
            partition: how sensors are matched, see `stunet_deploy.partition.match`.
            symmetrise: how a directed adjacency is made symmetric, see `symmetrise`.

        Raises:
            DataError: the adjacency is not a square matrix of finite weights of at least zero.
            ConfigError: a setting is out of range.

        Source: ST-UNet (Yu, Yin & Zhu 2019), Algorithm 1 and Eq. (2).
        """
        if bad := [count for count in pool_levels if count < 0]:
            raise ConfigError(f"pool_levels {bad[0]}", "0 or more per scale", "correct the scales in the config")
        _require_choice("partition", partition, get_args(PartitionMethod))
        weights = _symmetrise(adjacency, symmetrise)
        levels = [Level(weights, chebyshev_basis(weights, chebyshev_order).astype(np.float32))]
        transitions = []
        for count in pool_levels:
            fine = levels[-1]
            cluster, coarse = _partition(fine.adjacency, count, partition)
            basis = chebyshev_basis(coarse, chebyshev_order).astype(np.float32) if count else fine.basis
            levels.append(Level(coarse, basis))
            transitions.append(Transition.from_cluster(cluster))
        return cls(tuple(levels), tuple(transitions))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Flatten into named arrays for a checkpoint, such as ``levels.0.basis`` and ``transitions.0.pool``."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for index, level in enumerate(self.levels):
            arrays[f"levels.{index}.adjacency"] = level.adjacency
            arrays[f"levels.{index}.basis"] = level.basis
        for index, transition in enumerate(self.transitions):
            arrays[f"transitions.{index}.pool"] = transition.pool
            arrays[f"transitions.{index}.unpool"] = transition.unpool
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> GraphHierarchy:
        """Rebuild what `to_arrays` flattened.

        Raises:
            CheckpointError: an array is missing, left over, or of a shape that does not fit the others.
        """
        count = (len(arrays) + 2) // 4
        expected = {f"levels.{index}.{name}" for index in range(count) for name in ("adjacency", "basis")}
        expected |= {f"transitions.{index}.{name}" for index in range(count - 1) for name in ("pool", "unpool")}
        if count == 0 or (differing := sorted(expected ^ set(arrays))):
            named = ", ".join(differing[:5]) if count else "no arrays"
            raise CheckpointError(
                f"graph with missing or unknown arrays ({named})",
                "two arrays per level and per transition",
                "train again",
            )
        levels = tuple(
            Level(
                np.asarray(arrays[f"levels.{index}.adjacency"], dtype=np.float64),
                np.asarray(arrays[f"levels.{index}.basis"], dtype=np.float32),
            )
            for index in range(count)
        )
        transitions = tuple(
            Transition(
                np.asarray(arrays[f"transitions.{index}.pool"], dtype=np.int64),
                np.asarray(arrays[f"transitions.{index}.unpool"], dtype=np.int64),
            )
            for index in range(count - 1)
        )
        hierarchy = cls(levels, transitions)
        hierarchy._check_shapes()
        return hierarchy

    def _check_shapes(self) -> None:
        nodes = [len(level.adjacency) for level in self.levels]
        order = len(self.levels[0].basis)
        fits = [
            level.adjacency.shape == (count, count) and level.basis.shape == (order, count, count)
            for level, count in zip(self.levels, nodes, strict=True)
        ]
        for transition, fine, coarse in zip(self.transitions, nodes, nodes[1:], strict=False):
            pool, unpool = transition.pool, transition.unpool
            fits.append(
                pool.ndim == 2
                and len(pool) == coarse
                and unpool.shape == (fine,)
                and np.array_equal(pool, Transition.from_cluster(unpool).pool)
            )
        if not all(fits):
            raise CheckpointError("graph whose arrays do not fit together", "one hierarchy", "train again")


def checked_adjacency(adjacency: ArrayLike, name: str = "adjacency") -> NDArray[np.float64]:
    """Return weights as a new float64 matrix [node, node] with zero diagonal.

    Raises:
        DataError: it is not square, is empty, or holds a weight that is negative or not finite; the cell is named.
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


def symmetrise(adjacency: ArrayLike, how: SymmetriseMethod = "max") -> NDArray[np.float64]:
    """Make a directed adjacency [node, node] symmetric, with zero diagonal.

    Args:
        adjacency: finite weights of at least zero.
        how: "max" keeps the larger of the two directions' weights, "mean" their mean.

    Raises:
        DataError: see `checked_adjacency`.
        ConfigError: ``how`` is unknown.
    """
    _require_choice("symmetrise", how, get_args(SymmetriseMethod))
    matrix = checked_adjacency(adjacency)
    return np.maximum(matrix, matrix.T) if how == "max" else (matrix + matrix.T) / 2


# `GraphHierarchy.build` has keywords of the same names.
_symmetrise = symmetrise
_partition = partition


def _require_choice(field: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{field} {value!r}", f"one of {', '.join(choices)}", f"correct {field} in the config")


def laplacian(adjacency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric normalised Laplacian I - D^(-1/2) W D^(-1/2), [node, node].

    An isolated node has D^(-1/2) := 0, hence 1 on the diagonal; scipy's own Laplacian puts 0 there.

    Args:
        adjacency: symmetric weights with zero diagonal, [node, node].
    """
    root_degree = np.sqrt(adjacency.sum(axis=0))
    # One product of roots, not two scalings, keeps the result symmetric to the last bit.
    scale = np.outer(root_degree, root_degree)
    normalised = np.divide(adjacency, scale, out=np.zeros_like(adjacency), where=scale > 0)
    return np.eye(len(adjacency)) - normalised


def largest_eigenvalue(laplacian: NDArray[np.float64]) -> float:
    """Largest eigenvalue of a symmetric matrix [node, node], from a dense or, for many nodes, a sparse solver."""
    nodes = len(laplacian)
    if nodes <= LARGEST_DENSE_SPECTRUM:
        return float(scipy.linalg.eigh(laplacian, eigvals_only=True, subset_by_index=(nodes - 1, nodes - 1))[0])
    # The solver's own start vector is random. A constant one is an eigenvector of regular graphs.
    start = np.random.default_rng(0).random(nodes) - 0.5
    values = scipy.sparse.linalg.eigsh(
        scipy.sparse.csr_array(laplacian), k=1, which="LA", v0=start, return_eigenvectors=False
    )
    return float(values[0])


def chebyshev_basis(adjacency: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Chebyshev polynomials T1 ... T(order-1) of the Laplacian scaled to [-1, 1], [order - 1, node, node].

    T0 = identity is left out: nobody needs to store it or multiply by it.

    Args:
        adjacency: symmetric weights with zero diagonal, [node, node].
        order: number K of polynomials, T0 included, at least 1.

    Raises:
        ConfigError: ``order`` is below 1.

    Source: Defferrard et al. (2016), Eq. (4) and the recurrence below it; ST-UNet, Eq. (2).
    """
    if order < 1:
        raise ConfigError(f"chebyshev_order {order}", "1 or more", "correct chebyshev_order in the config")
    identity = np.eye(len(adjacency))
    if order == 1:
        return np.zeros((0, *identity.shape))
    unscaled = laplacian(adjacency)
    scaled = 2 * unscaled / largest_eigenvalue(unscaled) - identity
    # Sparse products add in one fixed order, whatever the number of BLAS threads.
    sparse = scipy.sparse.csr_array(scaled)
    polynomials = [identity, scaled]
    while len(polynomials) < order:
        polynomials.append(2 * (sparse @ polynomials[-1]) - polynomials[-2])
    return np.stack(polynomials[1:])


def kernel_adjacency(
    distances: NDArray[np.float64], *, sigma: float | None = None, threshold: float = DCRNN_THRESHOLD
) -> NDArray[np.float64]:
    """Weights exp(-(d / sigma)^2) from distances, [node, node]; below the threshold 0, as is the diagonal.

    The defaults are DCRNN's kernel. STGCN's is ``sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD``.

    Args:
        distances: finite where listed, infinite where two sensors are not joined, [node, node]; may be directed.
        sigma: scale in the unit of the distances. Default: the standard deviation of all listed distances, the
            diagonal's included where listed. Where that would cut every weight (equally spaced sensors have no
            spread), their root mean square.
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


def adjacency_from_edges(
    sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]]
) -> NDArray[np.float64]:
    """Directed adjacency [node, node] from (from, to, weight); the largest weight of a repeated edge counts.

    Raises:
        DataError: an edge names a sensor that is not in ``sensor_ids``.
    """
    row, column, weight = _edge_arrays(sensor_ids, edges)
    adjacency = np.zeros((len(sensor_ids), len(sensor_ids)))
    np.maximum.at(adjacency, (row, column), weight)
    return checked_adjacency(adjacency)


def distances_from_edges(
    sensor_ids: Sequence[str], edges: Iterable[tuple[str, str, float]]
) -> NDArray[np.float64]:
    """Directed distances [node, node] from (from, to, distance), for `kernel_adjacency`; infinite where not listed.

    The shortest distance of a repeated edge counts.

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

    Every sensor is joined to its nearest neighbours as the crow flies (ties: lowest index), in either direction. The
    weight is `kernel_adjacency` at the root mean square of those distances: with DCRNN's scale, their spread, the
    cut-off would take most of the neighbours away again, because near neighbours are about equally far.

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
