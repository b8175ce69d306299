"""The junction that the live example runs on: its roads, its detectors, and how far it is from one to the next.

The network is A10KW, which comes with SUMO as a scenario of its game: the junction Königs Wusterhausen of the A10,
Berlin's southern ring, with the main road that crosses it, two side roads and two traffic lights, converted from
OpenStreetMap. It is read from the installed package and not copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from stunet_deploy.errors import ConfigError

FILE = "tools/game/A10KW/osm.net.xml"
"""The network in the folder of the package ``sumo`` (eclipse-sumo)."""

CREDIT = "Roads: A10KW of Eclipse SUMO, from © OpenStreetMap contributors (ODbL)"
"""What a picture of the roads has to say."""

REACH_M = 1500.0
"""Detectors further apart than this, in metres of driving, are not joined in the graph."""

ROADWORKS = ("A10E", "A10W")
"""Corridors whose left lane is closed: with all three lanes open, the vehicles that it takes for a queue would take
hours to simulate."""

_MARGIN_M = 4.0
"""Least distance of a detector from the ends of its edge."""


@dataclass(frozen=True)
class Corridor:
    """A road in one direction.

    Attributes:
        name: first part of the ids of its detectors.
        edges: its edges in SUMO, in driving order.
        detectors: number of detectors, evenly spaced.
    """

    name: str
    edges: tuple[str, ...]
    detectors: int


def _corridor(name: str, detectors: int, edges: str) -> Corridor:
    return Corridor(name, tuple(edges.split()), detectors)


CORRIDORS = (
    _corridor("A10E", 10, "264306385 264308375 264308383 4054057 264308376"),
    _corridor("A10W", 10, "290296351 240042212 151495040 264308374 399250313 264308373"),
    _corridor("north", 5, "360414561 256366923#0 256366926#0 256366926#1 256366928#0 256366925 240042192#0"),
    _corridor("south", 5, "308396219 256366921#0 38234312 256366927"),
    _corridor("NWin", 3, "164719879 164719876 164719877 403940535 151495016#0"),
    _corridor("NWout", 3, "151495017 -164719877 -164719876 -164719879"),
    _corridor("CHin", 2, "26216780#0 26216780#1 4935288 240042194#0"),
    _corridor("CHout", 2, "151495015 253109038 4935299#1"),
    _corridor("offE", 2, "151495034 -256366919 24498410#0"),
    _corridor("onE", 2, "-24498410#1 256366918 24498409"),
    _corridor("offW", 1, "151495018 222448597#0"),
    _corridor("onW", 1, "151495020 308396220"),
)
"""The A10 eastbound and westbound, the main road across it northbound and southbound, the road to the north-west and
the Chausseestraße towards the crossing (in) and away from it (out), and the ramps."""


@dataclass(frozen=True)
class Detector:
    """Induction loops side by side, one on each lane, that report as one.

    Attributes:
        name: its id as a sensor.
        edge, lanes: where it is in SUMO.
        offset_m: metres from the start of the edge.
        x, y: metres in the coordinates of the network.
    """

    name: str
    edge: str
    lanes: tuple[str, ...]
    offset_m: float
    x: float
    y: float

    @property
    def loops(self) -> tuple[str, ...]:
        """Ids of its induction loops in SUMO."""
        return tuple(f"{self.name}_{lane}" for lane in range(len(self.lanes)))


@dataclass(frozen=True)
class Network:
    """What is used of the network.

    Attributes:
        path: the network file.
        roads: sumolib's view of it.
        detectors: in the order of the corridors, in driving order each.
    """

    path: Path
    roads: Any
    detectors: tuple[Detector, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the detectors."""
        return tuple(detector.name for detector in self.detectors)

    def distances(self) -> NDArray[np.float64]:
        """Return the driving distance in metres [detector, detector] from one to another; inf if there is no way."""
        edges = self.roads.getEdges()
        index = {edge.getID(): number for number, edge in enumerate(edges)}
        steps = [
            (index[edge.getID()], index[after.getID()], edge.getLength())
            for edge in edges
            for after, ways in edge.getOutgoing().items()
            if any(way.getDirection() != "t" for way in ways)  # turning back joins no neighbours
        ]
        starts, ends, lengths = zip(*steps, strict=True)
        at = [index[detector.edge] for detector in self.detectors]
        offset = np.array([detector.offset_m for detector in self.detectors])
        between = dijkstra(coo_array((lengths, (starts, ends)), shape=(len(edges),) * 2).tocsr(), indices=at)[:, at]
        distance: NDArray[np.float64] = between - offset[:, None] + offset
        distance[distance <= 0] = np.inf  # behind on the same edge; the way around is no neighbourhood
        return distance

    def closed_lanes(self) -> list[str]:
        """Return the lanes in SUMO that roadworks close."""
        edges = [edge for corridor in CORRIDORS if corridor.name in ROADWORKS for edge in corridor.edges]
        return [self.roads.getEdge(edge).getLanes()[-1].getID() for edge in edges]

    def behind(self, edge: str, offset_m: float) -> list[int]:
        """Return the detectors that come before a place on the same road."""
        found = []
        for corridor in CORRIDORS:
            if edge in corridor.edges:
                ahead = corridor.edges[corridor.edges.index(edge) + 1 :]
                for number, detector in enumerate(self.detectors):
                    of_this = detector.edge in corridor.edges and detector.edge not in ahead
                    if of_this and (detector.edge != edge or detector.offset_m < offset_m):
                        found.append(number)
        return found

    def graph_csv(self) -> str:
        """Return the graph as the edge list ``from,to,distance`` of the detectors within :data:`REACH_M`."""
        distances = self.distances()
        lines = ["from,to,distance"]
        lines += [
            f"{self.names[start]},{self.names[end]},{distances[start, end]:.0f}"
            for start, end in np.argwhere(distances <= REACH_M)
        ]
        return "\n".join(lines) + "\n"

    def signals_xml(self, shortest_s: int = 8, longest_s: int = 32) -> str:
        """Return programs for the traffic lights: those of the game wait for a hand, these for vehicles and time.

        Args:
            shortest_s, longest_s: how long a green phase lasts.
        """
        programs = []
        for light in self.roads.getTrafficLights():
            (program,) = light.getPrograms().values()
            phases = [
                f'<phase duration="{longest_s}" minDur="{shortest_s}" maxDur="{longest_s}" state="{phase.state}"/>'
                if "G" in phase.state
                else f'<phase duration="{phase.duration:g}" state="{phase.state}"/>'
                for phase in program.getPhases()
            ]
            programs.append(
                f'<tlLogic id="{light.getID()}" type="actuated" programID="live" offset="0">{"".join(phases)}</tlLogic>'
            )
        return "\n".join(programs)

    def loops_xml(self, period_s: int) -> str:
        """Return the induction loops, which count over periods of so many seconds."""
        return "\n".join(
            f'<inductionLoop id="{loop}" lane="{lane}" pos="{detector.offset_m:.2f}" period="{period_s}" file="NUL"/>'
            for detector in self.detectors
            for loop, lane in zip(detector.loops, detector.lanes, strict=True)
        )


def read_network() -> Network:
    """Read the network from the installed package and place the detectors.

    Raises:
        ConfigError: SUMO is not installed.
    """
    sumo = find_spec("sumo")
    try:
        import sumolib
    except ModuleNotFoundError:
        sumo = None
    if sumo is None or sumo.origin is None:
        raise ConfigError(
            "SUMO is not installed", "the traffic simulator that the example runs", "pip install 'stunet-deploy[live]'"
        )
    path = Path(sumo.origin).parent / FILE
    roads = sumolib.net.readNet(str(path), withPrograms=True)
    return Network(path, roads, tuple(d for corridor in CORRIDORS for d in _place(roads, corridor)))


def _place(roads: Any, corridor: Corridor) -> Sequence[Detector]:
    """Put a corridor's detectors in the middle of as many equal parts of it."""
    edges = [roads.getEdge(name) for name in corridor.edges]
    starts = [0.0, *accumulate(edge.getLength() for edge in edges)]
    detectors = []
    for number in range(corridor.detectors):
        along = (number + 0.5) * starts[-1] / corridor.detectors
        place = max(index for index, start in enumerate(starts[:-1]) if start <= along)
        edge = edges[place]
        offset = min(max(along - starts[place], _MARGIN_M), edge.getLength() - _MARGIN_M)
        lanes = tuple(lane.getID() for lane in _open_lanes(edge, corridor))
        x, y = _point(edge.getShape(), offset / edge.getLength())
        detectors.append(Detector(f"{corridor.name}-{number + 1}", edge.getID(), lanes, offset, x, y))
    return detectors


def _open_lanes(edge: Any, corridor: Corridor) -> list[Any]:
    """Return the lanes of an edge that are not closed, from the right."""
    lanes: list[Any] = edge.getLanes()
    return lanes[:-1] if corridor.name in ROADWORKS else lanes


def _point(shape: Sequence[tuple[float, float]], share: float) -> tuple[float, float]:
    """Return the point that lies a share of a line's length behind its start."""
    line = np.array(shape)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    x, y = (float(np.interp(share * along[-1], along, line[:, axis])) for axis in (0, 1))
    return x, y
