"""Whatever comes, a push or a reading is accepted or refused with a reason; a refused one changes nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.aggregation import Assembler
from runtime.counters import REFUSALS
from runtime.messages import read_message
from runtime.options import StreamOptions
from runtime.stream import Stream
from stunet_deploy.errors import StreamError

START = 1_330_588_800
NAMES = st.sampled_from(["s0", "s4", "speed", "trend", "", "nobody", "s0 "])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.sampled_from([1e300, -1e300, 50.0, 0.5]),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.complex_numbers(),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6), st.dictionaries(st.one_of(NAMES, st.integers()), inner, max_size=4)
    ),
    max_leaves=12,
)
READINGS = st.one_of(
    ANYTHING,
    st.lists(st.lists(SCALARS, min_size=2, max_size=2), min_size=5, max_size=5),
    st.dictionaries(NAMES, st.dictionaries(NAMES, SCALARS, max_size=2), max_size=3),
)
TIMES = st.one_of(
    ANYTHING,
    st.integers(START, START + 1000),
    st.sampled_from(
        ["2012-03-01T08:05:00Z", "2012-03-01T08:05:00", "2012-13-01", "9999-12-31T23:59:60-12:00", "\0", "Z"]
    ),
    st.datetimes(timezones=st.none() | st.timezones()),
)


@pytest.fixture(scope="module")
def stream(shared_example):
    stream = Stream.open(shared_example.bundle, options=StreamOptions(stuck_after=3))
    yield stream
    stream.close()


def state(stream):
    snapshot = stream.snapshot()
    lines = {name: line.tobytes() for name, line in snapshot.lines.items()}
    return snapshot.age, lines, stream.last, [part.tobytes() for part in snapshot.flat_lines]


def refusal(call):
    """Return the reason for which a call refuses its arguments, or None if it accepts them."""
    try:
        call()
    except StreamError as error:
        return error.reason
    return None


@settings(max_examples=400)
@given(values=READINGS, timestamp=TIMES, observed=st.none() | ANYTHING)
def test_a_push_is_accepted_or_refused(stream, values, timestamp, observed):
    before, refused, pushes = state(stream), dict(stream.counters.refused), stream.counters.pushes
    reason = refusal(lambda: stream.push(values, timestamp, observed, now=START + 500.0))
    if reason is None:
        assert stream.counters.refused == refused
    else:
        assert reason in REFUSALS.keys() - {"other"}
        assert stream.counters.refused == refused | {reason: refused[reason] + 1}
        assert (state(stream), stream.counters.pushes) == (before, pushes)


@pytest.fixture(scope="module")
def assembler(shared_example):
    return Assembler(shared_example.bundle.manifest)


@settings(max_examples=400)
@given(sensor=st.one_of(NAMES, ANYTHING), timestamp=TIMES, reading=READINGS)
def test_a_single_reading_is_accepted_or_refused(assembler, sensor, timestamp, reading):
    refused = dict(assembler.counters.refused)
    count, known = len(assembler.state().seconds), assembler.counters.readings
    reason = refusal(lambda: assembler.add(sensor, timestamp, reading, now=START + 500.0))
    assert len(assembler.state().seconds) - count == assembler.counters.readings - known
    if reason is None:
        assert assembler.counters.refused == refused
    else:
        assert reason in REFUSALS.keys() - {"other"}
        assert assembler.counters.refused == refused | {reason: refused[reason] + 1}
        assert assembler.counters.readings == known


@pytest.mark.parametrize("where", ["timestamp", "sensor", "values"])
def test_nesting_as_deep_as_python_reads_it_is_refused_like_any_other(example, where):
    assembler, stream = Assembler(example.bundle.manifest, grace_s=0), Stream.open(example.bundle)
    message = {"sensor": "s1", "timestamp": START, "values": {"s1": 1.0}}

    def deeper(frames, take):  # as a service is: what was read is then shown with less of the stack left
        return deeper(frames - 1, take) if frames else take()

    def take(text):
        read = read_message(text)
        return deeper(9, lambda: assembler.add(*read, now=START) if "sensor" in text else stream.push(*read))

    for depth in range(800, 1100):  # somewhere here the interpreter gives up reading, and about there showing too
        for parts in (message, {key: message[key] for key in ("timestamp", "values")}):
            text = json.dumps(parts | {where: "DEEP"}).replace('"DEEP"', "[" * depth + "]" * depth)
            with pytest.raises(StreamError):
                take(text)
