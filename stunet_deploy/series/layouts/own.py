"""The table of a recording of one's own, wide or long, from columns whose roles are known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.limits import cells_of, check_cells, check_columns
from stunet_deploy.series.layouts.delimited import MISSING
from stunet_deploy.series.layouts.roles import Roles
from stunet_deploy.series.layouts.table import FileTable
from stunet_deploy.series.times import format_time, most_frequent

#: The end of an id that was a number once.
_WHOLE = re.compile(r"(?<=\d)\.0$")
#: Degrees that a position may vary by: a hundred metres.
_STILL = 1e-3
#: A feature is known never to change from so many readings a sensor on.
_ENOUGH = 20


def arranged(
    name: str,
    layout: str,
    roles: Roles,
    columns: Sequence[str],
    numbers: NDArray[np.float32],
    clock: tuple[NDArray[np.int64], bool],
    sensors: Sequence[str],
    lines: NDArray[np.int64] | None = None,
) -> FileTable:
    """Return the table of a file.

    Args:
        name: of the file.
        layout: its kind, in words.
        roles: of its columns.
        columns: names of the readings, then of the positions if there are any.
        numbers: the same, ``[row, column]``.
        clock: seconds of every row, and whether they are of the wall clock.
        sensors: sensor of every row; of a table of one column per sensor empty.
        lines: in the file, of every row, for messages.

    Raises:
        DataError: a sensor has two rows of one time, or is at several places.
    """
    times, local = clock
    if roles.sensor is None:
        layout = f"{layout}, one column per sensor"
        return FileTable(name, layout, numbers[..., None], times, local, tuple(columns), notes=roles.notes, lines=lines)
    if not len(times):
        raise DataError(f"{name} with a header and no rows", "readings", "check the file's export")
    ids = {sensor: _WHOLE.sub("", sensor) for sensor in set(sensors)}
    if any(sensor.lower() in MISSING for sensor in ids.values()):
        row = next(row for row, sensor in enumerate(sensors) if ids[sensor].lower() in MISSING)
        place = f"row {row + 1}" if lines is None else f"line {lines[row]}"
        raise DataError(
            f"{name}: {ids[sensors[row]]!r} for a sensor ({place})",
            "the id of a sensor in every row",
            "write it there, or drop the row",
        )
    sensors = [ids[sensor] for sensor in sensors]
    order = {sensor: index for index, sensor in enumerate(dict.fromkeys(sensors))}
    if len(order) == len(sensors) > 1:
        raise DataError(
            f"{name}: {len(sensors)} sensors in as many rows",
            "rows of the same sensors again and again",
            "if that column numbers the rows, take it out; otherwise give a longer recording",
        )
    nodes = np.array([order[sensor] for sensor in sensors], np.int64)
    times, aligned = _aligned(name, times, nodes)
    features = len(roles.readings)
    grid, values = by_sensor(name, times, list(order), nodes, numbers[:, :features])
    positions = numbers[:, features:]
    latitude, longitude = (
        [_still(name, columns[features + part], list(order), nodes, positions[:, part]) for part in range(2)]
        if positions.shape[1]
        else (None, None)
    )
    return FileTable(
        name,
        f"{layout}, long form",
        values,
        grid,
        local,
        tuple(order),
        tuple(columns[:features]),
        ("",) * features,
        latitude=latitude,
        longitude=longitude,
        notes=(*roles.notes, *aligned, *_unchanging(values, columns)),
    )


def by_sensor(
    name: str, times: NDArray[np.int64], sensors: Sequence[str], nodes: NDArray[np.int64], numbers: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the times of rows of single sensors, each once and in order, and the readings at them.

    Args:
        name: of the file, for messages.
        times: in seconds, of every row.
        sensors: the ids.
        nodes: number of the sensor of every row.
        numbers: readings, ``[row, feature]``.

    Returns:
        Seconds ``[time]``, and readings ``[time, node, feature]``, NaN where a sensor has no row.

    Raises:
        DataError: a sensor has two rows of one time.
    """
    grid, rows = np.unique(times, return_inverse=True)
    columns = len(sensors) * numbers.shape[1]
    check_columns(name, columns)
    check_cells(
        f"{name}: {len(times):,} rows of {len(sensors):,} sensors at {len(grid):,} times",
        cells_of(len(grid), columns),
        cells_of(len(times), numbers.shape[1]),
        "round the times to an interval, sum over longer ones, or leave out sensors that are hardly ever there",
    )
    cells, counts = np.unique(rows * max(1, len(sensors)) + nodes, return_counts=True)
    if (counts > 1).any():
        row, node = divmod(int(cells[counts.argmax()]), len(sensors))
        raise DataError(
            f"{name}: sensor {sensors[node]!r} more than once at {format_time(grid[row])}",
            "one row per time and sensor",
            "drop the repeated rows; where a lane, a direction or an hour of its own column tells them apart, write it "
            "into the sensor's id or the time",
        )
    values = np.full((len(grid), len(sensors), numbers.shape[1]), np.nan, np.float32)
    values[rows, nodes] = numbers
    return grid, values


def _aligned(name: str, times: NDArray[np.int64], nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the times of sensors that are read in turn as the begin of the interval that they are read in.

    The interval is what lies between most readings of one sensor. Times stay as they are if all sensors are read at
    once.

    Args:
        name: of the file, for messages.
        times: in seconds, of every row.
        nodes: number of the sensor of every row.

    Raises:
        DataError: a sensor is read now at one second of the interval and now at another, so that between the times of
            all of them lie seconds.
    """
    order = np.lexsort((times, nodes))
    steps = np.diff(times[order])[np.diff(nodes[order]) == 0]
    if not (steps > 0).any():
        return times, []
    interval = most_frequent(steps[steps > 0])
    second = times % interval
    first = np.full(int(nodes.max()) + 1, -1)
    first[nodes[::-1]] = second[::-1]
    if len(np.unique(first)) == 1 and (second == first[0]).all():
        return times, []
    if (second != first[nodes]).any():
        between = np.diff(np.unique(times))
        if len(between) and 4 * np.median(between) <= interval:
            raise DataError(
                f"{name}: sensors that are read every {interval} s at changing seconds",
                "times that are whole intervals apart",
                "round the times to the interval",
            )
        return times, []
    # Counted from the earliest sensor of the round, which may begin at any second.
    seconds = np.unique(first)
    gaps = np.diff(np.append(seconds, seconds[0] + interval))
    after = (np.flatnonzero(gaps == gaps.max()) + 1) % len(seconds)
    begin = int(seconds[max(after, key=lambda place: (first == seconds[place]).sum())])
    spread = int(interval - gaps.max())
    note = f"sensors are read in turn, within {spread} s of every {interval} s: times are those of the first of them"
    return times - (second - begin) % interval, [note]


def _unchanging(values: NDArray[np.float32], columns: Sequence[str]) -> list[str]:
    """Return a note on every feature that never changes at a sensor, or is never there; they stay.

    A model may be trained to read them, and this be a recording in which nothing happened.
    """
    seen = np.isfinite(values)
    high, low = np.where(seen, values, -np.inf).max(axis=0), np.where(seen, values, np.inf).min(axis=0)
    enough = seen.sum(axis=0).max(axis=0) >= _ENOUGH
    still = ((high == low) & enough | ~seen.any(axis=0)).all(axis=0)
    return [f"{columns[feature]} never changes at a sensor" for feature in np.flatnonzero(still).tolist()]


def _still(
    name: str, column: str, sensors: Sequence[str], nodes: NDArray[np.int64], degrees: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the position of every sensor, which does not move."""
    low, high = np.full(len(sensors), np.inf), np.full(len(sensors), -np.inf)
    known = np.isfinite(degrees)
    np.minimum.at(low, nodes[known], degrees[known])
    np.maximum.at(high, nodes[known], degrees[known])
    check_still(name, column, sensors, low, high)
    middle: NDArray[np.float64] = (low + high) / 2
    return middle


def check_still(
    name: str, column: str, sensors: Sequence[str], low: NDArray[np.float64], high: NDArray[np.float64]
) -> None:
    """Refuse sensors that move, or whose place is not known.

    Args:
        name: of the file, for messages.
        column: which of the two coordinates it is, for messages.
        sensors: the ids.
        low, high: least and largest degrees of every sensor; infinite where there are none.

    Raises:
        DataError: the first of them is named.
    """
    wrong = np.flatnonzero(~(high - low <= _STILL))
    if len(wrong):
        where = f"{low[wrong[0]]:g} to {high[wrong[0]]:g}" if np.isfinite(low[wrong[0]]) else "nothing"
        raise DataError(
            f"{name}: {column} of sensor {sensors[wrong[0]]!r} from {where}",
            "one position of every sensor",
            "take the positions out of the recording, and give them with --graph",
        )


def placed(
    sensors: Sequence[str], known: Mapping[str, tuple[float, float]], source: str
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, tuple[str, ...]]:
    """Return latitude and longitude of sensors, None where one has no place, and what to say of it.

    Args:
        sensors: the ids.
        known: latitude and longitude of some of them.
        source: the file with these places.
    """
    missing = [sensor for sensor in sensors if sensor not in known]
    if len(missing) == len(sensors):
        return None, None, ()
    if missing:
        return None, None, (f"no positions: {len(missing)} sensor(s) have none in {source}, such as {missing[0]}",)
    places = np.array([known[sensor] for sensor in sensors])
    return places[:, 0], places[:, 1], (f"positions of {source}",)
