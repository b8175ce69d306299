from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from runtime.durable.journal import Input
from runtime.options import StreamOptions
from runtime.snapshot import MAGIC, OpenReadings, Snapshot
from runtime.stream import Stream
from stunet_deploy.errors import DataError, StreamError


def push(stream, readings, intervals):
    values, _, timestamps = readings
    return [stream.push(values[t], timestamps[t]) for t in intervals]


def bits(forecasts):
    return [(f.issued_s, f.reasons, f.observed_share, f.values.tobytes()) for f in forecasts]


@pytest.mark.parametrize("mode", ["carry", "window"])
@pytest.mark.parametrize("taken", [0, 1, 3, 11])
def test_a_restored_stream_goes_on_to_the_last_bit(example, readings, mode, taken):
    options = {"mode": mode, "options": StreamOptions(stuck_after=3)}
    source, whole = Stream.open(example.bundle, **options), Stream.open(example.bundle, **options)
    push(source, readings, range(taken))
    snapshot = Snapshot.from_bytes(source.snapshot().to_bytes())
    target = Stream.open(example.bundle, **options)
    push(target, readings, range(20, 27))  # another phase and other rows
    target.restore(snapshot)
    assert asdict(target.counters) == asdict(source.counters)
    expected = bits(push(whole, readings, range(40)))
    assert bits(push(target, readings, range(taken, 40))) == expected[taken:]
    assert bits(push(source, readings, range(taken, 40))) == expected[taken:]


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_a_repeat_after_a_restore_returns_the_same_forecast(example, readings, mode):
    source, target = Stream.open(example.bundle, mode=mode), Stream.open(example.bundle, mode=mode)
    (*_, last) = push(source, readings, range(9))
    target.restore(Snapshot.from_bytes(source.snapshot().to_bytes()))
    (again,) = push(target, readings, [8])
    assert again.to_json_line() == last.to_json_line()
    assert (target.counters.repeats, target.counters.pushes) == (1, 9)


def test_a_snapshot_can_be_restored_again_after_the_stream_has_gone_on(example, readings):
    stream = Stream.open(example.bundle)
    push(stream, readings, range(5))
    snapshot, whole = stream.snapshot(), stream.snapshot().to_bytes()
    for _ in range(2):
        stream.restore(snapshot)
        assert stream.counters.refused["late"] == 0
        push(stream, readings, [5])
        with pytest.raises(StreamError, match="older"):
            push(stream, readings, [2])
    assert snapshot.to_bytes() == whole


def test_equal_streams_give_equal_bytes(example, readings):
    files = []
    for _ in range(2):
        stream = Stream.open(example.bundle, options=StreamOptions(stuck_after=4))
        push(stream, readings, range(7))
        last = replace(stream.snapshot().last, step_us=0.0)
        files.append(replace(stream.snapshot(), last=last).to_bytes())
    assert files[0] == files[1]


def test_open_readings_are_part_of_the_file(example):
    readings = OpenReadings(
        names=("speed", "flow"),
        nodes=np.array([0, 3], np.int32),
        seconds=np.array([10.0, 20.5]),
        values=np.array([[61.5, np.nan], [2.0, 4.0]]),
        closed_s=None,
        counters={"readings": 2},
    )
    snapshot = replace(Stream.open(example.bundle).snapshot(), readings=readings)
    found = Snapshot.from_bytes(snapshot.to_bytes()).readings
    assert (found.names, found.closed_s, found.counters) == (("speed", "flow"), None, {"readings": 2})
    np.testing.assert_array_equal(found.nodes, readings.nodes)
    np.testing.assert_array_equal(found.seconds, readings.seconds)
    np.testing.assert_array_equal(found.values, readings.values)


def test_another_bundle_or_mode_is_refused_and_leaves_the_stream_as_it_was(example, build_example, readings):
    source = Stream.open(example.bundle)
    push(source, readings, range(5))
    other = build_example((1,), (2,)).bundle
    with pytest.raises(StreamError, match="a snapshot of bundle"):
        Stream.open(other).restore(source.snapshot())
    window = Stream.open(example.bundle, mode="window")
    before = bits(push(window, readings, range(3)))
    with pytest.raises(StreamError, match="a snapshot of mode carry"):
        window.restore(source.snapshot())
    with pytest.raises(StreamError, match="lines of shapes"):
        window.restore(replace(source.snapshot(), mode="window"))
    fresh = Stream.open(example.bundle, mode="window")
    assert bits(push(fresh, readings, range(3))) == before
    assert bits(push(window, readings, range(3, 12))) == bits(push(fresh, readings, range(3, 12)))


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_every_byte_that_is_changed_is_noticed(example, readings, mode):
    stream = Stream.open(example.bundle, mode=mode, options=StreamOptions(stuck_after=5))
    push(stream, readings, range(9))
    whole = stream.snapshot().to_bytes()
    rng = np.random.default_rng(3)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        with pytest.raises(DataError, match=r"checksum differs|begins with"):
            Snapshot.from_bytes(bytes(damaged))


def test_a_file_that_is_cut_or_longer_is_noticed(example, readings, tmp_path):
    stream = Stream.open(example.bundle)
    push(stream, readings, range(9))
    whole = stream.snapshot().to_bytes()
    for length in [*range(0, 100), *range(100, len(whole), 97), len(whole) - 1]:
        with pytest.raises(DataError):
            Snapshot.from_bytes(whole[:length])
    with pytest.raises(DataError, match="checksum differs"):
        Snapshot.from_bytes(whole + b"\0")
    with pytest.raises(DataError, match="begins with"):
        Snapshot.from_bytes(whole.replace(MAGIC, b"stunet-snapshot 2\n"))
    with pytest.raises(DataError, match="cannot be read"):
        Snapshot.load(tmp_path / "absent.snapshot")


def test_a_file_takes_the_place_of_another_whole(example, readings, tmp_path):
    stream = Stream.open(example.bundle)
    for count in (3, 5):
        push(stream, readings, range(count - 2, count))
        stream.snapshot().save(tmp_path / "a.snapshot")
        assert Snapshot.load(tmp_path / "a.snapshot").counters["pushes"] == stream.counters.pushes
    assert [path.name for path in tmp_path.iterdir()] == ["a.snapshot"]


def test_a_recorded_push_runs_again_as_it_ran(example, readings):
    stream, again = Stream.open(example.bundle), Stream.open(example.bundle)
    kept: list[Input] = []

    def keep(accepted):
        kept.append(accepted)
        return ("noted",)

    stream.keep = keep
    forecasts = push(stream, readings, [0, 1, 2, 4, 4, 30])
    assert forecasts[0].reasons[-1] == "noted"
    assert len(kept) == 5
    for accepted in kept:
        again.replay(accepted, ("noted",))
    assert bits([again.last]) == bits(forecasts[-1:])
    assert asdict(again.counters) == asdict(stream.counters) | {"repeats": 0}
