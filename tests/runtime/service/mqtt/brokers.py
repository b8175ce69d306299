"""A real broker on loopback, a client that loses nothing itself, and the tables of a service that uses both."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from contextlib import suppress

import pytest

from benchmarks.faults.live import free_port
from tests.waiting import LONG_S, wait_for

mqtt = pytest.importorskip("paho.mqtt.client")
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402

SOURCE, SINK = 'kind = "mqtt"\ntopics = ["detectors/+", "intervals"]', 'kind = "mqtt"'
FORECAST, STATUS = "stunet/ring/forecast", "stunet/controller/status"


class Mosquitto:
    """A broker that keeps sessions and messages in a file, as one in the field has to."""

    def __init__(self, folder, extra=""):
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nuser root\npersistence true\npersistence_location {folder}/\n"
            f"max_queued_messages 0\n{extra or 'allow_anonymous true'}\n"
        )
        self.start()

    def start(self):
        self._process = subprocess.Popen(["mosquitto", "-c", self._config], stderr=subprocess.DEVNULL)
        wait_for(self._listens, lambda: "mosquitto has not started")

    def _listens(self):
        assert self._process.poll() is None, "mosquitto has not started"
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True

    def stop(self):
        while self._process.poll() is None:  # it forgets a signal that comes before its main loop runs
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)


class Peer:
    """A detector network or a traffic centre: a client that loses nothing itself."""

    def __init__(self, broker, name="peer"):
        self.messages = []
        self._confirmed = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(0.05, 0.05)
        self._subscribed = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe("stunet/#", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_publish = lambda *_: self._confirmed.append(1)
        self._client.on_message = lambda client, data, message: self.messages.append(message)
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", broker.port, clean_start=False, properties=session)
        self._client.loop_start()
        assert self._subscribed.wait(LONG_S)

    def publish(self, topic, payload, qos=1):
        """Publish now, or as soon as there is a broker."""
        self._client.publish(topic, payload, qos)

    def publish_in_order(self, topic, payloads):
        """Publish one after the other: what is on its way when a connection is lost may be overtaken by the next."""
        for payload in payloads:
            before = len(self._confirmed)
            self.publish(topic, payload)
            self.wait_for(lambda: len(self._confirmed) > before)  # noqa: B023

    def wait_for(self, reached):
        wait_for(reached, lambda: [(m.topic, m.payload[:150]) for m in self.messages[-20:]])

    def of(self, topic):
        """Return what has come by a topic, without the empty messages of dry runs."""
        return [message.payload.decode() for message in self.messages if message.topic == topic and message.payload]

    def issued(self):
        """Return the times of issue of the forecasts that have come."""
        return {json.loads(payload)["issued_at"] for payload in self.of(FORECAST)}

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def table(broker, extra=""):
    return f'[mqtt]\nclient_id = "controller"\nport = {broker.port}\nreconnect_max_s = 0.05\n{extra}'
