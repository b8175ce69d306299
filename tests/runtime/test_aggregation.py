from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.aggregation import Assembler
from runtime.rules import Rule
from runtime.stream import Stream
from stunet_deploy.errors import ConfigError, StreamError

START = 1_330_588_800  # 2012-03-01T08:00:00Z
INTERVAL_S = 300  # seconds


def refusals(counters):
    return {reason: count for reason, count in counters.refused.items() if count}


@pytest.fixture
def manifest(example):
    """Return the example's manifest, with features as detectors have them."""
    manifest = example.bundle.manifest
    return replace(
        manifest, site=replace(manifest.site, features=("speed", "flow")), limits=((0.0, 80.0), (0.0, 500.0))
    )


def closed(assembler, now):
    return [(record.timestamp, record.values) for record in assembler.due(now)]


def test_a_code_for_no_data_is_no_reading_of_the_interval(manifest):
    manifest = replace(manifest, site=replace(manifest.site, no_data=((2046, 0), ())))
    assembler = Assembler(manifest, {"speed": Rule(), "flow": Rule("sum")}, grace_s=10)
    for second, sensor, speed in [(0, "s0", 60), (20, "s0", 2046), (40, "s0", 30), (50, "s1", 0), (60, "s1", 0)]:
        assembler.add(sensor, START + second, {"speed": speed, "flow": 0}, now=START + second)
    ((_, values),) = closed(assembler, START + 310)
    np.testing.assert_array_equal(values[:, 0], [45, math.nan, math.nan, math.nan, math.nan])
    np.testing.assert_array_equal(values[:2, 1], [0, 0])
    assert assembler.counters.outside_limits == 0


def test_a_summand_that_is_a_code_of_the_interval_is_a_reading(manifest):
    manifest = replace(manifest, site=replace(manifest.site, no_data=((), (0, 2046))))
    assembler = Assembler(manifest, {"speed": Rule(), "flow": Rule("sum")}, grace_s=10, period_s=60)
    for minute, flow in enumerate([3, 0, 4, 0, 5]):
        assembler.add("s0", START + 60 * minute, {"flow": flow}, now=START + 60 * minute)
        assembler.add("s1", START + 60 * minute, {"flow": 3 if minute else 2046}, now=START + 60 * minute)
    ((_, values),) = closed(assembler, START + 310)
    assert values[0, 1] == 12
    assert values[1, 1] == 3 * 5  # scaled up by the one that is missing


def test_mean_weighted_mean_and_sum_by_hand(manifest):
    assembler = Assembler(manifest, {"speed": Rule(weight="flow"), "flow": Rule("sum")}, grace_s=10)
    for sensor, second, speed, flow in [
        ("s0", 0, 60, 10),
        ("s0", 30, 30, 20),
        ("s0", 60, 99.5, 0.0),  # beyond the limits: no speed, but a count
        ("s1", 20, 50, None),
        ("s2", 40, None, 7),
        ("s3", 10, 0, 0),
        ("s3", 299.9, 0, 0),
        ("s4", 300, 70, 1),  # belongs to the next interval
    ]:
        now = START + second
        assembler.add(sensor, now, {"speed": speed, "flow": flow}, now=now)
    assert closed(assembler, START + 309.9) == []
    ((stamp, values),) = closed(assembler, START + 310)
    assert stamp == START
    nan = math.nan
    np.testing.assert_array_equal(values[:, 0], [(60 * 10 + 30 * 20) / 30, nan, nan, nan, nan])
    np.testing.assert_array_equal(values[:, 1], [30, nan, 7, 0, nan])
    assert assembler.counters.outside_limits == 1
    ((_, values),) = closed(assembler, START + 610)
    np.testing.assert_array_equal(values[4], [70, 1])


def test_a_plain_mean_needs_no_weight_and_no_names(example):
    manifest = example.bundle.manifest
    site = replace(manifest.site, features=("speed",), units=("mph",))
    single = replace(manifest, site=site, limits=((0.0, 80.0),))
    assembler = Assembler(single, grace_s=0)
    for second, speed in [(0, 10), (20, 20), (25, None), (40, 60), (60, float("nan"))]:
        assembler.add("s1", START + second, speed, now=START + second)
    ((_, values),) = closed(assembler, START + INTERVAL_S)
    np.testing.assert_array_equal(values[:, 0], [math.nan, 30, math.nan, math.nan, math.nan])


def test_a_weight_need_not_be_a_feature(example):
    manifest = example.bundle.manifest
    site = replace(manifest.site, features=("speed",), units=("mph",))
    single = replace(manifest, site=site, limits=((0.0, 80.0),))
    assembler = Assembler(single, {"speed": Rule(weight="count")}, grace_s=0)
    assert assembler.names == ("speed", "count")
    for second, speed, count in [(0, 10, 1), (20, 50, 3), (40, 70, -5)]:
        assembler.add("s1", START + second, {"speed": speed, "count": count}, now=START + second)
    with pytest.raises(StreamError, match="numbers by name"):
        assembler.add("s1", START + 60, 12.0, now=START + 60)
    assembler.add("s2", START, {"speed": 30}, now=START + 60)
    ((_, values),) = closed(assembler, START + INTERVAL_S)
    assert values[1, 0] == 40
    assert np.isnan(values[2, 0])
    assert assembler.counters.unweighted == 2


def test_a_sum_is_scaled_for_readings_that_did_not_come(manifest):
    assembler = Assembler(manifest, {"flow": Rule("sum")}, grace_s=0, period_s=30)
    for number in range(10):
        for sensor, missing in (("s0", 0), ("s1", 5), ("s2", 6)):
            if number >= missing:
                now = START + 30 * number
                assembler.add(sensor, now, {"flow": 4}, now=now)
    ((_, values),) = closed(assembler, START + INTERVAL_S)
    np.testing.assert_array_equal(values[:, 1], [40, 40, math.nan, math.nan, math.nan])


@pytest.mark.parametrize(
    ("reading_stamp", "interval_stamp", "expected"),
    [
        ("start", "start", START),
        ("start", "end", START + INTERVAL_S),
        ("end", "start", START - INTERVAL_S),
        ("end", "end", START),
    ],
)
def test_a_reading_on_the_boundary_belongs_where_its_stamp_says(manifest, reading_stamp, interval_stamp, expected):
    assembler = Assembler(
        replace(manifest, site=replace(manifest.site, stamp=interval_stamp)), grace_s=0, stamp=reading_stamp
    )
    assembler.add("s0", START, {"speed": 50}, now=START)
    assert closed(assembler, START + INTERVAL_S)[0][0] == expected


def test_the_grid_follows_the_manifest(manifest):
    assembler = Assembler(replace(manifest, phase_s=120), grace_s=0)
    assembler.add("s0", START + 100, {"speed": 50}, now=START + 100)
    assert [stamp for stamp, _ in closed(assembler, START + 120)] == [START - 180]


def test_a_reading_after_the_grace_is_refused_and_counted(manifest):
    assembler = Assembler(manifest, grace_s=20)
    assembler.add("s0", START + 10, {"speed": 50}, now=START + 10)
    assembler.add("s1", START + 290, {"speed": 60}, now=START + 319)  # within the grace
    ((_, values),) = closed(assembler, START + 320)
    assert values[1, 0] == 60
    before = assembler.state()
    with pytest.raises(StreamError, match=r"'s0' at 2012-03-01T08:04:50Z, whose interval is closed"):
        assembler.add("s0", START + 290, {"speed": 50}, now=START + 321)
    assert refusals(assembler.counters) == {"late": 1}
    np.testing.assert_array_equal(assembler.state().seconds, before.seconds)


def test_what_cannot_be_a_reading_is_refused_by_reason_and_changes_nothing(manifest):
    assembler = Assembler(manifest)
    now = START + 100
    assembler.add("s0", START + 20, {"speed": 50}, now=now)
    before = assembler.state()
    for reason, arguments in [
        ("unknown_sensor", ("nobody", START, {"speed": 1})),
        ("unknown_sensor", (["s0"], START, {"speed": 1})),
        ("unknown_feature", ("s0", START, {"colour": 1})),
        ("reading", ("s0", START, {"speed": "fast"})),
        ("reading", ("s0", START, 50)),
        ("reading", ("s0", START, [1, 2])),
        ("timestamp", ("s0", "now", {"speed": 1})),
        ("timestamp", ("s0", START * 1000, {"speed": 1})),
        ("conflict", ("s0", START + 20, {"speed": 51})),
        ("ahead", ("s0", now + 301, {"speed": 1})),
        ("ahead", ("s0", now + 86_400, {"speed": 1})),
        ("late", ("s0", now - 86_400, {"speed": 1})),
    ]:
        with pytest.raises(StreamError) as caught:
            assembler.add(*arguments, now=now)
        assert caught.value.reason == reason
    assert sum(assembler.counters.refused.values()) == 12
    after = assembler.state()
    for name in ("nodes", "seconds", "values"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_a_sensor_that_floods_is_refused_beyond_one_reading_a_second(manifest):
    assembler = Assembler(manifest)
    for tenth in range(3000):
        second = START + tenth / 10
        if tenth < INTERVAL_S:
            assembler.add("s0", second, {"speed": 50}, now=second)
        else:
            with pytest.raises(StreamError, match="at most one a second"):
                assembler.add("s0", second, {"speed": 50}, now=second)
    assert refusals(assembler.counters) == {"flood": 2700}
    assert len(assembler.state().seconds) == INTERVAL_S


def test_unknown_sensors_may_be_ignored(manifest):
    assembler = Assembler(manifest, ignore_unknown=True)
    assert assembler.add("nobody", START, {"speed": 50}, now=START) is None
    assert assembler.counters.unknown == 1


def test_a_number_for_an_id_is_refused_even_where_unknown_sensors_are_ignored(manifest):
    numbered = replace(manifest, site=replace(manifest.site, sensor_ids=("773869", *manifest.sensor_ids[1:])))
    for ignore_unknown in (False, True):
        with pytest.raises(StreamError, match='write it as text, "773869"'):
            Assembler(numbered, ignore_unknown=ignore_unknown).add(773869, START, {"speed": 50}, now=START)
    with pytest.raises(StreamError, match="ignore_unknown = true"):
        Assembler(numbered).add("773870", START, {"speed": 50}, now=START)


def test_silence_is_an_interval_too_while_the_clock_runs(manifest):
    assembler = Assembler(manifest, grace_s=5)
    assert closed(assembler, START) == []  # nobody was ever heard
    assembler.add("s0", START + 10, {"speed": 50}, now=START + 10)
    found = [record for minute in range(21) for record in closed(assembler, START + 60 * minute + 5)]
    assert [stamp for stamp, _ in found] == [START, START + INTERVAL_S, START + 2 * INTERVAL_S, START + 3 * INTERVAL_S]
    assert np.isnan(found[1][1]).all()


def test_a_clock_that_jumps_a_day_ahead_and_back_starts_no_day_of_silence(manifest):
    assembler = Assembler(manifest, grace_s=5)
    assembler.add("s0", START + 10, {"speed": 50}, now=START + 10)
    assert [stamp for stamp, _ in closed(assembler, START + 86_400)] == [START]
    assert closed(assembler, START + 86_400 + INTERVAL_S) == []  # no reading has confirmed that day
    assembler.add("s0", START + 310, {"speed": 51}, now=START + 310)
    assert [stamp for stamp, _ in closed(assembler, START + 605)] == [START + INTERVAL_S]


def test_readings_of_a_wrong_day_are_forgotten_when_the_clock_comes_back(manifest):
    assembler = Assembler(manifest, grace_s=5)
    day = 86_400
    for offset in (0, day, day + INTERVAL_S):
        assembler.add("s0", START + offset, {"speed": 50}, now=START + offset)
        list(assembler.due(START + offset))
    list(assembler.due(START + day + INTERVAL_S + 5))
    assembler.add("s1", START + 2 * INTERVAL_S, {"speed": 40}, now=START + 2 * INTERVAL_S)
    assert assembler.counters.dropped == 1
    assert [stamp for stamp, _ in closed(assembler, START + 3 * INTERVAL_S + 5)] == [START + 2 * INTERVAL_S]


@pytest.mark.parametrize("step", [86_400, -86_400, 3600, -3600, -700, 61, -61, 1, -1])
def test_forecasts_stay_finite_and_go_on_through_steps_of_the_clock(example, step):
    """The controller's clock and the stamps it gives to readings step at once, and an hour later back again."""
    assembler = Assembler(example.bundle.manifest, grace_s=5)
    stream = Stream.open(example.bundle)
    rng = np.random.default_rng(0)
    issued_true = []
    for second in range(0, 3 * 3600, 20):
        wrong = step if 3600 <= second < 7200 else 0
        now = START + second + wrong
        for record in assembler.due(now):
            forecast = stream.push(*record, now=now)
            assert np.isfinite(forecast.values).all()
            issued_true.append(second)
        for sensor in ("s0", "s3"):
            with suppress(StreamError):
                assembler.add(sensor, now, {"speed": rng.uniform(20, 60), "trend": 0.1}, now=now)
    # A clock set back by a few intervals is waited for: readings of the time that comes twice are late, or repeats.
    assert refusals(assembler.counters).keys() <= {"late", "conflict"}
    waited = 700 if step == -700 else 0
    assert np.diff(issued_true).max() <= 2 * INTERVAL_S + waited
    assert issued_true[-1] >= 3 * 3600 - 2 * INTERVAL_S


@settings(max_examples=40)
@given(st.data())
def test_the_order_of_arrival_and_repeats_change_no_bit(manifest_and_readings, data):
    manifest, sent = manifest_and_readings
    order = data.draw(st.permutations(range(len(sent))))
    twice = data.draw(st.lists(st.sampled_from(range(len(sent))), max_size=8))
    assembler = Assembler(manifest, {"speed": Rule(weight="flow"), "flow": Rule("sum")}, grace_s=30)
    for index in [*order, *twice]:
        sensor, second, reading = sent[index]
        assembler.add(sensor, second, reading, now=START + INTERVAL_S)
    assert assembler.counters.repeats == len(twice)
    ((_, found),) = closed(assembler, START + INTERVAL_S + 30)
    straight = Assembler(manifest, {"speed": Rule(weight="flow"), "flow": Rule("sum")}, grace_s=30)
    for sensor, second, reading in sent:
        straight.add(sensor, second, reading, now=START + INTERVAL_S)
    ((_, expected),) = closed(straight, START + INTERVAL_S + 30)
    assert found.tobytes() == expected.tobytes()


@pytest.fixture(scope="module")
def manifest_and_readings(shared_example):
    rng = np.random.default_rng(9)
    manifest = shared_example.bundle.manifest
    site = replace(manifest.site, features=("speed", "flow"))
    manifest = replace(manifest, site=site, limits=((0.0, 80.0), (0.0, 500.0)))
    sent = [
        (f"s{node}", START + float(second), {"speed": rng.uniform(10, 70), "flow": rng.uniform(0, 20)})
        for node in range(5)
        for second in rng.choice(INTERVAL_S, 8, replace=False)
    ]
    return manifest, sent


def test_state_moves_to_another_assembler(manifest):
    source, target = Assembler(manifest, grace_s=5), Assembler(manifest, grace_s=5)
    for second in (10, 290, 310, 350):
        source.add("s0", START + second, {"speed": 50 + second / 100}, now=START + second)
    list(source.due(START + 305))
    target.add("s4", START, {"speed": 1}, now=START)
    target.restore(source.state())
    assert json.loads(json.dumps(target.counters.__dict__)) == source.counters.__dict__
    for assembler in (source, target):
        with pytest.raises(StreamError, match="closed"):
            assembler.add("s0", START + 100, {"speed": 50}, now=START + 360)
    ((_, found),), ((_, expected),) = closed(target, START + 605), closed(source, START + 605)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(StreamError, match="open readings of"):
        Assembler(manifest, {"speed": Rule(weight="count")}).restore(source.state())


@pytest.mark.parametrize(
    "options",
    [
        {"grace_s": -1},
        {"grace_s": math.nan},
        {"period_s": 0},
        {"stamp": "middle"},
        {"rules": {"colour": Rule()}},
    ],
)
def test_options_out_of_range_are_refused(manifest, options):
    with pytest.raises(ConfigError):
        Assembler(manifest, **options)


@pytest.mark.parametrize("arguments", [("median",), ("sum", "flow")])
def test_rules_that_are_none_are_refused(arguments):
    with pytest.raises(ConfigError, match="rule"):
        Rule(*arguments)


@pytest.mark.parametrize("way", ["due", "due_of_backlog"])
def test_what_came_while_an_answer_was_waited_for_is_not_ahead_of_the_clock(manifest, way):
    assembler = Assembler(manifest, grace_s=0)
    assembler.add("s0", START, {"speed": 50.0}, now=START)
    asked = START + 300
    for later in range(1, 4):
        assembler.add("s0", START + 300 * later, {"speed": 50.0 + later}, now=START + 300 * later)
    options = {"drained": True} if way == "due_of_backlog" else {}

    records = list(getattr(assembler, way)(START + 900, until=asked, **options))

    assert [record.timestamp for record in records] == [START]
    assert assembler.counters.dropped == 0
    assert len(list(assembler.due(START + 1200))) == 3
