"""Makes the embedded data set: four simulated weeks of detectors on an invented freeway network.

    python -m benchmarks.freeway --out FILE [--days 28] [--seed 0]

Needs extra [simulate]. Equal seed, machine and versions give an equal file; docs/reference/data.md describes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.freeway.detectors import INTERVAL, SCALE, measure
from benchmarks.freeway.network import Network, crossing_freeways
from benchmarks.freeway.simulation import PLATOON, Day, simulate_day
from stunet_deploy.errors import StunetError
from stunet_deploy.files import replacing
from stunet_deploy.series.wall_clock import DAY_S

START = int(datetime(2025, 3, 3, tzinfo=timezone.utc).timestamp())
"""Monday 3 March 2025, 00:00. The zone is at UTC all year, so four weeks have no clock change."""

TIMEZONE = "Africa/Abidjan"
"""The zone at latitude 0, longitude 0, in the sea, where the invented network is placed."""

KM_PER_DEGREE = 111.32
"""Length of a degree of latitude, and of longitude at the equator."""


def pack(network: Network, simulated: Sequence[Day], seed: int) -> dict[str, Any]:
    """The arrays of the data set, by name, from consecutive simulated days."""
    speed = np.concatenate([day.speed for day in simulated])
    vehicles = np.concatenate([day.vehicles for day in simulated])
    values, observed = measure(speed, vehicles, np.random.default_rng([seed, 2**16]))
    sensors = network.sensors
    starts = [START + index * DAY_S for index in range(len(simulated))]
    incidents = [
        (start + incident.start, start + incident.end, incident.sensor, round(100 * incident.capacity))
        for start, day in zip(starts, simulated, strict=True)
        for incident in day.incidents
    ]
    return {
        "values": values,
        "scale": SCALE,
        "observed": observed,
        "timestamps": START + INTERVAL * np.arange(len(values), dtype=np.int64),
        "sensor_ids": np.array([link.name for link in sensors]),
        "features": np.array(["speed", "flow"]),
        "units": np.array(["km/h", "veh/h"]),
        "timezone": np.array(TIMEZONE),
        "interval_s": np.array(INTERVAL),
        "latitude": np.array([link.y / KM_PER_DEGREE for link in sensors]),
        "longitude": np.array([link.x / KM_PER_DEGREE for link in sensors]),
        "adjacency": network.adjacency(),
        "road_edges": network.road_edges(),
        "incidents": np.array(incidents, dtype=np.int64).reshape(-1, 4),
        "meta": np.array(json.dumps(_meta(simulated, seed), indent=1)),
    }


def _meta(simulated: Sequence[Day], seed: int) -> dict[str, Any]:
    """The description that stands in the file itself."""
    rain = [
        (START + index * DAY_S + spell.start, START + index * DAY_S + spell.end, round(spell.speed, 3))
        for index, day in enumerate(simulated)
        for spell in day.rain
    ]
    return {
        "title": "SIMULATED traffic on an invented freeway network; not a measurement of any real road",
        "simulator": f"UXsim {version('uxsim')}, C++ engine, {PLATOON} vehicles per platoon",
        "made_by": f"python -m benchmarks.freeway --days {len(simulated)} --seed {seed}",
        "seed": seed,
        "licence": "Apache-2.0",
        "place": "fictitious; drawn around latitude 0, longitude 0, in the sea",
        "timestamp": "start of the interval, seconds since 1970-01-01 UTC; the zone has no clock changes",
        "values": "stored integers [time, sensor, feature]; times scale gives units; 0 where not observed",
        "observed": "1 measured, 0 not: lost readings, and speed in intervals without a vehicle",
        "speed": "mean over the vehicles on the link of the sensor",
        "flow": "vehicles of all lanes in the interval, per hour",
        "adjacency": "weight from sensor i to sensor j downstream: exp(-(road distance / sigma)^2), "
        "distances up to 8 km, sigma their standard deviation, below 0.1 zero, zero diagonal",
        "road_edges": "pairs of sensor indices, upstream and downstream, of links that touch",
        "incidents": "start, end (seconds since 1970-01-01 UTC), sensor index, percent of capacity left",
        "rain": "start, end, factor on free speeds",
        "rain_spells": rain,
    }


def write(arrays: dict[str, Any], out: Path) -> None:
    """Write the arrays to a compressed npz, whole or not at all; equal arrays give equal bytes.

    Raises:
        StunetError: if it cannot be written.
    """
    with replacing(out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def main() -> None:
    """Simulate the days one after the other and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the npz file to write")
    parser.add_argument("--days", type=int, default=28, help="days from Monday 3 March 2025 (default 28)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default 0)")
    options = parser.parse_args()
    if options.days < 1:
        parser.error(f"--days {options.days}: at least one day is needed")
    network = crossing_freeways()
    simulated = []
    try:
        for day in range(options.days):
            print(f"simulating day {day + 1} of {options.days}", file=sys.stderr, flush=True)
            simulated.append(simulate_day(network, day, options.seed))
        write(pack(network, simulated, options.seed), options.out)
    except StunetError as error:
        parser.exit(error.exit_code, f"{error}\n")
    print(f"wrote {options.out}: {options.out.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
