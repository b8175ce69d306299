"""Hostile brokers: every answer of MQTT 5 that refuses or limits, packets that are none, and silence.

A running service meets each of them, and a dry run of its config too. What is wrong must be counted under its reason
code, and be said as a problem or a warning of the stream; a dry run must end with the same. Then the broker is well
again, and the very process that has met all cases before must connect, take an interval and publish its forecast.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.faults.live import LiveService
from benchmarks.faults.network import START_S, in_memory, message_of, readings_of
from benchmarks.faults.scripted import WELL, Script, ScriptedBroker, connack, disconnect, packet, publish
from benchmarks.faults.table import Row
from runtime.service.check import check_service
from runtime.service.config import read_config
from runtime.service.mqtt.report import BrokerReport
from runtime.service.mqtt.trouble import MEANINGS
from stunet_deploy.bundle import Bundle
from stunet_deploy.series.times import format_time

TOPIC, FORECAST = "intervals/+", "stunet/ring/forecast"
#: Reason codes of each packet (MQTT 5, table 2-6); 0x99 is an answer to a CONNECT that this client never sends.
CONNACKS = (*range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x9A, 0x9E), 0x9F)
SUBACKS = (0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
PUBACKS = (0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
DISCONNECTS = (0x00, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3))
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Case:
    """One behaviour of a broker, and what has to be said of it.

    Attributes:
        name: of the case.
        script: the behaviour.
        words: that a problem or a warning must have.
        counted: ``what`` and ``reason`` under which it is counted; None where it only limits.
        dry: whether a dry run fails; else it notes the words, or cannot see it (None).
    """

    name: str
    script: Script
    words: str
    counted: tuple[str, str] | None = None
    dry: bool | None = True


def cases() -> Iterator[Case]:
    """Yield all cases."""
    for code in CONNACKS:
        # Without a will that is retained, or confirmed, the next connection may succeed; this broker goes on refusing.
        counted = ("connect", f"0x{code:02x}")
        yield Case(f"CONNACK 0x{code:02x}", Script(connack(code)), MEANINGS[code], counted)
    for code in SUBACKS:
        counted = ("subscribe", f"0x{code:02x}")
        yield Case(f"SUBACK 0x{code:02x}", Script(suback=code), MEANINGS[code], counted)
    for code in PUBACKS:
        counted = ("publish", f"0x{code:02x}")
        yield Case(f"PUBACK 0x{code:02x}", Script(puback=code), MEANINGS[code], counted)
    for code in DISCONNECTS:
        counted = ("disconnect", f"0x{code:02x}")
        yield Case(f"DISCONNECT 0x{code:02x}", Script(then=disconnect(code)), MEANINGS[code], counted)
    for name, farewell in {
        "closed": b"",
        "DISCONNECT 0x87": disconnect(0x87),
        "DISCONNECT 0x95": disconnect(0x95),
    }.items():
        counted = ("publish", "ends")
        script = Script(deadly=FORECAST, farewell=farewell)
        yield Case(f"{name} at each forecast", script, "whenever it gets a message for", counted, dry=None)
    yield from _limits()
    yield from _broken()
    yield from _silent()


def _limits() -> Iterator[Case]:
    small = connack(packet=60)
    yield Case("small packets", Script(small), "takes packets of 60 bytes", ("publish", "0x95"))
    yield Case("no retained messages", Script(connack(retain=0)), "keeps no retained messages", dry=False)
    yield Case("QoS 0 only", Script(connack(qos=0)), "confirms no messages", dry=False)
    yield Case("QoS 0 granted", Script(suback=0), "QoS 0 only", ("subscribe", "qos_0"), dry=False)
    yield Case("no wildcards", Script(connack(wildcards=0)), MEANINGS[0xA2], ("subscribe", "0xa2"))
    yield Case("a short session", Script(connack(session_s=60)), "keeps the session for 60 s", dry=None)
    yield Case("another name", Script(connack(other_id="x" * 1000)), "not by its own", dry=False)
    yield Case("another server", Script(connack(0x9D, reference="b.example")), "b.example", ("connect", "0x9d"))
    yield Case("a long reason", Script(connack(0x87, said="y" * 60_000)), "yyy", ("connect", "0x87"))


def _broken() -> Iterator[Case]:
    words, counted = "what is no MQTT 5", ("protocol", "unreadable")
    huge = b"\x30\xff\xff\xff\x7f" + bytes(1000)
    for name, data in {
        "no MQTT": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + b"x" * 100,
        "half a CONNACK": packet(0x20, b"\0"),
        "a CONNACK with an unknown property": packet(0x20, b"\0\0\x02\x7f\x01"),
        "a CONNACK with an unknown code": packet(0x20, b"\0\xee\0"),
        "a limit of 0": connack(ahead=0),
        "a length without an end": b"\x20\xff\xff\xff\xff\xff\xff",
    }.items():
        yield Case(name, Script(data), words, counted)
    yield Case("MQTT 3.1.1", Script(packet(0x20, b"\0\x01")), MEANINGS[0x84], ("connect", "0x84"))
    for name, data in {
        "a packet that does not exist": b"\xf0\x00",
        "a DISCONNECT with an unknown code": packet(0xE0, b"\xee\0"),
        "a PUBACK without a number": packet(0x40, b"\0"),
        "a PUBLISH without a topic": packet(0x32, b"\0"),
        "a PUBLISH of QoS 3": publish(b"intervals/1", b"{}", qos=3),
    }.items():
        yield Case(name, Script(then=data), words, counted)
    yield Case("a packet of 256 MB", Script(then=huge), "a packet of 268,435,455 bytes", ("network", "broken"))
    wrong = ("protocol", "suback")
    yield Case("a SUBACK of too many codes", Script(codes=3), "with 4 codes", wrong)
    unasked = publish(b"elsewhere", b"{}") + publish(b"\xff\xfe", b"{}", 2)
    yield Case("messages that nobody asked for", Script(then=unasked), "", ("message", "unasked"), dry=None)


def _silent() -> Iterator[Case]:
    silent = ("protocol", "no_answer")
    yield Case("nothing after CONNECT", Script(None), "has not answered CONNECT", silent)
    yield Case("nothing after SUBSCRIBE", Script(suback=None), "has not answered SUBSCRIBE", silent)
    yield Case("nothing after PUBLISH", Script(puback=None), "has not answered PUBLISH", silent)
    yield Case("a byte a second", Script(trickle_s=1.0), "has not answered CONNECT", silent)
    closed = ("network", "closed")
    yield Case("closed after CONNECT", Script(None, closes=True), "before it answered", closed)
    yield Case("closed after CONNACK", Script(closes=True), "ended by the broker", ("network", "broken"))


class Meeting:
    """A running service that meets one broker after the other.

    Args:
        bundle: the model.
        folder: for config and state.
    """

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self._manifest = bundle.manifest
        self._broker = ScriptedBroker()
        self._step = 0
        self._config = folder / "service.toml"
        self._service = LiveService(
            bundle,
            folder,
            now=START_S + 1e6,
            source=f'kind = "mqtt"\ntopics = ["{TOPIC}"]',
            sinks=['kind = "mqtt"'],
            top=f'[mqtt]\nclient_id = "controller"\nport = {self._broker.port}\n'
            "keepalive_s = 1\nreconnect_max_s = 0.05",
        )
        self._works()

    def meet(self, case: Case) -> list[str]:
        """Let the service meet a case; return what went wrong."""
        before = self._report().troubles
        self._broker.play(case.script)
        failures = []
        sending = threading.Event()
        # Some cases begin with a message: a forecast that is refused, or not confirmed.
        threading.Thread(target=self._send, args=(sending,), daemon=True).start()
        said: set[str] = set()

        def is_said() -> bool:
            report = self._report()
            said.update((*report.problems, *report.warnings))
            counted = case.counted is None or report.troubles.get(case.counted, 0) > before.get(case.counted, 0)
            return counted and any(case.words in text for text in said)

        if not case.words:
            said.add("")
        if not _comes(is_said):
            failures.append(f"{case.name}: {case.words!r} {case.counted} is not said; {said} {self._report().troubles}")
        if case.dry is not None:
            found = check_service(read_config(self._config))
            texts = [str(problem) for problem in found.problems]
            if case.dry != bool(texts) or not any(case.words in text for text in texts + found.notes):
                failures.append(f"{case.name}: a dry run says {texts}, {found.notes}")
        sending.set()
        self._broker.play(WELL)
        try:
            self._works()
        except TimeoutError as error:
            failures.append(f"{case.name}: does not go on: {error}; {self._report()}")
        return failures

    def close(self) -> None:
        """End it."""
        self._service.close()
        self._broker.close()

    def _report(self) -> BrokerReport:
        report = self._service.status.broker
        assert report is not None
        return report

    def _works(self) -> None:
        """Wait until an interval is answered by its forecast, and nothing is wrong any more."""
        self._service.wait_for(lambda status: status.connected is True)
        stamp = self._next()
        if not _comes(lambda: self._sent(stamp) or any(_issued(one, stamp) for one in self._broker.published)):
            raise TimeoutError("no forecast")
        if not _comes(lambda: not self._report().problems):
            raise TimeoutError("problems remain")
        self._broker.published.clear()

    def _send(self, enough: threading.Event) -> None:
        stamp = self._next()
        while not enough.wait(0.1):
            self._sent(stamp)

    def _next(self) -> int:
        self._step += 1
        return START_S + self._step * self._manifest.interval_s

    def _sent(self, stamp: int) -> bool:
        readings = readings_of(self._manifest, (stamp - START_S) // self._manifest.interval_s)
        payload = json.dumps(message_of(self._manifest, stamp, readings)).encode()
        self._broker.send(publish(b"intervals/1", payload))
        time.sleep(0.02)
        return False


def hostile_brokers(bundle: Bundle, most: int, rng: np.random.Generator) -> Iterator[Row]:
    """Let a service meet so many cases, in a drawn order."""
    known = list(cases())
    chosen = [known[index] for index in rng.permutation(len(known))[:most]]
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        meeting = Meeting(bundle, Path(scratch))
        failures: list[str] = []
        try:
            for case in chosen:
                failures += meeting.meet(case)
        finally:
            meeting.close()
    yield Row("hostile brokers", len(chosen), failures, "each said, counted and in the dry run; the service goes on")


def _comes(reached: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _issued(message: tuple[str, bytes], stamp: int) -> bool:
    topic, payload = message
    return topic == FORECAST and bool(payload) and json.loads(payload)["issued_at"] == format_time(stamp)
