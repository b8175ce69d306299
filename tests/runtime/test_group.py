"""Streams that step together forecast what each would forecast alone, whatever the others do."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.base import open_backend
from runtime.group import StreamGroup
from runtime.options import StreamOptions
from runtime.stream import Stream
from stunet_deploy.errors import BackendError, ConfigError, StreamError

INTERVAL_S, START_S = 300, 1_330_588_800
COUNT = 3

#: What happens to a member at a tick: an interval after so many missing ones, the last one again, nothing, or a reset.
moves = st.one_of(st.sampled_from([0, 0, 0, 1, 2, 5]), st.sampled_from(["again", "absent", "reset"]))
schedules = st.lists(st.tuples(*[moves] * COUNT), min_size=1, max_size=12)


def same_forecast(found, expected):
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6, atol=1e-6)
    for name in ("issued_s", "observed_share", "reasons", "stream"):
        assert getattr(found, name) == getattr(expected, name)


def random_interval(rng, nodes):
    values = np.stack([rng.uniform(10, 70, nodes), rng.uniform(-0.9, 0.9, nodes)], axis=-1)
    return np.where(rng.random(values.shape) > 0.15, values, np.nan)


@settings(max_examples=60)
@given(schedule=schedules, seed=st.integers(0, 99))
def test_every_member_forecasts_what_it_would_alone(example, schedule, seed):
    rng, nodes = np.random.default_rng(seed), len(example.bundle.manifest.sensor_ids)
    names = [f"stream {number}" for number in range(COUNT)]
    group = StreamGroup.open(example.bundle, COUNT, options=StreamOptions(max_gap=3))
    alone = [Stream.open(example.bundle, name=name, options=StreamOptions(max_gap=3)) for name in names]
    stamps = [START_S + 86_400 * number for number in range(COUNT)]
    last = [None] * COUNT
    for tick in schedule:
        values, timestamps = [], []
        for member, move in enumerate(tick):
            if move == "reset":
                group.streams[member].reset()
                alone[member].reset()
                last[member] = None
            if move == "absent" or (move == "again" and last[member] is None):
                values.append(None)
                timestamps.append(None)
                continue
            if move != "again":
                stamps[member] += INTERVAL_S * (1 + (move if isinstance(move, int) else 0))
                last[member] = random_interval(rng, nodes)
            values.append(last[member])
            timestamps.append(stamps[member])

        found = group.push(values, timestamps)

        for member, forecast in enumerate(found):
            if timestamps[member] is None:
                assert forecast is None
            else:
                same_forecast(forecast, alone[member].push(values[member], timestamps[member]))
    for together, single in zip(group.streams, alone, strict=True):
        assert asdict(together.counters) == asdict(single.counters)
        for name, line in single.read_lines().items():
            np.testing.assert_allclose(together.read_lines()[name], line, rtol=1e-6, atol=1e-6)


def test_one_push_is_one_step_for_all(example, readings, monkeypatch):
    values, observed, timestamps = readings
    group = StreamGroup.open(example.bundle, 4)
    steps = []
    step = group.backend.step
    monkeypatch.setattr(group.backend, "step", lambda inputs: steps.append(len(inputs["values"])) or step(inputs))

    for t in range(5):
        forecasts = group.push(
            np.stack([values[t]] * 4), [timestamps[t]] * 4, np.stack([observed[t]] * 4), now=float(timestamps[-1])
        )

    assert steps == [4] * 5
    assert [forecast.stream for forecast in forecasts] == ["stream 0", "stream 1", "stream 2", "stream 3"]
    for forecast in forecasts:
        np.testing.assert_array_equal(forecast.values, forecasts[0].values)


def test_a_refused_member_is_named_and_nobody_has_changed(example, readings):
    values, _, timestamps = readings
    group = StreamGroup.open(example.bundle, 2, names=["north", "south"])
    group.push(values[:2], timestamps[[0, 0]])
    before = [stream.read_lines() for stream in group.streams]

    with pytest.raises(StreamError, match=r"south: timestamp .* older") as refused:
        group.push(values[2:4], [timestamps[1], timestamps[0] - INTERVAL_S])

    assert refused.value.reason == "late"
    assert group.streams[1].counters.refused["late"] == 1
    assert [stream.last.issued_s for stream in group.streams] == [timestamps[0]] * 2
    for stream, lines in zip(group.streams, before, strict=True):
        for name, line in stream.read_lines().items():
            np.testing.assert_array_equal(line, lines[name])
    assert None not in group.push(values[2:4], timestamps[[1, 1]])


def test_a_stream_goes_into_a_group_and_comes_out_again(example, readings):
    values, _, timestamps = readings
    alone = Stream.open(example.bundle, name="stream 1")
    for t in range(7):
        alone.push(values[t], timestamps[t])
    group = StreamGroup.open(example.bundle, 3)
    for t in range(4):  # another phase, and neighbours that have run
        group.push([values[t]] * 3, [timestamps[t]] * 3)

    group.streams[1].restore(alone.snapshot())

    for t in range(7, 12):
        _, found, _ = group.push([values[t - 3], values[t], values[t]], timestamps[[t - 3, t, t]])
        same_forecast(found, alone.push(values[t], timestamps[t]))
    out = Stream.open(example.bundle, name="stream 1")
    out.restore(group.streams[1].snapshot())
    same_forecast(out.push(values[12], timestamps[12]), alone.push(values[12], timestamps[12]))


def test_a_member_can_be_pushed_alone(example, readings):
    values, _, timestamps = readings
    group, alone = StreamGroup.open(example.bundle, 2), Stream.open(example.bundle, name="stream 0")
    group.push(values[[0, 1]], timestamps[[0, 0]])
    other = group.streams[1].read_lines()
    alone.push(values[0], timestamps[0])

    same_forecast(group.streams[0].push(values[2], timestamps[2]), alone.push(values[2], timestamps[2]))

    for name, line in group.streams[1].read_lines().items():
        np.testing.assert_array_equal(line, other[name])


def test_a_reset_group_is_a_fresh_one(example, readings):
    values, _, timestamps = readings
    group, fresh = StreamGroup.open(example.bundle, 2), StreamGroup.open(example.bundle, 2)
    for t in range(5):
        group.push(values[[t, t]], timestamps[[t, t]])
    group.reset()

    for found, expected in zip(
        group.push(values[[0, 1]], timestamps[[0, 0]]), fresh.push(values[[0, 1]], timestamps[[0, 0]]), strict=True
    ):
        same_forecast(found, expected)


def test_a_forecast_that_is_not_finite_is_an_error(example, readings, monkeypatch):
    values, _, timestamps = readings
    group = StreamGroup.open(example.bundle, 2)
    monkeypatch.setattr(group.backend, "step", lambda inputs: {"forecast": np.full((2, 3, 5, 1), np.nan)})

    with pytest.raises(BackendError, match="not finite"):
        group.push(values[:2], timestamps[[0, 0]])


def test_what_does_not_fit_the_group_is_refused(example, readings):
    values, _, timestamps = readings
    group = StreamGroup.open(example.bundle, 2)
    assert len(group) == 2
    for arguments in ((values[:3], timestamps[:3]), (values[:2], timestamps[:1]), (values[:2], timestamps[:2], [1])):
        with pytest.raises(StreamError, match="2 of each"):
            group.push(*arguments)
    with pytest.raises(StreamError, match="one per row"):
        StreamGroup(example.bundle, open_backend(example.bundle, batch=2), ["only one"])
    with pytest.raises(ConfigError, match="batch = 0"):
        StreamGroup.open(example.bundle, 0)
    with pytest.raises(StreamError, match="lines of shapes"):
        group.streams[0].write_lines(group.backend.read_lines())
