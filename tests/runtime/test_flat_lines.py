from __future__ import annotations

import numpy as np
import pytest

from runtime.options import StreamOptions
from runtime.stream import Stream
from stunet_deploy.errors import ConfigError

INTERVAL_S = 300


def feed(stream, timestamps, sequence):
    """Push one sensor's speeds, None where unobserved; return whether each was used."""
    counts = []
    for timestamp, speed in zip(timestamps, sequence, strict=True):
        before = stream.counters.stuck
        readings = {"s0": {"speed": speed}, "s1": {"speed": 20 + (timestamp // INTERVAL_S) % 7}}
        stream.push(readings, timestamp)
        counts.append(stream.counters.stuck - before)
    return counts


def test_a_reading_that_repeats_itself_is_dropped_until_it_changes(example, readings):
    stream = Stream.open(example.bundle, options=StreamOptions(stuck_after=3))
    sequence = [50, 50, 50, 50, None, 50, 51, 51, 50, 50, 50]
    assert feed(stream, readings[2][:11], sequence) == [0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 1]
    assert stream.stuck_sensors == ("s0",)
    assert stream.counters.stuck == 4
    stream.reset()
    assert stream.stuck_sensors == ()


def test_a_dropped_reading_is_as_if_it_had_not_come(example, readings):
    values, _, timestamps = readings
    values = np.nan_to_num(values, nan=0.5)
    stream, other = Stream.open(example.bundle, options=StreamOptions(stuck_after=4)), Stream.open(example.bundle)
    for t in range(12):
        values[t, 2, 0] = 33.0
        found = stream.push(values[t], timestamps[t])
        hidden = values[t].copy()
        hidden[2, 0] = np.nan if t >= 3 else 33.0
        np.testing.assert_array_equal(found.values, other.push(hidden, timestamps[t]).values)
        assert found.observed_share == (0.9 if t >= 3 else 1)


def test_nobody_looks_by_default(example, readings):
    stream = Stream.open(example.bundle)
    feed(stream, readings[2][:9], [50] * 9)
    assert stream.counters.stuck == 0
    assert stream.stuck_sensors == ()


def test_a_repeat_is_compared_with_what_was_sent(example, readings):
    stream = Stream.open(example.bundle, options=StreamOptions(stuck_after=2))
    feed(stream, readings[2][:3], [50, 50, 50])
    last = stream.last
    assert stream.push({"s0": {"speed": 50}, "s1": {"speed": 20 + (readings[2][2] // 300) % 7}}, readings[2][2]) is last
    assert stream.counters.stuck == 2


@pytest.mark.parametrize("after", [-1, 1])
def test_an_option_that_would_drop_everything_is_refused(after):
    with pytest.raises(ConfigError, match="stuck_after"):
        StreamOptions(stuck_after=after)
