"""Recordings that files are written of, drawn: sensors with odd ids, features, readings and gaps on a regular grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from stunet_deploy.series.layouts import roles
from stunet_deploy.series.layouts.delimited import MISSING, plain
from stunet_deploy.series.times import is_time, most_frequent

TIME_NAMES = ("timestamp", "time", "datetime", "date_time", "Date-Time", "start time", "ts")
SENSOR_NAMES = ("sensor_id", "sensor", "Station ID", "detector", "segment-id", "link", "node", "id", "site")
#: In which names are written.
CASES: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.title, str)
#: Of times that name none; two of them have clock changes, on either side of UTC.
ZONES = ("UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata")


@dataclass(frozen=True)
class Recording:
    """What is written.

    Attributes:
        values: [time, node, feature], NaN for no reading.
        times: [time] UTC seconds.
        sensors, features: their names.
    """

    values: NDArray[np.float64]
    times: NDArray[np.int64]
    sensors: tuple[str, ...]
    features: tuple[str, ...]

    def moments(self, zone: str) -> list[datetime]:
        """Return the times by the clock of a zone."""
        return [datetime.fromtimestamp(second, ZoneInfo(zone)) for second in self.times.tolist()]

    def rows(self, *, without_empty: bool) -> list[int]:
        """Return the rows to be written; those without a reading may be left out if the interval can be told then."""
        heard = np.flatnonzero(np.isfinite(self.values).any(axis=(1, 2)))
        told = len(heard) > 1 and most_frequent(np.diff(self.times[heard])) == self.times[1] - self.times[0]
        return heard.tolist() if without_empty and told else list(range(len(self.times)))


_FEATURES = ("speed", "flow", "occupancy", "Mean speed", "q", "v/c")
_ids = st.text(st.characters(categories=("L", "N"), include_characters=" ,;'\"-_./µ"), min_size=1, max_size=12)


def _sensible(name: str) -> bool:
    """Return whether a name is that of a sensor, and of no column with another role."""
    known = (
        *roles.TIMES,
        *roles.SENSORS,
        *roles.LATITUDES,
        *roles.LONGITUDES,
        *roles.ROW_NUMBERS,
        *roles.CALENDAR,
        *roles.DAYS,
    )
    if plain(name) != name or name.lower() in MISSING or name.endswith(".0") or is_time(name):
        return False
    return roles.Column(name, "number").key not in known


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """Draw a recording of some sensors and features on a regular grid."""
    sensors = draw(st.lists(_ids.filter(_sensible), min_size=1, max_size=4, unique=True))
    features = draw(st.lists(st.sampled_from(_FEATURES), min_size=1, max_size=3, unique=True))
    rows, interval = draw(st.integers(2, 60)), draw(st.sampled_from((60, 300, 600, 3600, 86_400)))
    start = draw(st.integers(1_000_000_000 // 86_400, 1_750_000_000 // 86_400)) * 86_400
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.round(rng.gamma(2.0, 20.0, (rows, len(sensors), len(features))), draw(st.integers(0, 3)))
    values[rng.random(values.shape) < draw(st.sampled_from((0.0, 0.2)))] = np.nan
    if rows >= 12:  # enough to tell the interval by
        values[rng.choice(rows, draw(st.integers(0, 3)), replace=False)] = np.nan
    values[0, 0, 0] = values[-1, -1, -1] = 3.5
    return Recording(values, start + interval * np.arange(rows), tuple(sensors), tuple(features))
