"""Assembly: single readings, each sensor in its own rhythm, gathered into the intervals that a stream is pushed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.clock import Timestamp, to_seconds
from runtime.counters import AssemblyCounters, count_refusal, restored_counts
from runtime.durable.journal import SingleReading
from runtime.messages import Record
from runtime.readings import Reading, advice_on_unknown
from runtime.rules import Rule, Rules
from runtime.snapshot import OpenReadings
from runtime.watermark import Watermark
from stunet_deploy.errors import ConfigError, StreamError, shown
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time
from stunet_deploy.site import longest_gap

#: Readings of a backlog that may be open at once, in all and for each sensor; with more the oldest interval is closed.
_MOST_OPEN, _MOST_OPEN_EACH = 200_000, 40


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
        self._rules = Rules(manifest, rules or {}, period_s)
        self._nodes = {sensor: node for node, sensor in enumerate(manifest.sensor_ids)}
        self._stamp = stamp
        self._ignore_unknown = ignore_unknown
        # By the start of the interval, then by sensor and time, so that a reading that comes twice counts once.
        self._open: dict[int, dict[tuple[int, float], tuple[float, ...]]] = {}
        self._per_sensor: dict[int, NDArray[np.int64]] = {}
        self._closed: int | None = None  # start of the last interval closed
        self._far_s = manifest.window * manifest.interval_s
        self._watermark = Watermark(len(self._nodes), self._far_s)
        self._longest_gap_s = longest_gap(manifest.interval_s) * manifest.interval_s
        self._errors: list[StreamError] = []

    @property
    def time(self) -> float:
        """The time that most of the sensors have reached, in seconds since the epoch; -inf before the first reading."""
        return self._watermark.time

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers that are read of a reading: the features, and the weights that are no feature."""
        return self._rules.names

    def add(
        self,
        sensor: str,
        timestamp: Timestamp,
        reading: Reading,
        *,
        now: float | None,
        catching_up: bool = False,
    ) -> SingleReading | None:
        """Take one reading.

        Args:
            sensor: its id.
            timestamp: seconds since the epoch, a datetime with a zone, or ISO 8601 text.
            reading: numbers by name, of the features and of the weights; or a number if there is one name; None and
                NaN are unobserved.
            now: the controller's clock in seconds since the epoch; None if the readings bring their own time.
            catching_up: whether the reading may have been kept somewhere for any time. Then it may be of any interval
                after the last one closed.

        Returns:
            The reading as it was accepted; None if it had come before, or its sensor is unknown and ignored.

        Raises:
            StreamError: if it cannot be accepted: unknown, no number, late, far ahead of the clock, or in conflict
                with an earlier one of the same sensor and time. Nothing has changed but the counters.
        """
        if now is not None:
            self._follow(now)
        try:
            accepted = self._read(sensor, timestamp, reading, now, catching_up)
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
        self._watermark.see(accepted.node, accepted.seconds)

    def due(self, now: float, *, until: float | None = None) -> Iterator[Record]:
        """Close the intervals that ended ``grace_s`` ago, oldest first, as they are to be pushed.

        Ask at least once an interval: then an interval in which nothing was heard is closed as well, all unobserved.
        After a longer pause, or a jump of the clock, the first reading starts the intervals again; the stream bridges
        what lies between, or starts from zero.

        Args:
            now: the controller's clock in seconds since the epoch.
            until: what it showed when all had come that is known to have come; now by default.
        """
        self._follow(now)
        yield from self._over(now if until is None else until)

    def due_by_sensors(self) -> Iterator[Record]:
        """Close intervals as :meth:`due` does, but by the time that most of the sensors have reached.

        Readings further ahead of it than the model's window are then refused, see :meth:`refused_since`.
        """
        closed = self._closed
        first = min(self._open, default=math.inf) if closed is None else closed + self._manifest.interval_s
        if not self._watermark.moves(first + self._manifest.interval_s + self.grace_s):
            return
        now = self._watermark.follow()
        if now == -math.inf:
            return
        farthest = now + self._far_s
        if closed is not None and closed > farthest:  # a simulation has begun anew
            self._closed = None
        for record in self._over(now):
            for start in [start for start in self._open if start > farthest]:
                self._refuse_ahead(start)
            self._watermark.forget(farthest)
            yield record

    def due_of_backlog(self, now: float, *, drained: bool, until: float | None = None) -> Iterator[Record]:
        """Close intervals of a backlog, which are over by the clock while their readings still come, oldest first.

        An interval is closed when every sensor that was heard of late has gone past its end and ``grace_s``: not before
        a service that was never away would have closed it. Intervals between them in which nothing was heard are closed
        too. If more readings pile up than memory should hold, the oldest interval is closed nevertheless.

        Args:
            now: the controller's clock in seconds since the epoch.
            drained: whether all of the backlog has come, so that nothing is waited for.
            until: see :meth:`due`.
        """
        self._follow(now)
        newest = self._newest_over(now if until is None else until)
        while starts := [start for start in self._open if start <= newest]:
            start = min(starts)
            if self._closed is not None and start - self._closed <= self._longest_gap_s:
                start = self._closed + self._manifest.interval_s
            if not (drained or self._passed(start) or self._full):
                return
            yield self._close(start)

    def is_due(self, now: float) -> bool:
        """Return whether an interval is to be closed by a clock."""
        newest = self._newest_over(now)
        after = None if self._closed is None else self._closed + self._manifest.interval_s
        return newest == after or any(start <= newest for start in self._open)

    def is_over(self, reading: SingleReading, now: float) -> bool:
        """Return whether the interval of a reading is to be closed by a clock."""
        return self._start(reading.seconds) <= self._newest_over(now)

    def behind_s(self, now: float) -> float:
        """Return by how many seconds the sensors heard of late are behind a clock, on average; NaN if none was."""
        since = -math.inf if self._closed is None else self._closed - self._far_s
        return now - self._watermark.mean(since=since)

    def end(self) -> None:
        """Let the next :meth:`due_by_sensors` close by the newest reading that is not far ahead: no more will come."""
        self._watermark.end()

    def refused_since(self) -> list[StreamError]:
        """Return why readings that had been accepted were refused since the last call."""
        errors, self._errors = self._errors, []
        return errors

    def close_until(self, stamp: int, observed: ArrayLike | None = None) -> None:
        """Count the intervals up to a stamp as closed: the stream has been pushed them.

        Args:
            stamp: of the last interval.
            observed: [node, feature] what was observed in it.
        """
        start = stamp - self._stamp_s
        self._closed = start
        if observed is not None:
            self._watermark.expect(np.flatnonzero(np.asarray(observed).any(axis=1)), start)
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

    def take_over(self, other: Assembler) -> None:
        """Go on where a running assembler is: with its open readings, and knowing of every sensor how far it has come.

        Without the latter it would not wait for a sensor that has no open reading at the moment.

        Args:
            other: of the same sensors and intervals; it is unchanged.

        Raises:
            StreamError: if it reads other names; nothing has changed then.
        """
        self.restore(other.state())
        self._watermark.adopt(other._watermark)

    def _newest_over(self, now: float) -> int:
        """Return the start of the newest interval that ended ``grace_s`` ago."""
        return self._floor(now - self.grace_s - self._manifest.interval_s)

    @property
    def _full(self) -> bool:
        return sum(map(len, self._open.values())) > max(_MOST_OPEN, _MOST_OPEN_EACH * len(self._nodes))

    def _passed(self, start: int) -> bool:
        """Return whether every sensor heard of late has gone past an interval and its grace."""
        if self._closed is None:  # it is not known which sensors there are to wait for
            return False
        return self._watermark.all_past(start + self._manifest.interval_s + self.grace_s, since=start - self._far_s)

    def _over(self, now: float) -> Iterator[Record]:
        newest = self._newest_over(now)
        for start in sorted(start for start in self._open if start <= newest):
            yield self._close(start)
        if self._closed is not None and newest == self._closed + self._manifest.interval_s:
            yield self._close(newest)

    def _refuse_ahead(self, start: int) -> None:
        """Refuse the readings of an open interval, which had been accepted because most sensors might have followed."""
        rows = self._open.pop(start)
        del self._per_sensor[start]
        sensors = sorted({self._manifest.sensor_ids[node] for node, _ in rows})
        self.counters.readings -= len(rows)
        self.counters.refused["ahead"] += len(rows)
        self._errors.append(
            StreamError(
                f"{len(rows)} readings at {format_time(start)} of {len(sensors)} sensors, such as {sensors[0]!r}",
                f"at most {self._far_s} s after {format_time(int(self.time))}, where most of the sensors are",
                "correct the clocks of these sensors",
                reason="ahead",
            )
        )

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

    def _read(
        self, sensor: str, timestamp: Timestamp, reading: Reading, now: float | None, catching_up: bool
    ) -> SingleReading | None:
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
        if now is None and self._closed is not None and start <= self._closed:
            # Most of the sensors may have gone back, as those of a simulation do that begins anew.
            self._watermark.see(node, seconds)
        self._check_time(sensor, seconds, start, now, catching_up)
        values, outside = self._rules.read(sensor, reading)
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

    def _check_time(self, sensor: str, seconds: float, start: int, now: float | None, catching_up: bool) -> None:
        """Refuse a reading of an interval that is closed, or so old or far ahead that a clock must be wrong."""
        interval_s = self._manifest.interval_s
        oldest = -math.inf
        if now is not None and not (catching_up and self._closed is not None):
            oldest = now - self.grace_s - self._far_s - interval_s
        if start < oldest or (self._closed is not None and start <= self._closed):
            raise StreamError(
                f"a reading of sensor {sensor!r} at {format_time(int(seconds))}, whose interval is closed",
                f"readings at most {self.grace_s:g} s after the end of their interval",
                "send readings sooner, or raise grace_s",
                reason="late",
            )
        if now is not None and seconds > now + interval_s:
            raise StreamError(
                f"a reading of sensor {sensor!r} at {format_time(int(seconds))}, ahead of the clock",
                f"at most {interval_s} s after {format_time(int(now))}",
                "correct the detector's clock, or this one",
                reason="ahead",
            )

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
        values, unweighted = self._rules.gather(nodes, numbers)
        self.counters.unweighted += unweighted
        self._closed = start
        return Record(values, start + self._stamp_s)
