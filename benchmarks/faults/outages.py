"""Outages: the service, its connection, its broker or its sink is away for a minute to half a day, and comes back.

The sender goes on meanwhile; it or the broker keeps what it says. The clock of the service is driven, so that half a
day passes in seconds. Afterwards every forecast must be there that a service without outages would have issued, the
same to the last bit, and nothing may have been refused or taken twice.
"""

from __future__ import annotations

import json
import queue
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.brokers import STATUS, Peer
from benchmarks.faults.live import Line, LiveService, Mosquitto
from benchmarks.faults.network import START_S, in_memory, message_of, single_readings, spoken, values_of
from benchmarks.faults.table import Row, differences
from runtime.aggregation import Assembler
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle

#: Intervals of the shortest and the longest outage: a minute and half a day, if they are of five minutes.
SHORTEST, LONGEST = 0.2, 144.0
KINDS = ("service stopped", "connection cut", "broker stopped", "broker frozen", "sink blocked")
TOPIC = "detectors"


class Uninterrupted:
    """What is sent, and what a service without outages makes of it.

    Args:
        bundle: the model.
        single: whether single readings are sent, or whole intervals.

    Attributes:
        forecasts: by time of issue, those up to the time reached.
        last_s: stamp of the last of them, or None.
    """

    def __init__(self, bundle: Bundle, *, single: bool) -> None:
        self.forecasts: dict[str, str] = {}
        self.last_s: int | None = None
        self._manifest = bundle.manifest
        self._stream = Stream.open(bundle, name="ring")
        self._assembler = Assembler(bundle.manifest, grace_s=0) if single else None
        self._coming = self._readings() if single else self._intervals()
        self._next = next(self._coming)
        self._over_s = START_S

    def until(self, now: float) -> list[bytes]:
        """Go on to a time and return what was sent since the last one."""
        sent = []
        while self._next[0] <= now:
            self._close(self._next[0])
            sent.append(json.dumps(self._take(self._next[1])).encode())
            self._next = next(self._coming)
        self._close(now)
        return sent

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _close(self, now: float) -> None:
        """Close the intervals that are over, each when it is."""
        while self._assembler is not None and self._over_s <= now:
            for record in self._assembler.due(self._over_s):
                self._note(record)
            self._over_s += self._manifest.interval_s

    def _take(self, said: Any) -> dict[str, Any]:
        if self._assembler is None:
            self._note(said[::-1])
            return message_of(self._manifest, *said)
        sensor, seconds, reading = said
        self._assembler.add(sensor, seconds, reading, now=seconds)
        return {"sensor": sensor, "timestamp": seconds, "values": reading}

    def _note(self, record: Any) -> None:
        forecast = self._stream.push(*record)
        self.last_s = forecast.issued_s
        self.forecasts.update([spoken(forecast.to_json_line())])

    def _readings(self) -> Iterator[tuple[float, Any]]:
        for said in single_readings(self._manifest, 0, 10**6):
            yield said[1], said

    def _intervals(self) -> Iterator[tuple[float, Any]]:
        for step in range(10**6):
            stamp, values = START_S + step * self._manifest.interval_s, values_of(self._manifest, step)
            if values is not None:
                yield stamp + self._manifest.interval_s / 2, (stamp, values)


class Site:
    """A sender, a broker, and a service whose clock is driven.

    Args:
        bundle: the model.
        folder: for all files.
        single: whether single readings are sent, or whole intervals.
    """

    def __init__(self, bundle: Bundle, folder: Path, *, single: bool) -> None:
        self.plain = Uninterrupted(bundle, single=single)
        self.broker = Mosquitto(folder)
        self.line = Line(self.broker.port)
        self.gate = Gate()
        self.now = float(START_S)
        self.running: LiveService | None = None
        self._bundle, self._folder, self._single = bundle, folder, single
        self._lines: list[list[str]] = []  # of each service
        self._refused: Counter[str] = Counter()
        self._redelivered = 0
        self._sent = 0
        self._sender = Peer(self.broker, "sender", STATUS)
        self._intervals: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        in_order = iter(self._intervals.get, None)
        threading.Thread(target=self._sender.publish_in_order, args=(TOPIC, in_order), daemon=True).start()
        self.start()
        self._sender.wait_for(lambda: b"online" in self._sender.received)  # and has subscribed

    def start(self) -> None:
        """Start the service."""
        self.running = LiveService(
            self._bundle,
            self._folder,
            now=self.now,
            source=f'kind = "mqtt"\ntopics = ["{TOPIC}"]',
            sinks=[f'kind = "http"\nurl = "{self.gate.url}"'],
            top=self.broker.table(self.line.port),
            assembler=self._single,
        )

    def stop(self) -> None:
        """Stop the service, if it runs."""
        if self.running is not None:
            status = self.running.close()
            counters = status.counters[("assembler" if self._single else "stream")]
            self._redelivered += status.counters["service"]["redelivered"]
            self._refused = Counter(counters["refused"])  # it goes on over restarts, unlike that of the service
            self._refused["late"] -= self._redelivered
            self._lines.append(self.running.lines)
            self.running = None

    def go_on(self, intervals: float, *, broker: bool = True) -> None:
        """Let time pass while the sender sends; a broker that is there has each interval's readings before it ends."""
        end = self.now + intervals * self._bundle.manifest.interval_s
        while self.now < end:
            self.now = min(end, self.now + self._bundle.manifest.interval_s)
            if self.running is not None and not self._single:  # an interval may begin now, or before
                self.running.now = self.now
            for payload in self.plain.until(self.now):
                if self._single:
                    self._sender.publish(TOPIC, payload)
                else:
                    self._intervals.put(payload)
                self._sent += 1
            if broker:
                self._sender.wait_for(lambda: self._sender.confirmed >= self._sent)
            if self.running is not None:  # single readings come before their interval is over
                self.running.now = self.now

    def go_on_by_sensor(self, intervals: int) -> None:
        """Let time pass while the broker keeps the single readings; then come first all of one sensor, as of a logger.

        The service must be out of reach of the broker.
        """
        self.now += intervals * self._bundle.manifest.interval_s
        for payload in sorted(self.plain.until(self.now), key=lambda payload: str(json.loads(payload)["sensor"])):
            self._sender.publish(TOPIC, payload)
            self._sent += 1
        self._sender.wait_for(lambda: self._sender.confirmed >= self._sent)
        if self.running is not None:
            self.running.now = self.now

    def reload(self, bundle: Bundle) -> None:
        """Let another bundle of the network take over in the service."""
        assert self.running is not None
        self.running.reload(bundle)
        before, self._bundle = self.plain, bundle
        self.plain = Uninterrupted(bundle, single=self._single)
        self.plain.until(self.now)
        self.plain.forecasts = before.forecasts
        before.close()

    def settle(self) -> None:
        """Wait until the service has forecast from all that is over, and waits for nothing more."""
        self._sender.wait_for(lambda: self._sender.confirmed >= self._sent)
        assert self.running is not None
        self.running.wait_for(
            lambda status: (
                (self.plain.last_s is None or (status.last is not None and status.last.issued_s >= self.plain.last_s))
                and not status.catching_up
                and not status.waiting
            )
        )

    def outage(self, kind: str, intervals: float) -> None:
        """Let something be away while time passes, and come back."""
        self._sender.wait_for(lambda: self._sender.confirmed >= self._sent)  # what is on its way may be sent twice
        away, back = {
            "service stopped": (self.stop, self.start),
            "connection cut": (self.line.cut, self.line.mend),
            "broker stopped": (self.broker.stop, self.broker.start),
            "broker frozen": (self.broker.freeze, self.broker.thaw),
            "sink blocked": (self.gate.shut, self.gate.open),
        }[kind]
        away()
        self.go_on(intervals, broker=not kind.startswith("broker"))
        if kind in ("broker frozen", "sink blocked"):
            time.sleep(3)  # the driven clock has passed hours, but a pause is one by real time
        back()

    def close(self) -> list[str]:
        """End it all and return what was wrong."""
        self.gate.open()
        self.stop()
        self._intervals.put(None)
        self._sender.close()
        self.line.cut()
        self.broker.stop()
        self.gate.close()
        found: dict[str, str] = {}
        failures = []
        for lines in self._lines:
            said = [spoken(line) for line in lines]
            # A service hands the last forecast of the one before out once more.
            more = said[1:] if said and said[0][0] in found else said
            failures += [f"forecast twice: {issued}" for issued, _ in more if issued in found]
            failures += [f"out of order: {two[0]}" for one, two in pairwise(said) if one[0] >= two[0]]
            found.update(said)
        failures += differences(found, self.plain.forecasts, "forecast")
        failures += [f"{count} refused as {reason}" for reason, count in self._refused.items() if count]
        self.plain.close()
        return failures


class Gate:
    """A server for an HTTP sink, which can be shut: then it takes its time."""

    def __init__(self) -> None:
        opened = self._opened = threading.Event()
        opened.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                opened.wait(9)  # the sink gives up after 10 seconds
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def shut(self) -> None:
        """Let senders wait."""
        self._opened.clear()

    def open(self) -> None:
        """Answer at once again."""
        self._opened.set()

    def close(self) -> None:
        """Close the server."""
        self._server.shutdown()
        self._server.server_close()


def outages(bundle: Bundle, number: int, rng: np.random.Generator) -> Iterator[Row]:
    """Let so many outages pass, half of them over single readings and half over whole intervals."""
    names = {True: "outages, single readings", False: "outages, whole intervals"}
    for single, name in names.items():
        times = (number + single) // 2
        if shutil.which("mosquitto") is None:
            yield Row(name, 0, [], "", skipped="mosquitto is not installed")
            continue
        lengths = np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST), times))
        kinds = [str(kind) for kind in rng.choice(KINDS, times)]
        slowest = 0.0
        with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
            site = Site(bundle, Path(scratch), single=single)
            try:
                site.go_on(1.5)
                site.settle()
                for kind, length in zip(kinds, lengths, strict=True):
                    site.outage(kind, float(length))
                    begin = time.monotonic()
                    site.settle()
                    slowest = max(slowest, time.monotonic() - begin)
                    site.go_on(float(rng.uniform(0.5, 3)))
                    site.settle()
            finally:
                failures = site.close()
        hours = lengths.sum() * bundle.manifest.interval_s / 3600
        seen = (
            f"{hours:.0f} hours in all, {len(site.plain.forecasts)} forecasts; caught up in {slowest:.1f} s at most; "
        )
        yield Row(name, times, failures, seen + ", ".join(f"{kind} {n}" for kind, n in sorted(Counter(kinds).items())))
