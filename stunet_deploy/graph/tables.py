"""Read a sensor graph from a text table: a square matrix, an edge list or positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import digits

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.graph.cells import GRAPH_KINDS, GraphTable, column, key
from stunet_deploy.graph.edge_lists import edge_columns, graph_from_edges, value_column
from stunet_deploy.graph.positions import graph_from_positions
from stunet_deploy.graph.sensor_graph import (
    SensorGraph,
    as_recorded,
    graph_from_matrix,
    left_out,
    require_present,
    require_unique,
)
from stunet_deploy.series.layouts.roles import LATITUDES, LONGITUDES, ROW_NUMBERS, SENSORS, TIMES
from stunet_deploy.series.layouts.table import are_unnamed

#: Names of the column of ids beside positions; the plainest first.
_IDS = ("sensorid", "id", *SENSORS)
#: A table of so many columns may be one of edges or positions although its shape is that of a matrix.
FEW_COLUMNS = 4


def is_graph_header(cells: Sequence[str]) -> bool:
    """Return whether names over columns are those of an edge list, or of positions at which nothing was read."""
    header = [key(cell) for cell in cells]
    if {"from", "to"} <= set(header):
        return True
    edges = edge_columns(header) is not None and value_column(header) is not None
    return (edges or column(header, *LATITUDES) is not None) and column(header, *TIMES) is None


def graph_from_table(table: GraphTable, wanted: tuple[str, ...] | None) -> SensorGraph:
    """Tell the kinds of table apart: by the names in a header, then by the shape, then by the values.

    Args:
        table: the file.
        wanted: sensors of the series; positions 0 ... N-1 stand for them, and neighbours are looked for among them.

    Raises:
        DataError: the table is of no known kind, a cell is no number, or a sensor is missing.
    """
    ends, value = edge_columns(table.header), value_column(table.header)
    places = _position_columns(table, wanted)
    if ends is not None and value is not None:
        columns = (*ends, value[0])
        _check_once(table, columns)
        return graph_from_edges(table, 1, columns, wanted, are_distances=value[1])
    if ends is None and places is not None:
        _check_once(table, places)
        return _from_positions(table, 1, places, wanted)
    located = column(table.header, *LATITUDES) is not None and column(table.header, *LONGITUDES) is not None
    alike = (
        len({name.rstrip(digits) for name in table.header if name}) == 1
    )  # sensor_1, sensor_2, sensor_3 head a matrix
    if (ends is None and not located) or len(table.rows[0]) > FEW_COLUMNS or alike:
        if (corner := _corner(table)) is not None:
            return _from_square(table, *corner, wanted)
        if len(table.rows[0]) == 3 and table.is_number(0, 2):
            if _are_coordinates(table):
                return _from_positions(table, 0, (0, 1, 2), wanted)
            return graph_from_edges(table, 0, (0, 1, 2), wanted, are_distances=None)
    raise DataError(
        f"{table.name}: {len(table.rows)} rows and {len(table.rows[0])} columns, beginning with "
        f"{','.join(table.rows[0][:4])}",
        GRAPH_KINDS,
        "add a column weight (1 for all, if nothing else is known) or distance"
        if ends is not None
        else "add a column sensor_id"
        if located
        else "give one of these, comma-separated",
    )


def _check_once(table: GraphTable, places: tuple[int, int, int]) -> None:
    for place in places:
        if table.header.count(table.header[place]) > 1:
            raise DataError(
                f"{table.name}: {table.rows[0][place]!r} more than once in the header",
                "every name once",
                "rename or delete one of them",
            )


def _corner(table: GraphTable) -> tuple[int, int] | None:
    """Return the first row and column of weights in a square matrix, None for another table."""
    rows, columns = len(table.rows), len(table.rows[0])
    if columns == 1 and not table.is_number(rows - 1, 0):
        return None  # a text
    if rows == columns > 1 and not table.is_number(0, 0) and _has_constant_diagonal(table, 1, 1):
        return 1, 1
    if rows == columns and _has_constant_diagonal(table, 0, 0):
        return 0, 0
    if rows == columns + 1 and _has_constant_diagonal(table, 1, 0):
        return 1, 0
    if columns == rows + 1 > FEW_COLUMNS and _count([row[0] for row in table.rows]):
        return 0, 1
    return None


def _has_constant_diagonal(table: GraphTable, first_row: int, first_column: int) -> bool:
    """Tell a square matrix from a few edges or positions, which have 3 columns; other sizes tell."""
    if len(table.rows[0]) != 3:
        return True
    diagonal = [(row, row - first_row + first_column) for row in range(first_row, len(table.rows))]
    return all(map(table.is_number, *zip(*diagonal, strict=True))) and (
        len({table.value(row, place) for row, place in diagonal}) == 1
    )


def _count(cells: Sequence[str]) -> bool:
    """Return whether cells count from 0 or 1, as row numbers do."""
    return any(list(cells) == [str(number + first) for number in range(len(cells))] for first in (0, 1))


# --- square matrices ---


def _from_square(table: GraphTable, first_row: int, first_column: int, wanted: tuple[str, ...] | None) -> SensorGraph:
    rows = range(first_row, len(table.rows))
    columns = range(first_column, len(table.rows[0]))
    sensor_ids = tuple(table.rows[0][first_column:]) if first_row else None
    if first_column and sensor_ids is not None:
        names = tuple(table.rows[row][0] for row in rows)
        numbers = table.header[0] in ("", *ROW_NUMBERS) and _count(names) and set(names).isdisjoint(sensor_ids)
        if not numbers and as_recorded(names, None) != as_recorded(sensor_ids, None):
            raise DataError(
                f"{table.name}: its rows name other sensors than its columns",
                "one order in both",
                "make it again",
            )
    if wanted is not None and sensor_ids is not None and are_unnamed(sensor_ids) and set(sensor_ids).isdisjoint(wanted):
        sensor_ids = None  # numbers that a program gave to rows and columns without names
    matrix = np.array([[table.number(row, place) for place in columns] for row in rows])
    return graph_from_matrix(matrix, sensor_ids, table.name)


# --- positions ---


def _position_columns(table: GraphTable, wanted: tuple[str, ...] | None) -> tuple[int, int, int] | None:
    """Return the places of id, latitude and longitude in a table whose header names them."""
    header = table.header
    north, east = column(header, *LATITUDES), column(header, *LONGITUDES)
    ids = [header.index(name) for name in dict.fromkeys(_IDS) if name in header]
    if not ids or north is None or east is None:
        return None
    cells = {place: [row[place] for row in table.rows[1:]] for place in ids}
    named = [place for place in ids if header[place] != "id" or not _count(cells[place])] or ids
    fitting = [
        place for place in ids if wanted is not None and set(as_recorded(cells[place], wanted)).issuperset(wanted)
    ]
    return (fitting or named)[0], north, east


def _are_coordinates(table: GraphTable) -> bool:
    """Tell id, latitude, longitude from the ids and value of an edge: those are whole, and rarely all below 180."""
    try:
        numbers = [(table.value(row, 1), table.value(row, 2)) for row in range(len(table.rows))]
    except ValueError:
        return False
    on_earth = all(not max(abs(north), abs(east)) > 180 for north, east in numbers)
    return on_earth and any(north % 1 > 0 for north, _ in numbers)


def positions_from_table(table: GraphTable) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Sensor ids, latitudes and longitudes, [node] each, of a table whose header names them; NaN is unknown.

    Raises:
        DataError: a column is missing, a sensor occurs twice, or a cell is no number.
    """
    columns = _position_columns(table, None)
    if columns is None:
        raise DataError(
            f"{table.name} with the columns {', '.join(table.rows[0][:5])}",
            "columns ID, Lat and Lng",
            "take the file from where the graph comes from",
        )
    return _positions(table, 1, columns, None)


def _positions(
    table: GraphTable, first_row: int, columns: tuple[int, int, int], wanted: tuple[str, ...] | None
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    sensor, north, east = columns
    every = range(first_row, len(table.rows))
    known = as_recorded([table.rows[row][sensor] for row in every], wanted)
    if not known:
        raise DataError(f"{table.name}: a header and no positions", "one sensor per line", "copy the file again")
    require_unique(known, table.name)
    if wanted is not None:
        if are_unnamed(wanted) and len(known) == len(wanted) and set(known) != set(wanted):
            known = wanted  # the list is in the recording's order, as PeMSD7's is
        require_present(wanted, set(known), table.name)
    chosen = set(known if wanted is None else wanted)
    degrees = [
        (math.nan, math.nan)
        if table.lacks(row, north, east)
        else (table.number(row, north, -math.inf), table.number(row, east, -math.inf))
        for row, sensor_id in zip(every, known, strict=True)
        if sensor_id in chosen
    ]
    latitude, longitude = np.array(degrees).reshape(-1, 2).T
    return tuple(sensor_id for sensor_id in known if sensor_id in chosen), latitude, longitude


def _from_positions(
    table: GraphTable, first_row: int, columns: tuple[int, int, int], wanted: tuple[str, ...] | None
) -> SensorGraph:
    # Neighbours are counted among the sensors of the series only.
    sensor_ids, latitude, longitude = _positions(table, first_row, columns, wanted)
    return graph_from_positions(
        sensor_ids,
        latitude,
        longitude,
        table.name,
        left_out(len(table.rows) - first_row - len(sensor_ids)),
    )
