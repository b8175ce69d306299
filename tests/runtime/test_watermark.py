from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.watermark import Watermark

FAR_S = 3600
START = 1_330_588_800
DAY_S = 86_400


def walk(watermark, sensors, steps, *, wrong=0, off_s=0.0):
    """Let sensors speak once a minute in turn, the first ones with a wrong clock; return the true time of each step."""
    for step in range(steps):
        for node in range(sensors):
            watermark.see(node, START + 60 * step + (off_s if node < wrong else 0))
        yield START + 60 * step


@given(st.integers(3, 30), st.data())
def test_fewer_than_half_of_the_clocks_move_nothing_however_wrong(sensors, data):
    wrong = data.draw(st.integers(0, (sensors - 1) // 2))
    off_s = data.draw(st.floats(-1e9, 1e9))
    watermark = Watermark(sensors, FAR_S)
    for true_s in walk(watermark, sensors, 30, wrong=wrong, off_s=off_s):
        assert watermark.follow() == true_s


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(-600, 600)), min_size=1, max_size=60))
def test_the_time_lies_among_what_was_said_and_goes_back_only_far(said):
    watermark, before = Watermark(7, FAR_S), -math.inf
    for node, seconds in said:
        watermark.see(node, START + seconds)
        now = watermark.follow()
        assert now in {START + second for _, second in said}
        assert now >= before
        before = now


@given(st.lists(st.floats(0, 1000), min_size=5, max_size=5), st.floats(0, 1000), st.sets(st.integers(0, 4)))
def test_all_are_past_a_time_only_when_each_that_is_waited_for_is(times, seconds, silent):
    watermark = Watermark(5, FAR_S)
    for node, time in enumerate(times):
        if node not in silent:
            watermark.see(node, time)
    heard = [time for node, time in enumerate(times) if node not in silent]
    assert watermark.all_past(seconds, since=0) == (bool(heard) and min(heard) >= seconds)


def test_a_sensor_that_fell_silent_long_ago_is_not_waited_for():
    watermark = Watermark(3, FAR_S)
    for node, seconds in enumerate([0, 7200, 7300]):
        watermark.see(node, START + seconds)
    assert not watermark.all_past(START + 7000, since=START)
    assert watermark.all_past(START + 7000, since=START + 3600)


def test_sensors_that_are_expected_are_waited_for():
    watermark = Watermark(3, FAR_S)
    watermark.expect(np.array([0, 1]), START)
    watermark.see(0, START + 600)
    assert not watermark.all_past(START + 300, since=START - 600)
    watermark.see(1, START + 600)
    assert watermark.all_past(START + 300, since=START - 600)


def test_the_survivors_go_on_when_most_sensors_fall_silent():
    watermark = Watermark(10, FAR_S)
    list(walk(watermark, 10, 5))
    end = [*walk(watermark, 2, 200)][-1]
    assert watermark.follow() == end


def test_a_simulation_that_begins_anew_takes_the_time_back_when_most_sensors_have():
    watermark = Watermark(5, FAR_S)
    list(walk(watermark, 5, 3))
    late = watermark.follow()
    for node in range(5):
        watermark.see(node, START - DAY_S)
        assert watermark.follow() == (late if node < 2 else START - DAY_S)


def test_the_end_is_the_newest_reading_that_is_not_far_ahead():
    watermark = Watermark(5, FAR_S)
    for node, seconds in enumerate([0, 60, 60, 600, DAY_S]):
        watermark.see(node, START + seconds)
    watermark.end()
    assert watermark.time == START + 600
    watermark.forget(START + FAR_S)
    assert not watermark.all_past(START + FAR_S, since=START)


@pytest.mark.parametrize("seen", [[], [(0, START), (1, START + 60)]])
def test_the_mean_is_of_those_heard_since(seen):
    watermark = Watermark(3, FAR_S)
    for node, seconds in seen:
        watermark.see(node, seconds)
    assert math.isnan(watermark.mean(since=START + 100))
    np.testing.assert_equal(watermark.mean(since=-math.inf), START + 30 if seen else math.nan)
