"""The invented freeway network of the embedded data set: geometry, detectors and road distances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from stunet_deploy.graph.kernel import kernel_adjacency

_HEADINGS = {"AE": (1, 0), "AW": (-1, 0), "BN": (0, 1), "BS": (0, -1)}
"""The four carriageways: freeway A eastbound and westbound, freeway B northbound and southbound."""

_ARM_KM = {"A": 9.0, "B": 7.4}
"""From the centre, where the freeways cross, to each end."""

_LOCAL_KM = {"A": (2.3, 4.6, 7.0), "B": (2.6, 5.4)}
"""From the centre to the local interchanges on both arms of a freeway."""

_RAMP_KM = 0.3
"""An exit lies this far before the middle of a local interchange, an entrance this far after it."""

_CONNECTOR_KM = 0.8
"""Connectors between the freeways leave and join a carriageway this far from the centre."""

_LINK_KM = 1.2
"""Longest freeway link; each has one detector."""

_SIDE_KM = 0.25
"""Carriageways are drawn this far to the right of their freeway's middle line, so that both show."""

_CAR_SPEED, _CONNECTOR_SPEED, _RAMP_SPEED = 30.0, 20.0, 15.0
"""Free speeds in m/s."""

STEP_S = 3.0
"""Links are a whole number of such steps long at free speed, see :mod:`benchmarks.freeway.simulation`."""

_THROUGH = {
    "AE": (52_000.0, 33_000.0),
    "AW": (42_000.0, 51_000.0),
    "BN": (36_000.0, 39_000.0),
    "BS": (39_000.0, 34_000.0),
}
"""Vehicles a day that enter at the start of each carriageway, and that leave at its end."""

_REACH = 8000.0
"""Sensors further apart than this, in metres of road, are not joined."""

_SLOW_BEND = {("AE", -1), ("AW", -1), ("BN", 1)}
"""Carriageway and side of the centre (before or after it) where the road bends and cars go slower."""


@dataclass(frozen=True)
class Node:
    """A point where links meet; coordinates in km east and north of the centre."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Link:
    """A stretch of road between two nodes.

    ``length`` is in metres, ``speed`` is the free speed in m/s, ``sensor`` tells whether it has a
    detector, and ``x`` and ``y`` are where that is drawn, in km east and north of the centre.
    """

    name: str
    start: str
    end: str
    length: float
    lanes: int
    speed: float
    sensor: bool
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where trips start or end: a boundary of the network or a ramp of a local interchange.

    ``trips`` is the vehicles on an average day; ``homes`` is the share of the commuters here who
    leave in the morning and come back in the evening, the others do the reverse.
    """

    node: str
    trips: float
    homes: float


@dataclass(frozen=True)
class Network:
    """Nodes, links, and the places where trips start and end."""

    nodes: list[Node]
    links: list[Link]
    origins: list[Place]
    destinations: list[Place]

    @property
    def sensors(self) -> list[Link]:
        """The links with a detector, in sensor order."""
        return [link for link in self.links if link.sensor]

    def road_edges(self) -> NDArray[np.int32]:
        """Pairs of sensor indices [E, 2], upstream then downstream, of links that touch."""
        sensors = self.sensors
        pairs = [(i, j) for i, a in enumerate(sensors) for j, b in enumerate(sensors) if a.end == b.start]
        return np.array(pairs, dtype=np.int32)

    def distances(self) -> NDArray[np.float64]:
        """Driving distance in metres [N, N] from the middle of link i to that of link j; inf if no way."""
        length = np.array([link.length for link in self.sensors])
        start, end = self.road_edges().T
        steps = coo_array(((length[start] + length[end]) / 2, (start, end)), shape=(length.size,) * 2)
        return np.asarray(dijkstra(steps.tocsr()))

    def adjacency(self) -> NDArray[np.float32]:
        """Directed weights [N, N]: DCRNN's kernel of the driving distances up to 8 km, zero diagonal."""
        distances = self.distances()
        distances[distances > _REACH] = np.inf
        np.fill_diagonal(distances, np.inf)  # a sensor's distance to itself has no part in the spread
        return kernel_adjacency(distances).astype(np.float32)

    def reachable(self) -> NDArray[np.bool_]:
        """Whether one can drive from origin i to destination j [origins, destinations]."""
        index = {node.name: i for i, node in enumerate(self.nodes)}
        start = [index[link.start] for link in self.links]
        end = [index[link.end] for link in self.links]
        roads = coo_array((np.ones(len(start)), (start, end)), shape=(len(index),) * 2)
        distance = dijkstra(roads.tocsr(), indices=[index[place.node] for place in self.origins])
        reached: NDArray[np.bool_] = np.isfinite(distance)
        return reached[:, [index[place.node] for place in self.destinations]]


def crossing_freeways() -> Network:
    """Two freeways that cross: four carriageways, eight connectors, ten local interchanges.

    Lane drops (A east of 5 km, B beyond 2.9 km), merges and a slow bend are its bottlenecks. The
    network has no cycle, so a queue cannot lock itself.
    """
    nodes: list[Node] = []
    links: list[Link] = []
    origins: list[Place] = []
    destinations: list[Place] = []
    for way in _HEADINGS:
        _add_carriageway(way, nodes, links, origins, destinations)
    where = {node.name: node for node in nodes}
    for way in _HEADINGS:
        for other in _HEADINGS:
            if other[0] != way[0]:
                links.append(_connector(way, other, where))
    links.sort(key=lambda link: not link.sensor)
    return Network(nodes, links, origins, destinations)


def _add_carriageway(
    way: str, nodes: list[Node], links: list[Link], origins: list[Place], destinations: list[Place]
) -> None:
    """Lay one carriageway with its ramps, upstream to downstream."""
    arm = _ARM_KM[way[0]]
    marks = {-arm: "start", -_CONNECTOR_KM: "out", _CONNECTOR_KM: "in", arm: "end"}
    for middle in _LOCAL_KM[way[0]]:
        for side in (-middle, middle):
            marks |= {side - _RAMP_KM: f"exit{side:+.1f}", side + _RAMP_KM: f"entrance{side:+.1f}"}
    stops = sorted(marks)
    nodes.append(_node(way, f"{way} start", -arm))
    origins.append(Place(f"{way} start", _THROUGH[way][0], homes=0.62))
    previous, number = f"{way} start", 0
    for begin, end in pairwise(stops):
        pieces = math.ceil((end - begin) / _LINK_KM - 1e-9)
        for piece in range(1, pieces + 1):
            number += 1
            at = begin + (end - begin) * piece / pieces
            name = f"{way} {marks[end]}" if piece == pieces else f"{way} {number}"
            middle = at - (end - begin) / pieces / 2
            spot = _node(way, name, middle)
            speed = _free_speed(way, middle)
            nodes.append(_node(way, name, at))
            links.append(
                Link(
                    f"{way}{number:02d}",
                    previous,
                    name,
                    length=_whole_steps(1000 * (end - begin) / pieces, speed),
                    lanes=_lanes(way, middle),
                    speed=speed,
                    sensor=True,
                    x=spot.x,
                    y=spot.y,
                )
            )
            previous = name
        kind = marks[end]
        if kind.startswith(("exit", "entrance")):
            _add_ramp(way, kind, end, nodes, links, origins, destinations)
    destinations.append(Place(previous, _THROUGH[way][1], homes=0.62))


def _add_ramp(
    way: str,
    kind: str,
    at: float,
    nodes: list[Node],
    links: list[Link],
    origins: list[Place],
    destinations: list[Place],
) -> None:
    """Add an exit or entrance ramp of one lane and the place it leads to or comes from."""
    street = f"{way} {kind} street"
    nodes.append(_node(way, street, at, side=0.5))
    ends = (f"{way} {kind}", street) if kind.startswith("exit") else (street, f"{way} {kind}")
    links.append(Link(f"{way} {kind}", *ends, length=405.0, lanes=1, speed=_RAMP_SPEED, sensor=False))
    inner = abs(at) < 4.0
    place = Place(street, 7200.0 if inner else 5500.0, homes=0.3 if inner else 0.75)
    (destinations if kind.startswith("exit") else origins).append(place)


def _connector(way: str, other: str, where: dict[str, Node]) -> Link:
    """The connector on which traffic of one carriageway joins another."""
    start, end = where[f"{way} out"], where[f"{other} in"]
    right = (_HEADINGS[way][1], -_HEADINGS[way][0]) == _HEADINGS[other]
    return Link(
        f"{way}-{other}",
        start.name,
        end.name,
        length=1020.0 if right else 1380.0,
        lanes=1,
        speed=_CONNECTOR_SPEED,
        sensor=True,
        x=(start.x + end.x) * (0.4 if right else 0.22),
        y=(start.y + end.y) * (0.4 if right else 0.22),
    )


def _node(way: str, name: str, at: float, side: float = _SIDE_KM) -> Node:
    """The node ``at`` km past the centre, ``side`` km to the right of the middle line."""
    east, north = _HEADINGS[way]
    return Node(name, at * east + side * north, at * north - side * east)


def _lanes(way: str, at: float) -> int:
    """Lanes of a carriageway ``at`` km past the centre."""
    if way[0] == "A":
        return 2 if at * _HEADINGS[way][0] > 5.0 else 3
    return 3 if abs(at) < 2.9 else 2


def _free_speed(way: str, at: float) -> float:
    """Free speed in m/s: slower at the crossing, and in a bend on some arms."""
    if abs(at) < _CONNECTOR_KM:
        return 0.9 * _CAR_SPEED
    if (way, int(math.copysign(1, at))) in _SLOW_BEND and 3.0 < abs(at) < 4.2:
        return 0.8 * _CAR_SPEED
    return _CAR_SPEED


def _whole_steps(length: float, speed: float) -> float:
    """The length in metres nearest to ``length`` that free traffic covers in whole steps."""
    return STEP_S * speed * max(1, round(length / (STEP_S * speed)))
