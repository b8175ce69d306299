"""A message that ends every connection is told from a broker that goes away; what waits meanwhile is said."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("paho.mqtt.client")

from benchmarks.faults.scripted import WELL, Script, ScriptedBroker, connack, disconnect, publish
from runtime.service.config import MqttConfig, read_config
from runtime.service.connectors import Connectors
from runtime.service.mqtt.doubt import ALONE, PROOF, Doubt
from runtime.service.mqtt.link import Link
from runtime.service.mqtt.outbox import Outgoing
from runtime.service.mqtt.trouble import Trouble, refusal
from runtime.service.sources import Answer, Inbox
from tests.runtime.service.mqtt.brokers import FORECAST, SINK, STATUS, table
from tests.waiting import wait_for

ONE, OTHER = (Outgoing(FORECAST, payload, lambda: None) for payload in (b"1", b"2"))
CLOSED = Trouble("network", "broken", "")
SINK_NAME = f"mqtt {FORECAST}"
#: What a broker does that goes away, whatever it is sent: its ends of connections, and the first message then.
OUTAGES = {
    "nothing was on its way": (CLOSED, None, 0.0),
    "another message was": (CLOSED, OTHER, 0.1),
    "long after the message": (CLOSED, ONE, 30.0),
    "nothing listens": (Trouble("network", "refused", ""), None, 0.0),
    "it is silent": (Trouble("protocol", "no_answer", ""), ONE, 0.1),
    **{f"0x{code:02x}": (refusal("disconnect", "", code), ONE, 0.1) for code in (0x8B, 0x8E, 0x89, 0x97, 0x98, 0x9C)},
}


@pytest.mark.parametrize(
    "end", [CLOSED, Trouble("network", "tls", ""), *(refusal("disconnect", "", code) for code in (0, 0x83, 0x87, 0x95))]
)
def test_a_message_that_ends_connections_in_a_row_is_found(end):
    doubt = Doubt()
    found = [doubt.ended(end, ONE, 0.1) for _ in range(2 * PROOF)]
    assert found == 2 * [*[False] * (PROOF - 1), True]


@pytest.mark.parametrize("outage", OUTAGES)
def test_no_outage_counts_and_each_begins_the_count_again(outage):
    doubt = Doubt()
    for _ in range(3):
        assert not any(doubt.ended(CLOSED, ONE, 0.1) for _ in range(PROOF - 1))
        assert not doubt.ended(*OUTAGES[outage])
    assert not any(Doubt().ended(*OUTAGES[outage]) for _ in range(1) for _ in range(3 * PROOF))


def test_an_answer_ends_the_doubt():
    doubt = Doubt()
    for _ in range(3):
        assert not any(doubt.ended(CLOSED, ONE, 0.1) for _ in range(PROOF - 1))
        doubt.answered(ONE)


def test_a_doubtful_message_goes_alone_on_a_connection_that_holds_and_is_answered():
    doubt = Doubt()
    for _ in range(ALONE):
        assert doubt.allows(0.0, answered=False) is None
        assert not doubt.hurried
        doubt.ended(CLOSED, ONE, 0.1)
    assert doubt.hurried
    assert [doubt.allows(held, answered=said) for held in (0.1, 9.0) for said in (False, True)] == [0, 0, 0, 1]


@pytest.fixture
def at():
    """Return a function that starts a scripted broker."""
    opened = []

    def start(script):
        opened.append(ScriptedBroker(script))
        return opened[-1]

    yield start
    for broker in opened:
        broker.close()


def begin(broker, write_config, start, lines):
    """Start a service at a broker, let an interval come, and return the service."""
    source = 'kind = "mqtt"\ntopics = ["intervals/+"]'
    running = start(write_config(source, [SINK, 'kind = "stdout"'], top=table(broker)))
    running.wait_for(lambda _: broker.subscribed)
    broker.send(publish(b"intervals/1", lines[0].encode()))
    return running


def arrives(broker, running, line):
    """Wait until a forecast of another interval is with the broker."""
    broker.published.clear()
    running.wait_for(lambda status: status.connected)

    def sent(_):
        broker.send(publish(b"intervals/1", line.encode(), 2))
        return any(topic == FORECAST for topic, _ in broker.published)

    running.wait_for(sent)


def undelivered(status):
    return status.counters["service"]["undelivered"][SINK_NAME]


@pytest.mark.parametrize("farewell", [b"", disconnect(0x87), disconnect(0x95)], ids=["closes", "0x87", "0x95"])
def test_a_forecast_that_the_broker_answers_with_the_end_is_undelivered_and_the_stream_goes_on(
    at, write_config, start, lines, farewell
):
    broker = at(Script(deadly=FORECAST, farewell=farewell))
    running = begin(broker, write_config, start, lines)
    running.wait_for(lambda status: undelivered(status) == 1 and status.connected)
    (status,) = running.service.statuses()
    assert status.broker.troubles["publish", "ends"] == 1
    assert f"whenever it gets a message for {FORECAST}" in " ".join(status.broker.problems)
    broker.play(WELL)
    arrives(broker, running, lines[1])
    running.wait_for(lambda status: not status.broker.problems)
    assert undelivered(running.finish()) == 1


def test_a_status_that_the_broker_answers_with_the_end_is_a_warning_and_forecasts_arrive(
    at, write_config, start, lines
):
    broker = at(Script(deadly=STATUS))
    running = begin(broker, write_config, start, lines)
    running.wait_for(lambda status: status.broker.troubles.get(("publish", "ends")))
    arrives(broker, running, lines[1])
    status = running.finish()
    assert (status.broker.problems, undelivered(status)) == ((), 0)
    assert any(STATUS in warning for warning in status.broker.warnings)


@pytest.mark.parametrize(
    "script",
    [Script(deadly=FORECAST, farewell=disconnect(0x8B)), Script(closes=True), Script(connack(0x88))],
    ids=["shuts down", "ends every connection", "refuses every connection"],
)
def test_a_broker_that_goes_away_again_and_again_loses_no_forecast(at, write_config, start, lines, script):
    broker = at(Script(deadly=FORECAST, farewell=disconnect(0x8B)))
    running = begin(broker, write_config, start, lines)
    # A sink behind this one gets its forecast, and that this one has not is said.
    running.wait_for(lambda _: len(running.out.getvalue().splitlines()) == 1)
    running.wait_for(lambda status: status.held[SINK_NAME] == 1)
    before = sum(running.service.statuses()[0].broker.troubles.values())
    broker.play(script)
    running.wait_for(lambda status: sum(status.broker.troubles.values()) >= before + 3 * PROOF)
    broker.published.clear()
    broker.play(WELL)
    running.wait_for(lambda _: any(topic == FORECAST for topic, _ in broker.published))
    running.wait_for(lambda status: status.counters["service"]["forecasts"] == 1)
    status = running.finish()
    assert (undelivered(status), status.held[SINK_NAME]) == (0, 0)
    assert ("publish", "ends") not in status.broker.troubles


def test_a_broker_that_does_not_answer_the_question_of_the_stream_loses_the_connection(at):
    broker, inbox = at(Script(unsuback=False)), Inbox(10)
    config = MqttConfig("controller", "127.0.0.1", broker.port, keepalive_s=1, reconnect_max_s=0.05)
    link = Link(config, "controller", "ring")
    link.subscribe(("detectors/+",), inbox)
    link.start()
    wait_for(link.ask)
    wait_for(lambda: link.report().troubles.get(("protocol", "no_answer")), link.report)
    broker.play(WELL)
    wait_for(lambda: link.ask() and isinstance(inbox.take(0.5), Answer), link.report)
    link.leave()
    link.close()


def test_all_links_are_told_to_end_before_one_is_waited_for(write_config, monkeypatch):
    path = write_config('kind = "stdin"', [SINK], top='[mqtt]\nclient_id = "controller"')
    text = path.read_text()
    second = text[text.index("[[stream]]") :]
    for old, new in [('"ring"', '"hill"'), ('"state"', '"state-2"'), ('"stdin"', '"mqtt"\ntopics = ["a"]')]:
        second = second.replace(old, new)
    path.write_text(text + second)
    told = []
    for name in ("leave", "close"):
        monkeypatch.setattr(Link, name, lambda link, name=name: told.append(name))
    Connectors(read_config(path), io.StringIO()).close()
    assert told == ["leave", "leave", "close", "close"]


def test_a_broker_that_is_killed_with_the_same_forecast_on_its_way_again_and_again_loses_nothing(at):
    broker, refused = at(Script(puback=None)), []
    config = MqttConfig("controller", "127.0.0.1", broker.port, reconnect_max_s=0.05)
    link = Link(config, "controller", "ring", status=False)
    assert link.publish(FORECAST, "{}", lambda: refused.append(1))
    link.start()
    for killed in range(2 * PROOF):
        wait_for(lambda: broker.published, link.report)  # noqa: B023
        broker.close()
        wait_for(lambda: link.report().troubles.get(("network", "refused"), 0) > killed, link.report)  # noqa: B023
        broker = ScriptedBroker(Script(puback=None), broker.port)
    broker.play(WELL)
    wait_for(lambda: not link.unconfirmed, link.report)
    link.leave()
    link.close()
    broker.close()
    assert not refused
