"""Replay: a recorded series or a golden stream as the intervals that a stream is pushed."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.clock import Timestamp, to_seconds
from runtime.messages import Record
from stunet_deploy.bundle import Golden
from stunet_deploy.errors import DataError
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.layouts.files import read_head
from stunet_deploy.series.series import Series, read_series_for


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
    if not Path(path).is_dir() and read_head(Path(path)).startswith(b"PK") and _is_golden(Path(path)):
        records = replay_golden(Golden.load(Path(path)))
    else:
        records = replay_series(
            read_series_for(manifest.site, path, timezone=zone), manifest, ignore_unknown=ignore_unknown
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
            f"{series.source or 'a series'} with {', '.join(series.features)} and without {', '.join(lacking)}",
            f"{', '.join(manifest.features)}, which the bundle reads",
            "add the missing columns, or give the bundle's names to those that are there",
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


def _is_golden(path: Path) -> bool:
    """Return whether an archive is a golden stream; a damaged archive is read as a series, which refuses it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "scored.npy" in archive.namelist()
    except (OSError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile):
        return False
