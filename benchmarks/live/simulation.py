"""A day of traffic on the junction, and what the detectors read while it happens.

    python -m benchmarks.live.simulation --day 14 [--seed 0] [--speed 0] [--until 86400]

prints the readings of that day, a line of JSON each, as ``stunet run`` takes them. Vehicles, queues and signals are the
work of SUMO (Lopez et al. 2018, "Microscopic Traffic Simulation using SUMO", ITSC), driven by libsumo.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.live.demand import DEMAND, Incident, Plan, midnight, plan_day
from benchmarks.live.network import Network, read_network
from stunet_deploy.series.wall_clock import DAY_S

PERIOD_S = 30
"""Seconds that one reading covers."""

LOST_READINGS = 0.01
"""Share of single readings that never arrive."""

LONGEST_WAIT_S = 900
"""Who cannot enter the network for so long takes another way."""


class Reading(NamedTuple):
    """What one detector measured in one period.

    Attributes:
        sensor: its id.
        seconds: end of the period, seconds since the epoch.
        speed: mean in km/h, None without a vehicle.
        flow: vehicles.
        occupancy: percent of the time, mean over the lanes.
    """

    sensor: str
    seconds: int
    speed: float | None
    flow: int
    occupancy: float

    def to_json_line(self) -> str:
        """Return it as the service reads it."""
        values = {"speed": self.speed, "flow": self.flow, "occupancy": self.occupancy}
        return json.dumps({"sensor": self.sensor, "timestamp": self.seconds, "values": values})


def simulate_day(network: Network, day: int, seed: int, until: int = DAY_S) -> Iterator[list[Reading]]:
    """Simulate a day from its midnight, with an empty network, and yield the readings of each period at its end.

    Args:
        network: where.
        day: weekdays after :data:`benchmarks.live.demand.START`.
        seed: of all days.
        until: seconds after midnight at which to stop.
    """
    sumo = import_libsumo()
    plan = plan_day(day, seed, len(network.detectors))
    # A generator of its own, so that what is lost does not change what is simulated.
    rng = np.random.default_rng([seed, day, 1])
    with tempfile.TemporaryDirectory() as folder:
        routes, additional = Path(folder) / "day.rou.xml", Path(folder) / "day.add.xml"
        routes.write_text(routes_xml(network, plan), encoding="utf-8")
        extras = f"<additional>\n{network.signals_xml()}\n{network.loops_xml(PERIOD_S)}\n</additional>\n"
        additional.write_text(extras, encoding="utf-8")
        options = {
            "net-file": network.path,
            "route-files": routes,
            "additional-files": additional,
            "seed": rng.integers(2**31),
            "max-depart-delay": LONGEST_WAIT_S,
            "xml-validation": "never",
        }
        _start(sumo, options)
        try:
            for lane in network.closed_lanes():
                sumo.lane.setDisallowed(lane, ["all"])
            limits = _Limits(sumo, network, plan)
            for now in range(PERIOD_S, until + 1, PERIOD_S):
                sumo.simulationStep(float(now))
                heard = rng.uniform(size=len(network.detectors)) >= LOST_READINGS
                for start, end, detector in plan.silent:
                    heard[detector] &= not start <= now < end
                yield [
                    _read(sumo, detector.name, detector.loops, midnight(day) + now)
                    for detector, arrives in zip(network.detectors, heard, strict=True)
                    if arrives
                ]
                limits.apply(now)
        finally:
            sumo.close()


def import_libsumo() -> Any:
    """Return libsumo, without what it prints on import about a pyarrow that is not used here."""
    with redirect_stdout(io.StringIO()):
        import libsumo

    return libsumo


def _start(sumo: Any, options: Mapping[str, object]) -> None:
    """Start SUMO without a word but for errors."""
    named = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    sumo.start(["sumo", "--no-step-log", "--no-warnings", "--duration-log.disable", *named])


def _read(sumo: Any, name: str, loops: tuple[str, ...], seconds: int) -> Reading:
    """Return what the loops of a detector have measured in the period that is over."""
    counts = [sumo.inductionloop.getLastIntervalVehicleNumber(loop) for loop in loops]
    speeds = [sumo.inductionloop.getLastIntervalMeanSpeed(loop) for loop in loops]
    occupancies = [sumo.inductionloop.getLastIntervalOccupancy(loop) for loop in loops]
    vehicles = sum(counts)
    driven = sum(count * speed for count, speed in zip(counts, speeds, strict=True) if count)
    speed = round(3.6 * driven / vehicles, 1) if vehicles else None
    # A vehicle that is on a loop at the turn of a period makes SUMO's occupancy negative at times.
    occupancy = max(0.0, round(sum(occupancies) / len(loops), 1))
    return Reading(name, seconds, speed, vehicles, occupancy)


class _Limits:
    """Speed limits of a day: the roads' own, lower in rain and where traffic is slow."""

    def __init__(self, sumo: Any, network: Network, plan: Plan) -> None:
        self._sumo = sumo
        self._plan = plan
        self._own = {edge.getID(): edge.getSpeed() for edge in network.roads.getEdges()}
        self._now = dict(self._own)

    def apply(self, seconds: int) -> None:
        """Set those of a time after midnight, where they have changed."""
        wet = min((factor for start, end, factor in self._plan.rain if start <= seconds < end), default=1.0)
        wanted = {edge: wet * speed for edge, speed in self._own.items()}
        for incident in self._plan.incidents:
            if incident.lane is None and incident.start <= seconds < incident.end:
                wanted[incident.edge] = min(wanted[incident.edge], incident.speed)
        for edge, speed in wanted.items():
            if speed != self._now[edge]:
                self._sumo.edge.setMaxSpeed(edge, speed)
        self._now = wanted


def routes_xml(network: Network, plan: Plan) -> str:
    """Return a day's vehicles, with those that break down, ordered by departure."""
    paths = [_path(network, demand.start, demand.end) for demand in DEMAND]
    lines = [
        '<routes>\n<vType id="car" speedFactor="normc(1.05,0.12,0.7,1.5)" sigma="0.5"/>',
        '<vType id="lorry" vClass="truck" speedFactor="normc(1.0,0.05,0.8,1.1)" maxSpeed="25"/>',
        *(f'<route id="{number}" edges="{" ".join(path)}"/>' for number, path in enumerate(paths)),
    ]
    vehicles = [
        (depart, f"{_vehicle(number, truck, demand, depart)}/>")
        for number, (depart, demand, truck) in enumerate(
            zip(plan.vehicles.tolist(), plan.demands.tolist(), plan.trucks.tolist(), strict=True)
        )
    ]
    for number, incident in enumerate(plan.incidents):
        route = next(index for index, path in enumerate(paths) if incident.edge in path)
        if incident.lane is not None:
            vehicle = _vehicle(f"broken-{number}", False, route, incident.start)
            vehicles.append((float(incident.start), f"{vehicle}>{_stop(incident)}</vehicle>"))
    lines += [line for _, line in sorted(vehicles, key=lambda vehicle: vehicle[0])]
    return "\n".join(lines) + "\n</routes>\n"


def _vehicle(name: object, truck: bool, route: int, depart: float) -> str:
    """Return the beginning of a vehicle's element."""
    kind = "lorry" if truck else "car"
    where = 'departLane="free" departSpeed="max"'
    return f'<vehicle id="{name}" type="{kind}" route="{route}" depart="{depart:.1f}" {where}'


def _stop(incident: Incident) -> str:
    return f'<stop lane="{incident.edge}_{incident.lane}" endPos="{incident.offset_m:.1f}" until="{incident.end}"/>'


def _path(network: Network, start: str, end: str) -> list[str]:
    """Return the edges of the fastest way."""
    edges = (network.roads.getEdge(name) for name in (start, end))
    path, _ = network.roads.getOptimalPath(*edges, fastest=True, vClass="passenger")
    return [edge.getID() for edge in path]


def degrees(network: Network) -> tuple[list[float], list[float]]:
    """Return latitudes and longitudes [detector]."""
    sumo = import_libsumo()
    _start(sumo, {"net-file": network.path})
    try:
        pairs = [sumo.simulation.convertGeo(detector.x, detector.y) for detector in network.detectors]
    finally:
        sumo.close()
    return [latitude for _, latitude in pairs], [longitude for longitude, _ in pairs]


def publish(day: int, seed: int, speed: float, until: int = DAY_S) -> None:
    """Print the readings of a day as they happen.

    Args:
        day, seed, until: as in :func:`simulate_day`.
        speed: 1 is real time, 60 a minute a second; 0 as fast as SUMO goes.
    """
    begin = time.monotonic()
    for number, readings in enumerate(simulate_day(read_network(), day, seed, until), start=1):
        if speed > 0:
            time.sleep(max(0.0, begin + number * PERIOD_S / speed - time.monotonic()))
        sys.stdout.write("".join(reading.to_json_line() + "\n" for reading in readings))
        sys.stdout.flush()


def main() -> None:
    """Publish the day that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--day", type=int, required=True, help="weekdays after the first Monday")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument("--speed", type=float, default=0.0, help="1 is real time; 0 as fast as SUMO goes")
    parser.add_argument("--until", type=int, default=DAY_S, help="seconds after midnight at which to stop")
    options = parser.parse_args()
    publish(options.day, options.seed, options.speed, options.until)


if __name__ == "__main__":
    main()
