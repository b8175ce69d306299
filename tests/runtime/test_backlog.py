"""A backlog of single readings: intervals are closed by the readings, as if these had come in time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import aggregation
from runtime.aggregation import Assembler
from stunet_deploy.errors import StreamError

START = 1_330_588_800  # 2012-03-01T08:00:00Z
INTERVAL_S, GRACE_S = 300, 20
HALF_A_DAY = 144  # intervals


def readings(first, stop, sensors=range(5), every_s=60):
    """Return (sensor, time, reading) of intervals, in the order of time, each sensor a second after the one before."""
    return [
        (f"s{node}", float(second + node), {"speed": 20 + (second // 60 + node) % 40})
        for second in range(START + first * INTERVAL_S, START + stop * INTERVAL_S, every_s)
        for node in sensors
    ]


def closed(records):
    return [(record.timestamp, record.values.tobytes()) for record in records]


def uninterrupted(assembler, said, until_s):
    """Return what is closed when all comes in time."""
    found, second = [], START
    for reading in [*said, None]:
        while second <= (until_s if reading is None else reading[1]):
            found += closed(assembler.due(second))
            second += 10
        if reading is not None:
            assembler.add(*reading, now=reading[1])
    return found


def behind(manifest, taken):
    """Return an assembler that was away after some intervals had been closed."""
    assembler = Assembler(manifest, grace_s=GRACE_S)
    return assembler, uninterrupted(assembler, readings(0, taken), START + taken * INTERVAL_S + GRACE_S)


def catch_up(assembler, said, now):
    found = []
    for reading in said:
        assembler.add(*reading, now=now, catching_up=True)
        found += closed(assembler.due_of_backlog(now, drained=False))
    return found + closed(assembler.due_of_backlog(now, drained=True))


@pytest.mark.parametrize("intervals", [1, 12, HALF_A_DAY])
@pytest.mark.parametrize("dead", [0, 2])
def test_a_backlog_gives_the_intervals_that_would_have_been_closed_in_time(example, intervals, dead):
    said = readings(2, 2 + intervals, range(5 - dead))
    now = START + (2 + intervals) * INTERVAL_S + GRACE_S
    assembler, before = behind(example.bundle.manifest, 2)
    plain = Assembler(example.bundle.manifest, grace_s=GRACE_S)
    assert before + catch_up(assembler, said, now) == uninterrupted(plain, readings(0, 2) + said, now)
    assert not any(assembler.counters.refused.values())


@pytest.mark.parametrize("taken_over", [0, 1, 6, 23, 24, 30, 60])
def test_an_assembler_that_takes_over_waits_for_the_same_sensors(example, taken_over):
    said = sorted(readings(2, 6), key=lambda reading: reading[0])  # one sensor after the other
    now = START + 6 * INTERVAL_S + GRACE_S
    old, before = behind(example.bundle.manifest, 2)
    for reading in said[:taken_over]:
        old.add(*reading, now=now, catching_up=True)
        before += closed(old.due_of_backlog(now, drained=False))
    new = Assembler(example.bundle.manifest, grace_s=GRACE_S)
    new.take_over(old)
    plain = Assembler(example.bundle.manifest, grace_s=GRACE_S)
    assert before + catch_up(new, said[taken_over:], now) == uninterrupted(plain, readings(0, 6), now)
    assert not any(new.counters.refused.values())


def test_an_assembler_that_takes_over_goes_on_by_the_time_of_the_sensors(example):
    said = readings(0, 8)
    plain, old, new = (Assembler(example.bundle.manifest, grace_s=GRACE_S) for _ in range(3))

    def take(assembler, part):
        found = []
        for reading in part:
            assembler.add(*reading, now=None)
            found += closed(assembler.due_by_sensors())
        return found

    before = take(old, said[:33])
    new.take_over(old)
    assert before + take(new, said[33:]) == take(plain, said)
    assert (new.time, new.behind_s(START)) == (plain.time, plain.behind_s(START))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_gateways_may_bring_the_backlogs_of_their_sensors_in_any_order(shared_example, data):
    manifest = shared_example.bundle.manifest
    gateways = data.draw(st.lists(st.integers(0, 2), min_size=5, max_size=5))
    said = readings(2, 2 + data.draw(st.integers(1, 30)))
    if data.draw(st.booleans()):  # one after the other
        said.sort(key=lambda reading: (gateways[int(reading[0][1])], reading[1]))
    else:  # each in its own rhythm
        delays = data.draw(st.lists(st.integers(0, 3000), min_size=3, max_size=3))
        said.sort(key=lambda reading: reading[1] + delays[gateways[int(reading[0][1])]])
    now = START + 40 * INTERVAL_S
    assembler, _ = behind(manifest, 2)
    found = catch_up(assembler, said, now)
    plain = Assembler(manifest, grace_s=GRACE_S)
    assert found == uninterrupted(plain, readings(0, 2) + sorted(said, key=lambda r: r[1]), said_until(said))[2:]
    assert not any(assembler.counters.refused.values())


def said_until(said):
    last = max(second for _, second, _ in said)
    return (last // INTERVAL_S + 1) * INTERVAL_S + GRACE_S


def test_one_sensor_with_a_wrong_clock_closes_nothing_for_the_others(example):
    assembler, _ = behind(example.bundle.manifest, 2)
    now = START + HALF_A_DAY * INTERVAL_S
    said = []
    for sensor, second, reading in readings(2, 20):
        said.append((sensor, second + 6 * 3600 * (sensor == "s3"), reading))
    found = catch_up(assembler, said, now)
    for node in (0, 1, 2, 4):
        heard = [~np.isnan(np.frombuffer(values).reshape(5, 2)[node, 0]) for _, values in found[:18]]
        assert all(heard)
    assert not any(assembler.counters.refused.values())


def test_silent_intervals_of_a_backlog_are_closed_too(example):
    said = readings(2, 4) + readings(9, 12)
    assembler, _ = behind(example.bundle.manifest, 2)
    found = catch_up(assembler, said, START + 12 * INTERVAL_S + GRACE_S)
    assert [stamp for stamp, _ in found] == [START + step * INTERVAL_S for step in range(2, 12)]


def test_a_backlog_does_not_pile_up_although_half_of_the_sensors_died_in_it(example, monkeypatch):
    monkeypatch.setattr(aggregation, "_MOST_OPEN", 100)
    monkeypatch.setattr(aggregation, "_MOST_OPEN_EACH", 10)
    assembler, _ = behind(example.bundle.manifest, 2)
    now, most, count = START + 500 * INTERVAL_S, 0, 0
    for reading in readings(2, 5) + readings(5, 2 + HALF_A_DAY, range(2)):
        assembler.add(*reading, now=now, catching_up=True)
        count += len(list(assembler.due_of_backlog(now, drained=False)))
        most = max(most, len(assembler.state().seconds))
    assert most <= 101
    assert count > HALF_A_DAY - 12
    assert not any(assembler.counters.refused.values())


def test_what_is_not_over_by_the_clock_stays_open(example):
    assembler, _ = behind(example.bundle.manifest, 2)
    now = START + 4.5 * INTERVAL_S
    found = catch_up(assembler, readings(2, 5)[:-5], now)
    assert [stamp for stamp, _ in found] == [START + 2 * INTERVAL_S, START + 3 * INTERVAL_S]


def test_what_is_older_than_the_last_interval_is_late_and_what_is_old_for_a_fresh_stream_too(example):
    assembler, _ = behind(example.bundle.manifest, 2)
    fresh = Assembler(example.bundle.manifest)
    for one in (assembler, fresh):
        with pytest.raises(StreamError, match="whose interval is closed"):
            one.add("s0", START + 10, {"speed": 50}, now=START + 86_400, catching_up=True)
    with pytest.raises(StreamError, match="whose interval is closed"):  # nothing is known to have been kept
        assembler.add("s0", START + 2 * INTERVAL_S, {"speed": 50}, now=START + 86_400)


def test_after_a_restart_the_sensors_of_the_last_interval_are_waited_for(example):
    assembler = Assembler(example.bundle.manifest, grace_s=GRACE_S)
    assembler.close_until(START, observed=np.ones((5, 2), np.bool_))
    now = START + 100 * INTERVAL_S
    found = []
    for sensors in (range(3), range(3, 5)):  # more than half of them come first
        for reading in readings(1, 20, sensors):
            assembler.add(*reading, now=now, catching_up=True)
            found += closed(assembler.due_of_backlog(now, drained=False))
    assert len(found) == 18
    assert not any(np.isnan(np.frombuffer(values).reshape(5, 2)[:, 0]).any() for _, values in found)
