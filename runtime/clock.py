"""The interval clock: time stamps of any spelling, snapped to the interval grid in UTC."""

from __future__ import annotations

import math
from datetime import datetime

from stunet_deploy.errors import StreamError, shown
from stunet_deploy.series.times import format_time, parse_iso

#: Seconds since the epoch, a datetime with a time zone, or ISO 8601 text with one.
Timestamp = int | float | str | datetime

#: Years 68 to 5138: inside them every zone has a wall clock, and a forecast valid times.
_FIRST_S, _LAST_S = -6e10, 1e11


class Clock:
    """The grid of interval stamps: whole intervals since 1970-01-01T00:00Z, and ``phase_s`` more.

    Args:
        interval_s: length of an interval in seconds.
        phase_s: where stamps lie between the multiples of an interval, in seconds.
        tolerance: how far a stamp may lie from the grid, as a share of an interval up to 0.5.
    """

    def __init__(self, interval_s: int, phase_s: int = 0, tolerance: float = 0.25) -> None:
        self.interval_s = interval_s
        self.phase_s = phase_s
        self.tolerance_s = tolerance * interval_s

    def snap(self, timestamp: Timestamp) -> int:
        """Return the grid stamp nearest to a time stamp, in seconds since the epoch, UTC.

        Raises:
            StreamError: if it cannot be read, has no time zone, or lies too far from the grid.
        """
        seconds = to_seconds(timestamp)
        snapped = self.phase_s + self.interval_s * round((seconds - self.phase_s) / self.interval_s)
        if abs(seconds - snapped) > self.tolerance_s:
            raise StreamError(
                f"timestamp {timestamp}, {abs(seconds - snapped):g} s from {format_time(snapped)}",
                f"at most {self.tolerance_s:g} s from the grid of {self.interval_s} s intervals",
                "send one value per interval with the interval's own stamp, or raise tolerance, a share of it",
                reason="off_grid",
            )
        return snapped


def is_time(seconds: float) -> bool:
    """Return whether a number of seconds since the epoch can be the time of readings or of a forecast."""
    return _FIRST_S < seconds < _LAST_S


def to_seconds(timestamp: Timestamp) -> float:
    """Return seconds since the epoch, UTC.

    Raises:
        StreamError: if the time stamp cannot be read or has no time zone.
    """
    moment: object = timestamp
    if isinstance(moment, str):
        try:
            moment = parse_iso(moment)
        except (ValueError, OverflowError):
            moment = None
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise StreamError(
                f"timestamp {timestamp} without a time zone",
                "an offset, as in 2012-03-01T08:00:00-08:00 or …Z",
                "add the zone of the sender's clock",
                reason="timestamp",
            )
        moment = moment.timestamp()
    try:
        seconds = math.nan if isinstance(moment, bool) else float(moment)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not is_time(seconds):
        raise StreamError(
            f"timestamp {shown(timestamp)}",
            "seconds since the epoch, a datetime or ISO 8601 text",
            "correct the time stamp (milliseconds are not read)",
            reason="timestamp",
        )
    return seconds
