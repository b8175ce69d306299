"""Times as text: ISO 8601, or seconds since 1970-01-01 UTC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series.wall_clock import utc_times

_LEAP_SECOND = re.compile(r"([T ]\d\d:\d\d):60")


def format_time(timestamp_utc: int) -> str:
    """Return a UTC second as ISO 8601 text for messages and reports, such as ``2012-03-01T00:05:00Z``."""
    return datetime.fromtimestamp(int(timestamp_utc), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> datetime:
    """Return an ISO 8601 time, without a zone where the text has no offset.

    A leap second is the second before it, as in the seconds since the epoch, which skip it.

    Raises:
        ValueError, OverflowError: the text is no such time.
    """
    # Python 3.10 does not read the Z of UTC, and no Python a leap second.
    text, leap = _LEAP_SECOND.subn(r"\1:59", re.sub("[Zz]$", "+00:00", text.strip()), count=1)
    return datetime.fromisoformat(text) + timedelta(seconds=leap)


def parse_times(texts: Sequence[str], where: str, lines: Sequence[int] | None = None) -> tuple[NDArray[np.int64], bool]:
    """Return the seconds of ISO 8601 texts or epoch seconds, and whether they are wall-clock times without an offset.

    Args:
        texts: all in one form.
        where: the file or flag, for messages.
        lines: line in the file of every text, for messages; without it they count the texts.

    Raises:
        DataError: a text is no time, or some have an offset and some have none.
    """
    seconds = np.empty(len(texts), np.int64)
    local = False
    for index, text in enumerate(texts):
        try:
            seconds[index], is_local = _seconds(text)
        except (ValueError, OverflowError) as error:
            place = f"row {index + 1}" if lines is None else f"line {lines[index]}"
            raise DataError(
                f"{where}: {text[:40]!r} as a time ({place})",
                "ISO 8601 such as 2012-03-01T00:05 or 2012-03-01T00:05:00+01:00, or epoch seconds",
                "convert the time column",
            ) from error
        if index and is_local != local:
            raise DataError(
                f"{where}: {texts[index - 1]!r} and then {text!r}",
                "UTC offsets in all times or in none",
                "write all times in one form",
            )
        local = is_local
    return seconds, local


def parse_time(text: str, timezone: str = "UTC") -> int:
    """Return the UTC second of one time as a user writes it: ISO 8601 (wall clock of ``timezone``) or epoch seconds.

    Raises:
        DataError: the text is no time, or the zone is unknown.
    """
    seconds, local = parse_times([text], "time")
    return int((utc_times(seconds, timezone) if local else seconds)[0])


def _seconds(text: str) -> tuple[int, bool]:
    """Return the seconds of a text, and whether they are of a wall clock."""
    try:
        return round(float(text)), False
    except ValueError:
        moment = parse_iso(text)
    local = moment.tzinfo is None
    return round((moment.replace(tzinfo=timezone.utc) if local else moment).timestamp()), local
