"""Read a text table of readings: the public files and one's own, wide or long."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series.table import OWN_LAYOUT, PUBLIC_INTERVAL_S, FileTable, pivoted
from stunet_deploy.series.times import parse_times
from stunet_deploy.series.wall_clock import DAY_S

_MISSING = {"", "na", "n/a", "null", "none", "-"}


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
            if all_numbers(header):
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


def all_numbers(cells: Iterable[str]) -> bool:
    """Return whether every cell is a number."""
    try:
        for cell in cells:
            float(cell)
    except ValueError:
        return False
    return True


def _check_header(name: str, header: list[str]) -> None:
    if not any(cell.strip() for cell in header):
        raise DataError(f"{name}, an empty file", OWN_LAYOUT, "check the file's export")
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
    """Tell the two public files whose times are known only from their papers."""
    kind = path.name.lower()
    if kind.startswith("los_speed"):
        return _read_los_speed(path.name, first, lines)
    if kind.startswith("pemsd7_v"):
        return _read_pemsd7(path, first, lines)
    raise DataError(
        f"{path.name}: a first line of numbers alone",
        f"{OWN_LAYOUT} (only los_speed.csv and PeMSD7_V_<n>.csv may come without times, under these names)",
        "add a header and a time column",
    )


def _read_los_speed(name: str, header: list[str], lines: Any) -> FileTable:
    sensor_ids = tuple(cell.strip() for cell in header)
    if any("." in sensor for sensor in sensor_ids):
        raise DataError(
            f"{name}: readings such as {next(cell for cell in sensor_ids if '.' in cell)} in its first line",
            "a header of sensor ids",
            "take the file as T-GCN distributes it, with its header",
        )
    rows = [_numbers(row, name, lines.line_num, sensor_ids) for row in lines if row]
    start = int(np.datetime64("2012-03-01T00:00", "s").astype(np.int64))
    return FileTable(
        name,
        "los_speed layout, one column per sensor",
        _stack(rows, len(sensor_ids))[..., None],
        start + PUBLIC_INTERVAL_S * np.arange(len(rows)),
        True,
        sensor_ids,
        units=("mph",),
        interval_s=PUBLIC_INTERVAL_S,
        notes=("the file holds no times: assumed every 5 min from 2012-03-01 00:00",),
    )


def _read_pemsd7(path: Path, first: list[str], lines: Any) -> FileTable:
    sensor_ids = tuple(str(index) for index in range(len(first)))
    named = re.search(r"_(\d+)$", path.stem)
    if named is not None and int(named[1]) != len(first):
        raise DataError(
            f"{path.name} with {len(first)} columns",
            f"{named[1]}, one per sensor as its name says",
            "drop a column of row numbers, or give the file the name of what it holds",
        )
    if tuple(cell.strip() for cell in first) == sensor_ids:
        raise DataError(
            f"{path.name} with a header of column numbers",
            "readings from the first line on",
            "take the file as its authors distribute it, without a header",
        )
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
    return (days[:, None] + PUBLIC_INTERVAL_S * np.arange(per_day)).ravel()


def _read_wide(name: str, header: list[str], lines: Any) -> FileTable:
    sensor_ids = tuple(header[1:])
    texts: list[str] = []
    line_numbers: list[int] = []
    rows: list[NDArray[np.float32]] = []
    for row in lines:
        if row:
            texts.append(row[0])
            line_numbers.append(lines.line_num)
            rows.append(_numbers(row[1:], name, lines.line_num, sensor_ids))
    times, local = parse_times(texts, name, line_numbers)
    values = _stack(rows, len(sensor_ids))[..., None]
    return FileTable(
        name, "CSV, one column per sensor", values, times, local, sensor_ids, lines=np.array(line_numbers, np.int64)
    )


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
    line_numbers: list[int] = []
    sensors: list[str] = []
    rows: list[NDArray[np.float32]] = []
    for row in lines:
        if not row:
            continue
        if len(row) != len(header):
            _numbers(row, name, lines.line_num, header)  # raises: the count is wrong
        texts.append(row[time_column])
        line_numbers.append(lines.line_num)
        sensors.append(row[sensor_column].strip())
        rows.append(_numbers([row[index] for index in feature_columns], name, lines.line_num, features))
    times, local = parse_times(texts, name, line_numbers)
    return pivoted(name, "CSV, long form", times, local, sensors, _stack(rows, len(features)), features)
