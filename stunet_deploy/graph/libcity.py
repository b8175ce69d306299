"""Make a sensor graph of LibCity's relations (.rel) or places (.geo)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from stunet_deploy.errors import DataError
from stunet_deploy.graph.cells import GraphTable
from stunet_deploy.graph.edge_lists import graph_from_edges
from stunet_deploy.graph.sensor_graph import SensorGraph
from stunet_deploy.graph.tables import graph_from_table
from stunet_deploy.series.layouts.libcity import (
    GEO_COLUMNS,
    REL_COLUMNS,
    file_beside,
    places_of,
    read_geo,
    settings_beside,
)
from stunet_deploy.series.layouts.own import placed

#: Names of columns, in small letters, that LibCity's data sets have for the one and the other.
_DISTANCES = ("cost", "distance", "dist", "length")
_WEIGHTS = ("weight", "link_weight", "adj", "connection")


def is_libcity(table: GraphTable) -> bool:
    """Return whether a table is one of relations or places."""
    header = tuple(table.rows[0])
    return header[: len(GEO_COLUMNS)] == GEO_COLUMNS or header[: len(REL_COLUMNS)] == REL_COLUMNS


def graph_from_libcity(path: Path, table: GraphTable, wanted: tuple[str, ...] | None) -> SensorGraph:
    """Make a graph of relations, or of places, whose nearest neighbours are joined.

    The column of relations is the one that ``config.json`` beside them names (``weight_col``), otherwise the only one;
    without any, every relation weighs 1. It holds distances if the settings let LibCity make weights of it
    (``calculate_weight_adj``) or its name says so (``cost``).

    Args:
        path: of the file; the places beside relations are sensors too.
        table: its content.
        wanted: sensors of the series, in order; None takes those of the file.

    Raises:
        DataError: the column or its meaning is not known, a cell is no number, or a sensor is missing.
    """
    if tuple(table.rows[0][: len(GEO_COLUMNS)]) == GEO_COLUMNS:
        return graph_from_table(_as_positions(table), wanted)
    info = settings_beside(path)
    column, are_distances = _column(table, info)
    geo = file_beside(path, info, "geo")
    places, positions = ([], {}) if geo is None else read_geo(geo)
    rows = [[*edge[:2], repr(edge[2])] for edge in _edges(table, column)] + [[place, "", ""] for place in places]
    edges = GraphTable.of_cells(table.name, [["from", "to", "value"], *rows])
    graph = graph_from_edges(edges, 1, (0, 1, 2), wanted, are_distances=are_distances)
    latitude, longitude, _ = placed(graph.sensor_ids or (), positions, "")
    return replace(graph, latitude=latitude, longitude=longitude)


def _as_positions(table: GraphTable) -> GraphTable:
    places = places_of(table.rows[0], table.rows[1:], table.name)
    if not places:
        raise DataError(
            f"{table.name}: places without coordinates",
            "points with [longitude, latitude]",
            "give the .rel of the data set, or another graph",
        )
    rows = [[sensor, repr(latitude), repr(longitude)] for sensor, (latitude, longitude) in places.items()]
    return GraphTable.of_cells(table.name, [["sensor_id", "latitude", "longitude"], *rows])


def _column(table: GraphTable, info: dict[str, object]) -> tuple[int | None, bool]:
    """Return the place of the column that counts, and whether it holds distances."""
    header, named = table.rows[0], info.get("weight_col")
    if isinstance(named, list) and len(named) == 1:
        (named,) = named
    found = header[len(REL_COLUMNS) :] if not named else [column for column in header if column == named]
    if not found and not named:
        return None, False
    if len(found) != 1:
        raise DataError(
            f"{table.name} with the columns {', '.join(header[len(REL_COLUMNS) :])}"
            + (f" and weight_col {named!r} in config.json" if named else ""),
            "one column of weights or distances, or its name as weight_col in config.json beside it",
            "take the others out, or name the one in config.json",
        )
    (column,) = found
    if info.get("calculate_weight_adj") is True or column.lower() in _DISTANCES:
        return header.index(column), True
    if column.lower() not in _WEIGHTS:
        raise DataError(
            f"{table.name} with the column {column}",
            f"distances ({', '.join(_DISTANCES)}) or weights ({', '.join(_WEIGHTS)})",
            f"name it {_DISTANCES[1]} if near sensors have the smaller values, and {_WEIGHTS[0]} otherwise",
        )
    return header.index(column), False


def _edges(table: GraphTable, column: int | None) -> list[tuple[str, str, float]]:
    edges = list[tuple[str, str, float]]()
    for row, line in zip(table.rows[1:], table.lines[1:], strict=True):
        cell = "1" if column is None else row[column]
        if cell.lower() in ("", "nan"):
            continue  # no relation, as for LibCity
        try:
            value = float(cell)
            if row[1] != "geo" or not (math.isfinite(value) and value >= 0):
                raise ValueError(cell)
        except ValueError as error:
            raise DataError(
                f"{table.name}, line {line}: {','.join(row)[:60]!r}",
                "a relation of type geo with a finite number of at least 0",
                "correct the line",
            ) from error
        edges.append((row[2], row[3], value))
    if not edges:
        raise DataError(f"{table.name}: a header and no relations", "one per line", "copy the file again")
    return edges
