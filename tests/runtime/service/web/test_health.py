"""When a stream is in trouble, and when it is only warned of."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from runtime.service.config import MqttSourceConfig
from runtime.service.deliveries import RECENT, Deliveries, Recent
from runtime.service.mqtt.report import BrokerReport
from runtime.service.web import health


def test_health_fails_when_forecasts_are_stale_and_says_why(serving, get, read):
    running = serving(39)
    ring = read(running, "/healthz")["streams"]["ring"]
    assert ring == {"ok": True, "problems": [], "warnings": [], "issued_at": "2012-03-01T11:10:00Z", "age_s": 300.0}

    running.now[0] += 600  # three intervals since the end of the last
    assert get(running, "/healthz")[0] == 200
    running.now[0] += 1
    status, _, body = get(running, "/healthz")
    assert status == 503
    assert json.loads(body)["streams"]["ring"]["problems"] == ["no forecast for 15 min 1 s (stale after 15 min)"]
    running.now[0] -= 86_400
    assert "ahead of the clock" in get(running, "/healthz")[2].decode()


def test_health_fails_when_the_disk_does(serving, monkeypatch, get, metrics):
    running = serving(1)
    durable = running.service.workers[0].serving.durable
    monkeypatch.setattr(durable, "trouble", "the journal cannot be written (No space left on device)")

    status, _, body = get(running, "/healthz")
    assert status == 503
    assert "No space left" in body.decode()
    assert metrics(running)["stunet_durable"] == {(("stream", "ring"),): 0}


def test_forecasts_that_wait_for_a_sink_are_warned_of_and_counted(serving, read, metrics, monkeypatch):
    running = serving(40)
    worker = running.service.workers[0]
    assert metrics(running)["stunet_forecasts_held"] == {(("sink", "stdout"), ("stream", "ring")): 0}

    worker._sinks[0]._held = 1
    (warning,) = read(running, "/healthz")["streams"]["ring"]["warnings"]
    assert warning == "forecasts held in memory because the stdout sink cannot deliver them, as the log says: 1"
    assert metrics(running)["stunet_forecasts_held"] == {(("sink", "stdout"), ("stream", "ring")): 1}
    assert read(running, "/api/streams")["streams"][0]["counters"]["held"] == {"stdout": 1}


def test_health_knows_each_trouble(serving):
    running = serving(1)
    good = replace(running.service.statuses()[0], age_s=100.0)
    fresh = replace(good, last=None, age_s=None)

    def found(status, **changes):
        return health.problems(replace(status, **changes))

    assert health.problems(good) == []
    assert found(fresh, running_s=899.0) == []
    assert found(fresh, running_s=901.0) == ["no forecast since the start 15 min 1 s ago (stale after 15 min)"]
    silent = {"service": good.counters["service"] | {"delivered": 0}}
    assert found(fresh, running_s=901.0, counters=silent)[0].endswith("; 0 messages have come from standard input")
    from_broker = replace(good.config, source=MqttSourceConfig("mqtt", ("detectors/+", "loops/#")))
    assert found(good, age_s=901.0, counters=silent, config=from_broker) == [
        "no forecast for 15 min 1 s (stale after 15 min); 0 messages have come from detectors/+, loops/#"
    ]
    assert found(fresh, running_s=901.0, live=False) == []
    assert found(good, age_s=1e9, live=False) == []  # a replay may be slow, and of any time
    assert found(good, age_s=200_000.0) == ["no forecast for 2 d 7 h (stale after 15 min)"]
    assert found(good, silent_s=61.0) == ["no sign of life for 61 s"]
    assert found(good, silent_s=61.0, ended=True) == []


def test_a_reload_that_failed_and_a_start_that_lost_something_are_warned_of(serving, read, metrics):
    running = serving(39)
    running.service.workers[0].offers.not_taken = "no such bundle"
    assert read(running, "/healthz")["streams"]["ring"]["warnings"] == ["the last reload has failed: no such bundle"]
    assert metrics(running)["stunet_reload_failed"] == {(("stream", "ring"),): 1}
    status = replace(running.service.statuses()[0], not_taken=None, age_s=100.0)
    lost = replace(status, lost=("snapshot 3 not used",), lost_s=90.0)
    assert health.warnings(lost) == ["restored in part 90 s ago: snapshot 3 not used"]
    assert health.warnings(replace(lost, lost_s=100_000.0)) == []
    assert health.problems(lost) == []


def test_warnings_leave_a_stream_well(serving):
    running = serving(1)
    good = running.service.statuses()[0]
    assert health.warnings(good) == health.warnings(replace(good, broker=BrokerReport(True))) == []
    away = replace(good, broker=BrokerReport(False, warnings=("no connection",)))
    assert health.warnings(away) == ["no connection"]
    assert health.warnings(replace(away, ended=True)) == []
    report = health.report([replace(away, age_s=100.0)])
    assert (report["ok"], report["streams"]["ring"]["warnings"]) == (True, health.warnings(away))


def test_a_tenth_may_be_refused_and_more_is_said_with_its_reason(serving):
    good = serving(1).service.statuses()[0]
    deliveries = Deliveries()
    assert deliveries.read() == Recent(0, Counter(), None)
    for refused in (*["late"] * 9, "ahead", *[None] * 90):
        deliveries.add(refused)
    some = replace(good, deliveries=deliveries)
    assert health.warnings(some) == []
    deliveries.add("ahead")
    assert health.warnings(some) == [
        "11 of the last 101 messages were refused, 9 of them: older than what has been forecast from"
    ]
    for _ in range(RECENT):
        deliveries.add("message")
    assert health.warnings(some)[0].startswith("1,000 of the last 1,000 messages were refused: no JSON")
    for _ in range(RECENT):
        deliveries.add(None)
    assert health.warnings(some) == []  # it has been mended


def test_the_grace_of_an_assembler_counts_before_a_stream_is_stale(serving):
    running = serving(0, extra="[stream.assembler]\ngrace_s = 90")
    (status,) = running.service.statuses()

    assert health.stale_after_s(status) == 3 * 300 + 90
