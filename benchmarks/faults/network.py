"""The network that the faults meet: a small model, its intervals and readings, and what a forecast is known by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.forecast import Forecast
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time

Mode = Literal["carry", "window"]
START_S = 1_330_588_800  # 2012-03-01T08:00:00Z
READINGS = 3  # of a sensor in an interval
SENSORS = 8
ZONE = "America/Los_Angeles"  # one that changes its clocks


def in_memory() -> str | None:
    """Return a folder whose files lie in memory, for what waits for no disk; None where there is none."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def small_bundle(folder: Path, name: str = "small", channels: int = 4) -> Path:
    """Export an untrained ST-UNet of a few sensors of the shipped data; return its bundle."""
    from benchmarks.harness.networks import recorded_checkpoint, shortened, st_unet
    from benchmarks.harness.weeks import small_recording
    from export.bundle import export_bundle
    from stunet_deploy.series.series import read_series

    data = small_recording(folder / "small.npz", SENSORS)
    series = read_series(data)
    series = replace(series, site=replace(series.site, timezone=ZONE))
    checkpoint = recorded_checkpoint(series, data, st_unet(channels))
    # The second precision is for a further file to damage; what it costs an untrained model says nothing.
    return export_bundle(shortened(checkpoint, 96), folder / f"{name}.bundle", precisions=("fp16",), force=True).path


def values_of(manifest: Manifest, step: int) -> NDArray[np.float64] | None:
    """Return an interval's readings [node, feature], some missing; None for an interval that never came."""
    rng = np.random.default_rng([5, step])
    if step and rng.random() < 0.03:
        return None
    values = readings_of(manifest, step)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


def readings_of(manifest: Manifest, step: int) -> NDArray[np.float64]:
    """Return an interval's readings [node, feature], whole and within the limits."""
    low, high = np.array(manifest.limits).T
    return np.random.default_rng([6, step]).uniform(low, high, (len(manifest.sensor_ids), len(low)))


def single_readings(manifest: Manifest, first: int, stop: int) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Yield (sensor, time, reading) from interval ``first`` on, in the order of time."""
    for step in range(first, stop + 1):  # one more, so that the last one ends
        yield from single_readings_of(manifest, step)


def single_readings_of(manifest: Manifest, step: int) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Yield (sensor, time, reading) of one interval in the order of time; none of one that never came."""
    values = values_of(manifest, step)
    for number in range(0 if values is None else READINGS):
        assert values is not None
        second = START_S + manifest.interval_s * (step + number / READINGS)
        for node, sensor in enumerate(manifest.sensor_ids):
            reading = dict(zip(manifest.features, (values[node] * (1 - 0.01 * number)).tolist(), strict=True))
            yield sensor, second + node / 1000, reading


def message_of(manifest: Manifest, stamp: int | str, values: NDArray[np.float64]) -> dict[str, Any]:
    """Return an interval as a sender would say it; null where it has no reading."""
    said = {
        sensor: {
            feature: None if np.isnan(number) else float(number)
            for feature, number in zip(manifest.features, row, strict=True)
        }
        for sensor, row in zip(manifest.sensor_ids, values, strict=True)
    }
    return {"timestamp": format_time(stamp) if isinstance(stamp, int) else stamp, "values": said}


def digest(forecast: Forecast) -> str:
    """Return a hash of all that a forecast says."""
    said = json.dumps([forecast.observed_share, forecast.reasons]).encode()
    return hashlib.sha256(forecast.values.tobytes() + said).hexdigest()


def spoken(line: str | bytes) -> tuple[str, str]:
    """Return the time of issue of a forecast line, and all of it but the time that the step took."""
    said = json.loads(line)
    del said["step_us"]
    return said["issued_at"], json.dumps(said, sort_keys=True)
