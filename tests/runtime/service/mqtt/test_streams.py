"""Several streams at one broker: each has a link of its own."""

from __future__ import annotations

import json
import socket
from threading import Event, Thread

import pytest

pytest.importorskip("paho.mqtt.client")

from runtime.service.config import MqttConfig
from runtime.service.heartbeat import Heartbeat
from runtime.service.mqtt.link import Link
from runtime.service.sources import Inbox
from tests.runtime.service.mqtt.brokers import STATUS, CallbackAPIVersion, PacketTypes, Properties, mqtt, table
from tests.waiting import LONG_S

pytestmark = pytest.mark.needs_system_package("mosquitto")


@pytest.fixture
def write_two(tmp_path, example):
    """Return a function that writes a service of two streams, ``ring`` and ``hill``, and returns the file."""

    def write(top, sink_of_ring):
        text = f"{top}\nunconfirmed = 500\n"
        for name, sink in (("ring", sink_of_ring), ("hill", 'kind = "mqtt"')):
            text += f'[[stream]]\nname = "{name}"\nbundle = "{example.bundle.path}"\nstate = "state-{name}"\n'
            text += f'[stream.source]\nkind = "mqtt"\ntopics = ["{name}/+"]\n[[stream.sink]]\n{sink}\n'
        path = tmp_path / "two.toml"
        path.write_text(text)
        return path

    return write


def test_a_stream_whose_sink_hangs_keeps_no_other_waiting(broker, peer, write_two, lines, start):
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # it accepts, and never answers
        sink = f'kind = "http"\nurl = "http://127.0.0.1:{hanging.getsockname()[1]}/"\ntimeout_s = 300'
        running = start(write_two(table(broker), sink))
        peer.wait_for(lambda: peer.of(STATUS) == ["online"])
        running.wait_for(lambda _: all(status.connected for status in running.service.statuses()))
        hanging.settimeout(60)
        for line in lines * 4:
            peer.publish("ring/1", line)
        connection, _ = hanging.accept()
        for line in lines:
            peer.publish("hill/1", line)
        peer.wait_for(lambda: len(set(peer.of("stunet/hill/forecast"))) == len(lines))
        ring, hill = running.service.statuses()
        assert (ring.counters["service"]["delivered"], ring.waiting) == (1, 99)
        assert hill.counters["stream"]["pushes"] == len(lines)
        connection.close()
        hanging.close()
        running.finish()
    peer.wait_for(lambda: peer.of(STATUS) == ["online", "offline"])


def test_what_waits_in_a_session_of_all_streams_comes_to_each(broker, peer, write_two, lines, start):
    old = mqtt.Client(CallbackAPIVersion.VERSION2, "controller", protocol=mqtt.MQTTv5)
    subscribed = []
    old.on_connect = lambda client, *_: client.subscribe([("ring/+", 1), ("hill/+", 1)])
    old.on_subscribe = lambda *_: subscribed.append(1)
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600
    old.connect("127.0.0.1", broker.port, clean_start=False, properties=session)
    old.loop_start()
    peer.wait_for(lambda: subscribed)
    old.disconnect()
    old.loop_stop()
    for topic in ("ring/1", "hill/1"):
        for line in lines[:5]:
            peer.publish(topic, line)
    running = start(write_two(table(broker), 'kind = "mqtt"'))
    for name in ("ring", "hill"):
        peer.wait_for(lambda: len(set(peer.of(f"stunet/{name}/forecast"))) == 5)  # noqa: B023
    peer.publish("hill/1", lines[5])
    peer.wait_for(
        lambda: json.loads(peer.of("stunet/hill/forecast")[-1])["issued_at"] == json.loads(lines[5])["timestamp"]
    )
    running.wait_for(lambda _: running.service.statuses()[1].counters["service"]["delivered"] == 6)
    assert [status.broker.troubles for status in running.service.statuses()] == [{}, {}]
    running.finish()


@pytest.mark.parametrize("from_the_broker", [True, False])
def test_only_a_stream_that_reads_from_the_broker_waits_for_it(from_the_broker):
    link, heartbeat, ended = Link(MqttConfig("controller", "127.0.0.1", 9), "controller", "ring"), Heartbeat(), Event()
    if from_the_broker:
        link.subscribe(("detectors/+",), Inbox(10))
    assert link.publish("forecast", "{}", lambda: None)

    def settle():
        link.settle(heartbeat)
        ended.set()

    Thread(target=settle, daemon=True).start()
    if from_the_broker:
        assert not ended.wait(0.3)
        heartbeat.stopped.set()
    assert ended.wait(LONG_S)
    assert link.unconfirmed == 1
