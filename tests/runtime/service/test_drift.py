from __future__ import annotations

import json
import logging
import math
from dataclasses import fields, replace

import numpy as np
import pytest

from runtime.drift import DriftOptions, DriftWatch
from runtime.forecast import Forecast
from runtime.readings import Interval
from runtime.service.config import read_config
from runtime.service.drift_log import LoggedDriftWatch
from runtime.service.logs import LOG, StreamLog
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from stunet_deploy.site import Site

STDIN, STDOUT = 'kind = "stdin"', 'kind = "stdout"'
HOUR, DAY, WEEK = 3600, 24, 168


@pytest.fixture
def heard(caplog, monkeypatch):
    """Return a function of what the log has said so far, by level."""
    monkeypatch.setattr(LOG, "propagate", True)
    caplog.set_level(logging.INFO, LOG.name)
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


def watched(bundle, readings, intervals=slice(None)):
    """Return the report of a plain stream's watch over the intervals of the recording."""
    values, observed, timestamps = readings
    stream = Stream.open(bundle)
    stream.watch = DriftWatch(bundle.manifest)
    for t in range(len(timestamps))[intervals]:
        stream.push(values[t], int(timestamps[t]), observed[t])
    stream.close()
    return stream.watch.report()


def equal(found, expected):
    for field in fields(found):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name), err_msg=field.name)


def forecasts_of(running):
    return [np.array(json.loads(line)["values"]["speed"], np.float32) for line in running.out.getvalue().splitlines()]


def until(running, pushes):
    running.wait_for(lambda status: status.counters["stream"]["pushes"] == pushes)


def test_a_service_says_how_far_its_forecasts_were_off(write_config, recording, start, example, readings):
    status = start(write_config(f'kind = "replay"\npath = "{recording.name}"', [STDOUT])).finish(stop=False)

    equal(status.drift, watched(example.bundle, readings))
    assert status.drift.scored > 300
    assert np.isfinite(status.drift.sensor_mae).all()


def test_a_service_goes_on_with_what_it_knew(write_config, send, lines, start, example, readings):
    config = write_config(STDIN, [STDOUT], extra="snapshot_every = 7")
    first = start(config)
    send(lines[:25])
    until(first, 25)
    first.finish()
    second = start(config)
    assert second.service.statuses()[0].drift.scored == watched(example.bundle, readings, slice(25)).scored
    send(lines[24:])
    until(second, 40)

    equal(second.finish().drift, watched(example.bundle, readings))


def test_nobody_watches_where_it_is_turned_off(write_config, recording, start):
    config = write_config(
        f'kind = "replay"\npath = "{recording.name}"', [STDOUT], extra="[stream.drift]\nenabled = false"
    )
    assert start(config).finish(stop=False).drift is None


def test_a_new_bundle_is_watched_anew(write_config, send, lines, start, readings, build_example):
    other = build_example((2, 1), (3,)).bundle
    config = write_config(STDIN, [STDOUT], extra="snapshot_every = 1000")
    running = start(config, reread=lambda: read_config(config))
    send(lines[:20])
    until(running, 20)
    text = config.read_text()
    old = next(line for line in text.splitlines() if line.startswith("bundle"))
    config.write_text(text.replace(old, f'bundle = "{other.path}"'))
    running.service.reload()
    running.wait_for(lambda status: status.manifest.bundle_id == other.manifest.bundle_id)
    send(lines[20:])
    until(running, 40)

    # What the journal holds, the new bundle has forecast too.
    equal(running.finish().drift, watched(other, readings))


def test_single_readings_are_scored_as_the_intervals_they_become(write_config, send, start, example):
    now, speeds = [1_330_588_800.0], [40.0, 44.0, 47.0]
    config = write_config(STDIN, [STDOUT], extra="[stream.assembler]\ngrace_s = 0")
    running = start(config, clock=lambda: now[0])
    for number, speed in enumerate(speeds):
        send(
            json.dumps({"sensor": f"s{n}", "timestamp": now[0], "values": {"speed": speed + n, "trend": 0.5}})
            for n in range(5)
        )
        wanted = 5 * (number + 1)
        running.wait_for(lambda status: status.counters["assembler"]["readings"] == wanted)  # noqa: B023
        now[0] += 300.5
        until(running, number + 1)
        now[0] -= 0.5
    report = running.finish().drift

    assert report.scored == 5 * (1 + 2)
    np.testing.assert_allclose(
        report.persistence_mae[:2, 0], [(4 * math.exp(-1 / 288) + 3) / (math.exp(-1 / 288) + 1), 7]
    )


@pytest.mark.parametrize("broken", ["_score", "state", "restore"])
def test_whatever_goes_wrong_in_it_the_stream_goes_on(
    write_config, send, lines, start, readings, example, heard, monkeypatch, broken
):
    def fail(*arguments, **more):
        raise RuntimeError("a mistake")

    whole = watched(example.bundle, readings)
    monkeypatch.setattr(DriftWatch, broken, fail)
    config = write_config(STDIN, [STDOUT], extra="snapshot_every = 7")
    first = start(config)
    send(lines[:25])
    until(first, 25)
    first.finish()
    second = start(config)
    send(lines[25:])
    until(second, 40)
    status = second.finish()

    values, observed, timestamps = readings
    plain = Stream.open(example.bundle)
    expected = [plain.push(values[t], int(timestamps[t]), observed[t]).values[..., 0] for t in range(40)]
    plain.close()
    np.testing.assert_array_equal(forecasts_of(first) + forecasts_of(second)[1:], expected)
    assert (status.drift.scored == 0) is (broken == "_score")
    assert status.drift.scored < whole.scored
    said = [message for level, message in heard() if level == "WARNING" and "RuntimeError" in message]
    assert 1 <= len(said) <= 4  # the first time, the tenth time …, of two processes


def test_a_state_of_another_layout_is_begun_anew(example, readings, heard):
    values, observed, timestamps = readings
    stream = Stream.open(example.bundle)
    stream.watch = LoggedDriftWatch(example.bundle.manifest, DriftOptions(), StreamLog("ring"))
    for t in range(10):
        stream.push(values[t], int(timestamps[t]), observed[t])
    snapshot = Snapshot.from_bytes(stream.snapshot().to_bytes())
    state = dict(snapshot.drift)
    for name, wrong in [("last", np.zeros((4, 1), np.float32)), ("waiting", state["waiting"][:2]), ("stamp", None)]:
        other = {key: array for key, array in (state | {name: wrong}).items() if array is not None}
        stream.restore(replace(snapshot, drift=other))
        assert stream.watch.report().scored == 0
        assert any(level == "WARNING" and "begins anew" in message for level, message in heard())
    stream.restore(snapshot)
    assert stream.watch.report().scored > 0
    stream.close()


def test_an_alarm_is_logged_once_when_raised_and_once_when_cleared(example, heard):
    manifest = replace(
        example.bundle.manifest,
        site=Site(("a",), ("speed",), ("mph",), HOUR),
        targets=("speed",),
        horizon=1,
    )
    watch = LoggedDriftWatch(manifest, DriftOptions(), StreamLog("ring"))

    def forecast(hours, error):
        """Push readings that go up and down by 8, and forecast them with an error."""
        for _ in range(hours):
            step = count[0]
            interval = Interval(np.array([[40 + 8 * (step % 2)]], np.float32), np.array([[True]]))
            values = np.array([[[48 - 8 * (step % 2) + error]]], np.float32)
            watch.see(interval, Forecast(values, HOUR * step, 1.0, (), 0.0, "ring", manifest), sound=True)
            count[0] += 1

    count = [0]
    forecast(WEEK, 4)
    assert heard() == []
    forecast(DAY, 8)
    ((level, message),) = heard()
    assert (level, "drift: since 1970-01-08T02:00:00Z" in message) == ("ERROR", True)
    assert "worse than it at 0 of 1 sensors" in message
    forecast(2 * DAY, 4)
    assert heard()[1:] == [("INFO", "drift: the alarm of 1970-01-08T02:00:00Z is over")]
