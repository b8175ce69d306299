"""The days before the live one: simulated in parallel, kept, and written as the recording that training reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.live.demand import TIMEZONE, midnight
from benchmarks.live.network import CREDIT, Network, read_network
from benchmarks.live.simulation import PERIOD_S, Reading, degrees, simulate_day
from stunet_deploy.files import replacing
from stunet_deploy.series.wall_clock import DAY_S

INTERVAL_S = 300

FEATURES = ("speed", "flow", "occupancy")
UNITS = ("km/h", "veh/5 min", "%")

_SCALE = np.array([0.1, 0.1, 0.1])
"""Size of one stored unit."""


def as_array(readings: Iterable[Reading], names: tuple[str, ...], start: int, stop: int) -> NDArray[np.float64]:
    """Return single readings [period, detector, feature] of a span of time, NaN where there is none.

    Args:
        readings: in any order.
        names: of the detectors.
        start, stop: of the span, in seconds since the epoch.
    """
    values = np.full(((stop - start) // PERIOD_S, len(names), len(FEATURES)), np.nan)
    column = {name: index for index, name in enumerate(names)}
    for reading in readings:
        period = (reading.seconds - start) // PERIOD_S - 1
        values[period, column[reading.sensor]] = (
            np.nan if reading.speed is None else reading.speed,
            reading.flow,
            reading.occupancy,
        )
    return values


def intervals(readings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the service's assembler makes of single readings, with the rules of its config.

    Args:
        readings: [period, detector, feature], NaN where there is none.

    Returns:
        [interval, detector, feature]: the mean speed over vehicles, the vehicles, scaled up for readings that did not
        come, and the mean occupancy; NaN where unobserved.
    """
    each = INTERVAL_S // PERIOD_S
    speed, flow, occupancy = np.moveaxis(readings.reshape(-1, each, *readings.shape[1:]), -1, 0)
    heard = np.isfinite(flow).sum(axis=1)
    measured = np.isfinite(speed)
    weight = np.where(measured, flow, 0.0).sum(axis=1)
    driven = np.where(measured, flow * np.nan_to_num(speed), 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_speed = np.where(weight > 0, driven / weight, np.nan)
        vehicles = np.where(heard >= each / 2, np.nansum(flow, axis=1) * each / heard, np.nan)
        occupied = np.nansum(occupancy, axis=1) / np.isfinite(occupancy).sum(axis=1)
    return np.stack([mean_speed, vehicles, occupied], axis=-1)


def simulate_history(folder: Path, days: int, seed: int, workers: int) -> list[Path]:
    """Simulate the days that are not in the folder yet, and return the file of each.

    Args:
        folder: of the simulated days.
        days: number of them.
        seed: of all days.
        workers: processes; SUMO uses one core in each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"seed-{seed}-day-{day}.npy" for day in range(days)]
    missing = [day for day, path in enumerate(paths) if not path.is_file()]
    # Processes, not threads: libsumo holds one simulation at a time.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        simulate = partial(_simulate_to_file, folder=folder, seed=seed)
        for day in pool.map(simulate, missing):
            print(f"  day {day + 1} of {days} simulated", flush=True)
    return paths


def _simulate_to_file(day: int, folder: Path, seed: int) -> int:
    network = read_network()
    start = midnight(day)
    readings = (reading for period in simulate_day(network, day, seed) for reading in period)
    values = as_array(readings, network.names, start, start + DAY_S)
    with replacing(folder / f"seed-{seed}-day-{day}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, values.astype(np.float32))
    return day


def write_recording(out: Path, network: Network, paths: list[Path], seed: int) -> None:
    """Write simulated days as a recording for ``stunet train --data``; docs/reference/data.md describes the layout."""
    values = np.concatenate([intervals(np.load(path).astype(np.float64)) for path in paths])
    per_day = DAY_S // INTERVAL_S
    stamps = [midnight(day) + INTERVAL_S * np.arange(per_day) for day in range(len(paths))]
    latitude, longitude = degrees(network)
    meta = {
        "title": "SIMULATED traffic; the roads are real, the vehicles are not",
        "simulator": f"SUMO {version('eclipse-sumo')}",
        "network": CREDIT,
        "seed": seed,
    }
    with replacing(out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            values=np.rint(np.nan_to_num(values) / _SCALE).astype(np.int16),
            scale=_SCALE,
            observed=np.isfinite(values),
            timestamps=np.concatenate(stamps).astype(np.int64),
            sensor_ids=np.array(network.names),
            features=np.array(FEATURES),
            units=np.array(UNITS),
            timezone=np.array(TIMEZONE),
            interval_s=np.array(INTERVAL_S),
            latitude=np.array(latitude),
            longitude=np.array(longitude),
            meta=np.array(json.dumps(meta)),
        )
