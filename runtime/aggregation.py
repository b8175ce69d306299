"""Assembly: single readings, each sensor in its own rhythm, gathered into the intervals that a stream is pushed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.clock import Timestamp, to_seconds
from runtime.counters import count_refusal, no_refusals, restored_counts
from runtime.durable.journal import SingleReading
from runtime.messages import Record
from runtime.readings import Reading, advice_on_unknown, read_number
from runtime.snapshot import OpenReadings
from stunet_deploy.bundle import Manifest
from stunet_deploy.errors import ConfigError, StreamError, shown
from stunet_deploy.series.times import format_time


@dataclass(frozen=True)
class Rule:
    """How the readings of an interval become one value of a feature.

    Attributes:
        how: their ``mean``, or their ``sum`` (vehicles counted).
        weight: for a mean: the name of the number in each reading by which it is weighted, such as ``flow``. Where all
            weights are 0 nothing was measured, and the value is unobserved.
    """

    how: Literal["mean", "sum"] = "mean"
    weight: str | None = None

    def __post_init__(self) -> None:
        if self.how not in ("mean", "sum") or (self.how == "sum" and self.weight is not None):
            raise ConfigError(
                f"rule {self.how!r} with weight {self.weight!r}",
                "a mean, weighted or not, or a sum",
                "correct the rule",
            )


@dataclass
class AssemblyCounters:
    """Counts of an assembler's readings."""

    readings: int = 0
    """Readings accepted, repeats not counted."""
    repeats: int = 0
    """Readings that had come before, the same in sensor, time and numbers."""
    refused: dict[str, int] = field(default_factory=no_refusals)
    """Refused readings by reason, see :data:`runtime.counters.REFUSALS`."""
    outside_limits: int = 0
    """Numbers dropped because they lie outside the manifest's limits."""
    unknown: int = 0
    """Readings of unknown sensors that were ignored."""
    dropped: int = 0
    """Readings dropped because the clock went back and they lay ahead of it."""
    unweighted: int = 0
    """Numbers dropped because the weight of their rule did not come with them, or is negative."""


class Assembler:
    """Gathers single readings into intervals; an interval is closed ``grace_s`` after its end.

    An interval holds the readings with start <= time < end, or start < time <= end where ``stamp`` is ``end``. Within
    an interval the order of arrival changes nothing, not even the last bit.

    Args:
        manifest: sensors, features, limits and the interval grid.
        rules: by feature; a plain mean by default.
        grace_s: how long after an interval's end its readings are waited for, in seconds.
        stamp: whether the time of a reading is the ``start`` or the ``end`` of what it measured.
        period_s: what one reading covers, in seconds. A sum is then scaled up for readings that did not come, and
            unobserved where less than half of them came; without it, a lost reading looks like fewer vehicles.
        ignore_unknown: skip sensors that the bundle does not have, instead of refusing them.

    Raises:
        ConfigError: if a rule is for no feature, or a number is out of range.
    """

    def __init__(
        self,
        manifest: Manifest,
        rules: Mapping[str, Rule] | None = None,
        *,
        grace_s: float = 30.0,
        stamp: Literal["start", "end"] = "start",
        period_s: float | None = None,
        ignore_unknown: bool = False,
    ) -> None:
        rules = rules or {}
        strange = sorted(rules.keys() - set(manifest.features))
        if strange:
            raise ConfigError(f"a rule for {strange}", f"features among {list(manifest.features)}", "correct its name")
        if not 0 <= grace_s < math.inf or stamp not in ("start", "end") or not (period_s is None or period_s > 0):
            raise ConfigError(
                f"grace_s = {grace_s}, stamp = {stamp!r}, period_s = {period_s}",
                "a grace of at least 0 s, 'start' or 'end', and a period above 0 s",
                "correct the option",
            )
        self.counters = AssemblyCounters()
        self.grace_s = grace_s
        self._manifest = manifest
        self._stamp_s = manifest.interval_s if manifest.stamp == "end" else 0  # from an interval's start to its stamp
        self._rules = [rules.get(feature, Rule()) for feature in manifest.features]
        weights = dict.fromkeys(rule.weight for rule in self._rules if rule.weight is not None)
        self.names = tuple(dict.fromkeys([*manifest.features, *weights]))
        self._columns = {name: column for column, name in enumerate(self.names)}
        self._nodes = {sensor: node for node, sensor in enumerate(manifest.sensor_ids)}
        self._stamp = stamp
        self._period_s = period_s
        self._ignore_unknown = ignore_unknown
        # By the start of the interval, then by sensor and time, so that a reading that comes twice counts once.
        self._open: dict[int, dict[tuple[int, float], tuple[float, ...]]] = {}
        self._per_sensor: dict[int, NDArray[np.int64]] = {}
        self._closed: int | None = None  # start of the last interval closed

    def add(self, sensor: str, timestamp: Timestamp, reading: Reading, *, now: float) -> SingleReading | None:
        """Take one reading.

        Args:
            sensor: its id.
            timestamp: seconds since the epoch, a datetime with a zone, or ISO 8601 text.
            reading: numbers by name, of the features and of the weights; or a number if there is one name; None and
                NaN are unobserved.
            now: the controller's clock in seconds since the epoch.

        Returns:
            The reading as it was accepted; None if it had come before, or its sensor is unknown and ignored.

        Raises:
            StreamError: if it cannot be accepted: unknown, no number, late, far ahead of the clock, or in conflict
                with an earlier one of the same sensor and time. Nothing has changed but the counters.
        """
        self._follow(now)
        try:
            accepted = self._read(sensor, timestamp, reading, now)
        except StreamError as error:
            count_refusal(self.counters.refused, error)
            raise
        if accepted is None:
            return None
        self.put(accepted)
        return accepted

    def put(self, accepted: SingleReading) -> None:
        """Take a reading that has been accepted before, from a journal."""
        start = self._start(accepted.seconds)
        self._open.setdefault(start, {})[accepted.node, accepted.seconds] = accepted.values
        counts = self._per_sensor.setdefault(start, np.zeros(len(self._nodes), np.int64))
        counts[accepted.node] += 1
        self.counters.readings += 1

    def due(self, now: float) -> Iterator[Record]:
        """Close the intervals that ended ``grace_s`` ago, oldest first, as they are to be pushed.

        Ask at least once an interval: then an interval in which nothing was heard is closed as well, all unobserved.
        After a longer pause, or a jump of the clock, the first reading starts the intervals again; the stream bridges
        what lies between, or starts from zero.

        Args:
            now: the controller's clock in seconds since the epoch.
        """
        self._follow(now)
        interval_s = self._manifest.interval_s
        newest = self._floor(now - self.grace_s - interval_s)
        for start in sorted(start for start in self._open if start <= newest):
            yield self._close(start)
        if self._closed is not None and newest == self._closed + interval_s:
            yield self._close(newest)

    def close_until(self, stamp: int) -> None:
        """Count the intervals up to a stamp as closed: the stream has been pushed them."""
        start = stamp - self._stamp_s
        self._closed = start
        for old in [old for old in self._open if old <= start]:
            del self._open[old], self._per_sensor[old]

    def state(self) -> OpenReadings:
        """Return a copy of the readings of open intervals, for a snapshot."""
        rows = [(*key, values) for readings in self._open.values() for key, values in sorted(readings.items())]
        return OpenReadings(
            names=self.names,
            nodes=np.array([row[0] for row in rows], np.int32),
            seconds=np.array([row[1] for row in rows], np.float64),
            values=np.array([row[2] for row in rows], np.float64).reshape(len(rows), len(self.names)),
            closed_s=None if self._closed is None else self._closed + self._stamp_s,
            counters=asdict(self.counters),
        )

    def restore(self, state: OpenReadings) -> None:
        """Go on where another assembler of this bundle and these names was.

        Raises:
            StreamError: if it read other names; nothing has changed then.
        """
        if state.names != self.names:
            raise StreamError(
                f"open readings of {list(state.names)}",
                f"{list(self.names)}, as the rules have it",
                "go on without them, or with the rules they were read by",
            )
        self._open, self._per_sensor, self._closed = {}, {}, None
        if state.closed_s is not None:
            self.close_until(state.closed_s)
        for node, seconds, values in zip(
            state.nodes.tolist(), state.seconds.tolist(), state.values.tolist(), strict=True
        ):
            self.put(SingleReading(node, seconds, tuple(values)))
        self.counters = restored_counts(AssemblyCounters, state.counters)

    def _follow(self, now: float) -> None:
        """Drop readings that lie ahead of the clock: they come from a time when the clock was wrong."""
        interval_s = self._manifest.interval_s
        newest = self._floor(now) + interval_s
        for start in [start for start in self._open if start > newest]:
            self.counters.dropped += len(self._open.pop(start))
            del self._per_sensor[start]
        # So far ahead that the stream will see it too when it is pushed the interval that is open now.
        if self._closed is not None and self._closed > newest + interval_s + self.grace_s:
            self._closed = None

    def _read(self, sensor: str, timestamp: Timestamp, reading: Reading, now: float) -> SingleReading | None:
        node = self._nodes.get(sensor) if isinstance(sensor, str) else None
        if node is None:
            if self._ignore_unknown and isinstance(sensor, str):
                self.counters.unknown += 1
                return None
            raise StreamError(
                f"sensor {shown(sensor)}, which the bundle does not have",
                f"one of its {len(self._nodes)} sensors",
                advice_on_unknown(sensor, self._nodes),
                reason="unknown_sensor",
            )
        seconds = to_seconds(timestamp)
        start = self._start(seconds)
        self._check_time(sensor, seconds, start, now)
        values, outside = self._numbers(sensor, reading)
        known = self._open.get(start, {}).get((node, seconds))
        if known is not None:
            if not np.array_equal(known, values, equal_nan=True):
                raise StreamError(
                    f"sensor {sensor!r} at {format_time(int(seconds))} again with other numbers",
                    "one reading per sensor and time",
                    "send each reading once, or the same again",
                    reason="conflict",
                )
            self.counters.repeats += 1
            return None
        if start in self._per_sensor and self._per_sensor[start][node] >= self._manifest.interval_s:
            raise StreamError(
                f"more than {self._manifest.interval_s} readings of sensor {sensor!r} in one interval",
                "at most one a second",
                "send readings less often",
                reason="flood",
            )
        self.counters.outside_limits += outside
        return SingleReading(node, seconds, values)

    def _check_time(self, sensor: str, seconds: float, start: int, now: float) -> None:
        """Refuse a reading of an interval that is closed, or so old or far ahead that a clock must be wrong."""
        interval_s = self._manifest.interval_s
        oldest = now - self.grace_s - (self._manifest.window + 1) * interval_s
        if start < oldest or (self._closed is not None and start <= self._closed):
            raise StreamError(
                f"a reading of sensor {sensor!r} at {format_time(int(seconds))}, whose interval is closed",
                f"readings at most {self.grace_s:g} s after the end of their interval",
                "send readings sooner, or raise grace_s",
                reason="late",
            )
        if seconds > now + interval_s:
            raise StreamError(
                f"a reading of sensor {sensor!r} at {format_time(int(seconds))}, ahead of the clock",
                f"at most {interval_s} s after {format_time(int(now))}",
                "correct the detector's clock, or this one",
                reason="ahead",
            )

    def _numbers(self, sensor: str, reading: Reading) -> tuple[tuple[float, ...], int]:
        """Return a number or NaN for each name, and how many were dropped for the limits."""
        if reading is not None and not isinstance(reading, Mapping):
            if len(self.names) > 1:
                raise StreamError(
                    f"one number for sensor {sensor!r}",
                    f"numbers by name, of {list(self.names)}",
                    'name the numbers: {"speed": 61.5, "flow": 12}',
                    reason="reading",
                )
            reading = {self.names[0]: reading}
        values = [math.nan] * len(self.names)
        outside = 0
        for name, raw in (reading or {}).items():
            column = self._columns.get(name)
            if column is None:
                raise StreamError(
                    f"unknown name {name!r} in a reading of sensor {sensor!r}",
                    f"names among {list(self.names)}",
                    "correct the name",
                    reason="unknown_feature",
                )
            if raw is not None:
                values[column] = read_number(sensor, raw)
                if self._is_code(column, values[column]):
                    values[column] = math.nan
                elif not self._inside(column, values[column]):
                    outside += not math.isnan(values[column])
                    values[column] = math.nan
        return tuple(values), outside

    def _is_code(self, column: int, value: float) -> bool:
        """Return whether a number stands for no reading; compared as float32, as recordings are.

        Codes are numbers of an interval: one of many summands may be such a number and a reading.
        """
        if not self._manifest.no_data or column >= len(self._rules):
            return False
        if self._rules[column].how == "sum" and self._inside(column, value):
            return False
        with np.errstate(over="ignore"):
            return any(np.float32(value) == np.float32(code) for code in self._manifest.no_data[column])

    def _inside(self, column: int, value: float) -> bool:
        if column >= len(self._rules):  # a weight that is no feature
            return 0 <= value < math.inf
        low, high = self._manifest.limits[column]
        # Limits are those of the interval's value; one of many summands may be nearer to 0.
        return min(low, 0) <= value <= high if self._rules[column].how == "sum" else low <= value <= high

    def _start(self, seconds: float) -> int:
        """Return the start of the interval that a reading belongs to."""
        start = self._floor(seconds)
        return start - self._manifest.interval_s if self._stamp == "end" and seconds == start else start

    def _floor(self, seconds: float) -> int:
        """Return the newest start of an interval that is not after a time."""
        phase_s, interval_s = self._manifest.phase_s, self._manifest.interval_s
        return phase_s + interval_s * math.floor((seconds - phase_s) / interval_s)

    def _close(self, start: int) -> Record:
        """Return the interval's values [node, feature], NaN where unobserved, and its stamp."""
        rows = sorted(self._open.pop(start, {}).items())
        self._per_sensor.pop(start, None)
        nodes = np.array([node for (node, _), _ in rows], np.int64)
        numbers = np.array([values for _, values in rows], np.float64).reshape(len(rows), len(self.names))
        columns = [self._aggregate(rule, column, nodes, numbers) for column, rule in enumerate(self._rules)]
        self._closed = start
        return Record(np.stack(columns, axis=-1), start + self._stamp_s)

    def _aggregate(
        self, rule: Rule, column: int, nodes: NDArray[np.int64], numbers: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return one feature [node] of an interval, NaN where unobserved."""
        values = numbers[:, column]
        weights = np.ones_like(values) if rule.weight is None else numbers[:, self._columns[rule.weight]]
        came = ~np.isnan(values)
        heard = came & (weights >= 0)
        self.counters.unweighted += int(np.count_nonzero(came) - np.count_nonzero(heard))
        count = len(self._nodes)
        weight = np.bincount(nodes[heard], weights[heard], count)
        total = np.bincount(nodes[heard], values[heard] * weights[heard], count)
        if rule.how == "mean":
            return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)
        if self._period_s is None:
            return np.where(weight > 0, total, np.nan)
        expected = self._manifest.interval_s / self._period_s
        scaled = total * np.maximum(1, expected / np.maximum(weight, 1))
        return np.where((weight > 0) & (weight >= expected / 2), scaled, np.nan)
