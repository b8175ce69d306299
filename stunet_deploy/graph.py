"""The sensor graph as the model needs it: Chebyshev bases and gather indices for pooling, over all scales.

Everything here is prepared once, in float64, before training; a checkpoint stores the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.adjacency import SymmetriseMethod, symmetrised
from stunet_deploy.errors import CheckpointError, ConfigError
from stunet_deploy.partition import PartitionMethod, partitioned

TRANSITION_ARRAYS = ("pool", "unpool", "ranks", "structure")
LARGEST_DENSE_SPECTRUM = 1000
"""Above this many nodes the largest eigenvalue comes from the sparse solver."""


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of the hierarchy."""

    adjacency: NDArray[np.float64]
    """Symmetric weights with zero diagonal, [node, node]."""
    basis: NDArray[np.float32]
    """Chebyshev polynomials T1 ... T(K-1) of the scaled Laplacian, [order, node, node]; T0 is left out."""


@dataclass(frozen=True, eq=False)
class Transition:
    """The way from a fine level to the next coarser one, and back."""

    pool: NDArray[np.int64]
    """Fine members of every coarse node, ascending, [coarse, member]; short rows repeat their first."""
    unpool: NDArray[np.int64]
    """Coarse node of every fine node, [fine]."""

    ranks: NDArray[np.int64]
    """Rank of every fine node among the members of its coarse node, [fine]: by neighbours, most first, then by id."""
    structure: NDArray[np.float32]
    """What every fine node is to the graph, [fine, 4]: degree and strength (sum of weights) within its coarse node,
    then in the whole fine graph; each column standardised over the nodes, zero where it has no differences."""

    @classmethod
    def from_cluster(cls, cluster: NDArray[np.int64], adjacency: NDArray[np.float64]) -> Transition:
        """Derive all constants of a transition.

        Args:
            cluster: the coarse node of every fine node, [fine].
            adjacency: symmetric weights of the fine level, [fine, fine].

        Source: ST-UNet, Section 3.3.
        """
        sizes = np.bincount(cluster)
        first = np.cumsum(sizes) - sizes
        by_cluster = np.argsort(cluster, kind="stable")
        column = np.arange(sizes.max())
        # Padding repeats a real member: exact for a maximum, and no mask is needed.
        pool = by_cluster[first[:, None] + np.where(column < sizes[:, None], column, 0)]
        order = np.lexsort((-np.count_nonzero(adjacency, axis=0), cluster))  # stable: ties stay in the order of ids
        ranks = np.empty_like(cluster)
        ranks[order] = np.arange(len(order)) - np.repeat(first, sizes)
        return cls(pool.astype(np.int64), cluster.astype(np.int64), ranks, _structure(cluster, adjacency))

    def mean_weights(self) -> NDArray[np.float32]:
        """Weights that make a sum over gathered members their mean, [coarse, member]; padding weighs zero."""
        sizes = np.bincount(self.unpool)[:, None]
        return np.where(np.arange(self.pool.shape[1]) < sizes, 1 / sizes, 0).astype(np.float32)


def _structure(cluster: NDArray[np.int64], adjacency: NDArray[np.float64]) -> NDArray[np.float32]:
    within = np.where(cluster[:, None] == cluster, adjacency, 0)
    columns = [column for weights in (within, adjacency) for column in (np.count_nonzero(weights, 0), weights.sum(0))]
    table = np.stack(columns, axis=1).astype(np.float64)
    spread = table.std(axis=0)
    # Sums of equal numbers may differ in their last bit; that is no difference.
    differs = spread > 1e-9 * np.abs(table).max(axis=0)
    standard: NDArray[np.float64] = np.zeros_like(table)
    np.divide(table - table.mean(axis=0), spread, out=standard, where=differs)
    return standard.astype(np.float32)


@dataclass(frozen=True, eq=False)
class GraphHierarchy:
    """The sensor graph, its coarser versions, and the gathers between them: constants of the model.

    Adjacencies and gather indices are the same bytes for the same sensor graph on every machine. So are the
    bases, but for a rare float32 rounding where another eigensolver differs in the last bits of float64.
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
            adjacency: weights [node, node], finite, at least zero; may be directed; the diagonal is ignored.
            pool_levels: for every transition the number of matchings (2 makes super nodes of up to 4
                sensors); 0 repeats the same graph.
            chebyshev_order: number K of Chebyshev polynomials, the identity included.
            partition: how sensors are matched, see `stunet_deploy.partition.match`.
            symmetrise: how a directed adjacency is made symmetric, see `stunet_deploy.adjacency.symmetrised`.

        Raises:
            DataError: the adjacency is not a square matrix of finite weights of at least zero.
            ConfigError: a setting is out of range.

        Source: ST-UNet (Yu, Yin & Zhu 2019), Algorithm 1 and Eq. (2).
        """
        if bad := [count for count in pool_levels if count < 0]:
            raise ConfigError(f"pool_levels {bad[0]}", "0 or more per scale", "correct the scales in the config")
        if partition not in get_args(PartitionMethod):
            raise ConfigError(f"partition {partition!r}", "gpa or pga", "correct partition in the config")
        weights = symmetrised(adjacency, symmetrise)
        levels = [Level(weights, chebyshev_basis(weights, chebyshev_order).astype(np.float32))]
        transitions = []
        for count in pool_levels:
            fine = levels[-1]
            cluster, coarse = partitioned(fine.adjacency, count, partition)
            basis = chebyshev_basis(coarse, chebyshev_order).astype(np.float32) if count else fine.basis
            levels.append(Level(coarse, basis))
            transitions.append(Transition.from_cluster(cluster, fine.adjacency))
        return cls(tuple(levels), tuple(transitions))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Flatten into named arrays for a checkpoint: ``levels.0.basis``, ``transitions.0.pool`` ..."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for index, level in enumerate(self.levels):
            arrays[f"levels.{index}.adjacency"] = level.adjacency
            arrays[f"levels.{index}.basis"] = level.basis
        for index, transition in enumerate(self.transitions):
            arrays[f"transitions.{index}.pool"] = transition.pool
            arrays[f"transitions.{index}.unpool"] = transition.unpool
            arrays[f"transitions.{index}.ranks"] = transition.ranks
            arrays[f"transitions.{index}.structure"] = transition.structure
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> GraphHierarchy:
        """Rebuild what `to_arrays` flattened.

        Raises:
            CheckpointError: an array is missing, left over, or of a shape that does not fit the others.
        """
        count = (len(arrays) + 4) // 6
        expected = {f"levels.{index}.{name}" for index in range(count) for name in ("adjacency", "basis")}
        expected |= {f"transitions.{index}.{name}" for index in range(count - 1) for name in TRANSITION_ARRAYS}
        if count == 0 or (differing := sorted(expected ^ set(arrays))):
            named = ", ".join(differing[:5]) if count else "no arrays"
            raise CheckpointError(
                f"graph with missing or unknown arrays ({named})",
                "two arrays per level and four per transition",
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
                np.asarray(arrays[f"transitions.{index}.ranks"], dtype=np.int64),
                np.asarray(arrays[f"transitions.{index}.structure"], dtype=np.float32),
            )
            for index in range(count - 1)
        )
        hierarchy = cls(levels, transitions)
        hierarchy._check_shapes()
        return hierarchy

    def _check_shapes(self) -> None:
        nodes = [level.basis.shape[-1] if level.basis.ndim == 3 else 0 for level in self.levels]
        order = self.levels[0].basis.shape[:1]
        fits = [
            count > 0 and level.adjacency.shape == (count, count) and level.basis.shape == (*order, count, count)
            for level, count in zip(self.levels, nodes, strict=True)
        ]
        joined = zip(self.transitions, self.levels, nodes, nodes[1:], strict=False)
        if not all(fits) or not all(_joins(*one) for one in joined):
            raise CheckpointError("graph whose arrays do not fit together", "one hierarchy", "train again")


def _joins(transition: Transition, level: Level, fine: int, coarse: int) -> bool:
    """Return whether a transition leads from a level of ``fine`` nodes to ``coarse`` ones."""
    cluster = transition.unpool
    if cluster.shape != (fine,) or not np.array_equal(np.unique(cluster), np.arange(coarse)):
        return False
    derived = Transition.from_cluster(cluster, level.adjacency)
    same = np.array_equal(transition.pool, derived.pool) and np.array_equal(transition.ranks, derived.ranks)
    return same and transition.structure.shape == derived.structure.shape


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
    """Largest eigenvalue of a symmetric matrix [node, node]; a sparse solver takes over for many nodes."""
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
