"""Read a sensor graph from the files it is usually distributed in, told apart by their content."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.adjacency import (
    DCRNN_THRESHOLD,
    NEAREST_NEIGHBOURS,
    STGCN_SIGMA_METRES,
    STGCN_THRESHOLD,
    adjacency_from_coordinates,
    adjacency_from_edges,
    checked_adjacency,
    distances_from_edges,
    kernel_adjacency,
)
from stunet_deploy.array_files import load_npy, load_npz, load_pickle
from stunet_deploy.errors import DataError

GRAPH_KINDS = (
    "adj_mx.pkl, a square matrix (.csv or .npy), an edge list `from,to,weight` or `from,to,distance`, "
    "`sensor_id,latitude,longitude`, or an .npz with `adjacency` and `sensor_ids`"
)
"""What `read_graph` reads, in the words of its error messages."""

DISTANCE_MEDIAN = 1.5
"""With a median above this off the diagonal and zeros on it, a matrix holds metres and not weights."""

_DISTANCE_COLUMNS = ("distance", "cost")
_ID_COLUMNS = ("sensor_id", "id")
_LATITUDE_COLUMNS = ("latitude", "lat")
_LONGITUDE_COLUMNS = ("longitude", "lng", "lon")

# Protocol 2 and later begin with a version, older ones with a container or the first name they import.
_PICKLE_START = re.compile(rb"\x80|[(\]}]|c[\w.]+\n[\w.]+\n")


@dataclass(frozen=True, eq=False)
class SensorGraph:
    """A graph as its file gives it, one node per sensor."""

    adjacency: NDArray[np.float64]
    """Weights from row to column, [node, node]; may be directed; zero diagonal."""
    sensor_ids: tuple[str, ...] | None
    """Sensor of every node, or None if neither the file nor the caller named them."""
    latitude: NDArray[np.float64] | None
    """Degrees north, [node], if the file has them."""
    longitude: NDArray[np.float64] | None
    """Degrees east, [node], if the file has them."""
    source: str
    """What was read and how weights were made of it, in one line for logs and provenance."""


class _Table(NamedTuple):
    """A CSV file: cells stripped of blanks, empty lines left out, all rows of one length."""

    name: str
    rows: list[list[str]]
    lines: list[int]
    """Line number in the file of every row."""


def read_graph(path: str | Path, sensor_ids: Sequence[str] | None = None) -> SensorGraph:
    """Read a graph file of any kind that this project knows.

    Distances become weights by DCRNN's kernel in edge lists and by STGCN's in matrices, see
    `stunet_deploy.adjacency.kernel_adjacency`; coordinates by `adjacency_from_coordinates`.

    Args:
        path: a pickled ``adj_mx.pkl``, a square matrix as CSV (with or without sensor ids in a header row) or
            .npy, an edge list or coordinates as CSV, or an .npz with ``adjacency`` and ``sensor_ids``.
        sensor_ids: sensors of the series, in order. The graph is brought into that order, and its other
            sensors are dropped. A matrix without sensor ids must have their number. An edge list none of
            whose ids is among them may give positions 0 ... N-1 instead; N-1 must occur in it.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind or unsafe, a value is not a weight, or a
            sensor is missing; the message names the line and column, or up to five sensors.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"graph file {path}: {error.strerror}", GRAPH_KINDS, "check the path") from error
    wanted = None if sensor_ids is None else tuple(str(sensor) for sensor in sensor_ids)
    if wanted is not None:
        _require_unique(wanted, "the series")
    if content.startswith(b"\x93NUMPY"):
        graph = _from_matrix(load_npy(content, path.name), None, path.name)
    elif content.startswith(b"PK"):
        graph = _from_npz(content, path.name)
    elif _PICKLE_START.match(content) or path.suffix in (".pkl", ".pickle"):
        graph = _from_pickle(content, path.name)
    else:
        graph = _from_table(_read_table(content, path.name), wanted)
    if wanted is not None:
        graph = _in_order(graph, wanted, path.name)
    isolated = int(np.sum(~(graph.adjacency.any(axis=0) | graph.adjacency.any(axis=1))))
    return replace(graph, source=f"{graph.source}; {isolated} without a neighbour") if isolated else graph


def _in_order(graph: SensorGraph, wanted: tuple[str, ...], name: str) -> SensorGraph:
    """Select and order the nodes of a graph."""
    if graph.sensor_ids is None:
        if len(graph.adjacency) != len(wanted):
            raise DataError(
                f"{name}: a matrix of {len(graph.adjacency)} sensors",
                f"one of {len(wanted)}, as the series has",
                "give the graph of the same sensors, or one that names its sensors",
            )
        return replace(graph, sensor_ids=wanted)
    position = {sensor: index for index, sensor in enumerate(graph.sensor_ids)}
    _require_present(wanted, set(position), name)
    order = np.array([position[sensor] for sensor in wanted], dtype=np.int64)
    return SensorGraph(
        graph.adjacency[np.ix_(order, order)],
        wanted,
        None if graph.latitude is None else graph.latitude[order],
        None if graph.longitude is None else graph.longitude[order],
        graph.source,
    )


def _require_present(wanted: Sequence[str], known: set[str], name: str) -> None:
    missing = [sensor for sensor in wanted if sensor not in known]
    if missing:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"{name}: {len(missing)} of {len(wanted)} sensors are not in the graph ({named})",
            "every sensor of the series",
            "add them to the graph file, or take them out of the series",
        )


def _require_unique(sensor_ids: Sequence[str], where: str) -> None:
    if len(set(sensor_ids)) != len(sensor_ids):
        repeated = next(sensor for index, sensor in enumerate(sensor_ids) if sensor in sensor_ids[:index])
        raise DataError(f"{where}: sensor {repeated} twice", "every sensor once", "take one of them out")


def _from_matrix(matrix: NDArray[Any], sensor_ids: tuple[str, ...] | None, name: str) -> SensorGraph:
    """Take a square matrix for weights, or for metres where it evidently holds those."""
    if matrix.dtype.kind not in "fiub":
        raise DataError(f"{name}: a matrix of {matrix.dtype}", "numbers", "store the weights as float32")
    adjacency = checked_adjacency(matrix, name)
    nodes = len(adjacency)
    if sensor_ids is not None:
        if len(sensor_ids) != nodes:
            raise DataError(
                f"{name}: {len(sensor_ids)} sensor ids for a matrix of {nodes}",
                "one per row",
                "make the file again",
            )
        _require_unique(sensor_ids, name)
    source = f"{name}: weight matrix of {nodes} sensors"
    off_diagonal = adjacency[~np.eye(nodes, dtype=np.bool_)]
    if nodes > 1 and not np.diagonal(matrix).any() and np.median(off_diagonal) > DISTANCE_MEDIAN:
        adjacency = kernel_adjacency(adjacency, sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD)
        source = f"{name}: distance matrix of {nodes} sensors in metres, STGCN kernel, cut below {STGCN_THRESHOLD}"
    return SensorGraph(adjacency, sensor_ids, None, None, source)


def _from_npz(content: bytes, name: str) -> SensorGraph:
    arrays, keys = load_npz(content, name, {"adjacency", "sensor_ids", "latitude", "longitude"})
    if "adjacency" not in arrays or "sensor_ids" not in arrays:
        raise DataError(
            f"{name} with {', '.join(keys[:5]) or 'no arrays'}",
            "arrays adjacency and sensor_ids",
            "add them, or give another file",
        )
    sensor_ids = tuple(str(sensor) for sensor in arrays["sensor_ids"].tolist())
    graph = _from_matrix(arrays["adjacency"], sensor_ids, name)
    for key in ("latitude", "longitude"):
        if key in arrays and arrays[key].shape != (len(sensor_ids),):
            raise DataError(f"{name}: {key} of shape {list(arrays[key].shape)}", "one per sensor", "correct it")
    return replace(graph, latitude=arrays.get("latitude"), longitude=arrays.get("longitude"))


def _from_pickle(content: bytes, name: str) -> SensorGraph:
    loaded = load_pickle(content, name)
    fits = isinstance(loaded, list | tuple) and [type(part) for part in loaded] == [list, dict, np.ndarray]
    if not fits:
        raise DataError(
            f"{name}: a pickle of {type(loaded).__name__}",
            "[sensor ids, {id: index}, matrix]",
            "give adj_mx.pkl as DCRNN writes it, or an .npz with adjacency and sensor_ids",
        )
    sensor_ids = tuple(_as_text(sensor) for sensor in loaded[0])
    index = {_as_text(sensor): position for sensor, position in loaded[1].items()}
    if index != {sensor: position for position, sensor in enumerate(sensor_ids)}:
        raise DataError(
            f"{name}: its index disagrees with its list of sensors",
            "one order in both",
            "make the file again",
        )
    return _from_matrix(loaded[2], sensor_ids, name)


def _as_text(sensor: object) -> str:
    return sensor.decode("latin1") if isinstance(sensor, bytes) else str(sensor)


def _read_table(content: bytes, name: str) -> _Table:
    """Split a CSV file into cells, or say what it is instead."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: a binary file of unknown kind", GRAPH_KINDS, "give one of these") from error
    if not text.strip():
        raise DataError(f"{name} is empty", GRAPH_KINDS, "copy the file again")
    if text.lstrip().startswith("<"):
        raise DataError(f"{name} is an HTML or XML page", GRAPH_KINDS, "download the file itself, not its page")
    reader = csv.reader(io.StringIO(text, newline=""))
    rows, lines = [], []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num}: {error}", GRAPH_KINDS, "give one of these") from error
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{name}, line {line}: {len(row)} columns",
                f"{len(rows[0])}, as line {lines[0]} has",
                "complete the line, or copy the file again",
            )
    return _Table(name, rows, lines)


def _from_table(table: _Table, wanted: tuple[str, ...] | None) -> SensorGraph:
    """Tell the kinds of CSV apart: by the names in a header, then by the shape, then by the values."""
    rows, columns = len(table.rows), len(table.rows[0])
    header = [cell.lower() for cell in table.rows[0]]
    source, target = _column(header, "from"), _column(header, "to")
    latitude, longitude = _column(header, *_LATITUDE_COLUMNS), _column(header, *_LONGITUDE_COLUMNS)
    sensor = _column(header, *_ID_COLUMNS)
    if source is not None and target is not None:
        weight, distance = _column(header, "weight"), _column(header, *_DISTANCE_COLUMNS)
        value = distance if weight is None else weight
        if value is not None:
            return _from_edges(table, 1, (source, target, value), wanted, are_distances=weight is None)
    elif sensor is not None and latitude is not None and longitude is not None:
        return _from_coordinates(table, 1, (sensor, latitude, longitude), wanted)
    elif rows == columns and not _is_number(header[0]) and _has_constant_diagonal(table, 1, 1):
        return _from_square(table, 1, 1)
    elif rows == columns and _has_constant_diagonal(table, 0, 0):
        return _from_square(table, 0, 0)
    elif rows == columns + 1 and _has_constant_diagonal(table, 1, 0):
        return _from_square(table, 1, 0)
    elif columns == 3 and _is_number(header[2]):
        if _are_coordinates(table):
            return _from_coordinates(table, 0, (0, 1, 2), wanted)
        return _from_edges(table, 0, (0, 1, 2), wanted, are_distances=None)
    raise DataError(
        f"{table.name}: {rows} rows and {columns} columns, beginning with {','.join(table.rows[0][:4])}",
        GRAPH_KINDS,
        "give one of these, comma-separated",
    )


def _column(header: list[str], *names: str) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _has_constant_diagonal(table: _Table, first_row: int, first_column: int) -> bool:
    """Tell a square matrix from a few edges or positions, which have 3 columns; other sizes tell."""
    diagonal = [row[index + first_column] for index, row in enumerate(table.rows[first_row:])]
    return len(table.rows[0]) != 3 or all(_is_number(cell) and float(cell) == float(diagonal[0]) for cell in diagonal)


def _are_coordinates(table: _Table) -> bool:
    """Tell id, latitude, longitude from the ids and value of an edge: ids have no decimal point."""
    cells = [cell for row in table.rows for cell in row[1:]]
    if not all(_is_number(cell) for cell in cells):
        return False
    on_earth = all(abs(float(row[1])) <= 90 and abs(float(row[2])) <= 180 for row in table.rows)
    return on_earth and any("." in row[1] for row in table.rows)


def _number(table: _Table, row: int, column: int, minimum: float = 0) -> float:
    cell = table.rows[row][column]
    value = float(cell) if _is_number(cell) else math.nan
    if not (math.isfinite(value) and value >= minimum):
        raise DataError(
            f"{table.name}, line {table.lines[row]}, column {column + 1}: {cell!r}",
            "a finite number" + (" of at least 0" if minimum == 0 else ""),
            "correct the cell",
        )
    return value


def _from_square(table: _Table, first_row: int, first_column: int) -> SensorGraph:
    rows = range(first_row, len(table.rows))
    columns = range(first_column, len(table.rows[0]))
    sensor_ids = tuple(table.rows[0][first_column:]) if first_row else None
    if first_column and [table.rows[row][0] for row in rows] != list(sensor_ids or ()):
        raise DataError(
            f"{table.name}: its rows name other sensors than its columns",
            "one order in both",
            "make it again",
        )
    matrix = np.array([[_number(table, row, column) for column in columns] for row in rows])
    return _from_matrix(matrix, sensor_ids, table.name)


def _from_edges(
    table: _Table,
    first_row: int,
    columns: tuple[int, int, int],
    wanted: tuple[str, ...] | None,
    *,
    are_distances: bool | None,
) -> SensorGraph:
    source, target, value = columns
    edges = [
        (row[source], row[target], _number(table, first_row + index, value))
        for index, row in enumerate(table.rows[first_row:])
    ]
    if not edges:
        raise DataError(f"{table.name}: a header and no edges", "one edge per line", "copy the file again")
    known = {sensor for edge in edges for sensor in edge[:2]}
    if wanted is None:
        nodes = tuple(sorted(known, key=int) if all(map(str.isdecimal, known)) else sorted(known))
    elif _are_positions(known, wanted, table.name):
        nodes = wanted
        edges = [(wanted[int(source)], wanted[int(target)], value) for source, target, value in edges]
    else:
        _require_present(wanted, known, table.name)
        nodes = wanted
        chosen = set(wanted)
        edges = [edge for edge in edges if chosen.issuperset(edge[:2])]
    if are_distances is None:
        are_distances = max((value for _, _, value in edges), default=0) > 1
    description = f"{table.name}: {len(edges)} edges between {len(nodes)} sensors"
    if are_distances:
        adjacency = kernel_adjacency(distances_from_edges(nodes, edges))
        description += f" with distances, DCRNN kernel, cut below {DCRNN_THRESHOLD}"
    else:
        adjacency = adjacency_from_edges(nodes, edges)
        description += " with weights"
    return SensorGraph(adjacency, nodes, None, None, description)


def _are_positions(known: set[str], wanted: tuple[str, ...], name: str) -> bool:
    """Tell positions in the series from ids, and refuse those of a network of another size."""
    unnamed = wanted == tuple(map(str, range(len(wanted))))
    if not (all(map(str.isdecimal, known)) and (unnamed or known.isdisjoint(wanted))):
        return False
    nodes = max(map(int, known)) + 1
    # Other networks have their positions below ours too: only the last sensor tells them apart.
    if nodes != len(wanted) and (unnamed or "0" in known):
        raise DataError(
            f"{name}: edges between positions 0 to {nodes - 1}, a network of {nodes} sensors",
            f"sensor ids, or positions up to {len(wanted) - 1} as the series has {len(wanted)} sensors",
            "give the graph of this network, or one with sensor ids",
        )
    return nodes == len(wanted)


def _from_coordinates(
    table: _Table, first_row: int, columns: tuple[int, int, int], wanted: tuple[str, ...] | None
) -> SensorGraph:
    sensor, north, east = columns
    every = range(first_row, len(table.rows))
    known = [table.rows[row][sensor] for row in every]
    _require_unique(known, table.name)
    if wanted is not None:
        _require_present(wanted, set(known), table.name)
    # Neighbours are counted among the sensors of the series only.
    rows = [row for row, sensor_id in zip(every, known, strict=True) if wanted is None or sensor_id in set(wanted)]
    latitude = np.array([_number(table, row, north, -math.inf) for row in rows])
    longitude = np.array([_number(table, row, east, -math.inf) for row in rows])
    adjacency = adjacency_from_coordinates(latitude, longitude)
    description = f"{table.name}: positions of {len(rows)} sensors, each joined to its {NEAREST_NEIGHBOURS} nearest"
    sensor_ids = tuple(table.rows[row][sensor] for row in rows)
    return SensorGraph(adjacency, sensor_ids, latitude, longitude, description)
