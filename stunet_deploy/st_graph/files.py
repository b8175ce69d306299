"""Read st-graphs from TOML, name those that ship with the package, and make them of a sensor network's adjacency."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

from stunet_deploy.errors import DataError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph

#: Names of the st-graphs that ship with the package.
SHIPPED = ("body-five-parts", "driver-road", "human-object", "pedestrians", "skeleton-cmu")
#: Node type of sensors without a type of their own.
SENSOR = "sensor"
_FIELDS = {
    "st-graph": {"name", "node_types", "edge_types", "nodes", "edges"},
    "edge type": {"name", "between", "directed", "mean", "complete"},
    "node": {"name", "type", "slice", "count"},
    "edge": {"from", "to", "type", "weight"},
}
_REQUIRED = {
    "st-graph": {"node_types", "nodes"},
    "edge type": {"name", "between"},
    "node": {"name", "type", "slice"},
    "edge": {"from", "to", "type"},
}


def read_st_graph(source: str | Path, counts: Mapping[str, int] | None = None) -> STGraph:
    """Read an st-graph file, or one that ships with the package.

    A node with ``count = n`` stands for n nodes ``name1`` … ``namen`` on consecutive slices; an edge type with
    ``complete = true`` joins all nodes of its types.

    Args:
        source: a TOML file, or one of :data:`SHIPPED`.
        counts: replaces the ``count`` of the nodes named here.

    Raises:
        DataError: if it cannot be read, holds something unknown, or does not fit together.
    """
    if str(source) in SHIPPED:
        text, name = (
            resources.files("stunet_deploy").joinpath(f"st_graph/{source}.toml").read_text("utf-8"),
            str(source),
        )
    else:
        name = Path(source).name
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"st-graph {source} ({error})", "a TOML file, or one of " + ", ".join(SHIPPED), "check the path"
            ) from error
    return parse_st_graph(text, name, counts or {})


def parse_st_graph(text: str, name: str, counts: Mapping[str, int]) -> STGraph:
    """Read an st-graph from the text of a TOML file; see :func:`read_st_graph`."""
    if sys.version_info >= (3, 11):
        import tomllib  # novermin
    else:
        import tomli as tomllib
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{name} ({error})", "an st-graph in TOML", "correct the file") from error
    _check_fields(data, "st-graph", name)
    tables = {
        key: _tables(data, key, what, name)
        for key, what in (("edge_types", "edge type"), ("nodes", "node"), ("edges", "edge"))
    }
    if unknown := sorted(set(counts) - {node["name"] for node in tables["nodes"] if "count" in node}):
        raise DataError(f"{name}: a count of {unknown[0]!r}", "a node with a count", "correct the name")
    try:
        nodes = tuple(node for entry in tables["nodes"] for node in _nodes(entry, counts))
        types = tuple(
            EdgeType(kind["name"], tuple(kind["between"]), kind.get("directed", False), kind.get("mean", False))
            for kind in tables["edge_types"]
        )
        edges = [Edge(edge["from"], edge["to"], edge["type"], edge.get("weight", 1.0)) for edge in tables["edges"]]
        for kind, table in zip(types, tables["edge_types"], strict=True):
            edges += _complete(kind, nodes) if table.get("complete", False) else []
        return STGraph(tuple(data["node_types"]), types, nodes, tuple(edges), data.get("name", name))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: a value of a wrong kind ({error})", "the documented kinds", "correct it") from error


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
    between = [(a, b) for a in node_types for b in node_types] if directed else _unordered(node_types)
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
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.DictReader(handle))
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


def _unordered(node_types: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(a, b) for index, a in enumerate(node_types) for b in node_types[index:]]


def _nodes(entry: Mapping[str, Any], counts: Mapping[str, int]) -> list[Node]:
    name, kind, (first, after) = entry["name"], entry["type"], entry["slice"]
    if "count" not in entry:
        return [Node(name, kind, (first, after))]
    count, width = counts.get(name, entry["count"]), after - first
    return [Node(f"{name}{n + 1}", kind, (first + n * width, after + n * width)) for n in range(count)]


def _complete(kind: EdgeType, nodes: Sequence[Node]) -> list[Edge]:
    a, b = kind.between
    joined = [(u, v) for u, v in combinations(nodes, 2) if {(u.type, v.type), (v.type, u.type)} & {(a, b)}]
    one_way = [Edge(u.name, v.name, kind.name) for u, v in joined if not kind.directed or (u.type, v.type) == (a, b)]
    back = [Edge(v.name, u.name, kind.name) for u, v in joined if kind.directed and (v.type, u.type) == (a, b)]
    return one_way + back


def _tables(data: Mapping[str, Any], key: str, what: str, name: str) -> list[dict[str, Any]]:
    tables = data.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise DataError(f"{name}: {key} = {tables!r}", "a list of tables", f"write {key} = [{{ … }}, …]")
    for table in tables:
        _check_fields(table, what, name)
    return tables


def _check_fields(table: Mapping[str, Any], what: str, name: str) -> None:
    label = f"{what} {table['name']!r}" if "name" in table else what
    if unknown := sorted(set(table) - _FIELDS[what]):
        raise DataError(f"{name}: {label} with {', '.join(unknown)}", f"only {_listed(_FIELDS[what])}", "correct it")
    if missing := sorted(_REQUIRED[what] - set(table)):
        raise DataError(f"{name}: {label} without {', '.join(missing)}", _listed(_REQUIRED[what]), "add it")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
