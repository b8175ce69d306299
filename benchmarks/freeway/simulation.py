"""One day of traffic on the invented network: trips, incidents and rain, moved by UXsim.

Vehicles, queues and their spill-back come from UXsim (Seo 2025, "UXsim: lightweight mesoscopic traffic flow simulator
in pure Python", JOSS): Newell's car-following model on a triangular fundamental diagram, here with its C++ engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.freeway.detectors import INTERVAL
from benchmarks.freeway.network import STEP_S, Network
from stunet_deploy.errors import ConfigError
from stunet_deploy.series.wall_clock import DAY_S

PLATOON = 2
"""Vehicles simulated as one."""

REACTION_TIME = STEP_S / PLATOON
"""Seconds; with the jam density it gives a lane a capacity of about 2,070 vehicles per hour."""

JAM_DENSITY = 0.14
"""Vehicles per metre of lane."""

WARM_UP = 3600
"""Seconds simulated before each midnight, from an empty network; night traffic flows freely."""

CROSSING = 0.5
"""Attraction of a place on the other freeway, beside that of one straight on."""

UXSIM_OUTFLOW = 2.0
"""Outflow limit of a link without an incident, in capacities: UXsim's own default, no limit in effect."""

DAY_OF_WEEK = np.array([0.97, 1.0, 1.01, 1.02, 1.04, 0.82, 0.68])
"""Trips from Monday to Sunday, as a share of an average weekday's."""


@dataclass(frozen=True)
class Incident:
    """Lanes blocked at the end of a link: ``capacity`` is the share of the link's flow that is left."""

    start: int
    end: int
    sensor: int
    capacity: float


@dataclass(frozen=True)
class Rain:
    """A spell of rain over the whole network, in which cars drive at ``speed`` times their free speed."""

    start: int
    end: int
    speed: float


@dataclass(frozen=True)
class Day:
    """One simulated day: times in seconds after its midnight, arrays [intervals, sensors]."""

    speed: NDArray[np.float64]
    vehicles: NDArray[np.int64]
    incidents: list[Incident]
    rain: list[Rain]


def simulate_day(network: Network, day: int, seed: int, until: int = DAY_S) -> Day:
    """Simulate one day of traffic from its midnight.

    Args:
        network: the roads, and the places where trips start and end.
        day: days after the Monday the data set starts with.
        seed: seed of the whole data set; each day draws from streams of its own.
        until: seconds after midnight at which to stop, a multiple of the interval.

    Returns:
        The mean speed in km/h over the vehicles on each sensor's link in each interval (NaN where
        there were none), the number of vehicles that passed, the incidents and the rain.

    Raises:
        ConfigError: UXsim is not installed.
    """
    rng = np.random.default_rng([seed, day])
    incidents = _draw_incidents(network, day, rng)
    rain = _draw_rain(rng)
    world, links = _build_world(network, WARM_UP + until, int(rng.integers(2**31)))
    _add_trips(world, network, day, until, rng)
    _run(world, links, network, incidents, rain, until)
    speed, vehicles = _observe(links[: len(network.sensors)], until)
    return Day(speed, vehicles, incidents, rain)


def _build_world(network: Network, duration: int, seed: int) -> tuple[Any, list[Any]]:
    """The network as a UXsim world that runs for ``duration`` seconds, and its links."""
    try:
        import uxsim
    except ModuleNotFoundError as error:
        raise ConfigError(
            "UXsim is not installed",
            "the traffic simulator that makes the data set",
            "pip install 'stunet-deploy[simulate]'",
        ) from error
    world = uxsim.World(
        deltan=PLATOON,
        reaction_time=REACTION_TIME,
        tmax=duration,
        duo_update_time=duration,  # there is one way from here to there, so no route is chosen anew
        vehicle_logging_timestep_interval=-1,
        random_seed=seed,
        print_mode=0,
        save_mode=0,
        show_mode=0,
        cpp=True,
    )
    for node in network.nodes:
        world.addNode(node.name, node.x, node.y)
    links = [
        world.addLink(
            link.name,
            link.start,
            link.end,
            length=link.length,
            free_flow_speed=link.speed,
            number_of_lanes=link.lanes,
            jam_density_per_lane=JAM_DENSITY,
            merge_priority=link.lanes,
        )
        for link in network.links
    ]
    return world, links


def _profile(day: int, hours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a day's trips per hour in the morning peak, the evening peak and at other times [3, hours]."""

    def peak(share: float, at: float, width: float) -> NDArray[np.float64]:
        bell: NDArray[np.float64] = np.exp(-0.5 * ((hours - at) / width) ** 2)
        return bell * share / (width * math.sqrt(2 * math.pi))

    if day % 7 >= 5:
        none = np.zeros(hours.shape)
        return np.stack([none, none, peak(0.93, 14.0, 4.3) + 0.07 / 24])
    evening = 16.6 if day % 7 == 4 else 17.2
    return np.stack([peak(0.15, 7.7, 0.95), peak(0.185, evening, 1.3), peak(0.625, 13.5, 4.0) + 0.04 / 24])


def _add_trips(world: Any, network: Network, day: int, until: int, rng: np.random.Generator) -> None:
    """Draw every platoon's start, origin and destination, and add it to the simulation.

    A place's number of trips follows the hour and the day of the week, a factor of the day, and a
    slow fluctuation within the day; platoons then come as a Poisson process.
    """
    hours = np.arange(-WARM_UP, until, INTERVAL) / 3600 + INTERVAL / 7200
    shift = rng.normal(0.0, 0.15)
    profile = _profile(day, hours - shift)
    profile[:, hours < 0] = _profile(day - 1, hours[hours < 0] + 24)
    whole_day = DAY_OF_WEEK[day % 7] * rng.lognormal(0.0, 0.035)
    out = np.array([[2 * place.homes, 2 - 2 * place.homes, 1.0] for place in network.origins])
    into = np.array([[2 - 2 * place.homes, 2 * place.homes, 1.0] for place in network.destinations])
    reachable = network.reachable()
    size = np.array([place.trips for place in network.destinations])
    freeway = np.array([place.node[0] for place in network.destinations])
    for index, place in enumerate(network.origins):
        factor = whole_day * rng.lognormal(0.0, 0.05) * np.exp(_fluctuation(len(hours), rng))
        expected = place.trips * factor * INTERVAL / 3600 * (out[index] @ profile) / PLATOON
        attraction = size * reachable[index] * np.where(freeway == place.node[0], 1.0, CROSSING)
        for interval, count in enumerate(rng.poisson(expected)):
            weights = attraction * (into @ (out[index] * profile[:, interval]))
            targets = rng.choice(len(weights), size=count, p=weights / weights.sum())
            starts = rng.uniform(interval, interval + 1, size=count) * INTERVAL
            for start, target in zip(starts, targets, strict=True):
                world.addVehicle(place.node, network.destinations[target].node, float(start))


def _fluctuation(
    steps: int, rng: np.random.Generator, spread: float = 0.09, memory: float = 0.88
) -> NDArray[np.float64]:
    """A first-order autoregressive series [steps] with the given standard deviation."""
    series = np.empty(steps)
    series[0] = rng.normal(0.0, spread)
    for step in range(1, steps):
        series[step] = memory * series[step - 1] + rng.normal(0.0, spread * np.sqrt(1 - memory**2))
    return series


def _draw_incidents(network: Network, day: int, rng: np.random.Generator) -> list[Incident]:
    """Incidents of one day, by daylight and in proportion to a link's length."""
    length = np.array([link.length for link in network.sensors])
    incidents = []
    for _ in range(rng.poisson(1.8 if day % 7 < 5 else 1.0)):
        start = int(rng.uniform(6, 20.5) * 3600)
        duration = int(rng.uniform(20, 60) * 60)
        sensor = int(rng.choice(len(length), p=length / length.sum()))
        incidents.append(Incident(start, start + duration, sensor, float(rng.uniform(0.2, 0.5))))
    return sorted(incidents, key=lambda incident: incident.start)


def _draw_rain(rng: np.random.Generator) -> list[Rain]:
    """At most one spell of rain a day, on about a quarter of the days."""
    if rng.uniform() > 0.25:
        return []
    start = int(rng.uniform(5, 19) * 3600)
    return [Rain(start, start + int(rng.uniform(1, 4) * 3600), float(rng.uniform(0.86, 0.95)))]


def _run(
    world: Any,
    links: Sequence[Any],
    network: Network,
    incidents: Sequence[Incident],
    rain: Sequence[Rain],
    until: int,
) -> None:
    """Run the simulation, changing its links when an incident or a spell of rain begins and ends."""

    def limit(sensor: int, share: float) -> None:
        links[sensor].capacity_out = share * links[sensor].capacity

    def slow(factor: float) -> None:
        for link, road in zip(links, network.links, strict=True):
            link.change_free_flow_speed(factor * road.speed)

    changes: list[tuple[int, Callable[[], None]]] = []
    for incident in incidents:
        changes.append((incident.start, partial(limit, incident.sensor, incident.capacity)))
        changes.append((incident.end, partial(limit, incident.sensor, UXSIM_OUTFLOW)))
    for spell in rain:
        changes.append((spell.start, partial(slow, spell.speed)))
        changes.append((spell.end, partial(slow, 1.0)))
    for at, change in sorted(changes, key=lambda item: item[0]):
        if at < until:
            world.exec_simulation(until_t=WARM_UP + at)
            change()
    world.exec_simulation()


def _observe(links: Sequence[Any], until: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean speed in km/h and number of vehicles of each link in each interval [intervals, links].

    Both follow Edie's definitions over the whole link: speed is the distance driven by all vehicles
    over the time they spent, flow is that distance over length times duration. UXsim's travel time
    at a step is the length over the mean speed of the vehicles present after the step before.
    """
    intervals, first = until // INTERVAL, round(WARM_UP / STEP_S)
    speed = np.full((intervals, len(links)), np.nan)
    vehicles = np.zeros((intervals, len(links)), dtype=np.int64)
    for index, link in enumerate(links):
        present = np.subtract(link.cum_arrival, link.cum_departure)
        present = np.concatenate([[0.0], present[:-1]])[first:].reshape(intervals, -1)
        metres_per_second = (link.length / np.asarray(link.traveltime_instant))[first:].reshape(intervals, -1)
        driven = (present * metres_per_second).sum(axis=1) * STEP_S
        spent = present.sum(axis=1) * STEP_S
        vehicles[:, index] = np.rint(driven / link.length)
        seen = vehicles[:, index] > 0
        speed[seen, index] = 3.6 * driven[seen] / spent[seen]
    return speed, vehicles
