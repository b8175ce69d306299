"""A service and a dry run at a broker of raw bytes; the fault suite meets every case."""

from __future__ import annotations

import pytest

from runtime.service.mqtt.connection import Connection
from stunet_deploy.cli import main

pytest.importorskip("paho.mqtt.client")

from benchmarks.faults.hostile_brokers import cases
from benchmarks.faults.scripted import WELL, ScriptedBroker

CASES = {case.name: case for case in cases()}
SOME = ["CONNACK 0x87", "SUBACK 0x87", "DISCONNECT 0x8e", "a packet of 256 MB", "no MQTT", "nothing after SUBSCRIBE"]


@pytest.mark.parametrize("name", SOME)
def test_it_is_said_counted_and_over_when_the_broker_is_well(write_config, start, capsys, name):
    case = CASES[name]
    broker = ScriptedBroker(case.script)
    top = f'[mqtt]\nclient_id = "controller"\nport = {broker.port}\nkeepalive_s = 1\nreconnect_max_s = 0.05'
    config = write_config('kind = "mqtt"\ntopics = ["intervals/+"]', ['kind = "stdout"'], top=top)
    assert main(["run", "--config", str(config), "--dry-run"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    running = start(config)
    said = set()

    def is_said(status):
        said.update((*status.broker.problems, *status.broker.warnings))
        return status.broker.troubles.get(case.counted) and any(case.words in text for text in said)

    running.wait_for(is_said)
    broker.play(WELL)
    running.wait_for(lambda status: status.connected and not status.broker.problems)
    running.finish()
    broker.close()


@pytest.mark.parametrize("error", [RuntimeError("a fault"), MemoryError(), SystemExit(1)])
def test_whatever_is_raised_in_the_thread_of_a_link_is_said_and_does_not_end_it(
    write_config, start, monkeypatch, error
):
    broker, turn, errors = ScriptedBroker(), Connection.turn, [error]

    def faulty(self, *arguments, **options):
        if errors:
            raise errors.pop()
        turn(self, *arguments, **options)

    monkeypatch.setattr(Connection, "turn", faulty)
    top = f'[mqtt]\nclient_id = "controller"\nport = {broker.port}\nreconnect_max_s = 0.05'
    running = start(write_config('kind = "mqtt"\ntopics = ["intervals/+"]', ['kind = "stdout"'], top=top))
    running.wait_for(lambda status: status.connected)
    status = running.finish()
    assert status.broker.troubles == {("client", type(error).__name__): 1}
    broker.close()


def test_every_reason_code_has_its_case():
    names = set(CASES)
    assert len(names) == len(list(cases())) > 80
    assert set(SOME) <= names
