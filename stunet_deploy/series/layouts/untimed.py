"""The public text files whose times are known only from their papers: los_speed and PeMSD7."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series.layouts.delimited import Delimited, stacked
from stunet_deploy.series.layouts.table import OWN_LAYOUT, PUBLIC_INTERVAL_S, FileTable
from stunet_deploy.series.wall_clock import DAY_S


def read_without_times(path: Path, text: Delimited) -> FileTable:
    """Read one of the two public files whose times are known only from their papers.

    Args:
        path: its name tells which.
        text: its content, whose first line is a header or not.

    Raises:
        DataError: none of the two.
    """
    kind = path.name.lower()
    if kind.startswith("los_speed"):
        return _read_los_speed(text)
    if kind.startswith("pemsd7_v"):
        return _read_pemsd7(path, text)
    raise DataError(
        f"{path.name}: a first line of numbers alone",
        f"{OWN_LAYOUT} (only los_speed.csv and PeMSD7_V_<n>.csv may come without times, under these names)",
        "add a header and a time column",
    )


def _read_los_speed(text: Delimited) -> FileTable:
    name, sensor_ids = text.name, tuple(text.header)
    if any("." in sensor for sensor in sensor_ids):
        raise DataError(
            f"{name}: readings such as {next(cell for cell in sensor_ids if '.' in cell)} in its first line",
            "a header of sensor ids",
            "take the file as T-GCN distributes it, with its header",
        )
    rows = [text.numbers(row, line, sensor_ids) for line, row in text.rows()]
    start = int(np.datetime64("2012-03-01T00:00", "s").astype(np.int64))
    return FileTable(
        name,
        "los_speed layout, one column per sensor",
        stacked(rows, len(sensor_ids))[..., None],
        start + PUBLIC_INTERVAL_S * np.arange(len(rows)),
        True,
        sensor_ids,
        ("speed",),
        ("mph",),
        interval_s=PUBLIC_INTERVAL_S,
        notes=("the file holds no times: assumed every 5 min from 2012-03-01 00:00",),
    )


def _read_pemsd7(path: Path, text: Delimited) -> FileTable:
    first = text.header
    sensor_ids = tuple(str(index) for index in range(len(first)))
    named = re.search(r"_(\d+)$", path.stem)
    if named is not None and int(named[1]) != len(first):
        raise DataError(
            f"{path.name} with {len(first)} columns",
            f"{named[1]}, one per sensor as its name says",
            "drop a column of row numbers, or give the file the name of what it holds",
        )
    if tuple(first) == sensor_ids:
        raise DataError(
            f"{path.name} with a header of column numbers",
            "readings from the first line on",
            "take the file as its authors distribute it, without a header",
        )
    rows = [text.numbers(first, 1, sensor_ids)]
    rows += [text.numbers(row, line, sensor_ids) for line, row in text.rows()]
    return FileTable(
        path.name,
        "PeMSD7 layout, one column per sensor",
        np.stack(rows)[..., None],
        _weekday_times(path.name, len(rows)),
        True,
        sensor_ids,
        ("speed",),
        ("mph",),
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
