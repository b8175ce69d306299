"""What a real broker refuses or limits: it is said, counted and in the dry run, and all else works."""

from __future__ import annotations

import json

import pytest

from stunet_deploy.cli import main

pytest.importorskip("paho.mqtt.client")

from tests.runtime.service.mqtt.brokers import FORECAST, SINK, SOURCE, STATUS, Mosquitto, Peer, table

pytestmark = pytest.mark.needs_system_package("mosquitto")


@pytest.fixture
def at(tmp_path):
    """Return a function that starts a broker with lines of its config, and a peer there."""
    opened = []

    def start(lines):
        opened.append(Mosquitto(tmp_path, f"allow_anonymous true\n{lines}"))
        opened.append(Peer(opened[0]))
        return opened

    yield start
    for one in reversed(opened):
        one.close() if isinstance(one, Peer) else one.stop()


def dry_run(config, capsys):
    capsys.readouterr()
    code = main(["run", "--config", str(config), "--dry-run"])
    return code, capsys.readouterr().err


def undelivered(status):
    return status.counters["service"]["undelivered"][f"mqtt {FORECAST}"]


def test_a_publication_that_the_broker_refuses_is_undelivered_until_it_is_taken(
    at, write_config, lines, start, capsys, tmp_path
):
    rights = tmp_path / "rights"
    rights.write_text("topic readwrite intervals\ntopic readwrite stunet/controller/#\ntopic read stunet/#\n")
    broker, peer = at(f"acl_file {rights}")
    config = write_config(SOURCE, [SINK], top=table(broker))
    running = start(config)
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    peer.publish("intervals", lines[0])
    running.wait_for(undelivered)
    code, said = dry_run(config, capsys)
    (status,) = running.service.statuses()

    assert status.broker.problems == (f"the broker refuses a message for {FORECAST}: not authorised (0x87)",)
    assert status.broker.troubles["publish", "0x87"] == 1
    assert undelivered(status) == 1
    assert code == 2
    assert f"the broker refuses a message for {FORECAST}: not authorised" in said

    rights.write_text(f"{rights.read_text()}topic readwrite {FORECAST}\n")
    broker.stop()
    broker.start()
    running.wait_for(lambda status: status.connected)
    peer.publish("intervals", lines[1])
    peer.wait_for(lambda: peer.of(FORECAST))
    running.wait_for(lambda status: not status.broker.problems)
    assert undelivered(running.finish()) == 1


def test_a_status_that_the_broker_refuses_is_a_warning(at, write_config, start, capsys, tmp_path):
    rights = tmp_path / "rights"
    rights.write_text(f"topic readwrite intervals\ntopic readwrite {FORECAST}\n")
    broker, _ = at(f"acl_file {rights}")
    config = write_config(SOURCE, [SINK], top=table(broker))
    code, said = dry_run(config, capsys)
    running = start(config)
    running.wait_for(lambda status: status.broker.warnings and status.connected)
    status = running.finish()

    words = f"the broker refuses a message for {STATUS}: not authorised (0x87)"
    assert f"note: {words}" in said
    assert code == 0, said
    assert status.broker.problems == ()
    assert words in status.broker.warnings


def test_a_forecast_that_is_too_large_is_not_sent_and_the_input_not_repeated(at, write_config, lines, start, capsys):
    broker, peer = at("max_packet_size 470")
    config = write_config(SOURCE, [SINK], top=table(broker))
    running = start(config)
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    for line in lines[:5]:
        peer.publish("intervals", line)
    running.wait_for(lambda status: undelivered(status) == 5)
    code, said = dry_run(config, capsys)
    status = running.finish()

    assert status.counters["service"]["delivered"] == 5
    assert status.broker.problems[0].endswith("the broker takes packets of 470 bytes")
    assert ("network", "broken") not in status.broker.troubles
    assert (code, "takes packets of 470 bytes" in said) == (2, True)


@pytest.mark.parametrize(
    ("line", "words"), [("retain_available false", "keeps no retained"), ("max_qos 0", "confirms no messages")]
)
def test_a_broker_that_cannot_do_all_is_used_for_what_it_can(at, write_config, lines, start, capsys, line, words):
    broker, peer = at(line)
    config = write_config(SOURCE, [SINK], top=table(broker))
    code, said = dry_run(config, capsys)
    running = start(config)
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])  # and it has subscribed
    for one in lines[:5]:
        peer.publish("intervals", one, 0)
    peer.wait_for(lambda: len(peer.issued()) == 5)
    (status,) = running.service.statuses()

    assert any(words in warning for warning in status.broker.warnings)
    assert status.broker.problems == ()
    assert (code, words in said) == (0, True)
    running.finish()
    peer.wait_for(lambda: peer.of(STATUS) == ["online", "offline"])


def test_a_shared_subscription_delivers(at, write_config, lines, start, capsys):
    broker, peer = at("")
    config = write_config('kind = "mqtt"\ntopics = ["$share/a/intervals"]', [SINK], top=table(broker))
    running = start(config)
    running.wait_for(lambda status: status.connected)
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    for line in lines[:20]:
        peer.publish("intervals", line)
    assert dry_run(config, capsys)[0] == 0  # beside it, without taking messages away
    peer.wait_for(lambda: len(peer.issued()) == 20)
    assert running.finish().counters["stream"]["pushes"] == 20


def test_what_the_config_does_not_ask_for_is_counted(at, write_config, lines, start):
    broker, peer = at("")
    earlier = start(write_config('kind = "mqtt"\ntopics = ["intervals", "old/#"]', [SINK], top=table(broker)))
    peer.wait_for(lambda: peer.of(STATUS) == ["online"])
    earlier.finish()
    running = start(write_config('kind = "mqtt"\ntopics = ["intervals"]', [SINK], top=table(broker)))
    peer.publish("old/1", lines[0])
    peer.publish("intervals", lines[1])
    peer.wait_for(lambda: peer.issued() == {json.loads(lines[1])["timestamp"]})

    assert running.finish().broker.troubles == {("message", "unasked"): 1}


@pytest.mark.parametrize(
    ("host", "words"),
    [("a..b", "is no name of a host"), ("no-such-host.invalid", "no address for the host no-such-host.invalid")],
)
def test_a_host_that_is_none_is_said_and_the_link_goes_on(write_config, start, capsys, host, words):
    config = write_config(
        SOURCE, [SINK], top=f'[mqtt]\nclient_id = "controller"\nhost = "{host}"\nreconnect_max_s = 0.05'
    )
    code, said = dry_run(config, capsys)
    running = start(config)
    running.wait_for(lambda status: sum(status.broker.troubles.values()) >= 3)
    (status,) = running.service.statuses()

    assert (code, words in said, "Traceback" in said) == (2, True, False)
    assert set(status.broker.troubles) == {("network", "name")}
    assert words in (*status.broker.problems, *status.broker.warnings)[0]
