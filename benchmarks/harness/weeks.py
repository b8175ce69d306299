"""The two real weeks, and a small one cut from the shipped data that takes their place with --quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness.workbench import ROOT, SHARED
from stunet_deploy.series.series import Series, read_series

TIMEZONE = "America/Los_Angeles"


@dataclass(frozen=True)
class Week:
    """A recording of one week with its graph.

    Attributes:
        name: of the set.
        title: heading of its tables.
        split: in words.
        published: ST-UNet's published MAE / MAPE % / RMSE at 15, 30 and 60 minutes on the FULL set.
        folder: that its file lies in.
    """

    name: str
    title: str
    split: str
    published: tuple[str, str, str]
    folder: Path = SHARED

    @property
    def file(self) -> Path:
        """The recording."""
        return self.folder / f"{self.name}.npz"

    @property
    def source(self) -> tuple[object, ...]:
        """Options by which a verb reads the recording."""
        return "--data", self.file, "--timezone", TIMEZONE

    def series(self) -> Series:
        """Read the recording."""
        return read_series(self.file, timezone=TIMEZONE)


METR_LA = Week(
    "metr-la",
    "One week of METR-LA (2012-03-01 to 03-07), protocol A on its 2,016 rows",
    "70/10/20 of the windows",
    ("2.72 / 6.9 / 5.13", "3.12 / 8.4 / 6.16", "3.55 / 10.0 / 7.40"),
)
PEMSD7_M = Week(
    "pemsd7-m",
    "One week of PeMSD7(M) (seven weekdays), protocol B, days 5/1/1",
    "days 5/1/1, windows within a day",
    ("2.15 / 5.06 / 4.03", "2.81 / 6.79 / 5.42", "3.38 / 8.33 / 6.68"),
)
WEEKS = {week.name: week for week in (METR_LA, PEMSD7_M)}


def small_recording(path: Path, sensors: int = 6, intervals: int = 432, first: int = 0) -> Path:
    """Write the speeds at some sensors of the shipped data in its last intervals, and return the file.

    Args:
        path: of the file.
        sensors, intervals: how many.
        first: of the sensors.
    """
    chosen = slice(first, first + sensors)
    with np.load(ROOT / "stunet_deploy" / "data" / "freeway.npz", allow_pickle=False) as whole:
        arrays = {key: whole[key] for key in ("interval_s", "timezone")}
        arrays |= {key: whole[key][:1] for key in ("features", "units", "scale")}
        arrays |= {key: whole[key][chosen] for key in ("sensor_ids", "latitude", "longitude")}
        arrays |= {key: whole[key][-intervals:, chosen, :1] for key in ("values", "observed")}
        arrays["timestamps"] = whole["timestamps"][-intervals:]
        arrays["adjacency"] = whole["adjacency"][chosen, chosen]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path
