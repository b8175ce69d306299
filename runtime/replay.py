"""Replay: a recorded series, a golden stream or lines of JSON as the intervals that a stream is pushed."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.clock import Timestamp, to_seconds
from runtime.readings import Reading, Values
from stunet_deploy.bundle import Golden, Manifest
from stunet_deploy.errors import DataError, StreamError, shown
from stunet_deploy.series.series import Series, read_series

#: What a line of JSON holds for a whole interval, and for a single reading.
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


def open_replay(
    path: str | Path,
    manifest: Manifest,
    *,
    start: Timestamp | None = None,
    stop: Timestamp | None = None,
    zone: str | None = None,
    ignore_unknown: bool = False,
) -> Iterator[Record]:
    """Return the intervals of a file with ``start <= stamp < stop``, brought into a bundle's order of sensors.

    Args:
        path: a series of any layout that :func:`stunet_deploy.series.series.read_series` reads, or a ``golden.npz``.
        manifest: of the bundle that will forecast.
        start, stop: seconds since the epoch or ISO 8601 text with a zone; None leaves an end open.
        zone: IANA zone of wall-clock times without an offset; the bundle's own by default.
        ignore_unknown: skip sensors that the bundle does not have, instead of refusing the file.

    Raises:
        DataError: if the file cannot be read, or does not hold what the bundle needs.
        StreamError: if ``start`` or ``stop`` is no time.
    """
    if zipfile.is_zipfile(path) and _is_golden(Path(path)):
        records = replay_golden(Golden.load(Path(path)))
    else:
        records = replay_series(
            read_series(path, timezone=zone or manifest.timezone), manifest, ignore_unknown=ignore_unknown
        )
    first = -np.inf if start is None else to_seconds(start)
    last = np.inf if stop is None else to_seconds(stop)
    return (record for record in records if first <= to_seconds(record.timestamp) < last)


def replay_series(series: Series, manifest: Manifest, *, ignore_unknown: bool = False) -> Iterator[Record]:
    """Return the intervals of a series; sensors are matched by id and features by name, absent sensors unobserved.

    Stamps are brought to the bundle's convention where one stamps the start and the other the end of an interval.

    Raises:
        DataError: if the interval or the features differ, or sensors are unknown, or none is known.
    """
    manifest.site.check_interval(series.site, series.source or "a series")
    lacking = [feature for feature in manifest.features if feature not in series.features]
    if lacking:
        raise DataError(
            f"a series of {list(series.features)} without {lacking}",
            f"the features {list(manifest.features)}",
            "add them, or rename the columns",
        )
    columns = {sensor: column for column, sensor in enumerate(series.sensor_ids)}
    unknown = [sensor for sensor in series.sensor_ids if sensor not in set(manifest.sensor_ids)]
    if len(unknown) == len(columns) or (unknown and not ignore_unknown):
        raise DataError(
            f"{len(unknown)} of {len(columns)} sensors that the bundle does not have, such as {unknown[0]!r}",
            f"ids among its {len(manifest.sensor_ids)} sensors, such as {manifest.sensor_ids[0]!r}",
            "replay the network that the bundle was trained on",
        )
    known = [(node, columns[s]) for node, s in enumerate(manifest.sensor_ids) if s in columns]
    nodes, sources = (np.array(indices) for indices in zip(*known, strict=True))
    features = [series.features.index(feature) for feature in manifest.features]
    return _rows(series.restamped(manifest.stamp), manifest, nodes, sources, features)


def _rows(
    series: Series,
    manifest: Manifest,
    nodes: NDArray[np.int64],
    sources: NDArray[np.int64],
    features: list[int],
) -> Iterator[Record]:
    shape = (len(manifest.sensor_ids), len(manifest.features))
    for t, timestamp in enumerate(series.timestamps.tolist()):
        values, observed = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
        values[nodes] = series.values[t][sources][:, features]
        observed[nodes] = series.observed[t][sources][:, features]
        yield Record(values, timestamp, observed)


def replay_golden(golden: Golden) -> Iterator[Record]:
    """Return the intervals of a recorded stream, which are in the bundle's order."""
    for values, timestamp, observed in zip(golden.values, golden.timestamps.tolist(), golden.observed, strict=True):
        yield Record(values, timestamp, observed)


def read_json_lines(lines: Iterable[str]) -> Iterator[Record]:
    """Return the intervals of newline-delimited JSON; empty lines are skipped.

    Raises:
        StreamError: with the line's number, if a line is not what :func:`read_json_line` reads.
    """
    for number, line in enumerate(lines, start=1):
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
        expected: the format to name to who sends neither.

    Raises:
        StreamError: if the text is neither; the readings themselves are checked when they are pushed.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_message(f"no JSON ({error})", expected) from error
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


def _no_message(came: str, expected: str) -> StreamError:
    return StreamError(came[:200], expected, "send one such object per line or message", reason="message")


def _is_golden(path: Path) -> bool:
    """Return whether an archive is a recorded stream; one that is damaged is left to who says so."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "scored.npy" in archive.namelist()
    except (OSError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile):
        return False
