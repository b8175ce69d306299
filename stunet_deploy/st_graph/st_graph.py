"""The st-graph of a Structural-RNN as data: typed nodes that take slices of the channels, and typed edges.

The channels are the cells of ``values`` [sensor, feature], read row by row. So one row of 117 angles is cut into
joints, and a network of 207 sensors with one feature each is 207 nodes of one channel.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.limits import MOST_CHANNELS
from stunet_deploy.strict_json import parse_json

#: Names of types become names of parameters and states.
_TYPE_NAME = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Node:
    """A node and the channels that it takes.

    Attributes:
        name: unique in the graph.
        type: nodes of one type share a nodeRNN and a temporal edgeRNN.
        slice: first channel and the one after the last.
    """

    name: str
    type: str
    slice: tuple[int, int]


@dataclass(frozen=True)
class EdgeType:
    """A kind of spatial edge, whose edges share an edgeRNN.

    Attributes:
        name: of the type.
        between: the types of its two nodes; the first one's features come first in the edgeRNN's input.
        directed: only the target of an edge receives it; otherwise both nodes do.
        mean: the weights of a node's edges of this type are divided by their sum.
    """

    name: str
    between: tuple[str, str]
    directed: bool = False
    mean: bool = False

    @property
    def receiving(self) -> tuple[str, ...]:
        """Types of the nodes that have a state for this type, each once."""
        return self.between[1:] if self.directed else tuple(dict.fromkeys(self.between))


@dataclass(frozen=True)
class Edge:
    """A spatial edge; of an undirected type, either node may come first.

    Attributes:
        source, target: names of nodes.
        type: name of an edge type.
        weight: factor of the features in the sum over neighbours.
    """

    source: str
    target: str
    type: str
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The neighbours of every node along one edge type.

    Attributes:
        receivers: [row] the nodes that have an edge of this type, those of the first-named type before the others.
        firsts: how many of the receivers are of the first-named type, their own features before their neighbours'.
        neighbours: per row, the nodes that its edges connect it to, ascending.
        weights: per row, the weights of these edges.
    """

    receivers: NDArray[np.int64]
    firsts: int
    neighbours: tuple[NDArray[np.int64], ...]
    weights: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class STGraph:
    """A validated st-graph.

    Attributes:
        node_types, edge_types: the types, in the order in which a nodeRNN takes its edges' states.
        nodes: at least one of every node type; nodes of a type take equally many channels, no two nodes the same one.
        edges: no two of one type between the same nodes.
        name: in messages and pictures.

    Raises:
        DataError: if types, nodes and edges do not fit together; names the first that does not.
    """

    node_types: tuple[str, ...]
    edge_types: tuple[EdgeType, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    name: str = "st-graph"

    def __post_init__(self) -> None:
        self._check_types()
        self._check_nodes()
        self._check_edges()

    def members(self, node_type: str) -> list[int]:
        """Return the indices of the nodes of a type, ascending."""
        return self._members[node_type]

    def width(self, node_type: str) -> int:
        """Return the number of channels of a node of this type."""
        first, after = self.nodes[self._members[node_type][0]].slice
        return after - first

    def edge_types_at(self, node_type: str) -> tuple[EdgeType, ...]:
        """Return the edge types whose states a node of this type receives, in declared order."""
        return tuple(kind for kind in self.edge_types if node_type in kind.receiving)

    @property
    def channels(self) -> int:
        """Smallest number of channels that holds every slice."""
        return max(node.slice[1] for node in self.nodes)

    def along(self, edge_type: str) -> list[Edge]:
        """Return the edges of a type, in declared order."""
        return self._edges.get(edge_type, [])

    def neighbourhood(self, edge_type: str) -> Neighbourhood:
        """Return the neighbours along an edge type; without edges of the type there are no rows."""
        return self._neighbourhoods[edge_type]

    def to_json(self) -> str:
        """Return the graph as one line of JSON, read by :meth:`from_json`."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> STGraph:
        """Read a graph back.

        Raises:
            DataError: if the text is no graph, or one that does not hold together.
        """
        try:
            return from_mapping(cls, parse_json(text))
        except (ConfigError, ValueError) as error:
            raise DataError(
                f"an st-graph that cannot be read ({error})", "the JSON of an st-graph", "train again"
            ) from error

    @cached_property
    def _index(self) -> dict[str, int]:
        return {node.name: index for index, node in enumerate(self.nodes)}

    @cached_property
    def _edges(self) -> dict[str, list[Edge]]:
        edges: dict[str, list[Edge]] = {}
        for edge in self.edges:
            edges.setdefault(edge.type, []).append(edge)
        return edges

    @cached_property
    def _members(self) -> dict[str, list[int]]:
        members: dict[str, list[int]] = {name: [] for name in self.node_types}
        for index, node in enumerate(self.nodes):
            members[node.type].append(index)
        return members

    @cached_property
    def _edge_types(self) -> dict[str, EdgeType]:
        return {kind.name: kind for kind in self.edge_types}

    @cached_property
    def _neighbourhoods(self) -> dict[str, Neighbourhood]:
        seen: dict[str, dict[int, dict[int, float]]] = {kind.name: {} for kind in self.edge_types}
        for edge in self.edges:
            source, target = self._index[edge.source], self._index[edge.target]
            rows = seen[edge.type]
            rows.setdefault(target, {})[source] = edge.weight
            if not self._edge_types[edge.type].directed:
                rows.setdefault(source, {})[target] = edge.weight
        return {name: self._neighbourhood(self._edge_types[name], rows) for name, rows in seen.items()}

    def _neighbourhood(self, kind: EdgeType, rows: dict[int, dict[int, float]]) -> Neighbourhood:
        # Along an edge between two types, a receiver of the second-named one finds its neighbour's features first.
        self_first = not kind.directed or kind.between[0] == kind.between[1]
        first = {node for node in rows if self_first and self.nodes[node].type == kind.between[0]}
        receivers = sorted(rows, key=lambda node: (node not in first, node))
        neighbours, weights = [], []
        for receiver in receivers:
            ordered = sorted(rows[receiver].items())
            neighbours.append(np.array([node for node, _ in ordered], dtype=np.int64))
            weight = np.array([weight for _, weight in ordered], dtype=np.float64)
            weights.append(weight / weight.sum() if kind.mean else weight)
        return Neighbourhood(np.array(receivers, dtype=np.int64), len(first), tuple(neighbours), tuple(weights))

    def _check_types(self) -> None:
        names = [kind.name for kind in self.edge_types]
        for what, given in (("node type", self.node_types), ("edge type", names)):
            self._unique(what, given)
            if len(given) > MOST_CHANNELS:
                self._refuse(f"{len(given):,} {what}s", f"at most {MOST_CHANNELS:,}", "let nodes and edges share types")
            for name in given:
                if not isinstance(name, str) or not _TYPE_NAME.fullmatch(name):
                    self._refuse(f"{what} {name!r}", "a name of letters, digits, - and _, a letter first", "rename it")
        known = set(self.node_types)
        for kind in self.edge_types:
            unknown = [name for name in kind.between if name not in known]
            if len(kind.between) != 2 or unknown:
                self._refuse(
                    f"edge type {kind.name!r} between {list(kind.between)}",
                    f"two of the node types {list(self.node_types)}",
                    "correct `between`, or declare the type in node_types",
                )

    def _check_nodes(self) -> None:
        if not self.nodes:
            self._refuse("no nodes", "at least one", "add one")
        self._unique("node", [node.name for node in self.nodes])
        widths: dict[str, Node] = {}
        known = set(self.node_types)
        for node in self.nodes:
            if node.type not in known:
                self._refuse(
                    f"node {node.name!r} of undeclared type {node.type!r}",
                    f"one of {list(self.node_types)}",
                    "declare the type in node_types, or correct the node",
                )
            whole = len(node.slice) == 2 and all(type(channel) is int for channel in node.slice)
            if not whole or not 0 <= node.slice[0] < node.slice[1]:
                self._refuse(
                    f"node {node.name!r} with slice {list(node.slice)}",
                    "[first channel, the one after the last]",
                    "correct the slice",
                )
            like = widths.setdefault(node.type, node)
            if like.slice[1] - like.slice[0] != node.slice[1] - node.slice[0]:
                self._refuse(
                    f"nodes {like.name!r} and {node.name!r} of type {node.type!r} with slices of different widths",
                    "equally many channels, since they share weights",
                    "correct a slice, or give one of them another type",
                )
        if without := [name for name in self.node_types if name not in widths]:
            self._refuse(f"node type {without[0]!r} without a node", "at least one", "take it out of node_types")
        ordered = sorted(self.nodes, key=lambda node: node.slice)
        for before, after in pairwise(ordered):
            if before.slice[1] > after.slice[0]:
                self._refuse(
                    f"nodes {before.name!r} and {after.name!r} with overlapping slices "
                    f"{list(before.slice)} and {list(after.slice)}",
                    "every channel in one node at most",
                    "correct a slice",
                )

    def _check_edges(self) -> None:
        seen = set[tuple[str, str, str]]()
        for edge in self.edges:
            label = f"edge {edge.source} → {edge.target} of type {edge.type!r}"
            for end in (edge.source, edge.target):
                if end not in self._index:
                    self._refuse(f"{label}: unknown node {end!r}", "a node of the graph", "correct the edge")
            kind = self._edge_types.get(edge.type)
            if kind is None:
                declared = [known.name for known in self.edge_types]
                self._refuse(f"{label}: undeclared type", f"one of {declared}", "declare it in edge_types")
                return
            ends = (self.nodes[self._index[edge.source]].type, self.nodes[self._index[edge.target]].type)
            if ends != kind.between and (kind.directed or ends != kind.between[::-1]):
                self._refuse(
                    f"{label}: from a {ends[0]} to a {ends[1]}",
                    f"an edge between {kind.between[0]} and {kind.between[1]}",
                    "correct the edge or its type",
                )
            if edge.source == edge.target:
                self._refuse(f"{label}: a node with itself", "two nodes; temporal edges need no line", "take it out")
            if not (isinstance(edge.weight, int | float) and math.isfinite(edge.weight) and edge.weight > 0):
                self._refuse(f"{label}: weight {edge.weight!r}", "a positive number", "correct the weight")
            one, other = (edge.source, edge.target) if kind.directed else sorted((edge.source, edge.target))
            if (one, other, edge.type) in seen:
                self._refuse(f"{label}: given twice", "once", "take one of them out")
            seen.add((one, other, edge.type))

    def _unique(self, what: str, names: Iterable[str]) -> None:
        for name, count in Counter(names).items():
            if count > 1:
                self._refuse(f"{what} {name!r} {count} times", "distinct names", "rename or take out one of them")

    def _refuse(self, came: str, expected: str, action: str) -> None:
        raise DataError(f"{self.name}: {came}", expected, action)
