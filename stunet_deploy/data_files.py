"""Tell what a data file holds: a recording, a graph, both, or neither."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from stunet_deploy.array_files import load_npz
from stunet_deploy.errors import DataError
from stunet_deploy.files import lines_of
from stunet_deploy.graph.files import GRAPH_KINDS, graph_beside, read_graph
from stunet_deploy.graph.sensor_graph import SensorGraph
from stunet_deploy.graph.tables import is_graph_header
from stunet_deploy.limits import LONGEST_GRAPH
from stunet_deploy.series.facts import Facts
from stunet_deploy.series.layouts.delimited import Delimited, all_numbers
from stunet_deploy.series.layouts.files import are_several, read_head
from stunet_deploy.series.layouts.libcity import GEO_COLUMNS, REL_COLUMNS
from stunet_deploy.series.layouts.packed import kind_of_zip, open_text
from stunet_deploy.series.layouts.pems import is_meta
from stunet_deploy.series.series import Series, read_series
from stunet_deploy.series.times import is_time

_MOCAP_COLUMNS = 117  # 38 joints of CMU's skeleton and the root's position, three numbers each
_NAMED_RECORDINGS = ("los_speed", "pemsd7_v")
_LINES_LOOKED_AT, _LOOKED_AT = 200, 1 << 22
#: Reads a recording, by all that is known beside its file.
Read = Callable[[Path], Series]


@dataclass(frozen=True)
class DataFile:
    """The content of a data file: a recording, a graph, both, or neither."""

    kind: str
    """In words, such as ``recording`` or ``pedestrian tracks``."""
    series: Series | None = None
    graph: SensorGraph | None = None
    note: str = ""
    """A sentence on a file that is neither recording nor graph."""


def read_data_file(
    path: str | Path, *, timezone: str | None = None, facts: Facts | None = None, beside: bool = True
) -> DataFile:
    """Read whatever data file it is; a file of another model family is described without being read further.

    Args:
        path: a recording, a folder of recordings, a graph, an npz of both, a list of sensor ids, pedestrian tracks or
            motion capture.
        timezone, facts: see `stunet_deploy.series.series.read_series`.
        beside: whether to read the graph that LibCity puts beside a recording, too.

    Raises:
        DataError: the file is missing, damaged, or of no known kind.
    """
    path = Path(path)
    found = _read(path, partial(read_series, timezone=timezone, facts=facts))
    if beside and found.kind == "recording" and found.series is not None:
        graph = graph_beside(path, found.series.sensor_ids)
        if graph is not None:
            return replace(found, kind="recording with graph", graph=graph)
    return found


def _read(path: Path, read: Read) -> DataFile:
    if are_several(path):
        return DataFile("recording", series=read(path))
    head = read_head(path)
    if head.startswith(b"PK") and kind_of_zip(path) == "npz":
        return _npz(path, read)
    if head.startswith((b"\x80", b"\x93NUMPY")) or path.suffix in (".pkl", ".pickle"):
        return DataFile("graph", graph=read_graph(path))
    if head.startswith((b"\x89HDF", b"PAR1", b"\xd0\xcf")) or (
        head.startswith(b"PK") and kind_of_zip(path) == "workbook"
    ):
        return DataFile("recording", series=read(path))
    return _text(path, read)


def _npz(path: Path, read: Read) -> DataFile:
    keys = set(load_npz(path, path.name, set())[1])
    has_graph = {"adjacency", "sensor_ids"} <= keys
    if has_graph and keys.isdisjoint({"speed", "values", "data"}):
        return DataFile("graph", graph=read_graph(path))
    series = read(path)
    if not has_graph:
        return DataFile("recording", series=series)
    return DataFile("recording with graph", series=series, graph=read_graph(path, series.sensor_ids))


def _text(path: Path, read: Read) -> DataFile:
    lines = _first_lines(path)
    other = _sensor_list(lines) or _tracks(path, lines) or _motion(path, lines)
    if other is not None:
        return other
    first = _first_row(lines, path.name)
    named = path.name.lower().startswith(_NAMED_RECORDINGS)
    if tuple(first[:2]) == GEO_COLUMNS or tuple(first[:4]) == REL_COLUMNS or is_meta(lines[0] if lines else ""):
        return DataFile("graph", graph=read_graph(path))
    if is_graph_header(first) and not _is_timed(lines[1:2], path.name):
        return DataFile("graph", graph=read_graph(path))
    if first and all_numbers(first) and not named:
        try:
            return DataFile("graph", graph=read_graph(path))
        except DataError as refused:
            if refused.expected != GRAPH_KINDS:
                raise  # a graph for certain, with a fault
        return DataFile("recording", series=read(path))
    try:
        return DataFile("recording", series=read(path))
    except DataError as refused:
        if path.stat().st_size > LONGEST_GRAPH:
            raise
        try:
            return DataFile("graph", graph=read_graph(path))
        except DataError:
            raise refused from None


def _first_lines(path: Path) -> list[str]:
    """The first lines that are not blank; none of a file that is no text."""
    lines: list[str] = []
    try:
        with open_text(path) as file:
            for line in lines_of(file, path.name):
                if line.strip():
                    lines.append(line.strip())
                if len(lines) == _LINES_LOOKED_AT or (len(lines) > 1 and sum(map(len, lines)) > _LOOKED_AT):
                    break
    except DataError:
        return []  # whose reader says what it is
    return lines


def _first_row(lines: list[str], name: str) -> list[str]:
    """The cells of the first line; none of one that is no row."""
    try:
        return Delimited.of(io.StringIO("\n".join(lines)), name).header
    except csv.Error:
        return []


def _is_timed(line: list[str], name: str) -> bool:
    """Whether a row has a time in it that is no mere number: what is measured there has a place and a time."""
    return any(is_time(cell) and not all_numbers([cell]) for cell in _first_row(line, name))


def _sensor_list(lines: list[str]) -> DataFile | None:
    """Ids alone: graph_sensor_ids.txt in one line, PEMS03.txt one a line."""
    cells = lines[0].split(",") if len(lines) == 1 else lines
    if len(cells) < 2 or not all(cell.strip().isdecimal() for cell in cells):
        return None
    return DataFile("sensor ids", note="a list of sensor ids, the order of a recording or graph; nothing to train on")


def _tracks(path: Path, lines: list[str]) -> DataFile | None:
    """ETH and UCY as SGAN distributes them: frame, pedestrian, x, y, parted by blanks."""
    rows = [line.split() for line in lines]
    if not rows or any(len(row) != 4 or not all_numbers(row) for row in rows):
        return None
    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError:
        return None
    counted = table[:, :2]
    if table.shape[1] != 4 or (counted % 1).any() or (np.diff(table[:, 0]) < 0).any():
        return None
    frames, people = (len(np.unique(counted[:, column])) for column in (0, 1))
    return DataFile(
        "pedestrian tracks",
        note=f"{len(table)} positions of {people} pedestrians in {frames} frames (frame, pedestrian, x, y); "
        "trajectories belong to another model family than ST-UNet",
    )


def _motion(path: Path, lines: list[str]) -> DataFile | None:
    """CMU's motion capture: a pose a line."""
    rows = [line.split(",") for line in lines]
    poses = all(len(row) == _MOCAP_COLUMNS and all_numbers(row) for row in rows)
    if not rows or len(rows) == _MOCAP_COLUMNS or not poses:
        return None
    with open_text(path) as file:
        frames = sum(1 for line in file if line.strip())
    return DataFile(
        "motion capture",
        note=f"{frames} frames of {_MOCAP_COLUMNS} numbers, the pose of a skeleton; "
        "motion belongs to another model family than ST-UNet",
    )
