"""Brokers: one that is stopped and started again and again while intervals come and forecasts go through it.

A sender publishes each interval with QoS 1 and waits for its confirmation; the service reads, forecasts and publishes;
a receiver with a session of its own collects. No interval may be lost, bridged or run twice, every forecast must be
that of an uninterrupted run to the last bit, and a CSV file beside it must hold each once. By QoS 1 a message may come
twice when a connection is lost: such copies are counted, and must be the same line again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.faults.live import LiveService, Mosquitto
from benchmarks.faults.network import START_S, message_of, spoken, values_of
from benchmarks.faults.table import Row
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle

FORECAST, STATUS = "stunet/ring/forecast", "stunet/controller/status"
_PATIENCE_S = 120.0


class Peer:
    """A sender or receiver that loses nothing itself: it has a session, and comes back."""

    def __init__(self, broker: Mosquitto, name: str, topic: str = "", in_flight: int = 20) -> None:
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties
        from paho.mqtt.subscribeoptions import SubscribeOptions

        self.received: list[bytes] = []
        self.confirmed = 0  # messages that the broker has
        self._confirmations = threading.Semaphore(0)
        self._client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5)
        self._client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]
        self._client.max_inflight_messages_set(in_flight)
        subscribed = threading.Event()
        if topic:
            # The retained message once, not with each connection, where older ones may come after it.
            options = SubscribeOptions(1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            self._client.on_connect = lambda client, *_: client.subscribe(topic, options=options)
        else:
            self._client.on_connect = lambda *_: subscribed.set()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_publish = self._on_publish
        self._client.on_message = lambda client, data, message: self.received.append(bytes(message.payload))
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", broker.port, clean_start=False, properties=session)
        self._client.loop_start()
        if not subscribed.wait(_PATIENCE_S):
            raise TimeoutError("no broker")

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1, now or as soon as there is a broker."""
        self._client.publish(topic, payload, 1)

    def publish_in_order(self, topic: str, payloads: Iterable[bytes]) -> None:
        """Publish one after the other: else the next one may overtake what is on its way when a connection is lost."""
        for payload in payloads:
            self.publish(topic, payload)
            if not self._confirmations.acquire(timeout=_PATIENCE_S):
                raise TimeoutError("no confirmation")

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + _PATIENCE_S
        while not reached():
            if time.monotonic() > end:
                raise TimeoutError("in vain")
            time.sleep(0.002)

    def _on_publish(self, *_: object) -> None:
        self.confirmed += 1
        self._confirmations.release()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


def brokers(bundle: Bundle, restarts: int, rng: np.random.Generator) -> Iterator[Row]:
    """Restart a broker so many times, while at least eight intervals per restart go through it."""
    if shutil.which("mosquitto") is None:
        yield Row("broker stopped and started", 0, [], "", skipped="mosquitto is not installed")
        return
    manifest, total = bundle.manifest, 8 * restarts
    rows = [(START_S + manifest.interval_s * step, values_of(manifest, step)) for step in range(2 * total)]
    intervals = [(stamp, values) for stamp, values in rows if values is not None][:total]
    plain = Stream.open(bundle, name="ring")
    expected = dict(spoken(plain.push(values, stamp).to_json_line()) for stamp, values in intervals)
    bridged = plain.counters.bridged
    plain.close()
    payloads = [json.dumps(message_of(manifest, stamp, values)).encode() for stamp, values in intervals]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        broker = Mosquitto(folder)
        sender, receiver = Peer(broker, "sender", STATUS), Peer(broker, "receiver", FORECAST)
        service = LiveService(
            bundle,
            folder,
            source='kind = "mqtt"\ntopics = ["intervals"]',
            sinks=['kind = "csv"\nfolder = "out"', 'kind = "mqtt"'],
            top=broker.table(in_flight=7),
        )
        sender.wait_for(lambda: b"online" in sender.received)  # and has subscribed
        sending = threading.Thread(target=sender.publish_in_order, args=("intervals", payloads))
        sending.start()
        try:
            for number in range(restarts):
                reached = (number + 1) * total // (restarts + 1)
                service.wait_for(lambda status: status.counters["stream"]["pushes"] >= reached)  # noqa: B023
                time.sleep(rng.uniform(0, 0.05))
                broker.stop()
                time.sleep(rng.uniform(0, 0.2))
                broker.start()
            sending.join()
            receiver.wait_for(lambda: len(set(map(spoken, receiver.received))) >= total)
            time.sleep(0.5)  # for what comes twice
        finally:
            status = service.close()
            sender.close()
            receiver.close()
            broker.stop()
        csv = [line.split(",")[0] for path in sorted((folder / "out").iterdir()) for line in _rows(path)]
    failures = wrong(receiver.received, {issued: {said} for issued, said in expected.items()})
    counters = status.counters["stream"]
    counted = (counters["pushes"], counters["bridged"], counters["resets"])
    if counted != (total, bridged, 0):
        failures.append(f"intervals run, bridged, resets: {counted} instead of {(total, bridged, 0)}")
    refused = {reason: count for reason, count in counters["refused"].items() if count}
    redelivered = status.counters["service"]["redelivered"]
    if refused != ({"late": redelivered} if redelivered else {}):
        failures.append(f"refused {refused} with {redelivered} delivered again")
    once = Counter(csv)
    if set(once) != set(expected) or set(once.values()) != {manifest.horizon * len(manifest.targets)}:
        failures.append("the CSV files hold other forecasts, or one twice")
    seen = (
        f"{total} intervals; copies by QoS 1: {len(receiver.received) - total} forecasts, "
        f"{counters['repeats'] + redelivered} intervals"
    )
    yield Row("broker stopped and started", restarts, failures, seen)


def wrong(received: list[bytes], expected: Mapping[str, Container[str]]) -> list[str]:
    """Return what is wrong with forecasts received, copies included; expected are the right ones of each time."""
    said = [spoken(line) for line in received]
    order = list(dict.fromkeys(issued for issued, _ in said))
    found = [f"no forecast {issued}" for issued in expected.keys() - set(order)]
    found += [f"unexpected forecast {issued}" for issued in set(order) - expected.keys()]
    found += [
        f"another forecast {issued}" for issued, line in said if issued in expected and line not in expected[issued]
    ]
    return found + [f"{late} after {early}" for early, late in pairwise(order) if late < early]


def _rows(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]
