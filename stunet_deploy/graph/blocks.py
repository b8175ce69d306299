"""Sparse matrices over the nodes of a large graph, cut into dense blocks of rows with the columns that each needs.

A block row holds ``size`` nodes that lie close together in the graph, so that their neighbours are few more than they
are themselves. A product is then a gather of those nodes by constant indices and one batched matrix product::

    blocks [row, size, column]  times  x[columns [row, column]]  ──▶  [row, size, channel]

Nodes have a place in the order of the blocks, their *slot*; the last block is filled up with copies of a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import reverse_cuthill_mckee

BLOCK_SIZES = (16, 32, 64)
"""Sizes of a block to choose from."""

# Nanoseconds for a channel, fitted to ONNX Runtime on one x86 core, 33,113 nodes and 96 channels: a multiplication of
# a dense basis, one of a block, and the gathering and packing of a column of a block beside its multiplications.
_DENSE_NS, _BLOCK_NS, _COLUMN_NS = 0.031, 0.035, 0.9
#: The cost of the operators of one product however small it is, in nanoseconds for one of 64 channels.
_OPERATORS_NS = 400.0
#: The same in columns of a block row.
_GROUP_COLUMNS = 256


@dataclass(frozen=True, eq=False)
class Slots:
    """Where the nodes of a graph are in the order that a model computes in."""

    size: int
    """Slots of a block; 1 where nodes keep their order."""
    nodes: NDArray[np.int64]
    """The node in every slot, [slot]; as many slots as whole blocks need, the spare ones repeat a node."""
    slots: NDArray[np.int64]
    """The slot of every node, [node]."""

    @classmethod
    def in_order(cls, nodes: int) -> Slots:
        """Leave the nodes as they are."""
        every = np.arange(nodes, dtype=np.int64)
        return cls(1, every, every)

    @classmethod
    def from_blocks(cls, order: NDArray[np.int64], size: int) -> Slots:
        """Take nodes in an order, ``size`` to a block; the block with the last of them is filled up with copies.

        Args:
            order: every node once, [node].
            size: slots of a block.
        """
        spare = -len(order) % size
        nodes = np.concatenate([order, np.repeat(order[-1:], spare)])
        slots = np.empty_like(order)
        slots[order] = np.arange(len(order))
        return cls(size, nodes, slots)

    def moved(self, matrix: scipy.sparse.coo_array) -> scipy.sparse.csr_array:
        """Bring a matrix [node, node] into the order of the slots, [slot, slot]; rows of spare slots are empty."""
        shape = (len(self.nodes), len(self.nodes))
        entries = matrix.data, (self.slots[matrix.row], self.slots[matrix.col])
        return scipy.sparse.csr_array(entries, shape=shape)


class BlockRows(NamedTuple):
    """Block rows that follow one another and have the same number of columns."""

    columns: NDArray[np.int64]
    """The columns of every block row that are not empty, [row, column]; short rows repeat one of their own."""
    blocks: NDArray[np.float32]
    """The matrix at those columns, [row, size, column]; zero where a column is repeated."""


def cluster_order(adjacency: scipy.sparse.csr_array, size: int) -> NDArray[np.int64]:
    """Order the nodes so that every ``size`` of them lie close together in the graph, [node].

    The nodes are bisected again and again along the reverse Cuthill-McKee order of each part, which runs from one end
    of it to the other. The order itself would make blocks that reach across the whole graph.

    Source: Cuthill & McKee (1969); George & Liu (1981), chapter 8, for the bisection of parts by their level structure.
    """
    ordered = []
    parts = [np.arange(adjacency.shape[0], dtype=np.int64)]
    while parts:
        part = parts.pop()
        if len(part) <= size:
            ordered.append(part)
            continue
        inner = scipy.sparse.csr_array(adjacency[part][:, part])
        along = part[reverse_cuthill_mckee(inner, symmetric_mode=True)]
        half = -(-len(part) // size) // 2 * size  # whole blocks, so that only the last one is short
        parts += [along[half:], along[:half]]
    return np.concatenate(ordered)


def column_counts(adjacency: scipy.sparse.csr_array, order: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Count the columns that the block rows of I + W need, [row], with nodes in an order, ``size`` to a block."""
    nodes = len(order)
    block = np.empty(nodes, dtype=np.int64)
    block[order] = np.arange(nodes) // size
    edges = adjacency.tocoo()
    rows = np.concatenate([block[edges.row], block])
    needed = np.unique(rows * nodes + np.concatenate([edges.col, np.arange(nodes)]))
    return np.bincount(needed // nodes).astype(np.int64)


def grouped(counts: NDArray[np.int64]) -> list[slice]:
    """Group block rows that follow one another by their number of columns, [row], so that padding costs little.

    A further group is worth its operators where it saves more than three columns of every block row and some.
    """
    rows = len(counts)
    price = 3 * rows + _GROUP_COLUMNS
    best, start = np.full(rows + 1, np.inf), np.zeros(rows + 1, dtype=np.int64)
    best[0] = 0.0
    for end in range(1, rows + 1):
        widest = np.maximum.accumulate(counts[end - 1 :: -1])[::-1]
        costs = best[:end] + widest * (end - np.arange(end)) + price
        start[end] = np.argmin(costs)
        best[end] = costs[start[end]]
    groups, end = list[slice](), rows
    while end:
        groups.append(slice(int(start[end]), end))
        end = int(start[end])
    return groups[::-1]


def cut_blocks(matrix: scipy.sparse.coo_array, size: int) -> list[BlockRows]:
    """Cut a matrix [row, column] into block rows of ``size`` rows; the last one is filled up with empty rows."""
    width = max(1, matrix.shape[1])
    rows = -(-matrix.shape[0] // size)
    keys, place = np.unique(matrix.row.astype(np.int64) // size * width + matrix.col, return_inverse=True)
    row, column = keys // width, keys % width
    counts = np.bincount(row, minlength=rows)
    first = np.cumsum(counts) - counts
    position = np.arange(len(keys)) - first[row]
    groups = []
    for group in grouped(np.maximum(counts, 1)):
        widest = max(1, int(counts[group].max()))
        # A repeated column is one that the block row reads anyway: nothing else can reach it, not even a NaN.
        own = np.minimum(np.arange(group.start, group.stop) * size, width - 1)
        filled = counts[group] > 0
        own[filled] = column[first[group][filled]]
        columns = np.repeat(own[:, None], widest, axis=1)
        inside = (row >= group.start) & (row < group.stop)
        columns[row[inside] - group.start, position[inside]] = column[inside]
        blocks = np.zeros((group.stop - group.start, size, widest), dtype=np.float32)
        entries = inside[place]
        at = place[entries]
        blocks[row[at] - group.start, matrix.row[entries] % size, position[at]] = matrix.data[entries]
        groups.append(BlockRows(columns, blocks))
    return groups


def unpooled_polynomials(
    laplacian: scipy.sparse.csr_array, polynomials: int, cluster: NDArray[np.int64], coarse: int
) -> scipy.sparse.coo_array:
    """Return [T1 S, ..., T(K-1) S] side by side, for the matrix S that copies coarse nodes to the fine ones.

    Args:
        laplacian: the scaled Laplacian of the fine graph, [slot, slot].
        polynomials: K - 1, at least 1.
        cluster: the coarse slot of every fine slot, [slot].
        coarse: number of coarse slots.
    """
    ones, every = np.ones(len(cluster)), np.arange(len(cluster))
    terms = [scipy.sparse.csr_array((ones, (every, cluster)), shape=(len(cluster), coarse))]
    for k in range(1, polynomials + 1):
        terms.append(laplacian @ terms[0] if k == 1 else 2 * (laplacian @ terms[-1]) - terms[-2])
    return scipy.sparse.hstack(terms[1:], format="coo")


def dense_cost(nodes: int) -> float:
    """Estimate a product with a dense matrix [node, node], in nanoseconds for a channel."""
    return _DENSE_NS * nodes**2 + _OPERATORS_NS / 4


def block_cost(counts: NDArray[np.int64], size: int) -> float:
    """Estimate a product with block rows of so many columns, [row], in nanoseconds for a channel."""
    groups = grouped(counts)
    columns = float(sum((group.stop - group.start) * counts[group].max() for group in groups))
    return columns * (size * _BLOCK_NS + _COLUMN_NS) + _OPERATORS_NS * len(groups)


def arranged(adjacency: scipy.sparse.csr_array, sizes: Sequence[int] = BLOCK_SIZES) -> tuple[Slots, float]:
    """Arrange the nodes of a graph in blocks of the size that costs least.

    Args:
        adjacency: symmetric weights, [node, node].
        sizes: sizes of a block to choose from.

    Returns:
        The slots, and the estimated cost of a product with the Laplacian in nanoseconds for a channel.
    """
    found: tuple[Slots, float] | None = None
    for size in sizes:
        order = cluster_order(adjacency, size)
        counts = column_counts(adjacency, order, size)
        # Blocks with the most columns first: those that are alike become neighbours and share a group.
        whole = len(order) // size
        sequence = np.concatenate([np.argsort(-counts[:whole], kind="stable"), np.arange(whole, len(counts))])
        cost = block_cost(counts[sequence], size)
        if found is None or cost < found[1]:
            blocks = [order[row * size : (row + 1) * size] for row in sequence]
            found = Slots.from_blocks(np.concatenate(blocks), size), cost
    assert found is not None
    return found
