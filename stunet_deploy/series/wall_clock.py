"""Between UTC seconds and the wall clock of a time zone."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.errors import DataError

DAY_S = 86_400
WEEK_S = 7 * DAY_S
#: Working days and days of the weekend, by the number of the former in a week.
KINDS_OF_DAY, WORKING_DAYS = 2, 5
_MONDAY_S = 3 * DAY_S  # 1970-01-01 was a Thursday


def time_of_week(timestamps_utc: ArrayLike, timezone: str) -> NDArray[np.float32]:
    """Seconds since Monday 00:00 on the wall clock of ``timezone``, of the shape given; exact in float32.

    Args:
        timestamps_utc: seconds since 1970-01-01 UTC.
        timezone: IANA name.

    Raises:
        DataError: the zone is unknown, or the machine has no time zone database.
    """
    utc = np.asarray(timestamps_utc, np.int64)
    return np.asarray((local_times(utc, timezone) + _MONDAY_S) % WEEK_S, np.float32)


def second_of_week(timestamp_utc: int, zone: ZoneInfo | None) -> int:
    """Seconds since Monday 00:00 on the wall clock of one moment: :func:`time_of_week` for who asks once an interval.

    Args:
        timestamp_utc: seconds since 1970-01-01 UTC.
        zone: what :func:`find_zone` returned.
    """
    offset = 0 if zone is None else _offset_s(dt.datetime.fromtimestamp(timestamp_utc, zone))
    return (timestamp_utc + offset + _MONDAY_S) % WEEK_S


def local_times(timestamps_utc: NDArray[np.int64], timezone: str) -> NDArray[np.int64]:
    """Wall-clock seconds (since 1970-01-01 00:00 of the wall clock) of UTC seconds, of the shape given."""
    zone = find_zone(timezone)
    if zone is None:
        return timestamps_utc
    offsets = [_offset_s(dt.datetime.fromtimestamp(second, zone)) for second in timestamps_utc.ravel().tolist()]
    return timestamps_utc + np.array(offsets, np.int64).reshape(timestamps_utc.shape)


def utc_times(local: NDArray[np.int64], timezone: str) -> NDArray[np.int64]:
    """UTC seconds of wall-clock seconds ``[time]``; an hour that occurs twice means its first occurrence."""
    zone = find_zone(timezone)
    if zone is None:
        return local
    epoch = dt.datetime(1970, 1, 1, tzinfo=zone)
    offsets = [_offset_s(epoch + dt.timedelta(seconds=second)) for second in local.tolist()]
    return local - np.array(offsets, np.int64)


def find_zone(name: str) -> ZoneInfo | None:
    """The time zone of an IANA name; None for UTC, which needs no database.

    Raises:
        DataError: the zone is unknown, or the machine has no time zone database.
    """
    if name == "UTC":
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DataError(
            f"time zone {name!r}, which this machine does not know",
            "an IANA name such as America/Los_Angeles, and a time zone database",
            "correct the name, or install the database with `pip install tzdata`",
        ) from error


def _offset_s(moment: dt.datetime) -> int:
    offset = moment.utcoffset()
    return 0 if offset is None else int(offset.total_seconds())
