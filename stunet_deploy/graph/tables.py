"""Read a sensor graph from a text table: a square matrix, an edge list or positions."""

from __future__ import annotations

import csv
import io
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.files import lines_of
from stunet_deploy.graph.adjacency import (
    DCRNN_THRESHOLD,
    NEAREST_NEIGHBOURS,
    adjacency_from_coordinates,
    adjacency_from_distances,
    adjacency_from_edges,
)
from stunet_deploy.graph.sensor_graph import (
    EdgeCut,
    SensorGraph,
    graph_from_matrix,
    left_out,
    require_present,
    require_unique,
    require_weights,
)
from stunet_deploy.limits import LONGEST_GRAPH, check_columns

GRAPH_KINDS = (
    "adj_mx.pkl, a square matrix (.csv or .npy), an edge list `from,to,weight` or `from,to,distance`, "
    "`sensor_id,latitude,longitude`, or an .npz with `adjacency` and `sensor_ids`"
)
"""The files that `stunet_deploy.graph.files.read_graph` reads, in the words of error messages."""

_DISTANCE_COLUMNS = ("distance", "cost")
_ID_COLUMNS = ("sensor_id", "id")
_LATITUDE_COLUMNS = ("latitude", "lat")
_LONGITUDE_COLUMNS = ("longitude", "lng", "lon")


class GraphTable(NamedTuple):
    """A CSV file: cells stripped of blanks, empty lines left out, all rows of one length."""

    name: str
    rows: list[list[str]]
    lines: list[int]
    """Line number in the file of every row."""


def split_table(content: bytes, name: str) -> GraphTable:
    """Split a CSV file into cells, or raise with the kind of file that it is.

    Raises:
        DataError: it is empty, no UTF-8 text, a web page, or its lines are of several lengths.
    """
    if len(content) > LONGEST_GRAPH:
        raise DataError(
            f"{name}, {len(content) / 1e6:.0f} MB of text", GRAPH_KINDS, "give a graph as large as this as .npy or .npz"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: a binary file of unknown kind", GRAPH_KINDS, "give one of these") from error
    if not text.strip():
        raise DataError(f"{name} is empty", GRAPH_KINDS, "copy the file again")
    if text.lstrip().startswith("<"):
        raise DataError(f"{name} is an HTML or XML page", GRAPH_KINDS, "download the file itself, not its page")
    reader = csv.reader(lines_of(io.StringIO(text, newline=""), name))
    rows, lines = [], []
    try:
        for row in reader:
            check_columns(name, len(row))
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
    return GraphTable(name, rows, lines)


def graph_from_table(table: GraphTable, wanted: tuple[str, ...] | None) -> SensorGraph:
    """Tell the kinds of CSV apart: by the names in a header, then by the shape, then by the values.

    Args:
        table: the file.
        wanted: sensors of the series; positions 0 ... N-1 stand for them, and neighbours are looked for among them.

    Raises:
        DataError: the table is of no known kind, a cell is no number, or a sensor is missing.
    """
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


def _has_constant_diagonal(table: GraphTable, first_row: int, first_column: int) -> bool:
    """Tell a square matrix from a few edges or positions, which have 3 columns; other sizes tell."""
    diagonal = [row[index + first_column] for index, row in enumerate(table.rows[first_row:])]
    return len(table.rows[0]) != 3 or all(_is_number(cell) and float(cell) == float(diagonal[0]) for cell in diagonal)


def _are_coordinates(table: GraphTable) -> bool:
    """Tell id, latitude, longitude from the ids and value of an edge: ids have no decimal point."""
    cells = [cell for row in table.rows for cell in row[1:]]
    if not all(_is_number(cell) for cell in cells):
        return False
    on_earth = all(abs(float(row[1])) <= 90 and abs(float(row[2])) <= 180 for row in table.rows)
    return on_earth and any("." in row[1] for row in table.rows)


def _number(table: GraphTable, row: int, column: int, minimum: float = 0) -> float:
    cell = table.rows[row][column]
    value = float(cell) if _is_number(cell) else math.nan
    if not (math.isfinite(value) and value >= minimum):
        raise DataError(
            f"{table.name}, line {table.lines[row]}, column {column + 1}: {cell!r}",
            "a finite number" + (" of at least 0" if minimum == 0 else ""),
            "correct the cell",
        )
    return value


def _from_square(table: GraphTable, first_row: int, first_column: int) -> SensorGraph:
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
    return graph_from_matrix(matrix, sensor_ids, table.name)


def _from_edges(
    table: GraphTable,
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
    known, others = {sensor for edge in edges for sensor in edge[:2]}, 0
    if wanted is None:
        nodes = tuple(sorted(known, key=int) if all(map(str.isdecimal, known)) else sorted(known))
    elif _are_positions(known, wanted, table.name):
        nodes = wanted
        edges = [(wanted[int(source)], wanted[int(target)], value) for source, target, value in edges]
    else:
        require_present(wanted, known, table.name)
        nodes = wanted
        chosen = set(wanted)
        others = len(known - chosen)
        edges = [edge for edge in edges if chosen.issuperset(edge[:2])]
    values = [value for _, _, value in edges]
    if are_distances is None:
        are_distances = max(values, default=0) > 1
    if not are_distances:
        start, end, largest = max(edges, key=lambda edge: edge[2], default=("", "", 0.0))
        require_weights(largest, f"{table.name}, from {start} to {end}")
        description = f"{table.name}: {len(edges)} edges between {len(nodes)} sensors with weights{left_out(others)}"
        return SensorGraph(adjacency_from_edges(nodes, edges), nodes, None, None, description)
    itself = [edge for edge in edges if edge[0] == edge[1] and edge[2]]
    if itself and max(values) <= 1:
        raise DataError(
            f"{table.name}: a distance of {itself[0][2]:g} from sensor {itself[0][0]} to itself, as a weight has",
            "distances, 0 from a sensor to itself",
            "name the column weight if near sensors have the larger values",
        )
    distances = [distance for start, end, distance in edges if start != end]
    between = {(start, end) for start, end, _ in edges if start != end}
    adjacency, sigma = adjacency_from_distances(nodes, edges)
    kept = len(adjacency.weight)
    listed = {sensor for pair in between for sensor in pair}
    alone = sum(sensor in listed for sensor, isolated in zip(nodes, adjacency.isolated, strict=True) if isolated)
    return SensorGraph(
        adjacency,
        nodes,
        None,
        None,
        f"{table.name}: {len(edges)} edges listed, {kept} kept, between {len(nodes)} sensors with distances, "
        f"DCRNN kernel, cut below {DCRNN_THRESHOLD}{left_out(others)}",
        "distances",
        (min(distances), max(distances)) if distances else None,
        cut=EdgeCut(len(between), kept, alone, sigma),
    )


def _are_unnamed(sensor_ids: tuple[str, ...]) -> bool:
    """Whether a recording knows its sensors by position alone, as PeMSD7 and PEMS04 do."""
    return sensor_ids == tuple(map(str, range(len(sensor_ids))))


def _are_positions(known: set[str], wanted: tuple[str, ...], name: str) -> bool:
    """Tell positions in the series from ids, and refuse those of a network of another size."""
    unnamed = _are_unnamed(wanted)
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


def positions_from_table(table: GraphTable) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Sensor ids, latitudes and longitudes, [node] each, of a table whose header names them.

    Raises:
        DataError: a column is missing, a sensor occurs twice, or a cell is no number.
    """
    header = [cell.lower() for cell in table.rows[0]]
    columns = tuple(_column(header, *names) for names in (_ID_COLUMNS, _LATITUDE_COLUMNS, _LONGITUDE_COLUMNS))
    sensor, north, east = columns
    if sensor is None or north is None or east is None:
        raise DataError(
            f"{table.name} with the columns {', '.join(table.rows[0][:5])}",
            "columns ID, Lat and Lng",
            "take the file from where the graph comes from",
        )
    return _positions(table, 1, (sensor, north, east), None)


def _positions(
    table: GraphTable, first_row: int, columns: tuple[int, int, int], wanted: tuple[str, ...] | None
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    sensor, north, east = columns
    every = range(first_row, len(table.rows))
    known = [table.rows[row][sensor] for row in every]
    require_unique(known, table.name)
    if wanted is not None and _are_unnamed(wanted) and len(known) == len(wanted):
        known = list(wanted)  # the list is in the recording's order, as PeMSD7's is
    if wanted is not None:
        require_present(wanted, set(known), table.name)
    chosen = set(known if wanted is None else wanted)
    rows = [row for row, sensor_id in zip(every, known, strict=True) if sensor_id in chosen]
    return (
        tuple(sensor_id for sensor_id in known if sensor_id in chosen),
        np.array([_number(table, row, north, -math.inf) for row in rows]),
        np.array([_number(table, row, east, -math.inf) for row in rows]),
    )


def _from_coordinates(
    table: GraphTable, first_row: int, columns: tuple[int, int, int], wanted: tuple[str, ...] | None
) -> SensorGraph:
    # Neighbours are counted among the sensors of the series only.
    sensor_ids, latitude, longitude = _positions(table, first_row, columns, wanted)
    adjacency = adjacency_from_coordinates(latitude, longitude)
    description = (
        f"{table.name}: positions of {len(sensor_ids)} sensors, each joined to its {NEAREST_NEIGHBOURS} nearest"
        + left_out(len(table.rows) - first_row - len(sensor_ids))
    )
    return SensorGraph(adjacency, sensor_ids, latitude, longitude, description, "positions")
