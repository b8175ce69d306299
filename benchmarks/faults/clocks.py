"""Clocks: a controller's that jumps by a day and back, local times over both changes of daylight saving, leap seconds.

Everything goes through a live service whose clock stands where it is put. A forecast must be finite, within the
manifest's limits, and issued once; the forecasts must be those of the intervals that the service could accept, no
more and no fewer, and what it refuses must be counted; when the clock is right again, so are the forecasts, without a
hand: after a window of intervals none is degraded. Single readings of the interval that is open when the clock goes
back lie ahead of it: they are dropped and counted.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.faults.live import LiveService
from benchmarks.faults.network import START_S, in_memory, message_of, readings_of, spoken
from benchmarks.faults.table import Row, differences
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time

DAY_S = 86_400
_WRONG = 30  # intervals for which a clock is wrong: more than a stream bridges


@dataclass(frozen=True)
class Jump:
    """A clock that is wrong for a while.

    Attributes:
        name: for the table.
        clock_s, sender_s: by how much the controller's clock and the sender's stamps are off, in seconds.
        reason: for which what comes meanwhile is refused; none if it is taken.
    """

    name: str
    clock_s: int
    sender_s: int
    reason: str | None


INTERVALS = (
    Jump("clock a day ahead, senders right", DAY_S, 0, None),
    Jump("clock a day behind, senders right", -DAY_S, 0, "ahead"),
    Jump("clock and senders a day ahead", DAY_S, DAY_S, None),
    Jump("clock and senders a day behind", -DAY_S, -DAY_S, None),
    Jump("clock right, senders a day ahead", 0, DAY_S, "ahead"),
    Jump("clock right, senders a day behind", 0, -DAY_S, "late"),
)
READINGS = (
    Jump("clock a day ahead, senders right", DAY_S, 0, "late"),
    Jump("clock a day behind, senders right", -DAY_S, 0, "ahead"),
    Jump("clock and senders a day ahead", DAY_S, DAY_S, None),
    Jump("clock and senders a day behind", -DAY_S, -DAY_S, None),
)


def clocks(bundle: Bundle) -> Iterator[Row]:
    """Do all of it."""
    failures = [text for jump in INTERVALS for text in jumped(bundle, jump, single=False)]
    yield Row(f"clock jumps by a day and back, intervals, {_WRONG} each", len(INTERVALS), failures, _names(INTERVALS))
    failures = [text for jump in READINGS for text in jumped(bundle, jump, single=True)]
    seen = f"{_names(READINGS)}; the interval that was open when the clock went back is dropped"
    yield Row(f"clock jumps by a day and back, readings, {_WRONG} intervals each", len(READINGS), failures, seen)
    yield daylight_saving(bundle)
    yield leap_second(bundle)


def jumped(bundle: Bundle, jump: Jump, *, single: bool) -> list[str]:
    """Return what goes wrong when a clock jumps for a while, and back."""
    manifest = bundle.manifest
    right = 2 * manifest.window
    taken: list[int] = []  # intervals that must be forecast from
    dropped: set[int] = set()  # open when the clock goes back, and so ahead of it
    refused = 0
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        service = LiveService(bundle, Path(scratch), now=START_S, assembler=single)
        try:
            for step in range(2 * right + _WRONG):
                wrong = right <= step < right + _WRONG
                begin_s = START_S + step * manifest.interval_s
                stamp = begin_s + jump.sender_s * wrong
                service.now = begin_s + 0.9 * manifest.interval_s + jump.clock_s * wrong
                values = readings_of(manifest, step)
                sent = _readings(manifest, stamp, values) if single else [message_of(manifest, stamp, values)]
                service.send([b"tick", *(json.dumps(message).encode() for message in sent)])
                if single and taken and jump.clock_s and step == (right if jump.clock_s < 0 else right + _WRONG):
                    dropped |= {taken[-1]} if jump.reason != "late" else set()
                if wrong and jump.reason is not None:
                    refused += len(sent)
                else:
                    taken.append(stamp)
            if single:  # the last interval is over
                service.now = begin_s + 1.9 * manifest.interval_s
                service.send([b"tick"])
                service.wait_for(lambda status: status.last is not None and status.last.issued_s == taken[-1])
        finally:
            status = service.close()
        lines = [json.loads(line) for line in service.lines]
    failures = [f"{jump.name}: {text}" for text in judged(manifest, lines)]
    issued = [line["issued_at"] for line in lines]
    expected = [format_time(stamp) for stamp in taken if stamp not in dropped]
    if issued != expected:
        missing, more = sorted(set(expected) - set(issued)), sorted(set(issued) - set(expected))
        failures.append(f"{jump.name}: {len(issued)} forecasts; not {missing[:3]}, but {more[:3]}")
    counted = dict(status.counters["assembler" if single else "stream"]["refused"])
    counted["message"] = 0  # the ticks
    wanted = {} if jump.reason is None else {jump.reason: refused}
    if {reason: count for reason, count in counted.items() if count} != wanted:
        failures.append(f"{jump.name}: refused {counted} instead of {wanted}")
    if single and status.counters["assembler"]["dropped"] != len(dropped) * len(manifest.sensor_ids):
        failures.append(f"{jump.name}: {status.counters['assembler']['dropped']} readings dropped")
    if any(line["degraded"] for line in lines[-(right - manifest.window) :]):
        failures.append(f"{jump.name}: degraded long after: {lines[-1]['reasons']}")
    return failures


def daylight_saving(bundle: Bundle) -> Row:
    """Send a day of intervals around each change in local time with its offset, and compare with UTC."""
    manifest = bundle.manifest
    zone = ZoneInfo(manifest.timezone)
    failures = []
    offsets = set()
    for begin in ("2012-03-11T00:00:00", "2012-11-04T00:00:00"):
        first_s = int(datetime.fromisoformat(begin).replace(tzinfo=timezone.utc).timestamp())
        stamps = [first_s + step * manifest.interval_s for step in range(DAY_S // manifest.interval_s)]
        local = [datetime.fromtimestamp(stamp, zone).isoformat() for stamp in stamps]
        offsets |= {text[-6:] for text in local}
        plain = Stream.open(bundle, name="ring")
        expected = dict[str, str]()
        with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
            service = LiveService(bundle, Path(scratch), now=first_s)
            try:
                for step, (stamp, text) in enumerate(zip(stamps, local, strict=True)):
                    values = readings_of(manifest, step)
                    expected.update([spoken(plain.push(values, stamp).to_json_line())])
                    service.now = stamp + manifest.interval_s
                    service.send([json.dumps(message_of(manifest, text, values)).encode()])
            finally:
                status = service.close()
            failures += judged(manifest, [json.loads(line) for line in service.lines])
            failures += differences(dict(map(spoken, service.lines)), expected, "forecast")
        plain.close()
        counters = status.counters["stream"]
        if (counters["bridged"], counters["resets"], sum(counters["refused"].values())) != (0, 0, 0):
            failures.append(f"{begin}: {counters}")
    seen = f"in {manifest.timezone} with the offsets {', '.join(sorted(offsets))}; the same bits as in UTC"
    return Row("days on which the clocks change", 2, failures, seen)


def leap_second(bundle: Bundle) -> Row:
    """Send the interval that begins after a leap second as if it began in it, twice, and single readings in it."""
    manifest, failures = bundle.manifest, []
    midnights = ["2012-06-30T23:59:60Z", "2015-06-30T23:59:60Z", "2016-12-31T23:59:60Z"]
    for text in midnights:
        day = datetime.fromisoformat(text.replace(":60Z", ":59+00:00"))
        midnight_s = int(day.timestamp()) + 1
        for single in (False, True):
            with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
                first_s = midnight_s - 2 * manifest.interval_s
                service = LiveService(bundle, Path(scratch), now=first_s, assembler=single)
                try:
                    for step in range(5):
                        stamp = first_s + step * manifest.interval_s
                        values = readings_of(manifest, step)
                        service.now = stamp + 0.9 * manifest.interval_s
                        spelt = text if step == 2 else stamp
                        said = [message_of(manifest, spelt, values), message_of(manifest, stamp, values)]
                        if single:
                            said = [*_readings(manifest, stamp, values), *_readings(manifest, spelt, values)]
                        service.send([b"tick", *(json.dumps(message).encode() for message in said)])
                finally:
                    status = service.close()
                lines = [json.loads(line) for line in service.lines]
            failures += judged(manifest, lines)
            issued = [line["issued_at"] for line in lines]
            whole = [format_time(first_s + step * manifest.interval_s) for step in range(4 if single else 5)]
            counters = status.counters["assembler" if single else "stream"]
            repeats = 5 * (len(manifest.sensor_ids) if single else 1)
            if issued != whole or counters["repeats"] != repeats:
                failures.append(f"{text}: {issued}, {counters}")
    return Row(
        "leap seconds, as intervals and as readings", 2 * len(midnights), failures, "taken as the second after them"
    )


def judged(manifest: Manifest, lines: list[dict[str, Any]]) -> list[str]:
    """Return which forecasts are not finite, beyond the limits, or issued twice."""
    limits = dict(zip(manifest.features, manifest.limits, strict=True))
    failures = []
    for line in lines:
        for target, values in line["values"].items():
            numbers = np.array(values, np.float64)
            low, high = limits[target]
            if not np.isfinite(numbers).all() or numbers.min() < low - 1e-3 or numbers.max() > high + 1e-3:
                failures.append(f"{target} at {line['issued_at']} from {numbers.min()} to {numbers.max()}")
    issued = [line["issued_at"] for line in lines]
    if len(set(issued)) < len(issued):
        failures.append("a forecast twice")
    return failures


def _readings(manifest: Manifest, stamp: int | str, values: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Return a reading of each sensor at the beginning of an interval."""
    return [
        {"sensor": sensor, "timestamp": stamp, "values": dict(zip(manifest.features, row.tolist(), strict=True))}
        for sensor, row in zip(manifest.sensor_ids, values, strict=True)
    ]


def _names(jumps: tuple[Jump, ...]) -> str:
    return "; ".join(
        f"{jump.name}: {'all taken' if jump.reason is None else f'refused as {jump.reason}'}" for jump in jumps
    )
