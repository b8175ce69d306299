"""St-graphs from TOML files, those that ship with the package, and those of a sensor network's adjacency."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, product
from pathlib import Path

from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.files import read_file
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.limits import LONGEST_SETTINGS, LONGEST_TOML
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph
from stunet_deploy.toml_files import parse_toml

#: Names of the st-graphs that ship with the package.
SHIPPED = ("body-five-parts", "driver-road", "human-object", "pedestrians", "skeleton-cmu")
_MOST_NODES, _MOST_JOINED = 20_000, 1_000_000
#: Node type of sensors without a type of their own.
SENSOR = "sensor"


@dataclass(frozen=True)
class _NodeTable(Node):
    count: int | None = None


@dataclass(frozen=True)
class _EdgeTypeTable(EdgeType):
    complete: bool = False


@dataclass(frozen=True)
class _EdgeTable:
    from_: str
    to: str
    type: str
    weight: float = 1.0


@dataclass(frozen=True)
class _GraphTable:
    node_types: tuple[str, ...]
    nodes: tuple[_NodeTable, ...]
    edge_types: tuple[_EdgeTypeTable, ...] = ()
    edges: tuple[_EdgeTable, ...] = ()
    name: str = ""


def read_st_graph(source: str | Path, counts: Mapping[str, int] | None = None) -> STGraph:
    """Read an st-graph file, or an st-graph that ships with the package.

    A node with ``count = n`` stands for n nodes ``name1`` … ``namen`` on consecutive slices; an edge type with
    ``complete = true`` joins all nodes of its types.

    Args:
        source: a TOML file, or one of :data:`SHIPPED`.
        counts: replaces the ``count`` of the nodes named here.

    Raises:
        DataError: if it cannot be read, holds something unknown, or does not fit together.
    """
    shipped = str(source) in SHIPPED
    path = Path(__file__).with_name(f"{source}.toml") if shipped else Path(source)
    try:
        text = read_file(path, LONGEST_TOML).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"st-graph {source} ({error})", "a TOML file, or one of " + ", ".join(SHIPPED), "check the path"
        ) from error
    return parse_st_graph(text, str(source) if shipped else path.name, counts or {})


def parse_st_graph(text: str, name: str, counts: Mapping[str, int]) -> STGraph:
    """Read an st-graph from the text of a TOML file; see :func:`read_st_graph`."""
    try:
        table = from_mapping(_GraphTable, parse_toml(text, "not TOML"))
    except ConfigError as error:
        raise DataError(f"{name}: {error.came}", error.expected, error.action) from error
    if unknown := sorted(set(counts) - {node.name for node in table.nodes if node.count is not None}):
        raise DataError(f"{name}: a count of {unknown[0]!r}", "a node with a count", "correct the name")
    many = sum(counts.get(entry.name, entry.count or 1) for entry in table.nodes)
    joined = many**2 * sum(kind.complete for kind in table.edge_types)
    if many > _MOST_NODES or joined > _MOST_JOINED:
        raise DataError(
            f"{name}: {many:,} nodes" + (", joined completely" if joined else ""),
            f"at most {_MOST_NODES:,}, and {math.isqrt(_MOST_JOINED):,} of a graph that is joined completely",
            "correct its counts",
        )
    nodes = tuple(node for entry in table.nodes for node in _nodes(entry, counts))
    types = tuple(EdgeType(kind.name, kind.between, kind.directed, kind.mean) for kind in table.edge_types)
    edges = [Edge(edge.from_, edge.to, edge.type, edge.weight) for edge in table.edges]
    for kind, declared in zip(types, table.edge_types, strict=True):
        edges += _complete(kind, nodes) if declared.complete else []
    return STGraph(table.node_types, types, nodes, tuple(edges), table.name or name)


def st_graph_of_sensors(
    adjacency: Adjacency,
    sensor_ids: Sequence[str],
    features: int,
    types: Mapping[str, str] | None = None,
    directed: bool | None = None,
) -> STGraph:
    """Make the st-graph of a sensor network: a node per sensor, the features of its row its channels.

    An undirected network has an edge type ``near`` (``near-a-b`` between types a and b), a directed one has two:
    along ``upstream`` a sensor sees those that lead to it, along ``downstream`` those that it leads to. Weights are
    the adjacency's; those of a node's edges of one type are divided by their sum.

    Args:
        adjacency: weights from sensor to sensor.
        sensor_ids: in the order of the rows.
        features: features of every sensor.
        types: type of every sensor, such as ``freeway`` and ``ramp``; one type for all by default.
        directed: whether to tell upstream from downstream; by default, where the adjacency is not symmetric.

    Raises:
        DataError: if a sensor has no type, or the adjacency is of other sensors.
    """
    count = len(sensor_ids)
    if len(adjacency) != count:
        raise DataError(f"an adjacency of {len(adjacency)} sensors", f"one of {count}", "give their graph")
    if types is not None and (missing := [sensor for sensor in sensor_ids if sensor not in types]):
        raise DataError(
            f"{len(missing)} sensors without a type ({', '.join(missing[:5])})", "one for each", "add them to the types"
        )
    type_of = [SENSOR if types is None else types[sensor] for sensor in sensor_ids]
    node_types = tuple(sorted(set(type_of)))
    nodes = tuple(
        Node(sensor, kind, (index * features, (index + 1) * features))
        for index, (sensor, kind) in enumerate(zip(sensor_ids, type_of, strict=True))
    )
    if directed is None:
        directed = adjacency.directed
    graph = adjacency if directed else adjacency.symmetrised()
    between = list(product(node_types, node_types) if directed else combinations_with_replacement(node_types, 2))
    names = ("upstream", "downstream") if directed else ("near",)
    edge_types = [EdgeType(_named(name, pair), pair, directed, mean=True) for name in names for pair in between]
    edges = []
    for i, j, weight in zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True):
        if not directed and i > j:
            continue
        ahead, back = (sensor_ids[i], sensor_ids[j]), (sensor_ids[j], sensor_ids[i])
        there, here = (type_of[i], type_of[j]), (type_of[j], type_of[i])
        if directed:
            edges.append(Edge(*ahead, _named("upstream", there), weight))
            edges.append(Edge(*back, _named("downstream", here), weight))
        else:
            edges.append(Edge(*ahead, _named("near", min(there, here)), weight))
    return STGraph(node_types, tuple(edge_types), nodes, tuple(edges), "sensors")


def read_sensor_types(path: Path) -> dict[str, str]:
    """Read the types of sensors from a CSV with the columns ``sensor_id`` and ``type``.

    Raises:
        DataError: if it cannot be read, lacks a column, or names a sensor twice.
    """
    expected, action = "a CSV with the columns sensor_id and type", "correct the file"
    try:
        text = read_file(path, LONGEST_SETTINGS).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} ({error})", expected, action) from error
    if not rows or not {"sensor_id", "type"} <= set(rows[0]):
        raise DataError(f"{path.name} with the columns {list(rows[0]) if rows else []}", expected, action)
    types = {row["sensor_id"]: row["type"] for row in rows}
    if len(types) < len(rows):
        raise DataError(f"{path.name} with a sensor twice", "every sensor once", action)
    return types


def _named(name: str, pair: tuple[str, str]) -> str:
    return name if pair == (SENSOR, SENSOR) else f"{name}-{pair[0]}-{pair[1]}"


def _nodes(entry: _NodeTable, counts: Mapping[str, int]) -> list[Node]:
    first, after = entry.slice
    if entry.count is None:
        return [Node(entry.name, entry.type, entry.slice)]
    count, width = counts.get(entry.name, entry.count), after - first
    return [Node(f"{entry.name}{n + 1}", entry.type, (first + n * width, after + n * width)) for n in range(count)]


def _complete(kind: EdgeType, nodes: Sequence[Node]) -> list[Edge]:
    a, b = kind.between
    joined = [(u, v) for u, v in combinations(nodes, 2) if {(u.type, v.type), (v.type, u.type)} & {(a, b)}]
    one_way = [Edge(u.name, v.name, kind.name) for u, v in joined if not kind.directed or (u.type, v.type) == (a, b)]
    back = [Edge(v.name, u.name, kind.name) for u, v in joined if kind.directed and (v.type, u.type) == (a, b)]
    return one_way + back
