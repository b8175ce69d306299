"""Who drives when on the junction, and what goes wrong there, drawn at random for each day."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.series.wall_clock import DAY_S

TIMEZONE = "Europe/Berlin"
START = int(datetime(2026, 6, 1, tzinfo=ZoneInfo(TIMEZONE)).timestamp())
"""Monday 1 June 2026, 00:00, in seconds since the epoch."""

SILENT_DETECTORS = 0.5
"""Detectors that fall silent on an average day, for some hours each."""

TRUCKS = 0.12
"""Share of lorries on the motorway; elsewhere it is half of that."""

_ROUTE_S = 300
"""Seconds for which a number of departures is drawn at once."""


@dataclass(frozen=True)
class Demand:
    """Trips from one end of the network to another.

    Attributes:
        start, end: edges in SUMO.
        trips: vehicles on an average weekday.
        morning, evening: share of them in the morning and in the evening peak.
    """

    start: str
    end: str
    trips: float
    morning: float
    evening: float


_WEST, _EAST = ("264306385", "264308373"), ("290296351", "264308376")
_SOUTH, _NORTHWEST = ("360414561", "256366927"), ("164719879", "-164719879")
_NORTH, _WORKS = ("26216780#0", "4935299#1"), ("8008670#0", "-8008670#1")
"""The ends of the network: the edge that comes in, and the one that leaves."""

DEMAND = (
    Demand(_WEST[0], _EAST[1], 24_000, 0.15, 0.21),
    Demand(_EAST[0], _WEST[1], 24_000, 0.20, 0.17),
    Demand(_WEST[0], _SOUTH[1], 5_500, 0.10, 0.26),
    Demand(_WEST[0], _NORTH[1], 2_200, 0.13, 0.22),
    Demand(_WEST[0], _NORTHWEST[1], 900, 0.13, 0.22),
    Demand(_WEST[0], _WORKS[1], 900, 0.30, 0.08),
    Demand(_EAST[0], _SOUTH[1], 2_600, 0.12, 0.24),
    Demand(_EAST[0], _NORTH[1], 2_400, 0.22, 0.15),
    Demand(_EAST[0], _NORTHWEST[1], 1_300, 0.22, 0.15),
    Demand(_SOUTH[0], _WEST[1], 5_000, 0.26, 0.10),
    Demand(_SOUTH[0], _EAST[1], 2_600, 0.23, 0.12),
    Demand(_SOUTH[0], _NORTH[1], 2_600, 0.18, 0.18),
    Demand(_SOUTH[0], _NORTHWEST[1], 1_500, 0.20, 0.15),
    Demand(_SOUTH[0], _WORKS[1], 900, 0.32, 0.06),
    Demand(_NORTH[0], _SOUTH[1], 2_600, 0.15, 0.22),
    Demand(_NORTH[0], _WEST[1], 2_200, 0.20, 0.14),
    Demand(_NORTH[0], _EAST[1], 2_200, 0.16, 0.20),
    Demand(_NORTHWEST[0], _SOUTH[1], 1_500, 0.14, 0.21),
    Demand(_NORTHWEST[0], _EAST[1], 1_300, 0.16, 0.20),
    Demand(_NORTHWEST[0], _NORTH[1], 900, 0.15, 0.17),
    Demand(_WORKS[0], _SOUTH[1], 900, 0.06, 0.32),
    Demand(_WORKS[0], _EAST[1], 600, 0.06, 0.32),
)

DAY_OF_WEEK = (0.98, 1.0, 1.0, 1.01, 1.03)
"""Trips from Monday to Friday, as a share of an average weekday's."""


def midnight(day: int) -> int:
    """Return the start of a day in seconds since the epoch; weekends are left out."""
    return START + (day + 2 * (day // len(DAY_OF_WEEK))) * DAY_S


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong; times are seconds after midnight.

    Attributes:
        start, end: when.
        edge: where, in SUMO.
        offset_m: metres from the start of the edge.
        lane: which lane a broken-down vehicle blocks, from the right; None for slow traffic all over the edge.
        speed: in m/s; how fast one drives on the edge, where no lane is blocked.
    """

    start: int
    end: int
    edge: str
    offset_m: float = 0.0
    lane: int | None = None
    speed: float = 0.0


_BREAKDOWNS = (
    ("264306385", 350.0, 1050.0), ("264308376", 250.0, 800.0), ("290296351", 350.0, 800.0),
    ("264308373", 250.0, 850.0), ("256366927", 100.0, 500.0), ("360414561", 150.0, 450.0),
)  # fmt: skip
"""Where vehicles break down: edge, and from where to where on it, in metres."""

_TAILBACKS = (_EAST[1], _WEST[1])
"""Edges on which traffic slows down at times for what lies beyond the map."""


@dataclass(frozen=True)
class Plan:
    """All that is drawn at random for a day, before it is simulated.

    Attributes:
        vehicles: departures [vehicle] in seconds after midnight, ordered.
        demands: index into :data:`DEMAND` [vehicle].
        trucks: whether it is a lorry [vehicle].
        incidents: by their start.
        rain: start and end of a spell in seconds after midnight, and the factor on speeds.
        silent: start and end of the silence of a detector, and which.
    """

    vehicles: NDArray[np.float64]
    demands: NDArray[np.int64]
    trucks: NDArray[np.bool_]
    incidents: tuple[Incident, ...]
    rain: tuple[tuple[int, int, float], ...]
    silent: tuple[tuple[int, int, int], ...]


def plan_day(day: int, seed: int, detectors: int) -> Plan:
    """Draw a day.

    Args:
        day: weekdays after :data:`START`.
        seed: of all days; each day draws from a generator of its own.
        detectors: number of them.
    """
    rng = np.random.default_rng([seed, day])
    hours = (np.arange(0, DAY_S, _ROUTE_S) + _ROUTE_S / 2) / 3600 - rng.normal(0.0, 0.12)
    whole_day = DAY_OF_WEEK[day % 5] * rng.lognormal(0.0, 0.03)
    departures, demands = [], []
    for index, demand in enumerate(DEMAND):
        factor = whole_day * rng.lognormal(0.0, 0.04) * np.exp(_fluctuation(len(hours), rng))
        counts = rng.poisson(demand.trips * factor * _profile(day, hours, demand) * _ROUTE_S / 3600)
        slots = np.repeat(np.arange(len(hours)), counts)
        departures.append((slots + rng.uniform(size=slots.size)) * _ROUTE_S)
        demands.append(np.full(slots.size, index))
    depart, which = np.concatenate(departures), np.concatenate(demands)
    order = np.argsort(depart, kind="stable")
    through = np.array([demand.start in (_WEST[0], _EAST[0]) for demand in DEMAND])[which]
    trucks = rng.uniform(size=which.size) < np.where(through, TRUCKS, TRUCKS / 2)
    return Plan(
        depart[order],
        which[order],
        trucks[order],
        _draw_incidents(rng),
        _draw_rain(rng),
        _draw_silence(detectors, rng),
    )


def _profile(day: int, hours: NDArray[np.float64], demand: Demand) -> NDArray[np.float64]:
    """Return the share of a day's trips per hour [hours]."""

    def peak(share: float, at: float, width: float) -> NDArray[np.float64]:
        bell: NDArray[np.float64] = np.exp(-0.5 * ((hours - at) / width) ** 2)
        return bell * share / (width * math.sqrt(2 * math.pi))

    evening = 16.2 if day % 5 == 4 else 16.8
    rest = 1 - demand.morning - demand.evening
    return (
        peak(demand.morning, 7.4, 0.9)
        + peak(demand.evening, evening, 1.2)
        + peak(0.9 * rest, 13.0, 4.0)
        + 0.1 * rest / 24
    )


def _fluctuation(steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a first-order autoregressive series [steps] of standard deviation 0.07."""
    memory, spread = 0.88, 0.07
    series = np.empty(steps)
    series[0] = rng.normal(0.0, spread)
    for step in range(1, steps):
        series[step] = memory * series[step - 1] + rng.normal(0.0, spread * math.sqrt(1 - memory**2))
    return series


def _draw_incidents(rng: np.random.Generator) -> tuple[Incident, ...]:
    found = []
    for _ in range(rng.poisson(2.0)):
        edge, first, last = _BREAKDOWNS[rng.integers(len(_BREAKDOWNS))]
        start, minutes = int(rng.uniform(6, 20) * 3600), rng.uniform(15, 45)
        offset_m, lane = float(rng.uniform(first, last)), int(rng.integers(2))
        found.append(Incident(start, start + int(60 * minutes), edge, offset_m, lane))
    for _ in range(rng.poisson(1.5)):
        start, minutes = int(rng.uniform(6, 20) * 3600), rng.uniform(15, 45)
        edge = _TAILBACKS[rng.integers(len(_TAILBACKS))]
        found.append(Incident(start, start + int(60 * minutes), edge, speed=float(rng.uniform(2.5, 6.0))))
    return tuple(sorted(found, key=lambda incident: incident.start))


def _draw_rain(rng: np.random.Generator) -> tuple[tuple[int, int, float], ...]:
    if rng.uniform() > 0.3:
        return ()
    start = int(rng.uniform(5, 19) * 3600)
    return ((start, start + int(rng.uniform(1, 4) * 3600), float(rng.uniform(0.80, 0.92))),)


def _draw_silence(detectors: int, rng: np.random.Generator) -> tuple[tuple[int, int, int], ...]:
    spells = []
    for _ in range(rng.poisson(SILENT_DETECTORS)):
        start = int(rng.uniform(0, DAY_S))
        spells.append((start, start + int(rng.uniform(1, 4) * 3600), int(rng.integers(detectors))))
    return tuple(spells)
