"""The sensor graph as the model needs it: Chebyshev bases and gather indices for pooling, over all scales.

Everything here is prepared once, in float64, before training; a checkpoint stores the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.config import BasisForm, PartitionMethod, SymmetriseMethod
from stunet_deploy.errors import CheckpointError, ConfigError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.blocks import Slots, arranged, dense_cost
from stunet_deploy.graph.chebyshev import chebyshev_basis, laplacian, largest_eigenvalue, scaled_laplacian
from stunet_deploy.graph.partition import partitioned

DENSE_ARRAYS = ("adjacency", "basis")
BLOCK_ARRAYS = ("edges", "weights", "largest_eigenvalue", "slots", "blocks")
TRANSITION_ARRAYS = ("pool", "unpool", "ranks", "structure")
LARGEST_DENSE_BASIS = 300
"""Up to this many nodes "auto" is dense: a GPU is faster so, and export makes another form for processors."""


@dataclass(frozen=True, eq=False)
class SparseBasis:
    """The polynomials of a large graph as products with the Laplacian, in blocks, in place of dense matrices."""

    polynomials: int
    """Number of polynomials T1 ... T(K-1)."""
    largest_eigenvalue: float
    """Of the Laplacian, which scales it."""
    slots: Slots
    """The order of the nodes in the blocks."""


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of the hierarchy."""

    adjacency: Adjacency
    """The symmetric graph."""
    basis: NDArray[np.float32] | SparseBasis
    """Chebyshev polynomials T1 ... T(K-1) of the scaled Laplacian, [order, node, node]; T0 is left out. For
    large graphs, products in their place."""

    @property
    def polynomials(self) -> int:
        """Number of polynomials T1 ... T(K-1)."""
        return self.basis.polynomials if isinstance(self.basis, SparseBasis) else len(self.basis)

    @property
    def slots(self) -> Slots:
        """Where the nodes are in the order that a model computes in."""
        return self.basis.slots if isinstance(self.basis, SparseBasis) else Slots.in_order(len(self.adjacency))

    def laplacian(self) -> scipy.sparse.csr_array:
        """Return the scaled Laplacian of a level with a sparse basis in the order of its slots, [slot, slot]."""
        if not isinstance(self.basis, SparseBasis):
            raise TypeError("a dense level keeps its polynomials alone")
        return self.slots.moved(scaled_laplacian(laplacian(self.adjacency), self.basis.largest_eigenvalue).tocoo())


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
    """Structural vector of every fine node, [fine, 4]: degree and strength (sum of weights) within its coarse node,
    then in the whole fine graph; each column standardised over the nodes, zero where it has no differences."""

    @classmethod
    def from_cluster(cls, cluster: NDArray[np.int64], adjacency: Adjacency) -> Transition:
        """Derive all constants of a transition.

        Args:
            cluster: the coarse node of every fine node, [fine].
            adjacency: the symmetric graph of the fine level.

        Source: ST-UNet, Section 3.3.
        """
        sizes = np.bincount(cluster)
        first = np.cumsum(sizes) - sizes
        by_cluster = np.argsort(cluster, kind="stable")
        column = np.arange(sizes.max())
        # Padding repeats a real member: exact for a maximum, and no mask is needed.
        pool = by_cluster[first[:, None] + np.where(column < sizes[:, None], column, 0)]
        degree = np.bincount(adjacency.target, minlength=len(cluster))
        order = np.lexsort((-degree, cluster))  # stable: ties stay in the order of ids
        ranks = np.empty_like(cluster)
        ranks[order] = np.arange(len(order)) - np.repeat(first, sizes)
        return cls(pool.astype(np.int64), cluster.astype(np.int64), ranks, _structure(cluster, adjacency))

    def mean_weights(self) -> NDArray[np.float32]:
        """Weights that make a sum over gathered members their mean, [coarse, member]; padding weighs zero."""
        sizes = 1 + np.count_nonzero(self.pool != self.pool[:, :1], axis=1, keepdims=True)
        return np.where(np.arange(self.pool.shape[1]) < sizes, 1 / sizes, 0).astype(np.float32)

    def between(self, fine: Slots, coarse: Slots) -> Transition:
        """Return the same transition between slots; a spare slot is like the node that it repeats."""
        return Transition(
            fine.slots[self.pool[coarse.nodes]],
            coarse.slots[self.unpool[fine.nodes]],
            self.ranks[fine.nodes],
            self.structure[fine.nodes],
        )


def _structure(cluster: NDArray[np.int64], adjacency: Adjacency) -> NDArray[np.float32]:
    within = cluster[adjacency.source] == cluster[adjacency.target]
    columns = [
        np.bincount(adjacency.target[edges], weights, minlength=len(cluster))
        for edges in (within, slice(None))
        for weights in (None, adjacency.weight[edges])  # degree and strength
    ]
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
        adjacency: Adjacency | ArrayLike,
        *,
        pool_levels: Sequence[int],
        chebyshev_order: int = 3,
        partition: PartitionMethod = "gpa",
        symmetrise: SymmetriseMethod = "max",
        basis: BasisForm = "auto",
    ) -> GraphHierarchy:
        """Prepare the hierarchy of a sensor graph.

        Args:
            adjacency: a graph, or weights [node, node], finite, at least zero; may be directed; the diagonal is
                ignored.
            pool_levels: for every transition the number of matchings (2 makes super nodes of up to 4
                sensors); 0 repeats the same graph.
            chebyshev_order: number K of Chebyshev polynomials, the identity included.
            partition: how sensors are matched, see `stunet_deploy.graph.partition.match`.
            symmetrise: how a directed graph is made symmetric, see `stunet_deploy.graph.adjacency.Adjacency`.
            basis: "dense" or "blocks" for all levels, or "auto" for the cheaper at each level of more
                than 300 nodes, and dense below.

        Raises:
            DataError: the adjacency is not a square matrix of finite weights of at least zero.
            ConfigError: a setting is out of range.

        Source: ST-UNet (Yu, Yin & Zhu 2019), Algorithm 1 and Eq. (2).
        """
        if bad := [count for count in pool_levels if count < 0]:
            raise ConfigError(f"pool_levels {bad[0]}", "0 or more per scale", "correct the scales in the config")
        if partition not in get_args(PartitionMethod):
            raise ConfigError(f"partition {partition!r}", "gpa or pga", "correct partition in the config")
        if basis not in get_args(BasisForm):
            raise ConfigError(f"basis {basis!r}", "auto, dense or blocks", "correct basis in the config")
        graph = adjacency if isinstance(adjacency, Adjacency) else Adjacency.from_matrix(adjacency)
        levels = [_level(graph.symmetrised(symmetrise), chebyshev_order, basis)]
        transitions = []
        for count in pool_levels:
            fine = levels[-1]
            cluster, coarse = partitioned(fine.adjacency, count, partition)
            levels.append(_level(coarse, chebyshev_order, basis) if count else fine)
            transitions.append(Transition.from_cluster(cluster, fine.adjacency))
        return cls(tuple(levels), tuple(transitions))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Flatten into named arrays for a checkpoint: ``levels.0.basis``, ``transitions.0.pool`` ..."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for index, level in enumerate(self.levels):
            arrays |= {f"levels.{index}.{name}": array for name, array in _level_arrays(level).items()}
        for index, transition in enumerate(self.transitions):
            arrays |= {f"transitions.{index}.{name}": getattr(transition, name) for name in TRANSITION_ARRAYS}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> GraphHierarchy:
        """Rebuild a hierarchy from the arrays of `to_arrays`.

        Raises:
            CheckpointError: an array is missing, left over, or of a shape that does not fit the others.
        """
        count = len({name.split(".")[1] for name in arrays if name.startswith("levels.")})
        expected = {f"transitions.{index}.{name}" for index in range(count - 1) for name in TRANSITION_ARRAYS}
        for index in range(count):
            names = BLOCK_ARRAYS if f"levels.{index}.blocks" in arrays else DENSE_ARRAYS
            expected |= {f"levels.{index}.{name}" for name in names}
        if count == 0 or (differing := sorted(expected ^ set(arrays))):
            named = ", ".join(differing[:5]) if count else "no arrays"
            raise CheckpointError(
                f"graph with missing or unknown arrays ({named})",
                f"of a level {', '.join(DENSE_ARRAYS)} or {', '.join(BLOCK_ARRAYS)}, four of a transition",
                "train again",
            )
        levels = tuple(
            _level_from({name.split(".")[2]: array for name, array in arrays.items() if name.startswith(prefix)})
            for prefix in (f"levels.{index}." for index in range(count))
        )
        kinds = {name: np.float32 if name == "structure" else np.int64 for name in TRANSITION_ARRAYS}
        transitions: Iterator[dict[str, Any]] = (
            {name: np.asarray(arrays[f"transitions.{index}.{name}"], dtype=kind) for name, kind in kinds.items()}
            for index in range(count - 1)
        )
        hierarchy = cls(levels, tuple(Transition(**named) for named in transitions))
        hierarchy._check_shapes()
        return hierarchy

    def _check_shapes(self) -> None:
        nodes = [len(level.adjacency) for level in self.levels]
        joined = zip(self.transitions, self.levels, nodes, nodes[1:], strict=False)
        alike = len({level.polynomials for level in self.levels}) == 1
        if not alike or not all(_joins(*one) for one in joined):
            raise _unfit()


def _unfit() -> CheckpointError:
    return CheckpointError("graph whose arrays do not fit together", "one hierarchy", "train again")


def _level(adjacency: Adjacency, order: int, form: BasisForm) -> Level:
    """Prepare the basis of a symmetric graph, dense or for blocks."""
    if order < 1:
        raise ConfigError(f"chebyshev_order {order}", "1 or more", "correct chebyshev_order in the config")
    if form == "blocks" or (form == "auto" and len(adjacency) > LARGEST_DENSE_BASIS):
        slots, cost = arranged(_matrix(adjacency))
        if form == "blocks" or cost < dense_cost(len(adjacency)):
            return Level(adjacency, SparseBasis(order - 1, largest_eigenvalue(laplacian(adjacency)), slots))
    return Level(adjacency, chebyshev_basis(adjacency, order).astype(np.float32))


def _level_arrays(level: Level) -> dict[str, NDArray[np.generic]]:
    adjacency, basis = level.adjacency, level.basis
    if not isinstance(basis, SparseBasis):
        return {"adjacency": adjacency.dense(), "basis": basis}
    return {
        "edges": np.stack([adjacency.source, adjacency.target]),
        "weights": adjacency.weight,
        "largest_eigenvalue": np.array([basis.largest_eigenvalue]),
        "slots": basis.slots.nodes,
        "blocks": np.array([basis.polynomials, basis.slots.size]),
    }


def _level_from(arrays: Mapping[str, NDArray[np.generic]]) -> Level:
    """Rebuild a level from the arrays of `_level_arrays`, or raise that they do not fit together."""
    if "basis" in arrays:
        basis = np.asarray(arrays["basis"], dtype=np.float32)
        nodes = basis.shape[-1] if basis.ndim == 3 else 0
        if not nodes or arrays["adjacency"].shape != (nodes, nodes) or basis.shape[1] != nodes:
            raise _unfit()
        return Level(Adjacency.from_matrix(np.asarray(arrays["adjacency"], dtype=np.float64)), basis)
    edges, blocks = (np.asarray(arrays[name], dtype=np.int64) for name in ("edges", "blocks"))
    weights, eigenvalue = (np.asarray(arrays[name], dtype=np.float64) for name in ("weights", "largest_eigenvalue"))
    nodes_of_slots = np.asarray(arrays["slots"], dtype=np.int64)
    fits = edges.shape == (2, len(weights)) and blocks.shape == (2,) and eigenvalue.shape == (1,)
    if not fits or blocks[0] < 0 or blocks[1] < 1 or not eigenvalue[0] > 0 or not nodes_of_slots.ndim == 1:
        raise _unfit()
    nodes, first = np.unique(nodes_of_slots, return_index=True)
    count, size = len(nodes), int(blocks[1])
    whole = count > 0 and np.array_equal(nodes, np.arange(count)) and len(nodes_of_slots) == -(-count // size) * size
    if not whole or edges.min(initial=0) < 0 or edges.max(initial=0) >= count or not (weights > 0).all():
        raise _unfit()
    adjacency = Adjacency.from_edges(count, edges[0], edges[1], weights)
    if adjacency.directed:
        raise _unfit()
    slots = Slots(size, nodes_of_slots, first.astype(np.int64))
    return Level(adjacency, SparseBasis(int(blocks[0]), float(eigenvalue[0]), slots))


def _joins(transition: Transition, level: Level, fine: int, coarse: int) -> bool:
    """Return whether a transition leads from a level of ``fine`` nodes to ``coarse`` ones."""
    cluster = transition.unpool
    if cluster.shape != (fine,) or not np.array_equal(np.unique(cluster), np.arange(coarse)):
        return False
    derived = Transition.from_cluster(cluster, level.adjacency)
    same = np.array_equal(transition.pool, derived.pool) and np.array_equal(transition.ranks, derived.ranks)
    return same and transition.structure.shape == derived.structure.shape


def _matrix(adjacency: Adjacency) -> scipy.sparse.csr_array:
    shape = (len(adjacency), len(adjacency))
    return scipy.sparse.csr_array((adjacency.weight, (adjacency.source, adjacency.target)), shape=shape)
