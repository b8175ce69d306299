"""The role of every column of a table: its time, its sensor, a reading, a position, or none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from stunet_deploy.errors import DataError
from stunet_deploy.series.times import are_seconds, is_time

#: Names of columns, in lower case without blanks, hyphens and underscores; the first is the one to be recommended.
TIMES = ("timestamp", "time", "datetime", "date", "dateandtime", "datetimeutc", "localtime", "starttime", "ts")
SENSORS = (
    "sensorid", "sensor", "stationid", "station", "detectorid", "detector", "deviceid", "device", "segmentid",
    "segment", "linkid", "link", "nodeid", "node", "locationid", "location", "siteid", "site", "id", "entityid",
)  # fmt: skip
LATITUDES, LONGITUDES = ("latitude", "lat"), ("longitude", "lon", "lng", "long")
#: What pandas calls the index of a frame, which numbers the rows whatever stands in it.
INDEXES = ("unnamed:0", "unnamed:0.1", "indexlevel0", "level0")
#: What a column of row numbers is called, beside no name at all.
ROW_NUMBERS = (
    *INDEXES, "index", "row", "rownumber", "rownum", "rowid", "record", "recordid", "objectid", "pk", "seq", "#", "no",
    "nr",
)  # fmt: skip

#: Columns that say of a row what its time says; and those that say of a day what no sensor measures.
CALENDAR = (
    "hour", "hourofday", "minute", "timeofday", "day", "dayofweek", "dayofmonth", "dayofyear", "dow", "weekday", "week",
    "weekofyear", "month", "quarter", "year", "weekend", "isweekend",
)  # fmt: skip
DAYS = ("holiday", "isholiday", "season")

#: What the first rows of a column hold.
Kind = Literal["time", "number", "text", "empty"]


@dataclass(frozen=True)
class Column:
    """What a column looks like from its name and its first rows.

    Attributes:
        name: without blanks around it; may be empty.
        kind: of its cells; ``time`` also of numbers that may all be seconds since the epoch.
        counts: whether its cells are consecutive whole numbers.
        whole: whether its cells are whole numbers.
        example: one of its cells, for messages.
    """

    name: str
    kind: Kind
    counts: bool = False
    whole: bool = False
    example: str = ""

    @property
    def key(self) -> str:
        """The name as it is compared."""
        return self.name.lower().replace(" ", "").replace("-", "").replace("_", "")


@dataclass(frozen=True)
class Roles:
    """The places of columns by role.

    Attributes:
        time: its place.
        sensor: its place in a table of long form; None for one column per sensor.
        readings: places of the features of a long table, or of the sensors of a wide one.
        latitude, longitude: places in a long table that has both, otherwise None.
        notes: what was left out, and why.
    """

    time: int
    sensor: int | None
    readings: tuple[int, ...]
    latitude: int | None = None
    longitude: int | None = None
    notes: tuple[str, ...] = ()


def looks_like(name: str, cells: Sequence[str], number: Callable[[str], float]) -> Column:
    """Return what a column of text looks like.

    Args:
        name: of the column.
        cells: of the first rows.
        number: returns that of a cell, NaN for no reading; raises ValueError for text.
    """
    numbers = list[float]()
    for cell in cells:
        try:
            numbers.append(number(cell))
        except ValueError:
            kind: Kind = "time" if all(is_time(cell) for cell in cells if cell.strip()) else "text"
            return Column(name, kind, example=cell)
    if all(map(math.isnan, numbers)):
        return Column(name, "empty")
    return number_column(name, numbers, cells[0], all(map(is_time, cells)))


def number_column(name: str, numbers: Sequence[float], example: str, times: bool = False) -> Column:
    """Return what a column of numbers looks like.

    Args:
        name: of the column.
        numbers: of the first rows, NaN for no reading.
        example: one of its cells.
        times: whether they are dates of digits alone.
    """
    known = [number for number in numbers if not math.isnan(number)]
    kind: Kind = "time" if times or (known and are_seconds(known)) else "number"
    return Column(
        name, kind, counts_on(numbers), all(math.isinf(number) or number % 1 == 0 for number in known), example
    )


def counts_on(numbers: Sequence[float]) -> bool:
    """Return whether numbers are consecutive whole ones, at least two of them."""
    steps = {after - before for before, after in pairwise(numbers)}
    return steps == {1.0} and math.isfinite(numbers[0]) and float(numbers[0]).is_integer()


def roles_of(file: str, columns: Sequence[Column]) -> Roles:
    """Tell the roles of the columns of a table.

    A table is in long form if a column has a name of a sensor's, in upper or lower case (:data:`SENSORS`). The time is
    a column of such a name (:data:`TIMES`), one called timestamp before all others; without any, the first column.

    Args:
        file: its name, for messages.
        columns: in order.

    Raises:
        DataError: two columns may be the time or the sensor, a name is missing or repeated, text where readings are
            expected, or no reading is left.
    """
    notes = list[str]()
    time = _time(file, columns)
    left = list[int]()
    for place, column in enumerate(columns):
        if place != time and _numbers_rows(file, column):
            notes.append(f"column {column.name or place + 1} left out: it numbers the rows")
        elif place != time and column.key in CALENDAR and (column.whole or column.kind != "number"):
            notes.append(f"column {column.name} left out: the time says so, too")
        elif place != time and (column.name or column.kind != "empty"):
            left.append(place)
    # A number with decimals is a reading of a sensor with such a name, and no name of a sensor.
    sensors = [
        place
        for place in left
        if columns[place].key in SENSORS and (columns[place].kind != "number" or columns[place].whole)
    ]
    numbered = [place for place in sensors if columns[place].key == "id" and columns[place].counts]
    if len(sensors) > 1 and numbered:  # what databases give every row
        notes += [f"column {columns[place].name} left out: it numbers the rows" for place in numbered]
        sensors, left = ([place for place in places if place not in numbered] for places in (sensors, left))
    if not sensors:
        days = [place for place in left if columns[place].key in DAYS]
        notes += [f"column {columns[place].name} left out: it is no sensor" for place in days]
        left = [place for place in left if place not in days]
    _check_names(file, columns, left)
    if not sensors:
        _check_wide(file, columns, left)
        return Roles(time, None, tuple(left), notes=tuple(notes))
    sensor = _sensor(file, columns, sensors)
    left.remove(sensor)
    positions = [
        next((place for place in left if columns[place].key in names), None) for names in (LATITUDES, LONGITUDES)
    ]
    latitude, longitude = (None, None) if None in positions else positions
    readings = list[int]()
    for place in left:
        column = columns[place]
        if place in (latitude, longitude):
            continue
        if column.kind == "time" and columns[time].key == "timestamp":
            notes.append(f"column {column.name!r} left out: the time is {columns[time].name!r}")
        elif column.kind in ("time", "text"):
            raise DataError(
                f"{file}: {column.example!r} in column {column.name!r}",
                f"numbers in every column but {columns[time].name!r} (time) and {columns[sensor].name!r} (sensor)",
                "correct the cell or take the column out",
            )
        else:
            readings.append(place)
    if not readings:
        raise DataError(
            f"{file}: columns {', '.join(column.name for column in columns[:6])}",
            "a time, a sensor and at least one column of readings",
            "add a column of readings",
        )
    return Roles(time, sensor, tuple(readings), latitude, longitude, tuple(notes))


def _numbers_rows(file: str, column: Column) -> bool:
    """Return whether a column numbers the rows, maybe with holes; refuse one that might."""
    if not column.whole or column.kind != "number" or (column.key and column.key not in ROW_NUMBERS):
        return False
    if column.counts or column.key in INDEXES:
        return True
    if column.key:
        raise DataError(
            f"{file}: column {column.name!r}, which may number the rows or be a reading",
            "readings under names of their own, and no other numbers",
            "take the column out, or rename it",
        )
    return False  # it is refused for want of a name


def _time(file: str, columns: Sequence[Column]) -> int:
    """Return the place of the time."""
    named = [place for place, column in enumerate(columns) if column.key in TIMES]
    words = [place for place in named if columns[place].kind == "text"]
    if len(named) > 1 and words and all(":" in columns[place].example for place in words):
        raise DataError(
            f"{file}: columns {' and '.join(repr(columns[place].name) for place in named[:3])}",
            "date and time of day in one column",
            "join them into one called timestamp",
        )
    dated = [place for place, column in enumerate(columns) if column.kind == "time" and column.key not in SENSORS]
    if words and not dated and len(words) == len(named):
        return words[0]  # whose cells are then refused as times
    named = [place for place in named if place not in words]
    if named:
        exact = [place for place in named if columns[place].key == TIMES[0]]
        chosen = exact or [place for place in named if place in dated] or named
        if len(chosen) > 1 and not exact:
            _refuse_two(file, columns, chosen, "the time", TIMES[0])
        return chosen[0]
    first = columns[0]
    if first.kind == "time" and first.key not in SENSORS:
        return 0  # what stands first in a table of one column per sensor, whatever its name
    if len(dated) > 1:
        _refuse_two(file, columns, dated, "the time", TIMES[0])
    if not dated and columns[0].key in SENSORS:
        raise DataError(
            f"{file}: columns {', '.join(column.name for column in columns[:6])}",
            "timestamp, sensor_id and at least one feature, each once",
            "name the columns so",
        )
    return dated[0] if dated else 0


def _sensor(file: str, columns: Sequence[Column], places: list[int]) -> int:
    """Return the place of the sensor: the only one, or the one of the plainest name."""
    chosen = [place for place in places if columns[place].key == SENSORS[0]] or places
    if len(chosen) > 1:
        _refuse_two(file, columns, chosen, "the sensor", "sensor_id")
    return chosen[0]


def _refuse_two(file: str, columns: Sequence[Column], places: Sequence[int], role: str, wanted: str) -> None:
    both = " and ".join(repr(columns[place].name) for place in places[:3])
    raise DataError(
        f"{file}: columns {both}, each of which may be {role}",
        f"one of them, called {wanted}",
        f"rename it to {wanted}, and take out or rename the others",
    )


def _check_names(file: str, columns: Sequence[Column], left: Sequence[int]) -> None:
    names = [columns[place].name for place in left]
    if "" in names:
        raise DataError(
            f"{file}: a sensor or feature without an id: column {left[names.index('')] + 1} has no name",
            "a name over every column",
            "name or delete it",
        )
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError(
            f"{file}: {repeated[0]!r} more than once in the header", "every name once", "rename or delete one of them"
        )


def _check_wide(file: str, columns: Sequence[Column], left: Sequence[int]) -> None:
    """Refuse a table of long form whose sensor has another name: its text, or its time, would be a sensor."""
    for column in (columns[place] for place in left):
        if column.kind in ("time", "text"):
            raise DataError(
                f"{file}: {column.example!r} in column {column.name!r}",
                "a column of times and one of numbers for every sensor; or columns timestamp, sensor_id and readings",
                "correct the cell, or leave it empty if nothing was measured; if the column says which sensor it is, "
                "call it sensor_id; otherwise take it out",
            )
