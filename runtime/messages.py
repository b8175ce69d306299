"""Messages: lines of JSON as whole intervals, or as single readings to be gathered into intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.clock import Timestamp
from runtime.readings import Reading, Values
from stunet_deploy.errors import StreamError, shown

#: Bytes of the longest message or line that any source takes: an interval of 200,000 sensors has about ten million.
LONGEST_MESSAGE = 16 * 2**20
#: Objects, lists, keys and values that one may have: 200,000 sensors of eight features. Each takes up to 90 bytes in
#: memory, and as few as two in the text; so no message takes more than 400 MB.
MOST_PARTS = 4_000_000
#: The JSON of a whole interval, and of a single reading.
INTERVAL_MESSAGE = '{"timestamp": "2012-03-01T08:00:00Z", "values": {"ID": number, {feature: number} or null}}'
DETECTION_MESSAGE = '{"sensor": "ID", "timestamp": "2012-03-01T08:00:07Z", "values": number or {feature: number}}'


class Record(NamedTuple):
    """One interval to push: ``stream.push(*record)``."""

    values: Values
    timestamp: Timestamp
    observed: NDArray[np.bool_] | None = None


class Detection(NamedTuple):
    """One sensor's reading, to be gathered into an interval: ``assembler.add(*detection, now=…)``."""

    sensor: str
    timestamp: Timestamp
    reading: Reading


def read_json_lines(lines: Iterable[str]) -> Iterator[Record]:
    """Return the intervals of newline-delimited JSON; empty lines are skipped.

    Raises:
        StreamError: with the line's number, if a line is not what :func:`read_json_line` reads.
    """
    for number, line in enumerate(lines, start=1):
        line = line.removeprefix("\ufeff")  # a byte-order mark, as some editors put before the first
        if line.strip():
            try:
                yield read_json_line(line)
            except StreamError as error:
                raise StreamError(f"line {number}: {error.came}", error.expected, error.action) from error


def read_json_line(line: str | bytes) -> Record:
    """Read ``{"timestamp": …, "values": {sensor: number | null | {feature: number}}}``.

    Raises:
        StreamError: if the line is something else; the readings themselves are checked when they are pushed.
    """
    message = read_message(line)
    if isinstance(message, Detection):
        raise _no_message(f"a single reading of sensor {shown(message.sensor)}", INTERVAL_MESSAGE)
    return message


def read_message(text: str | bytes, expected: str = INTERVAL_MESSAGE) -> Record | Detection:
    """Read an interval as :func:`read_json_line` does, or ``{"sensor": …, "timestamp": …, "values": …}``.

    Args:
        text: of one message.
        expected: the format that the error names if it is neither.

    Raises:
        StreamError: if the text is neither, or too much; the readings themselves are checked when they are pushed.
    """
    _check_size(text)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_message(f"no JSON ({error})", expected) from error
    except MemoryError as error:
        raise _no_message(f"{len(text):,} bytes of JSON, for which there is no memory", expected) from error
    if isinstance(data, dict):
        if data.keys() == {"timestamp", "values"} and isinstance(data["values"], dict):
            return Record(data["values"], data["timestamp"])
        if data.keys() == {"sensor", "timestamp", "values"}:
            return Detection(data["sensor"], data["timestamp"], data["values"])
    came = shown(data)
    if isinstance(data, dict):
        keys = sorted(data)
        came = "values that are no object" if keys == ["timestamp", "values"] else f"the keys {keys}"
    raise _no_message(came, expected)


def _check_size(text: str | bytes) -> None:
    """Refuse a message that would take far more memory than any interval does, before it is read."""
    if len(text) > LONGEST_MESSAGE:
        raise _no_message(f"a message of {len(text):,} bytes", f"at most {LONGEST_MESSAGE:,}")
    # Each object, list, key and value of a message follows one of these; counted in texts too, which have few.
    parts = sum(text.count(sign) if isinstance(text, str) else text.count(sign.encode()) for sign in "{[:,")
    if parts > MOST_PARTS:
        raise _no_message(f"a message of {parts:,} objects, lists, keys and values", f"at most {MOST_PARTS:,}")


def _no_message(came: str, expected: str) -> StreamError:
    return StreamError(came[:200], expected, "send one such object per line or message", reason="message")
