"""Read a sensor graph from the files it is usually distributed in, told apart by their content."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stunet_deploy.array_files import load_npy, load_npz, load_pickle
from stunet_deploy.errors import DataError
from stunet_deploy.files import read_file
from stunet_deploy.graph.cells import GRAPH_KINDS as GRAPH_KINDS
from stunet_deploy.graph.cells import split_table
from stunet_deploy.graph.libcity import graph_from_libcity, is_libcity
from stunet_deploy.graph.sensor_graph import SensorGraph as SensorGraph
from stunet_deploy.graph.sensor_graph import as_recorded, graph_from_matrix, in_order, require_unique
from stunet_deploy.graph.tables import graph_from_table, positions_from_table
from stunet_deploy.series.layouts.files import are_several
from stunet_deploy.series.layouts.libcity import file_beside, settings_beside
from stunet_deploy.series.layouts.packed import kind_of_zip
from stunet_deploy.series.layouts.several import unpacked

# Protocol 2 and later begin with a version, older ones with a container or the first name they import.
_PICKLE_START = re.compile(rb"\x80|[(\]}]|c[\w.]+\n[\w.]+\n")
#: Bytes of a graph file: a dense matrix of twice as many sensors as LargeST has.
_LARGEST = 2 << 30
_LARGEST_GRAPH = "_rn_adj.npy"


def read_graph(path: str | Path, sensor_ids: Sequence[str] | None = None) -> SensorGraph:
    """Read a graph file of any kind that this project knows.

    Distances become weights by DCRNN's kernel in edge lists and by STGCN's in matrices, see
    `stunet_deploy.graph.kernel.kernel_adjacency`; coordinates by `stunet_deploy.graph.positions`.

    Args:
        path: a pickled ``adj_mx.pkl``, a square matrix as CSV (with or without sensor ids in a header row) or
            .npy, an edge list or coordinates as CSV, a .rel or .geo of LibCity, PeMS's list of stations, or an .npz
            with ``adjacency`` and ``sensor_ids``. Beside LargeST's ``<area>_rn_adj.npy``, its ``<area>_meta.csv`` is
            read for ids and coordinates.
        sensor_ids: sensors of the series, in order. The graph is brought into that order, and its other
            sensors are dropped. A matrix without sensor ids must have their number. An edge list none of
            whose ids is among them may give positions 0 ... N-1 instead; N-1 must occur in it.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind or unsafe, a value is not a weight, or a
            sensor is missing; the message names the line and column, or up to five sensors.
    """
    path = Path(path)
    try:
        content = read_file(path, _LARGEST)
    except OSError as error:
        raise DataError(f"graph file {path}: {error.strerror}", GRAPH_KINDS, "check the path") from error
    wanted = None if sensor_ids is None else tuple(str(sensor) for sensor in sensor_ids)
    if wanted is not None:
        require_unique(wanted, "the series")
    if content.startswith(b"\x93NUMPY"):
        graph = _from_npy(content, path)
    elif content.startswith(b"PK") and kind_of_zip(path) == "npz":
        graph = _from_npz(content, path.name)
    elif _PICKLE_START.match(content) or path.suffix in (".pkl", ".pickle"):
        graph = _from_pickle(content, path.name)
    elif content.startswith((b"\x89HDF", b"PAR1")):
        raise DataError(f"{path.name}: a binary file of unknown kind", GRAPH_KINDS, "give one of these")
    else:
        table = split_table(path)
        graph = graph_from_libcity(path, table, wanted) if is_libcity(table) else graph_from_table(table, wanted)
    if wanted is not None:
        graph = in_order(graph, wanted, path.name)
    elif graph.sensor_ids is not None:
        graph = replace(graph, sensor_ids=as_recorded(graph.sensor_ids, None))
    isolated = int(graph.adjacency.isolated.sum())
    return replace(graph, source=f"{graph.source}; {isolated} without a neighbour") if isolated else graph


def graph_beside(data: Path, sensor_ids: Sequence[str]) -> SensorGraph | None:
    """Read the relations of LibCity that belong to a recording of it; None where there are none.

    Args:
        data: the states, or a folder or zip archive of them.
        sensor_ids: sensors of the recording, in order.

    Raises:
        DataError: there are several, or they cannot be used.
    """
    if not are_several(data):
        relations = file_beside(data, settings_beside(data), "rel") if ".dyna" in data.name else None
        return None if relations is None else read_graph(relations, sensor_ids)
    with unpacked(data, (".rel", ".geo", "config.json")) as folder:
        found = sorted(folder.glob("*.rel"))
        if len(found) > 1:
            raise DataError(
                f"{data.name} with {len(found)} files of relations ({', '.join(path.name for path in found[:3])})",
                "one of them",
                "choose it with --graph",
            )
        return read_graph(found[0], sensor_ids) if found else None


def _from_npy(content: bytes, path: Path) -> SensorGraph:
    matrix = load_npy(content, path.name)
    meta = path.with_name(f"{path.name.removesuffix(_LARGEST_GRAPH)}_meta.csv")
    if not path.name.endswith(_LARGEST_GRAPH) or not meta.is_file():
        return graph_from_matrix(matrix, None, path.name)
    sensor_ids, latitude, longitude = positions_from_table(split_table(meta))
    graph = graph_from_matrix(matrix, sensor_ids, f"{path.name} with {meta.name}")
    return replace(graph, latitude=latitude, longitude=longitude)


def _from_npz(content: bytes, name: str) -> SensorGraph:
    arrays, keys = load_npz(content, name, {"adjacency", "sensor_ids", "latitude", "longitude"})
    if "adjacency" not in arrays or "sensor_ids" not in arrays:
        raise DataError(
            f"{name} with {', '.join(keys[:5]) or 'no arrays'}",
            "arrays adjacency and sensor_ids",
            "add them, or give another file",
        )
    sensor_ids = tuple(str(sensor) for sensor in arrays["sensor_ids"].tolist())
    graph = graph_from_matrix(arrays["adjacency"], sensor_ids, name)
    for key in ("latitude", "longitude"):
        if key in arrays and arrays[key].shape != (len(sensor_ids),):
            raise DataError(f"{name}: {key} of shape {list(arrays[key].shape)}", "one per sensor", "correct it")
    return replace(graph, latitude=arrays.get("latitude"), longitude=arrays.get("longitude"))


def _from_pickle(content: bytes, name: str) -> SensorGraph:
    loaded = load_pickle(content, name)
    fits = isinstance(loaded, list | tuple) and [type(part) for part in loaded] == [list, dict, np.ndarray]
    if not fits:
        raise DataError(
            f"{name}: a pickle of {type(loaded).__name__}",
            "[sensor ids, {id: index}, matrix]",
            "give adj_mx.pkl as DCRNN writes it, or an .npz with adjacency and sensor_ids",
        )
    sensor_ids = tuple(_as_text(sensor) for sensor in loaded[0])
    index = {_as_text(sensor): position for sensor, position in loaded[1].items()}
    if index != {sensor: position for position, sensor in enumerate(sensor_ids)}:
        raise DataError(
            f"{name}: its index disagrees with its list of sensors",
            "one order in both",
            "make the file again",
        )
    return graph_from_matrix(loaded[2], sensor_ids, name)


def _as_text(sensor: object) -> str:
    if not isinstance(sensor, str | bytes | int | float):
        raise DataError(f"a {type(sensor).__name__} as a sensor id", "text or a number", "make the file again")
    return sensor.decode("latin1") if isinstance(sensor, bytes) else str(sensor)
