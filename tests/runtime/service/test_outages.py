"""Outages over a real broker: what was kept meanwhile is taken, as if there had been none."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("paho.mqtt.client")
from benchmarks.faults.brokers import FORECAST, STATUS, Peer
from benchmarks.faults.live import Mosquitto
from benchmarks.faults.network import START_S, spoken
from benchmarks.faults.outages import KINDS, LONGEST, SHORTEST, TOPIC, Site, Uninterrupted
from runtime.service.web import health
from tests.paths import ROOT
from tests.waiting import LONG_S, wait_for

pytestmark = [
    pytest.mark.needs_system_package("mosquitto"),
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP on this system"),
]
INTERVAL_S = 300
HOUR = 12  # intervals


@pytest.mark.parametrize("single", [True, False], ids=["readings", "intervals"])
@pytest.mark.parametrize("kind", KINDS)
def test_after_an_outage_every_forecast_is_that_of_a_service_without_one(example, tmp_path, kind, single):
    site = Site(example.bundle, tmp_path, single=single)
    site.go_on(3.5)
    site.settle()
    for intervals in (SHORTEST, HOUR, LONGEST):
        site.outage(kind, intervals)
        site.settle()
        site.go_on(1.3)
        site.settle()
    assert len(site.plain.forecasts) > LONGEST
    assert site.close() == []


def test_while_the_broker_is_away_nothing_is_closed_and_that_is_said(example, tmp_path):
    site = Site(example.bundle, tmp_path, single=True)
    site.go_on(3.5)
    site.settle()
    last = site.running.status.last.issued_s
    assert health.warnings(site.running.status) == []
    site.broker.stop()
    site.running.wait_for(lambda status: status.connected is False)
    site.go_on(HOUR, broker=False)
    status = site.running.status
    assert status.catching_up
    assert status.last.issued_s == last
    assert "intervals wait for the readings" in health.warnings(status)[0]
    assert "no forecast for 62 min" in health.problems(status)[0]
    site.broker.start()
    site.running.wait_for(lambda status: status.connected)
    site.settle()
    assert health.problems(site.running.status) == []
    assert site.close() == []


def test_a_new_bundle_within_an_outage_waits_for_every_sensor_as_the_old_one_did(example, build_example, tmp_path):
    site = Site(example.bundle, tmp_path, single=True)
    site.go_on(3)
    site.settle()
    other = build_example((2, 1), (3,)).bundle
    site.line.cut()
    site.running.wait_for(lambda status: status.connected is False)
    site.reload(other)
    site.go_on_by_sensor(HOUR)
    site.line.mend()
    site.settle()
    site.go_on(1.3)
    site.settle()
    assert site.close() == []


class Process:
    """A service in a process of its own, and what is sent to it through a broker."""

    def __init__(self, bundle, folder):
        self.plain = Uninterrupted(bundle, single=True)
        self.broker = Mosquitto(folder)
        self._clock, self._config = folder / "clock", folder / "service.toml"
        self._clock.write_text(str(START_S))
        self._config.write_text(f"""
{self.broker.table(in_flight=20)}
[[stream]]
name = "ring"
bundle = "{bundle.path}"
state = "state"
[stream.assembler]
grace_s = 0
[stream.source]
kind = "mqtt"
topics = ["{TOPIC}"]
[[stream.sink]]
kind = "mqtt"
""")
        self.peer = Peer(self.broker, "receiver", FORECAST)
        self._sender = Peer(self.broker, "sender", STATUS)
        self._sent = 0

    def start(self):
        command = [sys.executable, "-m", "tests.runtime.service.driven", self._config, self._clock]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        return self.process

    def go_on(self, intervals):
        for _ in range(intervals):
            now = float(self._clock.read_text()) + INTERVAL_S
            for payload in self.plain.until(now):
                self._sender.publish(TOPIC, payload)
                self._sent += 1
            self._sender.wait_for(lambda: self._sender.confirmed >= self._sent)
            written = self._clock.with_suffix(".new")
            written.write_text(str(now))
            written.replace(self._clock)

    def online(self):
        self._sender.wait_for(lambda: self._sender.received[-1:] == [b"online"])

    def forecasts(self):
        return [spoken(line) for line in list(self.peer.received)]

    def wait(self):
        """Wait until every forecast has come, and nothing else."""
        wait_for(lambda: dict(self.forecasts()).keys() >= self.plain.forecasts.keys(), lambda: self.forecasts()[-1:])
        assert dict(self.forecasts()) == self.plain.forecasts
        assert set(self.forecasts()) == set(self.plain.forecasts.items())  # what came twice was the same again

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(LONG_S)
        self.peer.close()
        self._sender.close()
        self.broker.stop()


@pytest.fixture
def running(example, tmp_path):
    running = Process(example.bundle, tmp_path)
    running.start()
    running.online()
    running.go_on(4)
    running.wait()
    yield running
    running.close()


def test_a_process_that_is_killed_while_it_catches_up_loses_and_doubles_nothing(running):
    running.process.terminate()
    assert running.process.wait(LONG_S) == 0
    running.go_on(int(LONGEST))
    for reached in (20, 60, 100):
        running.start()
        wait_for(lambda: len(dict(running.forecasts())) >= reached, running.forecasts)  # noqa: B023
        running.process.kill()
        running.process.wait(LONG_S)
    running.start()
    running.wait()
    running.go_on(2)
    running.wait()


def test_a_process_that_is_stopped_takes_what_has_come_when_it_goes_on(running):
    for intervals in (1, HOUR):
        running.process.send_signal(signal.SIGSTOP)
        running.go_on(intervals)
        time.sleep(1.5)
        running.process.send_signal(signal.SIGCONT)
        running.wait()
