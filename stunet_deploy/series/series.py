"""A history of sensor readings on a regular time grid, and the one way to read it from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.errors import DataError
from stunet_deploy.limits import cells_of, check_cells
from stunet_deploy.series.facts import Facts
from stunet_deploy.series.layouts.files import read_table
from stunet_deploy.series.layouts.table import FileTable, check_increasing
from stunet_deploy.series.times import format_time, most_frequent
from stunet_deploy.series.wall_clock import DAY_S, find_zone, local_times, time_of_week, utc_times
from stunet_deploy.site import AtSite, Site, Stamp, longest_gap
from stunet_deploy.wording import exactly, span_in_words


@dataclass(frozen=True, eq=False)
class Series(AtSite):
    """Readings of every sensor at every interval, in physical units.

    The grid is regular except for breaks of a day or more (weekday-only recordings jump the weekend; of intervals
    of hours or days, more than a dozen); shorter gaps of a file have been filled with unobserved rows.

    Raises:
        DataError: shapes disagree, sensor ids repeat, times do not lie on the grid, unknown time zone.
    """

    values: NDArray[np.float32]
    """Readings ``[time, node, feature]``; where ``observed`` is False the content means nothing (it is 0)."""
    observed: NDArray[np.bool_]
    """Whether a reading was measured, ``[time, node, feature]``."""
    timestamps: NDArray[np.int64]
    """Seconds since 1970-01-01 UTC, ``[time]``, strictly increasing."""
    site: Site
    """The sensors, features and clock of the recording."""
    source: str = ""
    """Where the series comes from and what the reader assumed or repaired, for reports."""

    def __post_init__(self) -> None:
        shape = (len(self.timestamps), len(self.sensor_ids), len(self.features))
        for name in ("values", "observed"):
            if getattr(self, name).shape != shape:
                raise DataError(
                    f"{name} of shape {getattr(self, name).shape}",
                    f"[time, node, feature] = {shape} as timestamps, sensor_ids and features say",
                    "give arrays that agree",
                )
        if 0 in shape:
            raise DataError(
                f"a series of shape {shape}",
                "at least one interval, one sensor and one feature",
                "give a file that holds readings",
            )
        steps = np.diff(self.timestamps)
        if (steps <= 0).any() or (steps % self.interval_s).any():
            row = int(np.flatnonzero((steps <= 0) | (steps % self.interval_s != 0))[0])
            raise DataError(
                f"{format_time(self.timestamps[row])} followed by {format_time(self.timestamps[row + 1])}",
                f"increasing times, whole intervals of {self.interval_s} s apart",
                "put the readings on a regular grid",
            )
        find_zone(self.timezone)

    def time_of_week(self) -> NDArray[np.float32]:
        """Seconds since local Monday 00:00 of every interval, ``[time]``."""
        return time_of_week(self.timestamps, self.timezone)

    @property
    def days(self) -> float:
        """Days from the first to the last interval."""
        return float(self.timestamps[-1] - self.timestamps[0]) / DAY_S

    def row_since(self, row: int, seconds: int) -> int:
        """Return the first row that is at most so many seconds older than a row."""
        return int(np.searchsorted(self.timestamps, self.timestamps[row] - seconds))

    def segments(self) -> list[slice]:
        """Runs of consecutive intervals as row slices, in order; one slice where nothing is missing."""
        return runs(np.diff(self.timestamps) != self.interval_s)

    def rows(self, selection: slice) -> Series:
        """The same series cut to a contiguous range of rows; arrays are views."""
        if selection.step not in (None, 1):
            raise DataError(f"a step of {selection.step}", "consecutive rows", "cut without a step")
        return replace(
            self,
            values=self.values[selection],
            observed=self.observed[selection],
            timestamps=self.timestamps[selection],
        )

    def aligned(self, sensor_ids: Sequence[str], features: Sequence[str]) -> Series:
        """The same series with just these sensors and features, in this order.

        Raises:
            DataError: a sensor or feature is not in the series; up to five are named.
        """
        columns = self.site.feature_indices(features)
        position = {sensor: node for node, sensor in enumerate(self.sensor_ids)}
        missing = [sensor for sensor in sensor_ids if sensor not in position]
        if missing:
            raise DataError(
                f"{self.source or 'a series'} without {len(missing)} sensors, for instance {', '.join(missing[:5])}",
                f"all {len(sensor_ids)} sensors of the model",
                "give a recording of the network that the model was trained on",
            )
        nodes = [position[sensor] for sensor in sensor_ids]
        return replace(
            self,
            values=self.values[:, nodes][:, :, columns],
            observed=self.observed[:, nodes][:, :, columns],
            site=self.site.selected(nodes, columns),
        )

    def without(self, dropped: NDArray[np.bool_], why: str) -> Series:
        """The same series without some of its readings, ``[time, node, feature]``; ``why`` goes to the source."""
        dropped = dropped & self.observed
        if not dropped.any():
            return self
        values, observed = np.where(dropped, np.float32(0), self.values), self.observed & ~dropped
        source = f"{self.source}; {int(dropped.sum())} {why}"
        return replace(self, values=values, observed=observed, source=source)

    def without_codes(self, no_data: tuple[tuple[float, ...], ...]) -> Series:
        """The same series, in which the codes of each feature that stand for no reading are unobserved."""
        if not no_data:
            return self
        series = replace(self, site=replace(self.site, no_data=no_data))
        return series.without(series.site.code_in(self.values), "codes for no data read as missing")

    def within(self, low: ArrayLike, high: ArrayLike) -> Series:
        """The same series without the readings outside the limits ``[feature]``, as a stream drops them."""
        outside = (self.values < np.array(low, np.float32)) | (self.values > np.array(high, np.float32))
        return self.without(outside, "readings outside the limits dropped")

    def restamped(self, stamp: Stamp) -> Series:
        """The same intervals, each stamped with its start or its end."""
        shift = {("start", "end"): self.interval_s, ("end", "start"): -self.interval_s}
        timestamps = self.timestamps + shift.get((self.stamp, stamp), 0)
        return replace(self, timestamps=timestamps, site=replace(self.site, stamp=stamp))

    def fitted_to(self, site: Site) -> Series:
        """The same series as a model of a site knows it: its sensors and features in its order, on its clock.

        Raises:
            DataError: the series lacks sensors or features, or has intervals of another length.
        """
        fitted = self.aligned(site.sensor_ids, site.features)
        site.check_interval(fitted.site, self.source or "a series")
        fitted = fitted.restamped(site.stamp).without_codes(site.no_data)
        return replace(fitted, site=replace(fitted.site, timezone=site.timezone))


#: Intervals from this length on are told by the wall clock: an hour of summer time is within a stream's tolerance.
SAME_WHATEVER_THE_CLOCK_S = 4 * 3600
_CLOCK_CHANGES = (
    "write the times with their UTC offset, or read the file with "
    "--timezone UTC (or a zone without clock changes, such as Etc/GMT+8)"
)


def runs(breaks: NDArray[np.bool_]) -> list[slice]:
    """Rows cut wherever one differs from the next, ``[time - 1]``, as slices in order."""
    borders = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(breaks) + 1]
    return [slice(first, last) for first, last in pairwise(borders)]


def read_series(path: str | Path, *, timezone: str | None = None, facts: Facts | None = None) -> Series:
    """Read a series from any file layout the project knows.

    The layout is told from the content, and where that holds no times also from the name: the project's own
    npz, METR-LA and PeMSD7(M) weeks as npz, ``metr-la.h5`` and ``pems-bay.h5`` as DCRNN distributes them,
    LargeST's ``<area>_his_<year>.h5``, ``PEMS03.npz``, ``04``, ``07`` and ``08``, ``PeMSD7_V_<n>.csv``,
    ``los_speed.csv``, stations of the PeMS Clearinghouse, states of LibCity, and CSV, Parquet or Excel of one's own
    (first column the time, then one column per sensor; or long form ``timestamp,sensor_id,<feature>…``). Parquet
    needs pyarrow, HDF5 h5py, Excel openpyxl. A folder or a zip of several such files is one recording.

    Wall-clock times without an offset are taken to be in ``timezone``. Of an hour that occurs twice (clocks
    set back) the first occurrence is meant, so the second one is a gap. An hour that does not exist (clocks
    set forward) is left out if it holds no reading, and refused otherwise: read such a recording as UTC, or
    with a zone without clock changes.

    Args:
        path: the file, or the folder.
        timezone: IANA name; None keeps the file's own zone, or UTC where it names none.
        facts: what the file leaves unsaid: names, units, codes for no data.

    Raises:
        DataError: the file is missing, damaged, of another kind, or its times make no grid.
    """
    facts = facts or Facts()
    table = read_table(Path(path), facts)
    zone = timezone or table.timezone or facts.timezone or "UTC"
    find_zone(zone)
    table = _without_skipped_hour(table, zone)
    utc, aligned = _utc_times(table, zone)
    timestamps, rows, interval_s, notes = _grid(utc, table)
    notes = [*aligned, *notes]
    values = np.zeros((len(timestamps), *table.values.shape[1:]), np.float32)
    observed = np.zeros(values.shape, np.bool_)
    values[rows] = table.values
    observed[rows] = np.isfinite(table.values)
    values[~observed] = 0
    site = Site(
        table.sensor_ids,
        table.features,
        table.units,
        interval_s,
        table.stamp,
        zone,
        None if table.latitude is None else tuple(table.latitude.tolist()),
        None if table.longitude is None else tuple(table.longitude.tolist()),
    )
    source = "; ".join([f"{table.name} ({table.layout})", *table.notes, *notes])
    codes = facts.codes(table)
    notes = [f"no reading is {exactly(code)}" for code in _absent(codes, table.values)]
    series = Series(values, observed, timestamps, site, "; ".join([source, *notes])).without_codes(codes)
    if not series.observed.any():
        raise DataError(
            f"{table.name} without a single reading",
            "numbers in the sensor columns",
            "check the file's export",
        )
    silent = int((~series.observed.any(axis=(0, 2))).sum())
    if silent:
        note = f"{silent} of {len(table.sensor_ids)} sensors without a single reading"
        series = replace(series, source=f"{series.source}; {note}")
    return series


def _absent(no_data: tuple[tuple[float, ...], ...], values: NDArray[np.float32]) -> list[float]:
    """Return the codes that are no reading of a feature that they are named for."""
    return [
        code
        for feature, codes in enumerate(no_data)
        for code in dict.fromkeys(codes)
        if not (values[..., feature] == np.float32(code)).any()
    ]


def read_series_for(site: Site, path: str | Path, *, timezone: str | None = None) -> Series:
    """Read a series that a model of a site is to forecast from or to be scored on; see :func:`read_series`.

    Where the file leaves it unsaid, the readings are those of the model's one feature, and the clock is the model's.
    """
    return read_series(path, timezone=timezone, facts=Facts.of(site))


def _without_skipped_hour(table: FileTable, zone: str) -> FileTable:
    """Leave out empty rows at times that no clock showed: recorders write 24 hours on every day."""
    if not table.local:
        return table
    skipped = local_times(utc_times(table.times, zone), zone) != table.times
    if not skipped.any() or np.isfinite(table.values[skipped]).any():
        return table
    note = f"{int(skipped.sum())} rows without a reading in an hour that clocks skip left out"
    lines = None if table.lines is None else table.lines[~skipped]
    notes = (*table.notes, note)
    return replace(table, values=table.values[~skipped], times=table.times[~skipped], notes=notes, lines=lines)


def _utc_times(table: FileTable, zone: str) -> tuple[NDArray[np.int64], list[str]]:
    """UTC seconds of a table's rows, strictly increasing, and what was assumed about them."""
    check_increasing(
        table.times,
        table,
        "sort the rows by time; in the hour that occurs twice when clocks are set back, write times with UTC offset",
    )
    if not table.local:
        return table.times, []
    utc = utc_times(table.times, zone)
    check_increasing(utc, table, f"the clock of {zone} changes here: {_CLOCK_CHANGES}")
    interval_s = most_frequent(np.diff(table.times))
    uneven = (np.diff(utc) % interval_s).any() and not (np.diff(table.times) % interval_s).any()
    if uneven and interval_s >= SAME_WHATEVER_THE_CLOCK_S:
        standard = int((table.times - utc).min())
        every = span_in_words(interval_s / 60)
        return table.times - standard, [f"every {every} of the wall clock: in summer an hour before that of the grid"]
    return utc, []


def _grid(utc: NDArray[np.int64], table: FileTable) -> tuple[NDArray[np.int64], NDArray[np.int64], int, list[str]]:
    """Grid times, the grid row of each table row, the interval and what was filled."""
    if len(utc) < 2 and table.interval_s is None:
        raise DataError(f"{table.name} with {len(utc)} row(s)", "at least two intervals", "give a longer recording")
    steps = np.diff(utc)
    interval_s = table.interval_s or most_frequent(steps)
    uneven = np.flatnonzero(steps % interval_s)
    if len(uneven):
        row = int(uneven[0])
        raise DataError(
            f"{table.name}: {format_time(utc[row])} and then {format_time(utc[row + 1])} ({table.place(row + 1)})",
            f"times that are whole intervals of {interval_s} s apart, as most of them are",
            f"the clock changes here: {_CLOCK_CHANGES}"
            if table.local and not (np.diff(table.times) % interval_s).any()
            else "round the times to the interval, or aggregate the readings per interval",
        )
    # A day or more without a row is a break in the recording; anything shorter is an outage to bridge.
    breaks = steps // interval_s - 1 > longest_gap(interval_s)
    ahead = np.append(np.where(breaks, 1, steps // interval_s), 1)
    intervals, columns = int(ahead.sum()), table.values.shape[1] * table.values.shape[2]
    check_cells(
        f"{table.name}: {len(utc):,} times, a grid of {intervals:,} intervals of {interval_s} s",
        cells_of(intervals, columns),
        cells_of(len(utc), columns),
        "correct times that are too near to each other or too far apart, or sum over longer intervals",
    )
    rows = np.cumsum(ahead) - ahead
    timestamps = np.repeat(utc, ahead) + (np.arange(ahead.sum()) - np.repeat(rows, ahead)) * interval_s
    filled = len(timestamps) - len(utc)
    notes = []
    if filled:
        notes.append(f"{filled} missing intervals filled as unobserved")
    if breaks.any():
        notes.append(f"{breaks.sum()} break(s) of a day or more")
    return timestamps, rows, interval_s, notes
