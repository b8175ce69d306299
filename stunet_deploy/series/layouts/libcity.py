"""Read the atomic files of LibCity: states of sensors (.dyna), with the places (.geo) and settings beside them.

https://bigscity-libcity-docs.readthedocs.io describes them; what its own loader does with them decides here.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from stunet_deploy.errors import DataError
from stunet_deploy.series.layouts.columns import Codes, read_columns
from stunet_deploy.series.layouts.own import by_sensor, placed
from stunet_deploy.series.layouts.packed import open_text
from stunet_deploy.series.layouts.table import FileTable
from stunet_deploy.series.times import most_frequent, parse_times

_COLUMNS = ("dyna_id", "type", "time")
_ENTITY = "entity_id"
GEO_COLUMNS, REL_COLUMNS = ("geo_id", "type"), ("rel_id", "type", "origin_id", "destination_id")
"""The first columns of places and of relations between them."""


def is_libcity(header: Sequence[str]) -> bool:
    """Return whether a header is that of states, over sensors (.dyna) or something else (.grid, .od)."""
    return tuple(header[: len(_COLUMNS)]) == _COLUMNS


def read_libcity(path: Path, file: TextIO, header: Sequence[str]) -> FileTable:
    """Read the states of sensors; features are the columns that the settings name, otherwise all.

    LibCity writes a Z after times of any clock and takes it off again, so its times are those of a wall clock.

    Args:
        path: of the file.
        file: its text.
        header: its names of columns.

    Raises:
        DataError: states of cells or of trips, a column that is not there, or times that the settings contradict.
    """
    name = path.name
    if header[len(_COLUMNS) : len(_COLUMNS) + 1] != [_ENTITY]:
        raise DataError(
            f"{name}: states of {' and '.join(header[3:5]) or 'nothing'}",
            "states of sensors, with a column entity_id (a .dyna of LibCity)",
            "write its cells as sensors: dyna_id,type,time,entity_id and the readings",
        )
    info = settings_beside(path)
    features = _features(name, header, info)
    times, sensors = _Times(), Codes()
    places = {1: _state, 2: times.__getitem__, 3: sensors.__getitem__} | {
        header.index(feature): None for feature in features
    }
    rows = read_columns(file, name, places, [*header[1:4], *features], header=True)
    if not len(rows):
        raise DataError(f"{name} with a header and no rows", "states", "copy the file again")
    seconds, nodes = rows[:, 1].astype(np.int64), rows[:, 2].astype(np.int64)
    grid, values = by_sensor(name, seconds, tuple(sensors), nodes, rows[:, 3:])
    interval_s = most_frequent(np.diff(grid))
    if info.get("time_intervals", interval_s) != interval_s and len(grid) > 1:
        raise DataError(
            f"{name}: times every {interval_s} s, and time_intervals {info['time_intervals']} in config.json",
            "one interval in both",
            "correct config.json, or take it out of the folder",
        )
    left = [column for column in header[4:] if column not in features]
    notes = [f"columns {', '.join(left)} left out: config.json does not name them as data"] if left else []
    geo = file_beside(path, info, "geo")
    known, geo_name = ({}, "") if geo is None else (read_geo(geo)[1], geo.name)
    latitude, longitude, source = placed(tuple(sensors), known, geo_name)
    return FileTable(
        name,
        "LibCity states",
        values,
        grid,
        times.local,
        tuple(sensors),
        features,
        ("",) * len(features),
        latitude=latitude,
        longitude=longitude,
        notes=(*times.notes, *notes, *source),
    )


def _features(name: str, header: Sequence[str], info: Mapping[str, Any]) -> tuple[str, ...]:
    found = info.get("data_col") or header[4:]
    features = (found,) if isinstance(found, str) else tuple(found)
    unknown = [feature for feature in features if feature not in header[4:]]
    if unknown or not features or len(set(header)) < len(header):
        what = f"no column {unknown[0]}, which config.json names" if unknown else f"the columns {', '.join(header)}"
        raise DataError(f"{name} with {what}", "distinct columns of readings after entity_id", "correct the header")
    return features


def _state(cell: str) -> float:
    if cell != "state":
        raise ValueError(cell)  # trajectory
    return 0


class _Times(dict[str, float]):
    """Seconds of times, which repeat from sensor to sensor, with what is known of their clock."""

    def __init__(self) -> None:
        super().__init__()
        self.local = True
        self.notes: tuple[str, ...] = ()

    def __missing__(self, text: str) -> float:
        wall = text.strip().removesuffix("Z")
        try:
            (seconds,), local = parse_times([wall], "time")
        except DataError as error:
            raise ValueError(text) from error  # which the line is added to
        if self and local != self.local:
            raise ValueError(text)
        self.local = local
        if wall != text.strip():
            self.notes = ("the Z of LibCity's times taken off: they are of the wall clock",)
        self[text] = float(seconds)
        return self[text]


def settings_beside(path: Path) -> dict[str, Any]:
    """Return what the ``config.json`` beside a file says of the data set; nothing where there is none.

    Raises:
        DataError: it cannot be read.
    """
    config = path.with_name("config.json")
    if not config.is_file():
        return {}
    try:
        info = json.loads(config.read_text(encoding="utf-8-sig")).get("info", {})
        return dict(info)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise DataError(
            f"{config}, which cannot be read ({error})",
            "the settings of a data set of LibCity",
            "correct it, or take it out of the folder",
        ) from error


def file_beside(path: Path, info: Mapping[str, Any], kind: str) -> Path | None:
    """Return the file of places (``geo``) or relations (``rel``) that belongs to a file of states, if there is one."""
    stem = re.split(r"\.(?:dyna|geo|rel)\b", path.name)[0]
    names = dict.fromkeys((stem, str(info.get(f"{kind}_file", stem))))
    return next((file for name in names if (file := path.with_name(f"{name}.{kind}")).is_file()), None)


def places_of(header: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> dict[str, tuple[float, float]]:
    """Return latitude and longitude of the points among places, of those that have coordinates.

    Args:
        header: of a file of places.
        rows: its cells.
        name: of the file, for messages.

    Raises:
        DataError: no ids, or the coordinates of a point are no longitude and latitude.
    """
    if tuple(header[: len(GEO_COLUMNS)]) != GEO_COLUMNS:
        raise DataError(
            f"{name}, beginning with {','.join(header[:3])}", "geo_id, type and coordinates", "copy the file again"
        )
    if "coordinates" not in header:
        return {}
    coordinates = header.index("coordinates")
    found = dict[str, tuple[float, float]]()
    for row in rows:
        try:
            point = json.loads(row[coordinates] or "[]")
            if point and not isinstance(point[0], list):
                longitude, latitude = map(float, point)
                if not (abs(latitude) <= 90 and abs(longitude) <= 180):
                    raise ValueError("no degrees")
                found[row[0].strip()] = (latitude, longitude)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise DataError(
                f"{name}: {', '.join(row)[:60]!r} ({error})",
                "[longitude, latitude] in degrees, or []",
                "correct the row",
            ) from error
    return found


def read_geo(path: Path) -> tuple[list[str], dict[str, tuple[float, float]]]:
    """Return the ids of places in a file, and latitude and longitude of those that are points.

    Raises:
        DataError: see :func:`places_of`.
    """
    with open_text(path) as file:
        header, *rows = [row for row in csv.reader(file) if row] or [[]]
    return [row[0].strip() for row in rows], places_of(header, rows, path.name)
