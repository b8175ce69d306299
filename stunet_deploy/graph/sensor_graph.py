"""The graph of a sensor network as its file gives it, before it is prepared for the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.graph.adjacency import Adjacency, checked_adjacency
from stunet_deploy.graph.kernel import STGCN_SIGMA_METRES, STGCN_THRESHOLD, kernel_adjacency, usual

DISTANCE_MEDIAN = 1.5
"""With a median above this off the diagonal and zeros on it, a matrix holds metres and not weights."""
SHORTEST_NETWORK_METRES = 1000
"""A matrix of distances that are all below this is not in metres: the kernel would join everything alike."""
MANY_ZEROS = 0.1
"""A matrix of distances with a larger share of zeros has them for pairs that are not joined."""
LARGEST_WEIGHT = 100
"""A weight above this is a distance in the wrong place."""


@dataclass(frozen=True)
class EdgeCut:
    """The effect of DCRNN's kernel on a list of distances."""

    listed: int
    """Edges in the list, each direction counted, without repetitions and edges of a sensor to itself."""
    kept: int
    """Edges whose weight is not cut: all of a list of neighbours."""
    raised: int
    """Edges kept with the least weight, although the kernel would cut them."""
    left_alone: int
    """Sensors with an edge in the list and none in the graph."""
    sigma: float
    """Scale of the kernel, in the unit of the distances."""
    sigma_of: Literal["standard deviation", "root mean square"]
    """What the scale is of the distances."""


@dataclass(frozen=True, eq=False)
class SensorGraph:
    """A graph as its file gives it, one node per sensor."""

    adjacency: Adjacency
    """Weights from sensor to sensor; may be directed."""
    sensor_ids: tuple[str, ...] | None
    """Sensor of every node, or None if neither the file nor the caller named them."""
    latitude: NDArray[np.float64] | None
    """Degrees north, [node], if the file has them."""
    longitude: NDArray[np.float64] | None
    """Degrees east, [node], if the file has them."""
    source: str
    """The file, and how weights were made of it, in one line for logs and provenance."""
    made_from: Literal["weights", "distances", "positions"] = "weights"
    """The content of the file: weights, distances or coordinates."""
    distances: tuple[float, float] | None = None
    """Shortest and longest distance between two sensors in the file, if it holds distances."""
    unit: str = ""
    """Unit of the distances, where it is known; of an edge list only their ratios count."""
    cut: EdgeCut | None = None
    """The edges kept and cut, if the file lists distances edge by edge."""
    notes: tuple[str, ...] = ()
    """What in the file was not as usual, with its remedy."""


def in_order(graph: SensorGraph, wanted: tuple[str, ...], name: str) -> SensorGraph:
    """Select and order the nodes of a graph; without ids it must have the number of sensors wanted.

    Raises:
        DataError: a wanted sensor is missing, or the numbers differ.
    """
    if graph.sensor_ids is None:
        if len(graph.adjacency) != len(wanted):
            raise DataError(
                f"{name}: a matrix of {len(graph.adjacency)} sensors",
                f"one of {len(wanted)}, as the series has",
                "give the graph of the same sensors, or one that names its sensors",
            )
        return replace(graph, sensor_ids=wanted, source=f"{graph.source}, taken to be in the recording's order")
    sensor_ids = as_recorded(graph.sensor_ids, wanted)
    position = {sensor: index for index, sensor in enumerate(sensor_ids)}
    require_present(wanted, set(position), name)
    order = np.array([position[sensor] for sensor in wanted], dtype=np.int64)
    return replace(
        graph,
        source=graph.source + left_out(len(position) - len(wanted)),
        adjacency=graph.adjacency.selected(order),
        sensor_ids=wanted,
        latitude=None if graph.latitude is None else graph.latitude[order],
        longitude=None if graph.longitude is None else graph.longitude[order],
    )


def graph_from_matrix(matrix: NDArray[Any], sensor_ids: tuple[str, ...] | None, name: str) -> SensorGraph:
    """Take a square matrix for weights, or for metres where it evidently holds those.

    Raises:
        DataError: not square, not numbers, ids that do not fit, distances that are no metres, or no weights.
    """
    if matrix.dtype.kind not in "fiub":
        raise DataError(f"{name}: a matrix of {matrix.dtype}", "numbers", "store the weights as float32")
    checked = checked_adjacency(matrix, name)
    nodes = len(checked)
    if sensor_ids is not None:
        if len(sensor_ids) != nodes:
            raise DataError(
                f"{name}: {len(sensor_ids)} sensor ids for a matrix of {nodes}",
                "one per row",
                "make the file again",
            )
        require_unique(sensor_ids, name)
    between = checked[~np.eye(nodes, dtype=np.bool_)]
    longest = float(between.max(initial=0))
    if nodes > 1 and not np.diagonal(matrix).any() and np.median(between) > DISTANCE_MEDIAN:
        _check_metres(between, nodes, name)
        weights = kernel_adjacency(checked, sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD)
        source = f"{name}: distance matrix of {nodes} sensors in metres, STGCN kernel, cut below {STGCN_THRESHOLD}"
        reach = (float(between.min()), longest)
        return SensorGraph(Adjacency.from_matrix(weights), sensor_ids, None, None, source, "distances", reach, "m")
    row, column = divmod(int(checked.argmax()), nodes)
    require_weights(longest, f"{name}[{row}, {column}]")
    return SensorGraph(
        Adjacency.from_matrix(checked), sensor_ids, None, None, f"{name}: weight matrix of {nodes} sensors"
    )


def _check_metres(between: NDArray[np.float64], nodes: int, name: str) -> None:
    """Refuse distances, [pair], in another unit than metres, or with 0 for pairs that are not joined."""
    longest = float(between[usual(between)].max())
    if longest < SHORTEST_NETWORK_METRES:
        raise DataError(
            f"{name}: a matrix of distances up to {longest:g}, a network of {longest:g} m",
            "distances in metres, or weights from 0 to about 1",
            "multiply kilometres by 1000 and miles by 1609",
        )
    zeros = len(between) - np.count_nonzero(between)
    if zeros > max(2 * nodes, MANY_ZEROS * len(between)):  # a neighbour on the other carriageway may be at 0 m
        raise DataError(
            f"{name}: a matrix of distances, {zeros} of which between two sensors are 0",
            "0 m only where two sensors stand at one place",
            "list the pairs that are joined as from,to,distance",
        )


def left_out(sensors: int) -> str:
    """Return the end of a source of which so many sensors are not in the recording."""
    return f"; {sensors} sensor(s) that the recording lacks left out" if sensors else ""


_DECIMAL = re.compile(r"(?<=\d)\.0+$")


def as_recorded(sensor_ids: Sequence[str], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return ids as the recording has them, where they differ by the .0 of a table that took them for numbers.

    Args:
        sensor_ids: of the graph.
        wanted: those of the recording. Without one, .0 is taken away, as it is in recordings.
    """
    if not any(map(_DECIMAL.search, (*sensor_ids, *(wanted or ())))):
        return tuple(sensor_ids)
    plain = [_DECIMAL.sub("", sensor) for sensor in sensor_ids]
    if len(set(plain)) < len(set(sensor_ids)):
        return tuple(sensor_ids)  # 7 and 7.0 are two sensors here
    recorded = {_DECIMAL.sub("", sensor): sensor for sensor in wanted or ()}
    return tuple(recorded.get(sensor, sensor) for sensor in plain)


def named(sensors: Sequence[str]) -> str:
    """Return up to five of some sensors, for messages."""
    return ", ".join(sensors[:5]) + (", ..." if len(sensors) > 5 else "")


def require_weights(largest: float, where: str) -> None:
    """Refuse distances in the place of weights, which would join the farthest sensors the strongest.

    Args:
        largest: the largest of the weights.
        where: the file and the place in it, for the message.

    Raises:
        DataError: the largest value is no weight.
    """
    if largest > LARGEST_WEIGHT:
        raise DataError(
            f"{where}: a weight of {largest:g}, which looks like a distance",
            "weights, large for near sensors and 0 for those that are not joined",
            "give distances as from,to,distance, or as a full matrix of metres with a zero diagonal",
        )


def require_present(wanted: Sequence[str], known: set[str], name: str) -> None:
    """Refuse a graph that lacks sensors.

    Raises:
        DataError: up to five of them are named.
    """
    missing = [sensor for sensor in wanted if sensor not in known]
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(wanted)} sensors are not in the graph ({named(missing)})",
            "every sensor of the recording",
            "add them to the graph file, or take them out of the recording"
            if len(missing) < len(wanted)
            else "give the graph of the recording's own network, with the recording's ids",
        )


def require_unique(sensor_ids: Sequence[str], where: str) -> None:
    """Refuse a list of sensors that names one twice.

    Raises:
        DataError: the first such sensor is named.
    """
    if len(set(sensor_ids)) != len(sensor_ids):
        repeated = next(sensor for index, sensor in enumerate(sensor_ids) if sensor in sensor_ids[:index])
        raise DataError(f"{where}: sensor {repeated} twice", "every sensor once", "take one of them out")
