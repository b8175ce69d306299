"""The table of a series file, before its times are put on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series.times import format_time

_EARLIEST_S, _LATEST_S = 10**8, 10**11  # 1973 and 5138: row numbers and milliseconds lie outside
PUBLIC_INTERVAL_S = 300
"""Interval of the public recordings that hold no times."""
OWN_LAYOUT = "a header, then rows of a time (ISO 8601 or epoch seconds) and one number per sensor"
"""A table of one's own, in the words of error messages."""


def are_unnamed(sensor_ids: Sequence[str]) -> bool:
    """Whether sensors are known by position alone, as those of PeMSD7 and PEMS04 are: elsewhere these are others."""
    return tuple(sensor_ids) == tuple(map(str, range(len(sensor_ids))))


@dataclass(frozen=True, eq=False)
class FileTable:
    """Content of a series file: one row per time stamp of the file, NaN where nothing was measured.

    Raises:
        DataError: counts disagree, or the times are no plausible seconds since 1970.
    """

    name: str
    """File name, for messages."""
    layout: str
    """Which layout was recognised, in words."""
    values: NDArray[np.float32]
    """Readings ``[time, node, feature]``; NaN is unobserved."""
    times: NDArray[np.int64]
    """Seconds since 1970-01-01, ``[time]``: UTC, or of the wall clock where ``local``."""
    local: bool
    """Whether ``times`` are wall-clock times whose zone the file does not tell."""
    sensor_ids: tuple[str, ...]
    features: tuple[str, ...] = ()
    """Names of the readings; none where the file has one reading of a sensor and does not say of what."""
    units: tuple[str, ...] = ("",)
    timezone: str | None = None
    """Zone for local time features, where the file names one."""
    interval_s: int | None = None
    """Interval length where the file tells it."""
    stamp: Literal["start", "end"] = "start"
    latitude: NDArray[np.float64] | None = None
    longitude: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    """Assumptions of the reader."""
    lines: NDArray[np.int64] | None = None
    """Line in the file of every row, where the file has such lines; for messages."""

    def __post_init__(self) -> None:
        shape = (len(self.times), len(self.sensor_ids), len(self.units))
        if self.values.shape != shape:
            raise DataError(
                f"{self.name}: readings of shape {self.values.shape}",
                f"[time, node, feature] = {shape} as its times, sensor ids and units say",
                "export the file again",
            )
        if 0 in shape:
            raise DataError(f"{self.name} without readings: shape {shape}", OWN_LAYOUT, "check the file's export")
        if self.interval_s is not None and self.interval_s < 1:
            raise DataError(
                f"{self.name}: an interval of {self.interval_s} s", "at least one second", "correct the interval"
            )
        earliest, latest = int(self.times.min()), int(self.times.max())
        if earliest < _EARLIEST_S or latest > _LATEST_S:
            raise DataError(
                f"{self.name}: {earliest if earliest < _EARLIEST_S else latest} as a time",
                "seconds since 1970-01-01 later than 1973, or ISO 8601 text",
                "convert row numbers, milliseconds or nanoseconds",
            )

    def noting(self, *notes: str) -> FileTable:
        """Return the same table with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def place(self, row: int) -> str:
        """Return the place of a row in the file, for messages."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"


def check_increasing(seconds: NDArray[np.int64], table: FileTable, action: str) -> None:
    """Refuse times that go back or repeat.

    Args:
        seconds: the times of the table, maybe of another clock.
        table: which is named, with its row.
        action: what to do about times that go back.

    Raises:
        DataError: the first such time is named.
    """
    steps = np.diff(seconds)
    if (steps > 0).all():
        return
    row = int(np.flatnonzero(steps <= 0)[0])
    before, after = (format_time(table.times[index]).rstrip("Z") for index in (row, row + 1))
    if table.times[row] == table.times[row + 1]:
        raise DataError(
            f"{table.name}: time {after} occurs twice ({table.place(row + 1)})",
            "one row per time",
            "drop the repeated row; if rows are of several sensors, call the column that says which one sensor_id; for "
            "the hour that occurs twice when clocks are set back, write the times with their UTC offset",
        )
    raise DataError(
        f"{table.name}: {before} is followed by {after} ({table.place(row + 1)})", "increasing times", action
    )
