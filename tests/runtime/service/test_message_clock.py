"""Readings of a recording or a simulation bring their own time, in which the intervals are closed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from runtime.service.config import read_config
from runtime.stream import Stream
from stunet_deploy.errors import ConfigError

STDIN, STDOUT = 'kind = "stdin"\nclock = "messages"', 'kind = "stdout"'
RULES = '[stream.assembler]\nstamp = "end"\ngrace_s = 20'
BEGIN_S = 1_330_588_800


def reading(sensor, seconds, speed):
    return json.dumps({"sensor": sensor, "timestamp": seconds, "values": {"speed": speed, "trend": 0.5}}) + "\n"


def speed_of(node, seconds):
    return 40.0 + node + (seconds - BEGIN_S) / 120


def an_hour():
    """Return the readings of 13 intervals, one a minute, in order of time."""
    return [
        reading(f"s{node}", seconds, speed_of(node, seconds))
        for seconds in range(BEGIN_S + 60, BEGIN_S + 13 * 300 + 1, 60)
        for node in range(5)
    ]


@pytest.fixture
def expected(example):
    """Return the forecasts [time, horizon, node] of the first 12 intervals, pushed as a whole."""
    stream = Stream.open(example.bundle)
    found = []
    for begin in range(BEGIN_S, BEGIN_S + 12 * 300, 300):
        means = [np.mean([speed_of(node, begin + 60 * k) for k in range(1, 6)]) for node in range(5)]
        found.append(stream.push([[mean, 0.5] for mean in means], begin).values[..., 0])
    stream.close()
    return np.stack(found)


def handed_out(running):
    return np.array([json.loads(line)["values"]["speed"] for line in running.out.getvalue().splitlines()], np.float32)


def test_intervals_are_closed_by_the_time_of_the_readings(write_config, pipe, start, expected):
    running = start(write_config(STDIN, [STDOUT], extra=RULES), clock=lambda: 0.0)
    pipe.writelines(an_hour())
    pipe.close()
    status = running.finish(stop=False)

    np.testing.assert_allclose(handed_out(running), expected, rtol=1e-6)
    assert status.counters["assembler"]["readings"] == 13 * 5 * 5
    assert not any(status.counters["assembler"]["refused"].values())


def test_what_is_refused_does_not_move_the_clock(write_config, pipe, start, expected):
    running = start(write_config(STDIN, [STDOUT], extra=RULES), clock=lambda: 0.0)
    lines = an_hour()
    lines.insert(30, reading("nobody", BEGIN_S + 10**6, 1.0))
    lines.insert(0, reading("s0", "tomorrow", 1.0))
    pipe.writelines(lines)
    pipe.close()
    status = running.finish(stop=False)

    np.testing.assert_allclose(handed_out(running), expected, rtol=1e-6)
    assert status.counters["assembler"]["refused"]["unknown_sensor"] == 1
    assert status.counters["assembler"]["refused"]["timestamp"] == 1


def test_a_restart_goes_on_in_the_time_of_the_readings(write_config, pipe, start, expected):
    config = write_config(STDIN, [STDOUT], extra=RULES)
    lines = an_hour()
    first = start(config, clock=lambda: 0.0)
    pipe.writelines(lines[:140])
    pipe.flush()
    first.wait_for(lambda status: status.counters["assembler"]["readings"] == 140)
    first.finish()

    second = start(config, clock=lambda: 0.0)
    pipe.writelines(lines[135:])  # the sender cannot know what was taken, and repeats itself
    pipe.close()
    status = second.finish(stop=False)

    again = handed_out(second)
    np.testing.assert_allclose(np.concatenate([handed_out(first), again[1:]]), expected, rtol=1e-6)
    assert status.counters["assembler"]["repeats"] == 5


def test_another_clock_is_refused_by_name(write_config):
    with pytest.raises(ConfigError, match="clock"):
        read_config(write_config('kind = "stdin"\nclock = "moon"', [STDOUT]))


@pytest.mark.parametrize("off_s", [7200, 86_400, 10**9])
@pytest.mark.parametrize("at", [0, 1, 30, 137, 300])
def test_one_reading_far_in_the_future_is_refused_and_the_others_are_taken(
    write_config, pipe, start, expected, at, off_s
):
    running = start(write_config(STDIN, [STDOUT], extra=RULES), clock=lambda: 0.0)
    lines = an_hour()
    lines.insert(at, reading("s3", BEGIN_S + off_s, 1.0))
    pipe.writelines(lines)
    pipe.close()
    status = running.finish(stop=False)

    np.testing.assert_allclose(handed_out(running), expected, rtol=1e-6)
    refused = status.counters["assembler"]["refused"]
    assert {reason: count for reason, count in refused.items() if count} == {"ahead": 1}
    assert status.counters["assembler"]["readings"] == 13 * 5 * 5


def test_a_sensor_with_a_wrong_clock_is_refused_again_and_again(write_config, pipe, start):
    running = start(write_config(STDIN, [STDOUT], extra=RULES), clock=lambda: 0.0)
    for seconds in range(BEGIN_S + 60, BEGIN_S + 13 * 300 + 1, 60):
        for node in range(5):
            pipe.write(reading(f"s{node}", seconds + 10**7 * (node == 2), speed_of(node, seconds)))
    pipe.close()
    status = running.finish(stop=False)

    assert handed_out(running).shape[0] == 12
    assert status.counters["assembler"]["refused"]["ahead"] >= 12 * 5 - 5


def test_after_a_gap_the_readings_go_on(write_config, pipe, start):
    running = start(write_config(STDIN, [STDOUT], extra=RULES), clock=lambda: 0.0)
    lines = an_hour()
    pipe.writelines(lines)
    for seconds in range(BEGIN_S + 86_460, BEGIN_S + 86_400 + 3 * 300 + 1, 60):
        for node in range(5):
            pipe.write(reading(f"s{node}", seconds, speed_of(node, BEGIN_S)))
    pipe.close()
    status = running.finish(stop=False)

    assert not any(status.counters["assembler"]["refused"].values())
    assert handed_out(running).shape[0] == 12 + 1 + 2  # the thirteenth is over, and two after the gap


def test_sensors_that_fall_silent_hold_nothing_up_at_the_end(write_config, pipe, start, expected):
    running = start(write_config(STDIN, [STDOUT], extra=RULES), clock=lambda: 0.0)
    pipe.writelines(line for line in an_hour() if '"s0"' in line or json.loads(line)["timestamp"] < BEGIN_S + 2400)
    pipe.close()
    running.finish(stop=False)

    assert handed_out(running).shape[0] == 12
