"""Read a text table of readings: the public files and one's own, wide or long."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.limits import check_columns
from stunet_deploy.series.layouts.delimited import Delimited, all_numbers, plain
from stunet_deploy.series.layouts.libcity import is_libcity, read_libcity
from stunet_deploy.series.layouts.own import arranged
from stunet_deploy.series.layouts.packed import open_text
from stunet_deploy.series.layouts.pems import is_pems, read_pems
from stunet_deploy.series.layouts.roles import looks_like, roles_of
from stunet_deploy.series.layouts.table import OWN_LAYOUT, FileTable
from stunet_deploy.series.layouts.untimed import read_without_times
from stunet_deploy.series.times import Clock, are_seconds, is_time

#: First cells in small letters, what the file is then, what is expected and what to do.
_NO_TABLES = (
    (("<!doctype", "<html", "<?xml", "<head"), "which is a web page", "the data file itself", "download it again from "
     "the file's raw link"),
    (("version https://git-lfs",), "which is a Git LFS pointer", "the data file itself", "run `git lfs pull`"),
    (("{", "["), "which is JSON", OWN_LAYOUT, "export the readings as CSV"),
    (("#", "%", "//", "sep="), "whose first line is a remark", "names over the columns in the first line",
     "delete the lines before them"),
)  # fmt: skip


def read_csv(path: Path) -> FileTable:
    """Read a text table: one of PeMS or LibCity, PeMSD7_V, los_speed, or one's own in wide or long form.

    Delimiter, decimal sign and the roles of the columns are told from the header and the first rows.

    Raises:
        DataError: not such a table; the message names the line.
    """
    with open_text(path) as file:
        try:
            text = Delimited.of(file, path.name)
            if is_pems(text.header):
                return read_pems(path, file, text.header)
            if is_libcity(text.header):
                return read_libcity(path, file, text.header)
            check_header(text)
            if all_numbers(text.header) and not is_time(text.header[0]):
                return read_without_times(path, text)
            return read_rows(text, "CSV")
        except csv.Error as error:
            raise DataError(
                f"{path.name}, which is no UTF-8 text table ({error})",
                "a CSV, Parquet, npz or HDF5 file",
                "export the readings as CSV in UTF-8",
            ) from error


def check_header(text: Delimited) -> None:
    """Refuse what is no table, or has no names over its columns.

    Raises:
        DataError: says what the text is.
    """
    name, header = text.name, text.header
    if not any(header):
        raise DataError(f"{name}, an empty file", OWN_LAYOUT, "check the file's export")
    for begins, what, expected, action in _NO_TABLES:
        if header[0].lower().startswith(begins):
            raise DataError(f"{name}, {what}", expected, action)
    if len(header) == 1:
        raise DataError(
            f"{name} with a single column ({header[0][:40]!r})",
            "columns parted by commas, semicolons or tabs",
            "export the file again as CSV",
        )
    times = [cell for place, cell in enumerate(header) if is_time(cell) and (place == 0 or not all_numbers([cell]))]
    if all_numbers(header[:1]) and are_seconds([float(header[0])]) and not all_numbers(header):
        times = header[:1]
    if 2 * len(times) > len(header) > 2 and not is_time(header[0]):
        raise DataError(
            f"{name}: times across the first line, from {times[0]!r} on",
            "one row for each time and one column for each sensor",
            "turn the table, so that its rows are columns",
        )
    if times:
        raise DataError(
            f"{name}: {times[0]!r} in the first line, a time",
            "names in the first line",
            "put a header over the columns, such as time and the ids of the sensors",
        )


def read_rows(text: Delimited, layout: str) -> FileTable:
    """Read a table of one's own, wide or long.

    Args:
        text: its cells.
        layout: its kind, in words.

    Raises:
        DataError: not such a table; the message names the line.
    """
    columns = [looks_like(name, text.looked_at(place), text.number) for place, name in enumerate(text.header)]
    roles = roles_of(text.name, columns)
    positions = () if roles.latitude is None or roles.longitude is None else (roles.latitude, roles.longitude)
    wanted = (*roles.readings, *positions)
    names = [text.header[place] for place in wanted]
    unnamed = [place for place, column in enumerate(columns) if not column.name and column.kind == "empty"]
    # Most tables have their readings side by side.
    begin, end = (wanted[0], wanted[-1] + 1) if wanted else (0, 0)
    chosen = itemgetter(slice(begin, end)) if wanted == tuple(range(begin, end)) else itemgetter(*wanted)
    clock, sensors, known = Clock(text.name), list[str](), dict[str, str]()
    lines, numbers = list[NDArray[np.int64]](), list[NDArray[np.float32]]()
    for numbered, rows in text.blocks():
        clock.add([row[roles.time] for row in rows], numbered)
        lines.append(np.array(numbered, np.int64))
        if roles.sensor is not None:
            found = [plain(row[roles.sensor]) for row in rows]
            sensors += [known.setdefault(sensor, sensor) for sensor in found]  # one text for each
            check_columns(text.name, len(known))
        numbers.append(text.table(list(map(chosen, rows)), numbered, names))
        for place in unnamed:
            _check_empty(text.name, place, rows, numbered)
    table = np.concatenate(numbers) if numbers else np.empty((0, len(wanted)), np.float32)
    places = np.concatenate(lines) if lines else np.empty(0, np.int64)
    return arranged(text.name, layout, roles, names, table, clock.read(), sensors, places)


def _check_empty(name: str, place: int, rows: Sequence[Sequence[str]], lines: Sequence[int]) -> None:
    """Refuse a cell in a column that has no name."""
    for row, line in zip(rows, lines, strict=True):
        if row[place].strip():
            raise DataError(
                f"{name}: {row[place][:40]!r} in column {place + 1}, which has no name (line {line})",
                "a name over every column",
                "name or delete it",
            )
