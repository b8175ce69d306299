"""A sensor graph from a list of edges with weights or distances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stunet_deploy.errors import DataError
from stunet_deploy.graph.adjacency import adjacency_from_edges
from stunet_deploy.graph.cells import GraphTable, column
from stunet_deploy.graph.kernel import DCRNN_THRESHOLD, adjacency_from_distances, are_neighbours, usual
from stunet_deploy.graph.sensor_graph import (
    EdgeCut,
    SensorGraph,
    as_recorded,
    left_out,
    require_present,
    require_weights,
)
from stunet_deploy.series.layouts.table import are_unnamed

_ENDS = (
    ("from", "to"), ("source", "target"), ("source", "destination"), ("src", "dst"), ("src", "dest"),
    ("origin", "destination"), ("start", "end"), ("upstream", "downstream"), ("u", "v"), ("i", "j"),
)  # fmt: skip
_NODES = ("", "id", "node", "vertex", "sensor", "station", "stop", "detector", "segment", "link", "index", "idx")
_WEIGHTS = ("weight", "weights", "edgeweight", "linkweight")
_DISTANCES = (
    "distance", "cost", "dist", "distances", "length", "metres", "meters", "distancem", "distancekm", "distancemetres",
    "distancemeters", "lengthm", "lengthkm",
)  # fmt: skip

#: From, to and value of a line.
Edge = tuple[str, str, float]


def _pairs_of_names() -> Iterator[tuple[str, str]]:
    """Yield what the two ends of an edge are called, as `cells.key` has them."""
    for start, end in _ENDS:
        for node in _NODES:
            yield start + node, end + node
            yield node + start, node + end
            yield f"{start}{node}id", f"{end}{node}id"
    for node in _NODES[1:]:
        yield f"{node}1", f"{node}2"
        yield f"{node}a", f"{node}b"
        yield f"{node}1id", f"{node}2id"
        yield f"{node}id1", f"{node}id2"


_NAMES = tuple(dict.fromkeys(_pairs_of_names()))


def edge_columns(header: Sequence[str]) -> tuple[int, int] | None:
    """Return the places of the two ends of an edge in a header of names in small letters, if it has both."""
    return next(
        ((header.index(start), header.index(end)) for start, end in _NAMES if start in header and end in header), None
    )


def value_column(header: Sequence[str]) -> tuple[int, bool] | None:
    """Return the place of an edge's value, and whether it is a distance; a weight goes before a distance."""
    weight, distance = column(header, *_WEIGHTS), column(header, *_DISTANCES)
    if weight is not None:
        return weight, False
    return None if distance is None else (distance, True)


def graph_from_edges(
    table: GraphTable,
    first_row: int,
    columns: tuple[int, int, int],
    wanted: tuple[str, ...] | None,
    *,
    are_distances: bool | None,
) -> SensorGraph:
    """Return the graph of a list of edges.

    Args:
        table: the file.
        first_row: of its edges.
        columns: places of from, to and value.
        wanted: sensors of the series, or None for all of the list.
        are_distances: None if there is no header to say so: then they are if one is above 1.

    Raises:
        DataError: a cell is no number, no edge is listed, a sensor is missing, or the values are evidently others.
    """
    edges, alone = _edges(table, first_row, columns)
    if not edges:
        raise DataError(f"{table.name}: a header and no edges", "one edge per line", "copy the file again")
    known = {sensor for edge in edges for sensor in edge[:2]} | alone
    ids = sorted(known)
    recorded = dict(zip(ids, as_recorded(ids, wanted), strict=True))
    if any(sensor != name for sensor, name in recorded.items()):
        known = set(recorded.values())
        edges = [(recorded[start], recorded[end], value) for start, end, value in edges]
    neighbours, others = are_neighbours(edges), 0
    if wanted is None:
        nodes = tuple(sorted(known, key=int) if all(map(str.isdecimal, known)) else sorted(known))
    elif _are_positions(known, wanted, table.name):
        nodes = wanted
        edges = [(wanted[int(start)], wanted[int(end)], value) for start, end, value in edges]
    else:
        require_present(wanted, known, table.name)
        nodes = wanted
        chosen = set(wanted)
        others = len(known - chosen)
        edges = [edge for edge in edges if chosen.issuperset(edge[:2])]
    if are_distances is None:
        are_distances = max((value for _, _, value in edges), default=0) > 1
    if are_distances:
        return _with_distances(table.name, nodes, edges, neighbours, left_out(others))
    start, end, largest = max(edges, key=lambda edge: edge[2], default=("", "", 0.0))
    require_weights(largest, f"{table.name}, from {start} to {end}")
    source = f"{table.name}: {len(edges)} edges between {len(nodes)} sensors with weights{left_out(others)}"
    notes = _remark_on_repeated(edges, "weight", "largest")
    return SensorGraph(adjacency_from_edges(nodes, edges), nodes, None, None, source, notes=notes)


def _edges(table: GraphTable, first_row: int, columns: tuple[int, int, int]) -> tuple[list[Edge], set[str]]:
    """Return the edges of a list, and the sensors of lines without a target, which have no neighbour."""
    source, target, value = columns
    edges, alone = list[Edge](), set[str]()
    for index in range(first_row, len(table.rows)):
        row, line = table.rows[index], f"{table.name}, line {table.lines[index]}"
        if table.lacks(index, source):
            raise DataError(
                f"{line}: an edge from {row[source]!r}",
                "the id of a sensor, and in the next cell its neighbour, or nothing where it has none",
                "write it there, or drop the line",
            )
        if not table.lacks(index, target):
            edges.append((row[source], row[target], table.number(index, value)))
        elif table.lacks(index, value) or table.number(index, value) == 0:
            alone.add(row[source])
        else:
            raise DataError(
                f"{line}: {row[value]} from {row[source]} to no sensor",
                "a sensor in both cells, or no value where a sensor has no neighbour",
                "correct the line",
            )
    if alone and not edges:
        raise DataError(f"{table.name}: {len(alone)} sensors and no edge", "one edge per line", "copy the file again")
    return edges, alone


def _with_distances(name: str, nodes: tuple[str, ...], edges: list[Edge], neighbours: bool, others: str) -> SensorGraph:
    values = [value for _, _, value in edges]
    itself = [edge for edge in edges if edge[0] == edge[1] and edge[2]]
    if itself and max(values) <= 1:
        raise DataError(
            f"{name}: a distance of {itself[0][2]:g} from sensor {itself[0][0]} to itself, as a weight has",
            "distances, 0 from a sensor to itself",
            "name the column weight if near sensors have the larger values",
        )
    between = [edge for edge in edges if edge[0] != edge[1]]
    distances = [distance for _, _, distance in between]
    listed = {edge[:2] for edge in between}
    adjacency, scale = adjacency_from_distances(nodes, edges, neighbours=neighbours)
    kept = len(adjacency.weight)
    raised = int(np.count_nonzero(adjacency.weight == DCRNN_THRESHOLD)) if neighbours else 0
    ends = {sensor for pair in listed for sensor in pair}
    alone = sum(sensor in ends for sensor, isolated in zip(nodes, adjacency.isolated, strict=True) if isolated)
    far = f"{raised} at its least weight" if neighbours else "cut below"
    return SensorGraph(
        adjacency,
        nodes,
        None,
        None,
        f"{name}: {len(edges)} edges listed, {kept} kept, between {len(nodes)} sensors with distances, DCRNN kernel, "
        f"{far} {DCRNN_THRESHOLD}{others}",
        "distances",
        (min(distances), max(distances)) if distances else None,
        cut=EdgeCut(len(listed), kept, raised, alone, scale.sigma, scale.of),
        notes=_remark_on_repeated(edges, "distance", "shortest") + _remark_on_far(between, neighbours),
    )


def _remark_on_repeated(edges: list[Edge], what: str, counts: str) -> tuple[str, ...]:
    """Return a remark on edges that are listed with two values."""
    values, repeated = dict[tuple[str, str], float](), dict[tuple[str, str], tuple[float, float]]()
    for start, end, value in edges:
        if values.setdefault((start, end), value) != value:
            repeated[start, end] = values[start, end], value
    if not repeated:
        return ()
    (start, end), (one, other) = next(iter(repeated.items()))
    return (
        f"{len(repeated)} edge(s) listed again with another {what} (from {start} to {end}: {one:g} and {other:g}): the "
        f"{counts} counts; take the others out",
    )


def _remark_on_far(edges: list[Edge], neighbours: bool) -> tuple[str, ...]:
    """Return a remark on distances that are far above the others."""
    distances = np.array([distance for _, _, distance in edges])
    near = usual(distances)
    if near.all():
        return ()
    start, end, distance = edges[int(distances.argmax())]
    kept = "their edges have the least weight" if neighbours else "their edges are cut"
    return (
        f"{np.count_nonzero(~near)} distance(s) far above all others (from {start} to {end}: {distance:g}, the others "
        f"up to {distances[near].max():g}) have no part in sigma, and {kept}: correct them, take out the lines of "
        "sensors that are not joined, or leave them if they are right",
    )


def _are_positions(known: set[str], wanted: tuple[str, ...], name: str) -> bool:
    """Tell positions in the series from ids, and refuse those of a network of another size."""
    unnamed = are_unnamed(wanted)
    if not (all(map(str.isdecimal, known)) and (unnamed or known.isdisjoint(wanted))):
        return False
    nodes = max(map(int, known)) + 1
    if nodes == len(wanted):
        return True
    # Other networks have their positions below ours too: only the last sensor tells them apart.
    if "0" in known or known.issubset(wanted):
        raise DataError(
            f"{name}: edges between positions 0 to {nodes - 1}, a network of {nodes} sensors",
            f"sensor ids, or positions up to {len(wanted) - 1} as the series has {len(wanted)} sensors",
            "give the graph of this network, or one with sensor ids",
        )
    if unnamed:
        raise DataError(
            f"{name}: edges between sensors such as {min(known)}, for a recording that knows its sensors by position",
            "positions in both, or ids in both",
            "put the list of ids beside the recording, as PEMS03.txt beside PEMS03.npz",
        )
    return False
