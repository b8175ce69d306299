"""Spatial edges of one type as constant gathers: the input of an edgeRNN, and the combination of its states.

Rows are the nodes that have an edge of the type; pairs are (row, neighbour). No loop over nodes or edges is left in
a step: every table here is a constant of the st-graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from stunet_deploy.st_graph.st_graph import EdgeType, STGraph

#: A tensor per node type, [*batch, node, channel].
ByType = Mapping[str, Tensor]
#: A dense incidence matrix is multiplied up to this many times the graph's edges: a product is at least that much
#: faster an entry than a gather. Beyond, its size would grow with the square of the nodes.
DENSE_FACTOR = 32
#: Tables hold at most this many times the edges; where one hub would make a table wider, rows are grouped by length.
PADDING = 4
#: Score of an absent neighbour; finite, also in half precision, where −inf would become NaN.
_ABSENT = -6e4


class Half(NamedTuple):
    """The rows of one node type: who receives, from whom, and whose features come first.

    Attributes:
        receiver_type, neighbour_type: node types.
        self_first: whether the receiver's own features come before its neighbours'.
        receivers: [row] positions among the nodes of their type.
        neighbours, weights: per row, positions among the nodes of their type, and weights.
    """

    receiver_type: str
    neighbour_type: str
    self_first: bool
    receivers: NDArray[np.int64]
    neighbours: tuple[NDArray[np.int64], ...]
    weights: tuple[NDArray[np.float64], ...]


def halves(graph: STGraph, kind: EdgeType) -> list[Half]:
    """Return the rows of an edge type: one half for an edge type within a node type, two between types."""
    hood = graph.neighbourhood(kind.name)
    position = np.zeros(len(graph.nodes), dtype=np.int64)
    for name in graph.node_types:
        members = graph.members(name)
        position[members] = np.arange(len(members))
    found = []
    for rows, self_first in ((slice(0, hood.firsts), True), (slice(hood.firsts, None), False)):
        receivers = hood.receivers[rows]
        if len(receivers):
            receiver, neighbour = kind.between if self_first else kind.between[::-1]
            neighbours = tuple(position[nodes] for nodes in hood.neighbours[rows])
            half = Half(receiver, neighbour, self_first, position[receivers], neighbours, hood.weights[rows])
            found.append(half)
    return found


class Select(nn.Module):
    """Take entries of an axis by constant indices; nothing at all where these are the whole axis in order.

    Args:
        index: entries to take.
        size: length of the axis.
        axis: counted from the end, negative.
    """

    index: Tensor

    def __init__(self, index: Sequence[int] | NDArray[np.int64], size: int, axis: int = -2) -> None:
        super().__init__()
        self.identity = np.array_equal(index, np.arange(size))
        self.axis = axis
        self.register_buffer("index", torch.tensor(np.asarray(index, dtype=np.int64)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the entries."""
        return x if self.identity else x.index_select(self.axis, self.index)


class Listed(nn.Module):
    """Entries of padded neighbour lists, side by side: neighbour first, so that sums run over whole rows.

    Args:
        lists: per row, which entries; a short row repeats its first one with weight 0.
        weights: per row.
        size: number of entries to gather from.
    """

    weight: Tensor

    def __init__(self, lists: Sequence[NDArray[np.int64]], weights: Sequence[NDArray[np.float64]], size: int) -> None:
        super().__init__()
        longest = max(map(len, lists))
        table = np.stack([np.concatenate([row, np.full(longest - len(row), row[0])]) for row in lists], axis=1)
        weight = np.stack([np.concatenate([row, np.zeros(longest - len(row))]) for row in weights], axis=1)
        self.select = Select(table.flatten(), size)
        self.register_buffer("weight", torch.from_numpy(weight.astype(np.float32))[..., None], persistent=False)

    def forward(self, x: Float[Tensor, "*batch entry channel"]) -> Float[Tensor, "*batch neighbour row channel"]:
        """Return the entries."""
        return torch.unflatten(self.select(x), -2, self.weight.shape[:2])


class NeighbourSum(nn.Module):
    """Weighted sums over the neighbours of every row: padded gathers, or one matrix where the graph is dense.

    Size and work grow with the rows and their neighbours alone, whatever the number of nodes.

    Args:
        neighbours, weights: per row.
        nodes: number of nodes to gather from.
    """

    def __init__(
        self, neighbours: Sequence[NDArray[np.int64]], weights: Sequence[NDArray[np.float64]], nodes: int
    ) -> None:
        super().__init__()
        lengths = [len(row) for row in neighbours]
        self.dense = len(lengths) * nodes <= DENSE_FACTOR * sum(lengths)
        if self.dense:
            matrix = np.zeros((len(lengths), nodes))
            matrix[np.repeat(np.arange(len(lengths)), lengths), np.concatenate(neighbours)] = np.concatenate(weights)
            self.register_buffer("weight", torch.from_numpy(matrix.astype(np.float32)), persistent=False)
            return
        groups = groups_by_length(lengths)
        self.groups = nn.ModuleList(
            Listed([neighbours[row] for row in rows], [weights[row] for row in rows], nodes) for rows in groups
        )
        self.order = Select(np.argsort(np.concatenate(groups)), len(lengths))

    def forward(self, x: Float[Tensor, "*batch node channel"]) -> Float[Tensor, "*batch row channel"]:
        """Return the sum of every row."""
        if self.dense:
            return self.get_buffer("weight") @ x
        sums = [(listed(x) * listed.weight).sum(-3) for listed in cast(Iterable[Listed], self.groups)]
        ordered: Tensor = self.order(_joined(sums))
        return ordered


def groups_by_length(lengths: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the rows in groups whose padded tables hold at most :data:`PADDING` times the entries; one if it can be.

    Args:
        lengths: entries of every row, at least one each.
    """
    counts = np.asarray(lengths)
    if len(counts) * counts.max() <= PADDING * counts.sum():
        return [np.arange(len(counts))]
    # Within a group the longest row has less than PADDING times the entries of the shortest.
    order = np.ceil(np.log2(counts) / np.log2(PADDING)).astype(np.int64)
    return [np.flatnonzero(order == number) for number in np.unique(order)]


def _joined(groups: Sequence[Tensor]) -> Tensor:
    return groups[0] if len(groups) == 1 else torch.cat(list(groups), dim=-2)


class EdgeFeatures(nn.Module):
    """Raw features of the rows or pairs of an edge type (S-RNN, Section 3): concat(x_v, x_u), or x_u − x_v.

    Args:
        graph, kind: the st-graph and the edge type; it has an edge.
        per_edge: features of every pair, instead of their sums over a row's neighbours.
        difference: neighbour minus self, instead of both side by side.
    """

    def __init__(self, graph: STGraph, kind: EdgeType, per_edge: bool, difference: bool) -> None:
        super().__init__()
        self.halves = halves(graph, kind)
        self.per_edge, self.difference = per_edge, difference
        sizes = {name: len(graph.members(name)) for name in graph.node_types}
        self.receivers, self.neighbours, self.sums = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for number, half in enumerate(self.halves):
            receivers, nodes = half.receivers, sizes[half.neighbour_type]
            if per_edge:
                receivers = np.repeat(receivers, [len(row) for row in half.neighbours])
                self.neighbours.append(Select(np.concatenate(half.neighbours), nodes))
            else:
                self.sums.append(NeighbourSum(half.neighbours, half.weights, nodes))
                # Not a matrix product with ones: rows of zeros and ones are summed in one order everywhere.
                total = np.array([row.sum() for row in half.weights], dtype=np.float32)
                self.register_buffer(f"total{number}", torch.from_numpy(total)[:, None], persistent=False)
            self.receivers.append(Select(receivers, sizes[half.receiver_type]))

    @property
    def rows(self) -> int:
        """Rows of the edgeRNN's state."""
        return sum(len(cast(Tensor, select.index)) for select in self.receivers)

    def forward(self, x: ByType, present: ByType | None) -> Float[Tensor, "*batch row channel"]:
        """Return the features; ``x`` is zero at absent nodes, which then have no part in any sum."""
        return torch.cat([self._half(number, x, present) for number in range(len(self.halves))], dim=-2)

    def fresh(self, joined: ByType) -> Float[Tensor, "*batch row 1"]:
        """Return 1 for the rows that start anew: their node has just come, or for a pair, either of its two."""
        parts = []
        for number, half in enumerate(self.halves):
            rows = self.receivers[number](joined[half.receiver_type])
            if self.per_edge:
                rows = torch.maximum(rows, self.neighbours[number](joined[half.neighbour_type]))
            parts.append(rows)
        return torch.cat(parts, dim=-2)

    def _half(self, number: int, x: ByType, present: ByType | None) -> Tensor:
        half = self.halves[number]
        own: Tensor = self.receivers[number](x[half.receiver_type])
        if self.per_edge:
            near: Tensor = self.neighbours[number](x[half.neighbour_type])
        else:
            near = self.sums[number](x[half.neighbour_type])
            there = self.get_buffer(f"total{number}")
            own = own * (there if present is None else self.sums[number](present[half.neighbour_type]))
        if self.difference:
            return near - own
        return torch.cat([own, near] if half.self_first else [near, own], dim=-1)


class Attention(nn.Module):
    """Scaled dot-product attention, the weights of an edge type (after Vemula et al. 2018, with the scale 1/√d).

    Args:
        asking, answering: channels of a node's temporal edge and of its spatial edges.
        width: d.
    """

    def __init__(self, asking: int, answering: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(asking, width, bias=False)
        self.key = nn.Linear(answering, width, bias=False)

    def forward(
        self, asking: Float[Tensor, "*batch row asking"], listed: Float[Tensor, "*batch neighbour row answering"]
    ) -> Float[Tensor, "*batch neighbour row 1"]:
        """Return the scores of every row's neighbours."""
        query = self.query(asking).unsqueeze(-3)
        scores: Tensor = (query * self.key(listed)).sum(-1, keepdim=True) / math.sqrt(query.shape[-1])
        return scores


class EdgeCombine(nn.Module):
    """Combine the outputs of a row's pairs over padded neighbour lists: a weighted sum, or attention.

    Args:
        found: the halves of the edge type.
        sizes: number of nodes of each type.
    """

    def __init__(self, found: Sequence[Half], sizes: Mapping[str, int]) -> None:
        super().__init__()
        lengths = [len(row) for half in found for row in half.neighbours]
        weights = [row for half in found for row in half.weights]
        ends = np.cumsum([0, *lengths])
        own = [np.arange(first, after) for first, after in pairwise(ends)]
        groups = groups_by_length(lengths)
        self.halves = found
        self.groups = nn.ModuleList(
            Listed([own[row] for row in rows], [weights[row] for row in rows], int(ends[-1])) for rows in groups
        )
        self.rows = nn.ModuleList(Select(rows, len(lengths)) for rows in groups)
        self.order = Select(np.argsort(np.concatenate(groups)), len(lengths))
        self.neighbours = nn.ModuleList(
            Select(np.concatenate(half.neighbours), sizes[half.neighbour_type]) for half in found
        )
        self.receivers = nn.ModuleList(Select(half.receivers, sizes[half.receiver_type]) for half in found)

    def forward(
        self, outputs: Tensor, attention: Attention | None, asking: ByType, present: ByType | None
    ) -> Float[Tensor, "*batch row channel"]:
        """Return the combined outputs of every row.

        Args:
            outputs: of the edgeRNN for every pair, [*batch, pair, channel].
            attention: None for the sum by the graph's weights.
            asking: states of the temporal edgeRNNs.
            present: 1 for nodes that are present, [*batch, node, 1], or None where all are.
        """
        there = rows = None
        if present is not None:
            ends = zip(self.halves, self.neighbours, strict=True)
            there = torch.cat([select(present[half.neighbour_type]) for half, select in ends], dim=-2)
        if attention is not None:
            ends = zip(self.halves, self.receivers, strict=True)
            rows = torch.cat([select(asking[half.receiver_type]) for half, select in ends], dim=-2)
        combined = []
        for listed, select in zip(cast(Iterable[Listed], self.groups), self.rows, strict=True):
            valid = listed.weight > 0
            if there is not None:
                valid = valid & (listed(there) > 0.5)
            answers = torch.where(valid, listed(outputs), 0.0)
            shares = listed.weight
            if attention is not None:
                # Where no neighbour is present the weights are equal, and multiply zeros.
                shares = torch.softmax(torch.where(valid, attention(select(rows), answers), _ABSENT), dim=-3)
            combined.append((answers * shares).sum(-3))
        ordered: Tensor = self.order(_joined(combined))
        return ordered


class Received(nn.Module):
    """Bring the rows of an edge type to the nodes of one type; nodes without such an edge receive zeros.

    Args:
        found: the halves of the edge type, in the order of its rows.
        node_type: whose nodes receive.
        nodes: their number.
    """

    has: Tensor

    def __init__(self, found: Sequence[Half], node_type: str, nodes: int) -> None:
        super().__init__()
        row_of, rows = dict[int, int](), 0
        for half in found:
            if half.receiver_type == node_type:
                row_of |= {int(node): rows + row for row, node in enumerate(half.receivers)}
            rows += len(half.receivers)
        self.all_have = len(row_of) == nodes
        self.select = Select([row_of.get(node, 0) for node in range(nodes)], rows)
        has = torch.tensor([[node in row_of] for node in range(nodes)])
        self.register_buffer("has", has, persistent=False)

    def forward(self, rows: Float[Tensor, "*batch row channel"]) -> Float[Tensor, "*batch node channel"]:
        """Return the row of every node."""
        received: Tensor = self.select(rows)
        return received if self.all_have else torch.where(self.has, received, 0.0)
