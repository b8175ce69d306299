"""Read what the PeMS Data Clearinghouse of Caltrans gives out: a district's stations by 5 minutes or by the hour.

A file ``d04_text_station_5min_2018_01_01.txt.gz`` has no header. Its columns are, by the Clearinghouse's description:
timestamp (begin of the interval, wall clock), station, district, freeway, direction, lane type, station length,
samples, percentage observed, total flow, average occupancy (0 to 1), average speed (mph); then the same of every lane.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

import numpy as np

from stunet_deploy.errors import DataError
from stunet_deploy.series.layouts.columns import Codes, read_columns
from stunet_deploy.series.layouts.own import by_sensor, placed
from stunet_deploy.series.layouts.packed import open_text
from stunet_deploy.series.layouts.table import FileTable
from stunet_deploy.series.times import most_frequent

TIMEZONE = "America/Los_Angeles"
#: From this percentage of measured lane points on, a reading counts as measured.
LEAST_OBSERVED = 50
_TIME = re.compile(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d")
#: Direction and type of lanes, such as ML of the mainline and OR of an onramp.
_LANES = re.compile(r"[NSEW],[A-Z]{2}")
_COLUMNS = ("time", "station", "percentage observed", "total flow", "average occupancy", "average speed")
_PLACES = (0, 1, 8, 9, 10, 11)
_FLOW_UNITS = {300: "veh/5 min", 3600: "veh/h"}
_META_COLUMNS = ("ID", "Fwy", "Dir", "District")


def is_pems(first: Sequence[str]) -> bool:
    """Return whether a first line begins as those of PeMS, with its time and the number of a station."""
    return len(first) > 1 and _TIME.fullmatch(first[0]) is not None and first[1].isdecimal()


def is_meta(line: str) -> bool:
    """Return whether a first line is that of PeMS's list of stations, ``d04_text_meta_2018_01_01.txt``."""
    return tuple(line.lstrip("\ufeff").split("\t")[: len(_META_COLUMNS)]) == _META_COLUMNS


def read_pems(path: Path, file: TextIO, first: Sequence[str]) -> FileTable:
    """Read the stations of a district; positions come from the lists of stations in the same folder.

    What PeMS has estimated itself is unobserved: readings of which less than half the lane points were measured.

    Args:
        path: of the file.
        file: its text.
        first: cells of its first line.

    Raises:
        DataError: another file of the Clearinghouse, or a damaged one.
    """
    name = path.name
    if len(first) < 12 or not _LANES.fullmatch(",".join(first[4:6])):
        raise _other(name, f"{len(first)} columns, beginning with {', '.join(first[:6])}")
    seconds, codes = _Seconds(), Codes()
    places = dict.fromkeys(_PLACES) | {0: seconds.__getitem__, 1: codes.__getitem__}
    rows = read_columns(file, name, places, _COLUMNS)
    times, nodes = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    observed, numbers = rows[:, 2], rows[:, 3:]
    if wrong := np.flatnonzero((observed < 0) | (observed > 100)).tolist():
        raise DataError(
            f"{name}: {observed[wrong[0]]:g} as percentage observed",
            "0 to 100 in the ninth column",
            "take the file as the Clearinghouse gives it out",
        )
    if wrong := np.flatnonzero(numbers[:, 1] > 1).tolist():
        raise DataError(
            f"{name}: {numbers[wrong[0], 1]:g} as average occupancy of station {list(codes)[int(nodes[wrong[0]])]}",
            "a share from 0 to 1 in the eleventh column",
            "take the file as the Clearinghouse gives it out",
        )
    estimated = ~(observed >= LEAST_OBSERVED)
    numbers[estimated] = np.nan
    sensors = tuple(codes)
    grid, values = by_sensor(name, times, sensors, nodes, numbers)
    interval_s = most_frequent(np.diff(grid))
    if interval_s not in _FLOW_UNITS:
        raise _other(name, f"rows every {interval_s} s" if len(grid) > 1 else "rows of one time")
    notes = [f"estimated by PeMS (less than {LEAST_OBSERVED} % observed) read as missing"] if estimated.any() else []
    latitude, longitude, source = placed(sensors, *_places_beside(path))
    return FileTable(
        name,
        f"PeMS stations by {'5 minutes' if interval_s == 300 else 'the hour'}",
        values,
        grid,
        True,
        sensors,
        ("flow", "occupancy", "speed"),
        (_FLOW_UNITS[interval_s], "share", "mph"),
        timezone=TIMEZONE,
        interval_s=interval_s,
        latitude=latitude,
        longitude=longitude,
        notes=(*notes, *source),
    )


def _other(name: str, what: str) -> DataError:
    return DataError(
        f"{name}, a file of PeMS with {what}",
        "station_5min or station_hour, with flow, occupancy and speed from the tenth column on",
        "take Station 5-Minute or Station Hour from the Clearinghouse",
    )


class _Seconds(dict[str, float]):
    """Seconds since 1970 on the wall clock of PeMS's times, which repeat from station to station."""

    def __missing__(self, text: str) -> float:
        moment = datetime.strptime(text.strip(), "%m/%d/%Y %H:%M:%S").replace(tzinfo=timezone.utc)
        self[text] = moment.timestamp()
        return self[text]


def read_meta(path: Path) -> dict[str, tuple[float, float]] | None:
    """Return latitude and longitude of the stations in a list of them that have a position; None of another file.

    Raises:
        DataError: the list has other columns than its first line.
    """
    try:
        with open_text(path) as file:
            if not is_meta(file.readline()):
                return None
            file.seek(0)
            header, *rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    except DataError:
        return None  # no text
    try:
        sensor, north, east = (header.index(column) for column in ("ID", "Latitude", "Longitude"))
        return {
            row[sensor].strip(): (float(row[north]), float(row[east]))
            for row in rows
            if row[north].strip() and row[east].strip()
        }
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path.name}, a damaged list of stations ({error})",
            "ID, Latitude and Longitude in every row",
            "take the metadata from the Clearinghouse again, or move the file elsewhere",
        ) from error


def _places_beside(path: Path) -> tuple[dict[str, tuple[float, float]], str]:
    """Return latitude and longitude of the stations in the lists beside a file, and the names of these.

    Of a station in several lists it is the place in the latest, by the date in the name.
    """
    known, lists = dict[str, tuple[float, float]](), list[str]()
    for file in sorted(file for file in path.parent.glob("*[Mm][Ee][Tt][Aa]*") if file.is_file()):
        if (places := read_meta(file)) is not None:
            known |= places
            lists.append(file.name)
    return known, ", ".join(lists)
