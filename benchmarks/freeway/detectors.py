"""Imperfect detectors: noise, calibration errors and lost readings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INTERVAL = 300
"""Seconds between readings; a reading's timestamp is the start of its interval."""

SCALE = np.array([0.5, 12.0])
"""Size of one stored unit: 0.5 km/h of speed, and one vehicle in five minutes of flow."""

LOST_READINGS = 0.01
"""Share of single readings that never arrive."""

HOURS_BETWEEN_OUTAGES = {1: 240.0, 4: 1500.0}
"""Mean time between outages of one detector, and of a cabinet that serves four in a row."""


def measure(
    speed: NDArray[np.float64], vehicles: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the readings of imperfect detectors.

    A detector counts all vehicles; its speed is their mean, in which the differences between drivers
    show where they are few, times a calibration error of its own. Without a vehicle there is a flow
    of zero and no speed. Readings are lost one by one, for hours at one detector, and for hours at a
    roadside cabinet that serves four detectors in a row.

    Args:
        speed: true mean speed in km/h [intervals, sensors], NaN without vehicles.
        vehicles: true number of vehicles [intervals, sensors].
        rng: the source of noise.

    Returns:
        Stored values [intervals, sensors, 2] (speed, flow) in units of ``SCALE``, zero where they
        are not observed, and whether they are observed, of the same shape.
    """
    intervals, sensors = speed.shape
    calibration = rng.normal(1.0, 0.015, size=sensors)
    spread = 3.0 + 0.07 * speed
    noise = rng.standard_normal(speed.shape) * spread / np.sqrt(np.maximum(1, vehicles))
    measured = np.maximum(1.0, speed * calibration + noise)
    lost = rng.uniform(size=speed.shape) < LOST_READINGS
    for count, hours in HOURS_BETWEEN_OUTAGES.items():
        for first in range(0, sensors, count):
            for _ in range(rng.poisson(intervals * INTERVAL / 3600 / hours)):
                start = rng.integers(intervals)
                duration = int(np.ceil(rng.lognormal(1.0, 0.8) * 3600 / INTERVAL))
                lost[start : start + duration, first : first + count] = True
    observed = np.stack([~lost & (vehicles > 0), ~lost], axis=-1)
    values = np.stack([np.nan_to_num(measured) / SCALE[0], vehicles.astype(np.float64)], axis=-1)
    return np.where(observed, np.rint(values), 0).astype(np.int16), observed
