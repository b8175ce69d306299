"""Several files as one recording: which files of a folder are recordings, and how their tables become one."""

from __future__ import annotations

import re
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.limits import check_unpacked
from stunet_deploy.series.layouts.libcity import GEO_COLUMNS, REL_COLUMNS
from stunet_deploy.series.layouts.own import check_still
from stunet_deploy.series.layouts.packed import files_in, open_text
from stunet_deploy.series.layouts.pems import is_meta
from stunet_deploy.series.layouts.roles import LATITUDES, TIMES
from stunet_deploy.series.layouts.table import FileTable, are_unnamed, check_increasing
from stunet_deploy.series.times import format_time, is_time, most_frequent

#: Ends and beginnings of names, in small letters, of files that are no recordings.
_NO_RECORDINGS = (".md", ".rst", ".pdf", ".html", ".json", ".toml", ".yaml", ".yml", ".ini", ".pkl", ".pickle", ".npy",
                  ".png", ".jpg", ".jpeg", ".svg", ".doc", ".docx", ".py", ".ipynb", ".sh", ".ext", ".usr",
                  "thumbs.db")  # fmt: skip
_DOCUMENT = re.compile(r"(readme|licen[cs]e|copying|changelog)[^.]*(\.txt)?")
#: Words for what is measured: files that are named by different ones are not of one quantity.
_QUANTITIES = frozenset({
    "speed", "speeds", "flow", "flows", "volume", "volumes", "count", "counts", "occupancy", "occ", "density", "inflow",
    "outflow", "demand", "traveltime", "delay", "queue",
})  # fmt: skip
_NAMED = 8


@contextmanager
def unpacked(path: Path, ends: tuple[str, ...] = ("",)) -> Iterator[Path]:
    """Yield the folder of files that a folder or a zip archive of several files is; one in it alone is entered.

    Args:
        path: of the folder or archive.
        ends: of the names that are needed, which alone are unpacked.

    Raises:
        DataError: the folder cannot be read, or the archive is damaged or locked.
    """
    if path.is_dir():
        yield _entered(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
                check_unpacked(path.name, path.stat().st_size, unpacked, text=True)
                archive.extractall(folder, [file for file in files_in(archive.namelist()) if file.endswith(ends)])
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise DataError(
                f"{path.name}, a zip archive that cannot be unpacked ({error})", "a whole archive", "copy it again"
            ) from error
        yield _entered(Path(folder))


def _entered(folder: Path) -> Path:
    """Return the folder itself, or the only thing in it if that is a folder."""
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}, which cannot be read ({error.strerror})", "a folder", "check the path") from error
    return _entered(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder


def sorted_out(folder: Path, name: str) -> tuple[list[Path], list[str]]:
    """Return the files of a folder to be read as recordings, by name, and the names of those that are certainly none.

    Raises:
        DataError: no file is left.
    """
    found, left = list[Path](), list[str]()
    for path in sorted(folder.iterdir()):
        if path.is_file() and not _is_no_recording(path):
            found.append(path)
        else:
            left.append(f"{path.name}/" if path.is_dir() else path.name)
    if not found:
        raise DataError(
            f"{name} without a recording" + (f" ({_some(left)})" if left else ""),
            "files of readings in this very folder",
            "give the folder in which they lie",
        )
    return found, left


def _is_no_recording(path: Path) -> bool:
    """Return whether a file is known by its name or its first line to be something else."""
    name = path.name.lower()
    if name.startswith((".", "~$")) or name.endswith(_NO_RECORDINGS) or _DOCUMENT.fullmatch(name):
        return True
    try:
        with open_text(path) as file:
            line, row = file.readline(), file.readline()
    except DataError:
        return False  # a binary file, or a damaged one, of which its reader tells
    header = [cell.strip().lower() for cell in line.lstrip("\ufeff").split(",")]
    if is_meta(line) or tuple(header[:2]) == GEO_COLUMNS or tuple(header[:4]) == REL_COLUMNS:
        return True
    names, timed = set(header), any(is_time(cell.strip()) for cell in row.split(","))
    return not timed and names.isdisjoint(TIMES) and ({"from", "to"} <= names or not names.isdisjoint(LATITUDES))


def one_of(name: str, tables: list[FileTable], left: Sequence[str]) -> FileTable:
    """Return the tables of several files as one, in the order of time.

    A reading may stand in several files, if it is the same; sensors of some files alone are unobserved in the others.

    Args:
        name: of the folder, for messages.
        tables: of its files, at least one; taken out of the list as they are copied.
        left: names of files that are no recordings.

    Raises:
        DataError: files with other features, intervals, units or clocks, or other readings of one time.
    """
    notes = [f"beside the readings, not read as such: {_some(left)}"] if left else []
    for table in tables:
        check_increasing(table.times, table, "sort the rows of the file by time")
    if len(tables) == 1:
        return tables[0].noting(*notes)
    tables.sort(key=lambda table: (int(table.times[0]), int(table.times[-1]), table.name))
    first = tables[0]
    interval_s = _agreed(tables)
    sensors = {sensor: None for table in tables for sensor in table.sensor_ids}
    for table, since in (first, "not yet"), (tables[-1], "no longer"):
        there = set(table.sensor_ids)
        if absent := [sensor for sensor in sensors if sensor not in there]:
            notes.append(f"{len(absent)} sensor(s) {since} in {table.name}, such as {_some(absent)}")
    node = {sensor: place for place, sensor in enumerate(sensors)}
    latitude, longitude = _positions(tables, node)
    layouts = dict.fromkeys(table.layout for table in tables)
    said = Counter(note for table in tables for note in table.notes)
    of_some = {note: f" (in {count} of {len(tables)} files)" for note, count in said.items() if count < len(tables)}
    files = f"{len(tables)} files, {first.name} to {tables[-1].name}"
    times, values, repeated = _joined(tables, node, first.features)
    if repeated:
        notes.append(f"{repeated} readings stand alike in two files")
    return FileTable(
        name,
        f"{files}: {', '.join(layouts)}",
        values,
        times,
        first.local,
        tuple(sensors),
        first.features,
        first.units,
        timezone=first.timezone,
        interval_s=interval_s,
        stamp=first.stamp,
        latitude=latitude,
        longitude=longitude,
        notes=(*(note + of_some.get(note, "") for note in said), *notes),
    )


def _agreed(tables: Sequence[FileTable]) -> int | None:
    """Return the interval of several tables; refuse those that differ in what has to be one."""
    first = timed = tables[0]
    interval_s: int | None = None
    for table in tables:
        if table.sensor_ids != first.sensor_ids and (are_unnamed(first.sensor_ids) or are_unnamed(table.sensor_ids)):
            sensors = f"{len(first.sensor_ids)} and {len(table.sensor_ids)} sensors"
            raise _differ(first, table, f"{sensors} that are known by their position")
        for what, one, other in (
            ("the features", sorted(first.features), sorted(table.features)),
            ("names that say", sorted(_quantities(first)), sorted(_quantities(table))),
            ("units", dict(zip(first.features, first.units, strict=True)),
             dict(zip(table.features, table.units, strict=True))),
            ("UTC or wall-clock times", first.local, table.local),
            ("the time zone", first.timezone, table.timezone),
            ("stamps of the", first.stamp, table.stamp),
        ):  # fmt: skip
            if one != other:
                raise _differ(first, table, f"{what} {_shown(one)} and {_shown(other)}")
        every = table.interval_s or (most_frequent(np.diff(table.times)) if len(table.times) > 1 else None)
        if interval_s is None:
            interval_s, timed = every, table
        elif every not in (None, interval_s):
            raise _differ(timed, table, f"intervals of {interval_s} and {every} s")
    for table in tables if interval_s else ():
        if (table.times[0] - first.times[0]) % interval_s:
            raise _differ(first, table, f"times that are no whole intervals of {interval_s} s apart")
    return interval_s


def _quantities(table: FileTable) -> frozenset[str]:
    """Return what the name of a file says that its readings are."""
    return _QUANTITIES.intersection(re.split(r"[^a-z]+", table.name.lower()))


def _differ(one: FileTable, other: FileTable, what: str) -> DataError:
    return DataError(
        f"{one.name} and {other.name}: {what}",
        "files of one recording, alike but for their times and sensors",
        "give them one by one, or move those of another recording elsewhere",
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "wall-clock" if value else "UTC"
    return _some([str(item) for item in value]) if isinstance(value, list) else str(value)


def _joined(
    tables: list[FileTable], node: dict[str, int], features: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Return times, readings, and how many stood in two tables."""
    times = np.unique(np.concatenate([table.times for table in tables]))
    values = np.full((len(times), len(node), len(features)), np.nan, np.float32)
    whose = np.full(len(times), -1)
    names, repeated = [table.name for table in tables], 0
    for place, _ in enumerate(names):
        table = tables.pop(0)  # whose memory is then free
        rows = np.searchsorted(times, table.times)
        nodes = np.array([node[sensor] for sensor in table.sensor_ids])
        new = table.values[..., [table.features.index(feature) for feature in features]]
        met = np.flatnonzero(whose[rows] >= 0)
        if len(met):
            old = values[np.ix_(rows[met], nodes)]
            both = np.isfinite(old) & np.isfinite(new[met])
            if (other := np.argwhere(both & (old != new[met]))).size:
                row, column, feature = other[0].tolist()
                raise DataError(
                    f"{names[whose[rows[met[row]]]]} and {table.name}: {features[feature]} of sensor "
                    f"{table.sensor_ids[column]} at {format_time(table.times[met[row]]).rstrip('Z')} is "
                    f"{old[row, column, feature]:g} and {new[met[row], column, feature]:g}",
                    "one reading of one time",
                    "take one of the files away, or correct it",
                )
            repeated += int(both.sum())
            new[met] = np.where(np.isfinite(new[met]), new[met], old)
        values[np.ix_(rows, nodes)] = new
        whose[rows] = place
    return times, values, repeated


def _positions(
    tables: Sequence[FileTable], node: dict[str, int]
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Return latitude and longitude of all sensors, if every one has a position in some table."""
    found = []
    for part in ("latitude", "longitude"):
        low, high = np.full(len(node), np.inf), np.full(len(node), -np.inf)
        for table in tables:
            degrees = getattr(table, part)
            if degrees is not None:
                nodes = [node[sensor] for sensor in table.sensor_ids]
                low[nodes], high[nodes] = np.minimum(low[nodes], degrees), np.maximum(high[nodes], degrees)
        if not np.isfinite(low).all():
            return None, None
        check_still(f"{tables[0].name} to {tables[-1].name}", part, list(node), low, high)
        found.append((low + high) / 2)
    return found[0], found[1]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
