"""Times as text: ISO 8601, or seconds since 1970-01-01 UTC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.series.wall_clock import utc_times

_LEAP_SECOND = re.compile(r"([T ]\d\d:\d\d):60")
#: ISO 8601 without separators, and dates with a time of day of digits alone.
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:[T ]?(\d\d):?(\d\d)?:?(\d\d(?:\.\d+)?)?)?([+-]\d\d(?::?\d\d)?)?")
_OFFSET = re.compile(r"(:\d\d(?:\.\d+)?)\s*([+-]\d\d):?(\d\d)?$")
#: A number in a text is one of seconds since the epoch, or of milli-, micro- or nanoseconds, between 1995 and 2039;
#: what else counts time, from other years on or in other units, mostly lies outside.
_EARLIEST_S, _LATEST_S = 788_918_400, 2_200_000_000
_TICKS_PER_S = (1, 10**3, 10**6, 10**9)
#: The most usual forms: seconds of 2001 to 2030, which are no dates written as a number, and ISO 8601.
_PLAIN_SECONDS = re.compile(r"1[0-8]\d{8}", re.ASCII)
_PLAIN_ISO = re.compile(r"[12]\d{3}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?", re.ASCII)
#: Years of dates that are written as a number.
_YEARS = range(1970, 2100)
TIME_FORMS = "ISO 8601 such as 2012-03-01T00:05 or 2012-03-01T00:05:00+01:00, or epoch seconds"
"""The times that are read, in the words of error messages."""


def format_time(timestamp_utc: int) -> str:
    """Return a UTC second as ISO 8601 text for messages and reports, such as ``2012-03-01T00:05:00Z``."""
    return datetime.fromtimestamp(int(timestamp_utc), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> datetime:
    """Return an ISO 8601 time, without a zone where the text has no offset.

    A leap second is the second before it, as in the seconds since the epoch, which skip it.

    Raises:
        ValueError, OverflowError: the text is no such time.
    """
    # Python 3.10 does not read the Z of UTC, offsets without a colon or compact forms, and no Python a leap second.
    text = re.sub("[Zz]$", "+00:00", text.strip())
    if (compact := _COMPACT.fullmatch(text)) is not None:
        year, month, day, hour, minute, second, offset = compact.groups()
        text = f"{year}-{month}-{day}T{hour or '00'}:{minute or '00'}:{second or '00'}{offset or ''}"
    text = _OFFSET.sub(lambda found: f"{found[1]}{found[2]}:{found[3] or '00'}", text)
    text, leap = _LEAP_SECOND.subn(r"\1:59", text, count=1)
    return datetime.fromisoformat(text) + timedelta(seconds=leap)


class Clock:
    """The times of a file that is read part by part.

    Args:
        where: the file, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where, self._last = where, ""
        self._parts = list[NDArray[np.int64]]()
        self._local: bool | None = None

    def add(self, texts: Sequence[str], lines: Sequence[int]) -> None:
        """Read further times; see :func:`parse_times`."""
        seconds, local = parse_times(texts, self._where, lines)
        if self._local not in (None, local):
            _refuse_mixed(self._where, self._last, texts[0])
        self._parts.append(seconds)
        self._last, self._local = texts[-1], local

    def read(self) -> tuple[NDArray[np.int64], bool]:
        """Return all seconds so far, and whether they are of the wall clock."""
        return np.concatenate([np.empty(0, np.int64), *self._parts]), bool(self._local)


def parse_times(texts: Sequence[str], where: str, lines: Sequence[int] | None = None) -> tuple[NDArray[np.int64], bool]:
    """Return the seconds of ISO 8601 texts or epoch seconds, and whether they are wall-clock times without an offset.

    Args:
        texts: all in one form.
        where: the file or flag, for messages.
        lines: line in the file of every text, for messages; without it they count the texts.

    Raises:
        DataError: a text is no time, or some have an offset and some have none.
    """
    plain = _plain_times(texts)
    if plain is not None:
        return plain
    seconds = np.empty(len(texts), np.int64)
    local = False
    for index, text in enumerate(texts):
        try:
            seconds[index], is_local = _seconds(text)
        except (ValueError, OverflowError) as error:
            place = f"row {index + 1}" if lines is None else f"line {lines[index]}"
            number = re.fullmatch(r"\s*[\d.eE+-]+\s*", text) is not None
            raise DataError(
                f"{where}: {text[:40]!r} as a time ({place})",
                "seconds since 1970-01-01, from 1995 to 2039, or ISO 8601 text" if number else TIME_FORMS,
                "convert row numbers, or what else it counts, into such times" if number else "convert the time column",
            ) from error
        if index and is_local != local:
            _refuse_mixed(where, texts[index - 1], text)
        local = is_local
    return seconds, local


def _plain_times(texts: Sequence[str]) -> tuple[NDArray[np.int64], bool] | None:
    """Return what :func:`parse_times` does, faster and for the most usual forms alone; None for any other."""
    if texts and all(map(_PLAIN_SECONDS.fullmatch, texts)):
        return np.array(list(map(int, texts)), np.int64), False
    if texts and all(map(_PLAIN_ISO.fullmatch, texts)):
        try:
            return np.array(texts, "datetime64[s]").astype(np.int64), True
        except ValueError:
            pass  # a date or an hour that is none, or a leap second
    return None


def _refuse_mixed(where: str, before: str, after: str) -> NoReturn:
    raise DataError(
        f"{where}: {before[:40]!r} and then {after[:40]!r}",
        "UTC offsets in all times or in none",
        "write all times in one form",
    )


def parse_time(text: str, timezone: str = "UTC") -> int:
    """Return the UTC second of one time as a user writes it: ISO 8601 (wall clock of ``timezone``) or epoch seconds.

    Raises:
        DataError: the text is no time, or the zone is unknown.
    """
    seconds, local = parse_times([text], "time")
    return int((utc_times(seconds, timezone) if local else seconds)[0])


def most_frequent(steps: NDArray[np.int64]) -> int:
    """Return the most frequent of some steps in seconds, ``[step]``, the shortest of several; 1 without any."""
    lengths, counts = np.unique(steps, return_counts=True)
    return int(lengths[counts.argmax()]) if len(lengths) else 1


def is_time(text: str) -> bool:
    """Return whether a text is a date or a moment, and more than a number that might be one."""
    try:
        float(text)
        return _written_as_number(text) is not None
    except ValueError:
        try:
            parse_iso(text)
        except (ValueError, OverflowError):
            return False
        return True


def are_seconds(numbers: Sequence[float]) -> bool:
    """Return whether numbers may all be seconds since the epoch, or all fractions of a kind."""
    return any(all(_EARLIEST_S <= number / ticks < _LATEST_S for number in numbers) for ticks in _TICKS_PER_S)


@lru_cache(1 << 16)
def _seconds(text: str) -> tuple[int, bool]:
    """Return the seconds of a text, and whether they are of a wall clock."""
    moment = _written_as_number(text)
    if moment is None:
        try:
            number = float(text)
        except ValueError:
            moment = parse_iso(text)
        else:
            return _epoch_seconds(number, text), False
    local = moment.tzinfo is None
    return round((moment.replace(tzinfo=timezone.utc) if local else moment).timestamp()), local


def _written_as_number(text: str) -> datetime | None:
    """Return the date of digits alone, such as 20250304, 2025030405 or 202503040510; None for any other number.

    As seconds since the epoch these would be of 1970, of 2032 and later, or of thousands of years from now.
    """
    digits = re.sub(r"\.0*$", "", text.strip())
    if not digits.isdecimal() or len(digits) not in (8, 10, 12, 14) or int(digits[:4]) not in _YEARS:
        return None
    try:
        date = parse_iso(digits[:8])
    except ValueError:
        return None
    return date if len(digits) == 8 else parse_iso(digits)  # hour 24 is no number of seconds either


def _epoch_seconds(number: float, text: str) -> int:
    for ticks in _TICKS_PER_S:
        if _EARLIEST_S <= number / ticks < _LATEST_S:
            # An integer of nanoseconds has more digits than a float.
            return int(text) // ticks if text.strip().isdecimal() else round(number / ticks)
    raise ValueError(f"{text} is no number of seconds between 1995 and 2039")
