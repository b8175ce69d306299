"""MQTT against a real broker on loopback, which is stopped and started as the tests want it."""

from __future__ import annotations

import gc
import json
import logging
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter

import numpy as np
import pytest

from stunet_deploy.cli import main
from tests.paths import ROOT
from tests.waiting import LONG_S, wait_for

mqtt = pytest.importorskip("paho.mqtt.client")
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402

from tests.runtime.service.mqtt.brokers import FORECAST, SINK, SOURCE, STATUS, Mosquitto, Peer, table  # noqa: E402

pytestmark = pytest.mark.needs_system_package("mosquitto")


def assert_same(payloads, expected):
    """Compare forecast lines with a plain stream's; a confirmation lost with a connection sends the same line again."""
    assert len(set(payloads)) == len(expected)
    found = {line["issued_at"]: line["values"]["speed"] for line in map(json.loads, payloads)}
    assert sorted(found) == sorted(expected)
    for issued, values in found.items():
        np.testing.assert_array_equal(np.array(values, np.float32), expected[issued][..., 0])


def test_intervals_in_forecasts_out_retained_with_a_status(broker, peer, write_config, lines, start, expected):
    running = start(write_config(SOURCE, [SINK], top=table(broker)))
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    for line in lines:
        peer.publish("intervals", line)
    peer.wait_for(lambda: len(peer.of(FORECAST)) == len(lines))
    peer.publish("elsewhere", "not ours")
    running.finish()
    peer.wait_for(lambda: peer.of(STATUS) == ["online", "offline"])

    assert_same(peer.of(FORECAST), expected)
    late = Peer(broker, "late")
    late.wait_for(lambda: len(late.messages) == 2)
    assert {message.retain for message in late.messages} == {True}
    assert late.of(FORECAST) == peer.of(FORECAST)[-1:]
    assert late.of(STATUS) == ["offline"]
    late.close()


def test_whether_the_broker_is_there_is_known(broker, write_config, recording, start, caplog):
    caplog.set_level(logging.INFO, "stunet")
    config = write_config(SOURCE, ['kind = "stdout"'], top=f"[http]\nport = 0\n{table(broker)}")
    running = start(config)
    running.wait_for(lambda status: status.connected)
    assert 'stunet_mqtt_connected{stream="ring"} 1.0' in metrics(running)
    assert f"connected to 127.0.0.1:{broker.port} as controller, in a new session" in caplog.messages
    wait_for(lambda: "subscribed to detectors/+, intervals" in caplog.messages)
    broker.stop()
    running.wait_for(lambda status: not status.connected)
    assert 'stunet_mqtt_connected{stream="ring"} 0.0' in metrics(running)
    broker.start()
    running.wait_for(lambda status: status.connected)


def metrics(running):
    with urllib.request.urlopen(f"{running.service.url}metrics", timeout=LONG_S) as answer:
        return answer.read().decode()


def test_rubbish_of_any_quality_is_counted(broker, peer, write_config, lines, start):
    running = start(write_config(SOURCE, [SINK], top=table(broker)))
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    for payload in (b"", b"\xff", b"{}", b"null", lines[0], b"[" * 10_000):
        for qos in (0, 1, 2):
            peer.publish("detectors/7", payload, qos)
    running.wait_for(lambda status: status.counters["service"]["delivered"] == 18)
    counters = running.finish().counters

    assert counters["stream"]["refused"]["message"] == 15
    assert (counters["stream"]["pushes"], counters["stream"]["repeats"]) == (1, 2)


def test_what_came_while_the_service_was_away_comes_when_it_is_back(broker, peer, write_config, lines, start, expected):
    config = write_config(SOURCE, [SINK], top=table(broker))
    first = start(config)
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    for line in lines[:10]:
        peer.publish("intervals", line)
    first.wait_for(lambda status: status.counters["service"]["forecasts"] == 10)
    first.finish()
    for line in lines[10:]:
        peer.publish("intervals", line)
    second = start(config)
    second.wait_for(lambda status: status.counters["stream"]["pushes"] == len(lines))
    status = second.finish()
    peer.wait_for(lambda: len(set(peer.of(FORECAST))) == len(lines))

    assert_same(peer.of(FORECAST), expected)
    assert status.counters["stream"]["bridged"] == 0


@pytest.mark.parametrize("strict", ["true", "false"])
def test_a_broker_that_stops_and_starts_loses_and_doubles_nothing(
    broker, peer, write_config, lines, start, expected, tmp_path, strict
):
    csv = 'kind = "csv"\nfolder = "out"'
    running = start(write_config(SOURCE, [csv, SINK], top=table(broker, "in_flight = 7"), extra=f"strict = {strict}"))
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    sender = threading.Thread(target=peer.publish_in_order, args=("intervals", lines))
    sender.start()
    for reached in range(3, len(lines), 8):
        running.wait_for(lambda status: status.counters["stream"]["pushes"] >= reached)  # noqa: B023
        broker.stop()
        broker.start()
    sender.join()
    running.wait_for(lambda status: status.counters["stream"]["pushes"] == len(lines))
    peer.wait_for(lambda: len(set(peer.of(FORECAST))) == len(lines))
    counters = running.finish().counters

    assert_same(peer.of(FORECAST), expected)
    assert (counters["stream"]["pushes"], counters["stream"]["bridged"], counters["stream"]["resets"]) == (40, 0, 0)
    refused = {reason: count for reason, count in counters["stream"]["refused"].items() if count}
    assert refused.get("late", 0) == counters["service"]["redelivered"]
    assert set(refused) <= {"late"}
    (path,) = (tmp_path / "out").iterdir()
    assert set(Counter(line.split(",")[0] for line in path.read_text().splitlines()[1:]).values()) == {3}


def test_a_replay_waits_for_a_broker_that_is_away(broker, write_config, recording, start, expected):
    peer = Peer(broker)
    broker.stop()
    running = start(
        write_config(f'kind = "replay"\npath = "{recording.name}"', [SINK], top=table(broker, "unconfirmed = 5"))
    )
    running.wait_for(lambda status: status.counters["service"]["forecasts"] == 5)
    assert running.service.statuses()[0].counters["service"]["forecasts"] == 5
    broker.start()
    status = running.finish(stop=False)
    peer.wait_for(lambda: len(set(peer.of(FORECAST))) == len(expected))

    assert_same(peer.of(FORECAST), expected)
    assert status.counters["service"]["undelivered"] == {f"mqtt {FORECAST}": 0}
    peer.close()


def test_a_live_stream_drops_forecasts_when_too_many_wait_for_a_broker(broker, write_config, recording, start):
    broker.stop()
    config = write_config(f'kind = "replay"\npath = "{recording.name}"', [SINK], top=table(broker, "unconfirmed = 5"))

    def live(service):
        service.workers[0]._source.patient = False

    running = start(config, prepare=live)
    running.wait_for(lambda status: status.counters["service"]["forecasts"] == 40)
    dropped = running.service.statuses()[0].counters["service"]["undelivered"][f"mqtt {FORECAST}"]
    broker.start()
    running.finish(stop=False)

    assert 0 < dropped <= 35


def test_the_broker_says_when_the_service_has_died(broker, peer, write_config, tmp_path):
    config = write_config(SOURCE, [SINK], top=table(broker))
    command = [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    process.kill()
    process.wait(LONG_S)

    peer.wait_for(lambda: peer.of(STATUS) == ["online", "offline"])


def test_a_service_that_is_killed_loses_and_doubles_nothing(broker, peer, write_config, lines, expected, tmp_path):
    config = write_config(SOURCE, ['kind = "csv"\nfolder = "out"', SINK], top=table(broker, "in_flight = 5"))
    command = [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config)]
    sender = threading.Thread(target=peer.publish_in_order, args=("intervals", lines))
    for reached in (10, 25, len(lines)):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            if reached == 10:  # the broker keeps nothing for a client that it has never seen
                peer.wait_for(lambda: peer.of(STATUS) == ["online"])
                sender.start()
            peer.wait_for(lambda: len(peer.issued()) >= reached)  # noqa: B023
        finally:
            process.kill()
            process.wait(LONG_S)
    sender.join()

    (path,) = (tmp_path / "out").iterdir()
    rows = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    assert rows == [issued for issued in expected for _ in range(3)]


def test_two_services_with_one_client_id_are_told(broker, write_config, start, said):
    running = start(write_config(SOURCE, [SINK], top=table(broker)))
    other = mqtt.Client(CallbackAPIVersion.VERSION2, "controller", protocol=mqtt.MQTTv5)
    other.reconnect_delay_set(0.05, 0.05)
    other.connect("127.0.0.1", broker.port)
    other.loop_start()
    running.wait_for(lambda status: said())
    other.disconnect()
    other.loop_stop()
    running.finish()

    assert "client_id 'controller'" in said()[0]
    assert all(message.endswith("times)") or "(mqtt " in message for message in said())


def test_a_broker_that_says_who_has_taken_over_is_quoted(write_config, start, said):
    connected, taken_over = b"\x20\x03\x00\x00\x00", b"\xe0\x02\x8e\x00"  # CONNACK, DISCONNECT of MQTT 5
    with socket.create_server(("127.0.0.1", 0)) as server:
        top = f'[mqtt]\nclient_id = "controller"\nport = {server.getsockname()[1]}\nreconnect_max_s = 60'
        running = start(write_config(SOURCE, [SINK], top=top))
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(connected)
            connection.recv(1000)
            connection.sendall(taken_over)
            running.wait_for(lambda status: said())
        running.finish()

    assert "another client has connected with the same client_id (0x8e)" in said()[0]
    assert "this one has client_id 'controller'" in said()[0]


def test_the_log_of_a_broker_that_comes_and_goes_is_in_our_words(broker, write_config, start, said):
    running = start(write_config(SOURCE, [SINK], top=table(broker)))
    running.wait_for(lambda status: status.connected)
    broker.stop()
    running.wait_for(lambda status: any("nothing listens" in message for message in said()))
    running.finish()

    assert said()
    assert all("connection" in message and "(mqtt " in message for message in said())


@pytest.mark.needs_system_package("openssl")
@pytest.mark.needs_system_package("mosquitto_passwd")
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_tls_and_a_password(tmp_path, write_config, start, capsys):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *curve, *name, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", tmp_path / "users", "controller", "secret"], check=True, capture_output=True
    )
    broker = Mosquitto(
        tmp_path, f"certfile {certificate}\nkeyfile {key}\npassword_file {tmp_path}/users\nallow_anonymous false"
    )
    secret = 'tls = true\nca_file = "certificate.pem"\nusername = "controller"\npassword_file = "password"'
    config = write_config(SOURCE, [SINK], top=table(broker, secret))
    (tmp_path / "password").write_text("secret\n")
    try:
        assert main(["run", "--config", str(config), "--dry-run"]) == 0
        running = start(config)
        running.wait_for(lambda status: status.connected)
        running.finish()

        for old, new, named in [
            ("secret\n", "guess\n", "not authorised (0x87)"),
            ("secret\n", None, "password_file"),
            ("tls = true", "tls = false", "ca_file"),
            ('ca_file = "certificate.pem"', "", "is not trusted (self"),
        ]:
            config.write_text(config.read_text().replace(old, new or ""))
            (tmp_path / "password").write_text("secret\n".replace(old, new or ""))
            if new is None:
                (tmp_path / "password").unlink()
            assert main(["run", "--config", str(config), "--dry-run"]) == 2
            assert named in capsys.readouterr().err
            write_config(SOURCE, [SINK], top=table(broker, secret))
    finally:
        broker.stop()
    assert main(["run", "--config", str(config), "--dry-run"]) == 2
    assert "nothing listens" in capsys.readouterr().err
    gc.collect()  # paho leaves a socket open when the handshake fails; it must not be met in another test
