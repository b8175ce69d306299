"""Refusals: messages that are wrong, among some that are right, over every way that messages come.

Each kind of fuzz is counted beside its expected reasons, and every message is followed by what the service itself says:
messages taken, repeated and refused by reason must add up to those sent; the state, the readings of the open interval
and the forecasts must be, bit for bit, those of a stream that was sent nothing but what was taken. What happens to be a
legal interval of another time is not sent, as it would move the clock, rightly.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.brokers import STATUS, Peer
from benchmarks.faults.fuzz import DEEP, Fuzz
from benchmarks.faults.live import LiveService, Mosquitto
from benchmarks.faults.network import START_S, in_memory, message_of, readings_of, spoken
from benchmarks.faults.table import Row, differences
from benchmarks.harness.workbench import ROOT
from runtime.aggregation import Assembler
from runtime.durable.journal import Input
from runtime.forecast import Forecast
from runtime.messages import LONGEST_MESSAGE, Detection, read_message
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import StreamError

_EVERY = 20  # about one message in so many is right
_BATCH = 40  # readings of an interval, right and wrong


@dataclass
class Expected:
    """What a service must have made of the messages it was sent.

    Attributes:
        refused: number of messages by reason.
        spoilt: number of spoilt messages.
        deep: number of messages nested about as deep as Python's reader goes; at which depth it gives up, and so the
            reason, is a matter of its stack.
        repeats: messages that had come before.
        forecasts: what a stream says that was sent nothing but what was taken, by time of issue.
        snapshot: of that stream.
        failures: messages that should have been refused, or for another reason.
    """

    refused: Counter[str] = field(default_factory=Counter)
    spoilt: int = 0
    deep: int = 0
    repeats: int = 0
    forecasts: dict[str, str] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    failures: list[str] = field(default_factory=list)

    def refuse(self, kind: str, reasons: frozenset[str], reason: str, text: bytes) -> None:
        """Count a refusal."""
        self.refused[reason] += 1
        self.deep += kind == DEEP
        if reasons and reason not in reasons:
            self.failures.append(f"{kind!r} refused as {reason}: {text[:200]!r}")


def refusals(bundle: Bundle, messages: int, rng: np.random.Generator) -> Iterator[Row]:
    """Send so many spoilt messages by each way."""
    yield by_stdin(bundle, messages, rng)
    if shutil.which("mosquitto") is None:
        yield Row("wrong messages, MQTT", 0, [], "", skipped="mosquitto is not installed")
    else:
        yield by_mqtt(bundle, messages, rng)
    yield of_readings(bundle, messages, rng)


def interval_messages(
    bundle: Bundle, number: int, rng: np.random.Generator, *, lines: bool
) -> tuple[list[bytes], Expected]:
    """Return messages of intervals that lie before now, and what is to become of them."""
    manifest, expected, sent = bundle.manifest, Expected(), []
    fuzz = Fuzz(rng, manifest, single=False, lines=lines)
    stream = Stream.open(bundle, name="ring")
    right = number // _EVERY + 2
    first_s = (int(time.time()) // manifest.interval_s - right - 2) * manifest.interval_s + manifest.phase_s
    now = time.time()

    def take(text: bytes, name: str, reasons: frozenset[str]) -> bool:
        """Let the stream look at a message; return whether to send it."""
        try:
            accepted = _accepted(stream, text, now)
        except StreamError as error:
            if error.reason == "ahead" and not reasons:  # it may not be any more when it arrives
                return False
            expected.refuse(name, reasons, error.reason, text)
            return True
        if isinstance(accepted, Input):
            if accepted.stamp != stamp:
                return False
            forecast = stream.replay(accepted)
            expected.forecasts.update([spoken(forecast.to_json_line())])
        else:
            expected.repeats += 1
        if reasons:
            expected.failures.append(f"{name!r} taken: {text[:200]!r}")
        return True

    last: dict[str, Any] = {}
    for step in range(right):
        stamp = first_s + step * manifest.interval_s
        message = message_of(manifest, stamp, readings_of(manifest, step))
        fuzz.last_s, fuzz.now = stamp - manifest.interval_s, now
        for _ in range(_EVERY if step else 0):
            if expected.spoilt == number:
                break
            # Most of the spoilt ones are of the interval that is to come, the others of the last.
            kind, text = fuzz.spoilt(message if rng.random() < 0.8 else last)
            if take(text, kind.name, kind.reasons):
                sent.append(text)
                expected.spoilt += 1
        if stream.last is None or stream.last.issued_s != stamp:  # else a spoilt one was as good
            sent.append(json.dumps(message).encode())
            take(sent[-1], "a right message", frozenset())
        last = message
    if lines:
        for text in fuzz.giants(last, LONGEST_MESSAGE):
            sent.append(text)
            expected.refused["message"] += 1
            expected.spoilt += 1
    expected.snapshot = stream.snapshot()
    stream.close()
    return sent, expected


def by_stdin(bundle: Bundle, number: int, rng: np.random.Generator) -> Row:
    """Send lines to ``stunet run`` in a process of its own."""
    lines, expected = interval_messages(bundle, number, rng, lines=True)
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        config = Path(scratch) / "service.toml"
        config.write_text(
            f'[[stream]]\nname = "ring"\nbundle = "{bundle.path}"\nstate = "state"\n'
            '[stream.source]\nkind = "stdin"\n[[stream.sink]]\nkind = "stdout"\n'
        )
        done = subprocess.run(
            [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config)],
            input=b"".join(line + b"\n" for line in lines),
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        failures = list(expected.failures)
        if done.returncode or b"Traceback" in done.stderr or b"Logging error" in done.stderr:
            failures.append(f"exit code {done.returncode}: {done.stderr[-500:]!r}")
        snapshot = newest_snapshot(Path(scratch) / "state")
    forecasts = dict(map(spoken, done.stdout.splitlines()))
    failures += judge(expected, snapshot.counters, forecasts, snapshot)
    return row("stdin", len(lines), expected, failures)


def by_mqtt(bundle: Bundle, number: int, rng: np.random.Generator) -> Row:
    """Send messages through a broker."""
    payloads, expected = interval_messages(bundle, number, rng, lines=False)
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        folder = Path(scratch)
        broker = Mosquitto(folder)
        sender = Peer(broker, "sender", STATUS, in_flight=1000)
        service = LiveService(
            bundle, folder, source='kind = "mqtt"\ntopics = ["any/#"]', top=broker.table(in_flight=1000)
        )
        try:
            sender.wait_for(lambda: b"online" in sender.received)
            for begin in range(0, len(payloads), 1000):
                for payload in payloads[begin : begin + 1000]:
                    sender.publish("any/detector", payload)
                taken = min(begin + 1000, len(payloads))
                service.wait_for(lambda status: status.counters["service"]["delivered"] >= taken)  # noqa: B023
        finally:
            status = service.close()
            sender.close()
            broker.stop()
        snapshot = newest_snapshot(folder / "state")
        forecasts = dict(map(spoken, service.lines))
    failures = expected.failures + judge(expected, status.counters["stream"], forecasts, snapshot)
    return row("MQTT", len(payloads), expected, failures)


def of_readings(bundle: Bundle, number: int, rng: np.random.Generator) -> Row:
    """Send single readings over a pipe to a service with an assembler, its clock going from interval to interval."""
    manifest, expected = bundle.manifest, Expected()
    fuzz = Fuzz(rng, manifest, single=True, lines=True)
    stream, assembler = Stream.open(bundle, name="ring"), Assembler(manifest, grace_s=0)
    clean = Assembler(manifest, grace_s=0)  # what is taken, and nothing else
    sent = 0
    tick = b"tick"  # it is refused, and then the intervals are closed that are over
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        service = LiveService(bundle, Path(scratch), now=START_S, assembler=True)
        try:
            for step in range(1_000_000):
                begin_s = START_S + step * manifest.interval_s
                now = begin_s + 0.9 * manifest.interval_s
                values = readings_of(manifest, step)
                batch = [tick]
                expected.refused["message"] += 1
                for record in [*assembler.due(now)]:
                    expected.forecasts.update([spoken(stream.push(*next(clean.due(now))).to_json_line())])
                    assert stream.last is not None
                    assert record.timestamp == stream.last.issued_s
                fuzz.last_s, fuzz.now = begin_s - manifest.interval_s, now
                for place in range(_BATCH):
                    sensor = int(rng.integers(len(manifest.sensor_ids)))
                    message = {
                        "sensor": manifest.sensor_ids[sensor],
                        "timestamp": begin_s + place,
                        "values": dict(zip(manifest.features, values[sensor].tolist(), strict=True)),
                    }
                    text, name, reasons = json.dumps(message).encode(), "a right message", frozenset[str]()
                    if rng.random() > 1 / _EVERY and expected.spoilt < number:
                        kind, text = fuzz.spoilt(message)
                        name, reasons = kind.name, kind.reasons
                        expected.spoilt += 1
                    batch.append(text)
                    try:
                        detection = read_message(text)
                        if not isinstance(detection, Detection):
                            raise StreamError("an interval", "a reading", "", reason="message")
                        taken = assembler.add(*detection, now=now)
                    except StreamError as error:
                        expected.refuse(name, reasons, error.reason, text)
                        continue
                    if taken is None:
                        expected.repeats += 1
                    else:
                        clean.add(*detection, now=now)
                        if reasons:
                            expected.failures.append(f"{name!r} taken: {text[:200]!r}")
                service.now = now
                service.send(batch)
                sent += len(batch)
                if expected.spoilt >= number:
                    break
        finally:
            status = service.close()
        snapshot = newest_snapshot(Path(scratch) / "state")
        forecasts = dict(map(spoken, service.lines))
    expected.snapshot = stream.snapshot()
    stream.close()
    counters = dict(status.counters["assembler"])
    counters["refused"] = Counter(counters["refused"]) + Counter(status.counters["stream"]["refused"])
    counters["pushes"] = counters.pop("readings")
    failures = expected.failures + judge(expected, counters, forecasts, snapshot, taken=clean.counters.readings)
    opened, wanted = snapshot.readings, clean.state()
    if opened is None or any(
        getattr(opened, name).tobytes() != getattr(wanted, name).tobytes() for name in ("nodes", "seconds", "values")
    ):
        failures.append("other readings of the open interval")
    return row("single readings", sent, expected, failures)


def judge(
    expected: Expected,
    counters: Any,
    forecasts: dict[str, str],
    snapshot: Snapshot,
    *,
    taken: int | None = None,
) -> list[str]:
    """Return what is wrong with what a service counted, said and remembers."""
    refused = {reason: count for reason, count in counters["refused"].items() if count}
    off = Counter(refused)
    off.subtract(expected.refused)
    failures = [f"{count:+} refused as {reason}" for reason, count in off.items() if abs(count) > expected.deep]
    if off.total():
        failures.append(f"{sum(refused.values())} refused instead of {expected.refused.total()}")
    taken = len(expected.forecasts) if taken is None else taken
    if (counters["pushes"], counters["repeats"]) != (taken, expected.repeats):
        failures.append(
            f"{counters['pushes']} taken and {counters['repeats']} repeated instead of {taken} and {expected.repeats}"
        )
    failures += differences(forecasts, expected.forecasts, "forecast")
    assert expected.snapshot is not None
    lines, wanted = snapshot.lines, expected.snapshot.lines
    if any(lines[name].tobytes() != wanted[name].tobytes() for name in wanted):
        failures.append("another state than that of a stream which was sent nothing wrong")
    return failures


def row(way: str, sent: int, expected: Expected, failures: list[str]) -> Row:
    """Return the row of a way that messages come."""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in expected.refused.most_common())
    refused = sum(expected.refused.values())
    seen = f"{sent:,} sent, {sent - refused:,} taken or repeated, {refused:,} refused: {reasons}"
    return Row(f"wrong messages, {way}", expected.spoilt, failures, seen, data={"refused": dict(expected.refused)})


def newest_snapshot(state: Path) -> Snapshot:
    """Return what a service that has ended remembers."""
    return Snapshot.load(max(state.glob("*/*.snapshot")))


def _accepted(stream: Stream, text: bytes, now: float) -> Input | Forecast:
    """Return an interval as a stream without an assembler takes it.

    Raises:
        StreamError: if it is refused.
    """
    message = read_message(text)
    if isinstance(message, Detection):
        raise StreamError("a reading", "an interval", "", reason="message")
    return stream.accept(*message, now=now)
