"""What a series file says before its times are put on a grid, and the CSV and Parquet readers."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError

DAY_S = 86_400
PUBLIC_INTERVAL_S = 300
_MISSING = {"", "na", "n/a", "null", "none", "-"}
_EARLIEST_S, _LATEST_S = 10**8, 10**11  # 1973 and 5138: row numbers and milliseconds lie outside
_OWN_LAYOUT = "a header, then rows of a time (ISO 8601 or epoch seconds) and one number per sensor"


@dataclass(frozen=True, eq=False)
class FileTable:
    """Content of a series file: one row per time stamp of the file, NaN where nothing was measured.

    Raises:
        DataError: counts disagree, or the times are no plausible seconds since 1970.
    """

    name: str
    """File name, for messages."""
    layout: str
    """Which layout was recognised, in words."""
    values: NDArray[np.float32]
    """Readings ``[time, node, feature]``; NaN is unobserved."""
    times: NDArray[np.int64]
    """Seconds since 1970-01-01, ``[time]``: UTC, or of the wall clock where ``local``."""
    local: bool
    """Whether ``times`` are wall-clock times whose zone the file does not tell."""
    sensor_ids: tuple[str, ...]
    features: tuple[str, ...] = ("speed",)
    units: tuple[str, ...] = ("",)
    timezone: str | None = None
    """Zone for local time features, where the file names one."""
    interval_s: int | None = None
    """Interval length where the file tells it."""
    stamp: Literal["start", "end"] = "start"
    latitude: NDArray[np.float64] | None = None
    longitude: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    """What the reader assumed."""

    def __post_init__(self) -> None:
        shape = (len(self.times), len(self.sensor_ids), len(self.features))
        if self.values.shape != shape:
            raise DataError(
                f"{self.name}: readings of shape {self.values.shape}",
                f"[time, node, feature] = {shape} as its times, sensor ids and features say",
                "export the file again",
            )
        if 0 in shape:
            raise DataError(f"{self.name} without readings: shape {shape}", _OWN_LAYOUT, "check the file's export")
        earliest, latest = int(self.times.min()), int(self.times.max())
        if earliest < _EARLIEST_S or latest > _LATEST_S:
            raise DataError(
                f"{self.name}: {earliest if earliest < _EARLIEST_S else latest} as a time",
                "seconds since 1970-01-01 later than 1973, or ISO 8601 text",
                "convert row numbers, milliseconds or nanoseconds",
            )


def format_time(timestamp_utc: int) -> str:
    """A UTC second as ISO 8601 text for messages and reports, such as ``2012-03-01T00:05:00Z``."""
    return datetime.fromtimestamp(int(timestamp_utc), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_times(texts: Sequence[str], where: str) -> tuple[NDArray[np.int64], bool]:
    """Seconds of ISO 8601 texts or epoch seconds, and whether they are wall-clock times without an offset.

    Args:
        texts: all in one form.
        where: the file or flag, for messages.

    Raises:
        DataError: a text is no time, or some have an offset and some have none.
    """
    seconds = np.empty(len(texts), np.int64)
    local = False
    for index, text in enumerate(texts):
        try:
            seconds[index], is_local = _parse_time(text.strip())
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{where}: {text[:40]!r} as a time (row {index + 1})",
                "ISO 8601 such as 2012-03-01T00:05 or 2012-03-01T00:05:00+01:00, or epoch seconds",
                "convert the time column",
            ) from error
        if index and is_local != local:
            raise DataError(
                f"{where}: {texts[index - 1]!r} and then {text!r}",
                "UTC offsets in all times or in none",
                "write all times in one form",
            )
        local = is_local
    return seconds, local


def read_csv(path: Path) -> FileTable:
    """Read a text table: PeMSD7_V, los_speed, or one's own in wide or long form.

    Raises:
        DataError: not such a table; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            _check_header(path.name, header)
            if _all_numbers(header):
                return _read_without_times(path, header, lines)
            names = [cell.strip() for cell in header]
            if "sensor_id" in names:
                return _read_long(path.name, names, lines)
            return _read_wide(path.name, names, lines)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path.name}, which is no UTF-8 text table ({error})",
            "a CSV, Parquet, npz or HDF5 file",
            "export the readings as CSV in UTF-8",
        ) from error


def read_parquet(path: Path) -> FileTable:
    """Read a Parquet table of one's own, wide or long, with the columns of the CSV layouts.

    Raises:
        DataError: pyarrow is missing, the file is damaged or is no such table.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path.name}, a Parquet file", "pyarrow to read it", "pip install pyarrow, or export CSV"
        ) from error
    try:
        table = parquet.read_table(path)
        columns: dict[str, Any] = dict(zip(table.column_names, table.columns, strict=True))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path.name}, a damaged Parquet file ({error})", "a whole file", "copy it again") from error
    if len(columns) < table.num_columns:
        raise DataError(f"{path.name} with a column name twice", "distinct columns", "rename one of them")
    times_name = next(
        (name for name, column in columns.items() if pyarrow.types.is_timestamp(column.type)),
        "timestamp" if "timestamp" in columns else next(iter(columns), ""),
    )
    if not times_name:
        raise DataError(f"{path.name} without columns", _OWN_LAYOUT, "check the file's export")
    times, local = _arrow_times(columns.pop(times_name), path.name)
    ids = columns.pop("sensor_id", None)
    try:
        numbers = np.column_stack(
            [np.asarray(column.cast("float64").to_numpy(), np.float32) for column in columns.values()]
        )
    except (pyarrow.ArrowException, ValueError) as error:
        raise DataError(
            f"{path.name}: a column that is not numeric ({error})",
            "numbers in every column but the time and sensor_id",
            "drop the other columns",
        ) from error
    if ids is None:
        return FileTable(path.name, "Parquet, one column per sensor", numbers[..., None], times, local, tuple(columns))
    sensors = ["" if sensor is None else str(sensor) for sensor in ids.to_pylist()]
    return _pivot(path.name, "Parquet, long form", times, local, sensors, numbers, columns)


def _parse_time(text: str) -> tuple[int, bool]:
    try:
        return round(float(text)), False
    except ValueError:
        pass
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    local = moment.tzinfo is None
    return round((moment.replace(tzinfo=timezone.utc) if local else moment).timestamp()), local


def _all_numbers(cells: Iterable[str]) -> bool:
    try:
        for cell in cells:
            float(cell)
    except ValueError:
        return False
    return True


def _check_header(name: str, header: list[str]) -> None:
    if not any(cell.strip() for cell in header):
        raise DataError(f"{name}, an empty file", _OWN_LAYOUT, "check the file's export")
    if header[0].lstrip().lower().startswith(("<!doctype", "<html", "<?xml", "<head")):
        raise DataError(
            f"{name}, which is a web page",
            "the data file itself",
            "download it again from the file's raw link",
        )
    if header[0].startswith("version https://git-lfs"):
        raise DataError(f"{name}, which is a Git LFS pointer", "the data file itself", "run `git lfs pull`")
    if len(header) == 1:
        raise DataError(
            f"{name} with a single column ({header[0][:40]!r})",
            "comma-separated columns",
            "export the file again with commas between the columns and points in the numbers",
        )


def _number(text: str, where: str) -> float:
    if text.strip().lower() in _MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"{where}: {text[:40]!r}",
            "a number, or an empty cell where nothing was measured",
            "correct the cell",
        ) from error


def _numbers(cells: list[str], name: str, line: int, columns: Sequence[str]) -> NDArray[np.float32]:
    if len(cells) != len(columns):
        raise DataError(
            f"{name}: {len(cells)} numbers in line {line}",
            f"{len(columns)}, one per column",
            "export the file again; this line is cut off or holds extra commas",
        )
    try:
        row = [float(cell) for cell in cells]
    except ValueError:
        row = [
            _number(cell, f"{name}: line {line}, column {column!r}")
            for cell, column in zip(cells, columns, strict=True)
        ]
    return np.array(row, np.float32)


def _stack(rows: list[NDArray[np.float32]], columns: int) -> NDArray[np.float32]:
    return np.stack(rows) if rows else np.empty((0, columns), np.float32)


def _read_without_times(path: Path, first: list[str], lines: Any) -> FileTable:
    """The two public files whose times are known only from their papers."""
    kind = path.name.lower()
    if kind.startswith("los_speed"):
        sensor_ids = tuple(cell.strip() for cell in first)
        rows = [_numbers(row, path.name, lines.line_num, sensor_ids) for row in lines if row]
        start = int(np.datetime64("2012-03-01T00:00", "s").astype(np.int64))
        return FileTable(
            path.name,
            "los_speed layout, one column per sensor",
            _stack(rows, len(sensor_ids))[..., None],
            start + PUBLIC_INTERVAL_S * np.arange(len(rows)),
            True,
            sensor_ids,
            units=("mph",),
            interval_s=PUBLIC_INTERVAL_S,
            notes=("the file holds no times: assumed every 5 min from 2012-03-01 00:00",),
        )
    if kind.startswith("pemsd7_v"):
        sensor_ids = tuple(str(index) for index in range(len(first)))
        rows = [_numbers(first, path.name, 1, sensor_ids)]
        rows += [_numbers(row, path.name, lines.line_num, sensor_ids) for row in lines if row]
        return FileTable(
            path.name,
            "PeMSD7 layout, one column per sensor",
            np.stack(rows)[..., None],
            _weekday_times(path.name, len(rows)),
            True,
            sensor_ids,
            units=("mph",),
            interval_s=PUBLIC_INTERVAL_S,
            notes=("the file holds no times: assumed the weekdays from 2012-05-01 on, every 5 min",),
        )
    raise DataError(
        f"{path.name}: a first line of numbers alone",
        f"{_OWN_LAYOUT} (only los_speed.csv and PeMSD7_V_<n>.csv may come without times, under these names)",
        "add a header and a time column",
    )


def _weekday_times(name: str, rows: int) -> NDArray[np.int64]:
    per_day = DAY_S // PUBLIC_INTERVAL_S
    if rows % per_day:
        raise DataError(
            f"{name} with {rows} rows",
            f"whole days of {per_day} rows",
            "take a complete copy (a program that reads a header loses the first row of this file)",
        )
    weekdays = np.busday_offset(np.datetime64("2012-05-01"), np.arange(rows // per_day).tolist())
    days = weekdays.astype("datetime64[s]").astype(np.int64)
    times: NDArray[np.int64] = (days[:, None] + PUBLIC_INTERVAL_S * np.arange(per_day)).ravel()
    return times


def _read_wide(name: str, header: list[str], lines: Any) -> FileTable:
    sensor_ids = tuple(header[1:])
    texts: list[str] = []
    rows: list[NDArray[np.float32]] = []
    for row in lines:
        if row:
            texts.append(row[0])
            rows.append(_numbers(row[1:], name, lines.line_num, sensor_ids))
    times, local = parse_times(texts, name)
    values = _stack(rows, len(sensor_ids))[..., None]
    return FileTable(name, "CSV, one column per sensor", values, times, local, sensor_ids)


def _read_long(name: str, header: list[str], lines: Any) -> FileTable:
    if "timestamp" not in header or len(header) < 3 or len(set(header)) != len(header):
        raise DataError(
            f"{name}: columns {', '.join(header[:6])}",
            "timestamp, sensor_id and at least one feature, each once",
            "name the columns so",
        )
    time_column, sensor_column = header.index("timestamp"), header.index("sensor_id")
    features = [cell for cell in header if cell not in ("timestamp", "sensor_id")]
    feature_columns = [header.index(cell) for cell in features]
    texts: list[str] = []
    sensors: list[str] = []
    rows: list[NDArray[np.float32]] = []
    for row in lines:
        if not row:
            continue
        if len(row) != len(header):
            _numbers(row, name, lines.line_num, header)  # raises: the count is wrong
        texts.append(row[time_column])
        sensors.append(row[sensor_column].strip())
        rows.append(_numbers([row[index] for index in feature_columns], name, lines.line_num, features))
    times, local = parse_times(texts, name)
    return _pivot(name, "CSV, long form", times, local, sensors, _stack(rows, len(features)), features)


def _pivot(
    name: str,
    layout: str,
    times: NDArray[np.int64],
    local: bool,
    sensors: Sequence[str],
    numbers: NDArray[np.float32],
    features: Iterable[str],
) -> FileTable:
    """Long form to [time, node, feature]; sensors in order of first appearance, rows in any order."""
    order = {sensor: index for index, sensor in enumerate(dict.fromkeys(sensors))}
    nodes = np.array([order[sensor] for sensor in sensors], np.int64)
    grid, rows = np.unique(times, return_inverse=True)
    cells, counts = np.unique(rows * max(1, len(order)) + nodes, return_counts=True)
    if (counts > 1).any():
        row, node = divmod(int(cells[counts.argmax()]), len(order))
        raise DataError(
            f"{name}: sensor {list(order)[node]!r} more than once at {format_time(grid[row])}",
            "one row per time and sensor",
            "drop the repeated rows",
        )
    values = np.full((len(grid), len(order), numbers.shape[1]), np.nan, np.float32)
    values[rows, nodes] = numbers
    names = tuple(features)
    return FileTable(name, layout, values, grid, local, tuple(order), names, ("",) * len(names))


def _arrow_times(column: Any, name: str) -> tuple[NDArray[np.int64], bool]:
    import pyarrow

    if column.null_count:
        raise DataError(f"{name}: {column.null_count} empty times", "a time in every row", "drop those rows")
    if pyarrow.types.is_timestamp(column.type):
        seconds = column.to_numpy().astype("datetime64[s]").astype(np.int64)
        return seconds, column.type.tz is None
    return parse_times([str(value) for value in column.to_pylist()], name)
