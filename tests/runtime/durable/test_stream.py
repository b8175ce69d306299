"""A durable stream goes on after a crash, and says what damage has cost."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.aggregation import Assembler
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from stunet_deploy.errors import BackendError, ConfigError, StreamError

START = 1_330_588_800
INTERVAL_S = 300


def names(folder, suffix=""):
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(suffix))


def newest(folder, suffix):
    return folder / names(folder, suffix)[-1]


def crash(durable, folder, copy):
    """Return what a process that dies now leaves on the disk; then let go of the original."""
    shutil.copytree(folder, copy)
    durable.close()
    return copy


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


STEPS = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 4)),
    st.tuples(st.just("push"), st.just(1)),
    st.tuples(st.just("push"), st.just(9)),  # more than the stream bridges
    st.tuples(st.sampled_from(["repeat", "refused", "snapshot", "reset", "crash", "torn", "damaged"]), st.just(0)),
)


@settings(max_examples=40)
@given(mode=st.sampled_from(["carry", "window"]), every=st.integers(1, 5), steps=st.lists(STEPS, max_size=30))
def test_whatever_happens_in_between_the_forecasts_are_those_of_an_uninterrupted_run(
    example, tmp_path_factory, mode, every, steps, open_stream, push, bits, options
):
    root = tmp_path_factory.mktemp("interleaved")
    folder = root / "0"
    whole = Stream.open(example.bundle, mode=mode, options=options)
    durable = open_stream(example.bundle, folder, mode=mode, every=every)
    step, crashes = 0, 0
    for kind, skip in [*steps, ("crash", 0), ("push", 1)]:
        if kind == "push":
            step += skip
            assert bits(push(durable, step)) == bits(push(whole, step))
        elif kind == "repeat" and whole.last is not None:
            assert bits(push(durable, step)) == bits(whole.last)
        elif kind == "refused" and whole.last is not None:
            with pytest.raises(StreamError, match="older"):
                push(durable, step - 1)
        elif kind == "snapshot":
            assert durable.snapshot()
        elif kind == "reset":
            durable.reset()
            whole.reset()
        elif kind in ("crash", "torn", "damaged"):
            crashes += 1
            folder = crash(durable, folder, root / str(crashes))
            damaged = kind == "damaged" and len([*folder.glob("*.snapshot")]) > 1  # the older one is always whole
            if damaged:
                flip(newest(folder, ".snapshot"), -100)
            elif kind == "torn":  # a record that was being written
                with newest(folder, ".journal").open("ab") as journal:
                    journal.write(b"\x7b\x00\x00\x00\x11\x22")
            durable = open_stream(example.bundle, folder, mode=mode, every=every)
            assert not durable.recovery.lossy
            assert durable.recovery.notes or not (damaged or kind == "torn")
            assert (durable.stream.last is None) == (whole.last is None)
            if whole.last is not None:
                assert bits(durable.stream.last) == bits(whole.last)
    counted = asdict(durable.stream.counters) | {"repeats": 0, "refused": {}}
    assert counted == asdict(whole.counters) | {"repeats": 0, "refused": {}}
    durable.close()
    shutil.rmtree(root)


def test_a_folder_holds_two_snapshots_and_their_journals(example, tmp_path, open_stream, push):
    with closing(open_stream(example.bundle, tmp_path, every=4)) as durable:
        for step in range(30):
            push(durable, step)
            assert len(names(tmp_path)) <= 4
    assert names(tmp_path) == [f"{n:08}{suffix}" for n in (8, 9) for suffix in (".journal", ".snapshot")]
    assert Snapshot.load(newest(tmp_path, ".snapshot")).counters["pushes"] == 30


def test_a_damaged_snapshot_gives_way_to_the_older_one_and_both_journals(
    example, tmp_path, open_stream, push, bits, options
):
    whole = Stream.open(example.bundle, options=options)
    durable = open_stream(example.bundle, tmp_path / "a", every=4)
    for step in range(11):
        push(durable, step)
        push(whole, step)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    flip(newest(folder, ".snapshot"), 300)
    with closing(open_stream(example.bundle, folder)) as durable:
        assert durable.recovery.snapshot == 2
        assert durable.recovery.intervals == 7
        assert durable.recovery.notes == ["snapshot 3 not used: a damaged snapshot: its checksum differs"]
        assert not durable.recovery.lossy
        assert bits(push(durable, 11)) == bits(push(whole, 11))
        # The damaged one is not among the two that are kept.
        assert names(folder, ".snapshot") == ["00000002.snapshot", "00000003.snapshot", "00000004.snapshot"]
        durable.snapshot()
        assert names(folder, ".snapshot") == ["00000004.snapshot", "00000005.snapshot"]


def test_without_any_whole_snapshot_the_journals_warm_a_new_stream_up_and_the_forecast_says_so(
    example, tmp_path, open_stream, push, options
):
    durable = open_stream(example.bundle, tmp_path / "a", every=4)
    for step in range(11):
        push(durable, step)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    for path in folder.glob("*.snapshot"):
        flip(path, 0)
    fresh = Stream.open(example.bundle, options=options)
    for step in range(4, 11):
        push(fresh, step)
    with closing(open_stream(example.bundle, folder)) as durable:
        assert durable.recovery.snapshot is None
        assert durable.recovery.lossy
        found = push(durable, 11)
        assert found.values.tobytes() == push(fresh, 11).values.tobytes()
        assert found.reasons[-1].startswith("restored in part: snapshot 3 not used")
        assert not push(durable, 12).degraded


def test_a_damaged_journal_is_used_up_to_the_damage_and_the_gap_is_seen(example, tmp_path, open_stream, push):
    durable = open_stream(example.bundle, tmp_path / "a", every=20)
    for step in range(11):
        push(durable, step)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    journal = newest(folder, ".journal")
    flip(journal, journal.stat().st_size // 2)
    with closing(open_stream(example.bundle, folder)) as durable:
        lost = 11 - durable.recovery.intervals
        assert 0 < lost < 11
        assert durable.recovery.lossy
        found = push(durable, 11)
        assert found.reasons[0].endswith(f"a gap of {lost} intervals")
        assert "bytes at its end are missing" in found.reasons[-1]


@pytest.mark.parametrize("position", [0, 4, 8, 60], ids=["length", "checksum", "first byte", "further on"])
def test_a_journal_whose_header_is_damaged_is_missed(example, tmp_path, position, open_stream, push):
    durable = open_stream(example.bundle, tmp_path / "a", every=20)
    for step in range(5):
        push(durable, step)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    flip(newest(folder, ".journal"), position)
    with closing(open_stream(example.bundle, folder)) as durable:
        assert durable.recovery.intervals == 0
        assert durable.recovery.lossy
        assert "header is damaged" in push(durable, 5).reasons[-1]


def test_the_folder_of_another_bundle_or_mode_is_not_used_and_kept(
    example, build_example, tmp_path, open_stream, push, options
):
    for bundle, mode in ((build_example((1,)).bundle, "carry"), (example.bundle, "window")):
        folder = tmp_path / mode
        with closing(open_stream(example.bundle, folder)) as durable:
            push(durable, 0)
        before = {f"{path.name}.unused": path.read_bytes() for path in folder.glob("*.snapshot")}
        with closing(open_stream(bundle, folder, mode=mode)) as durable:
            assert durable.recovery.lossy
            assert any("a snapshot of" in note for note in durable.recovery.notes)
            push(durable, 1)
            durable.snapshot()
        assert {path.name: path.read_bytes() for path in folder.glob("*.snapshot.unused")} == before


def test_a_folder_has_one_stream(example, tmp_path, open_stream):
    first = open_stream(example.bundle, tmp_path / "a")
    with pytest.raises(ConfigError, match="another stream uses"):
        open_stream(example.bundle, tmp_path / "a")
    first.close()
    open_stream(example.bundle, tmp_path / "a").close()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        open_stream(example.bundle, tmp_path / "file" / "below")
    with pytest.raises(ConfigError, match="every = 0"):
        open_stream(example.bundle, tmp_path / "a", every=0)


def test_a_backend_that_fails_at_an_interval_does_not_fail_for_ever(example, tmp_path, open_stream, push, options):
    durable = open_stream(example.bundle, tmp_path / "a", every=50)
    for step in range(4):
        push(durable, step)
    stream = durable.stream
    stream.write_lines({name: np.full_like(line, np.nan) for name, line in stream.read_lines().items()})
    with pytest.raises(BackendError, match="not finite"):
        push(durable, 4)
    fresh = Stream.open(example.bundle, options=options)
    assert push(durable, 5).values.tobytes() == push(fresh, 5).values.tobytes()
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    with closing(open_stream(example.bundle, folder)) as restored:
        assert push(restored, 6).values.tobytes() == push(fresh, 6).values.tobytes()


def test_a_state_that_cannot_be_read_costs_a_snapshot_and_no_forecast(
    example, tmp_path, monkeypatch, open_stream, push, bits, options
):
    def fail():
        raise BackendError("a device that is gone", "a device", "look for it")

    durable = open_stream(example.bundle, tmp_path / "a", every=2)
    whole = Stream.open(example.bundle, options=options)
    with monkeypatch.context() as fault:
        fault.setattr(durable.stream.backend, "read_lines", fail)
        found = [push(durable, step).reasons for step in range(5)]
        for step in range(5):
            push(whole, step)
    assert "not durable: the state cannot be read (a device that is gone)" in found[4]
    assert bits(push(durable, 5)) == bits(push(whole, 5))
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    with closing(open_stream(example.bundle, folder)) as restored:
        assert bits(push(restored, 6)) == bits(push(whole, 6))


def test_a_clock_that_went_back_is_remembered(example, tmp_path, open_stream, bits, readings_of, options):
    durable = open_stream(example.bundle, tmp_path / "a", every=50)
    whole = Stream.open(example.bundle, options=options)
    for step, day in [(0, 1), (1, 1), (2, 0), (3, 0)]:
        stamp = START + INTERVAL_S * step + 86_400 * day
        for stream in (durable, whole):
            stream.push(readings_of(step), stamp, now=stamp + INTERVAL_S)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    with closing(open_stream(example.bundle, folder)) as restored:
        assert bits(restored.stream.last) == bits(whole.last)
        assert restored.stream.counters.resets == 1


def test_of_several_intervals_that_are_due_each_waits_for_the_forecast_before_to_be_used(
    example, tmp_path, open_stream, bits
):
    def begin(folder):
        return open_stream(example.bundle, folder, every=50, assembler=Assembler(example.bundle.manifest, grace_s=0))

    durable = begin(tmp_path / "a")
    durable.add("s0", START + 5, {"speed": 50.0}, now=START + 6)
    now = START + 2 * INTERVAL_S + 1  # nobody was heard in the second one
    first = next(durable.due(now))
    assert (first.issued_s, durable.stream.counters.pushes) == (START, 1)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    with closing(begin(folder)) as durable:
        assert bits(durable.stream.last) == bits(first)
        (second,) = durable.due(now)
        assert second.issued_s == START + INTERVAL_S


def single_readings(seconds):
    """Yield (time, sensor, reading) of five sensors, each in its own rhythm."""
    rng = np.random.default_rng(23)
    for second in range(seconds):
        for node, period in enumerate((20, 23, 30, 41, 60)):
            if second % period == node:
                yield START + second, f"s{node}", {"speed": rng.uniform(20, 70), "trend": rng.uniform(-0.5, 0.5)}


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_single_readings_of_an_open_interval_survive(example, tmp_path, mode, open_stream, bits, options):
    whole = Stream.open(example.bundle, mode=mode, options=options)
    straight = Assembler(example.bundle.manifest, grace_s=30)
    folder = tmp_path / "0"
    durable = open_stream(example.bundle, folder, mode=mode, every=2, assembler=Assembler(example.bundle.manifest))
    rng = np.random.default_rng(1)
    found, expected = [], []
    for number, (second, sensor, reading) in enumerate(single_readings(3000)):
        straight.add(sensor, second, reading, now=second)
        durable.add(sensor, second, reading, now=second)
        if rng.random() < 0.03:
            folder = crash(durable, folder, tmp_path / str(number + 1))
            assembler = Assembler(example.bundle.manifest)
            durable = open_stream(example.bundle, folder, mode=mode, every=2, assembler=assembler)
            assert not durable.recovery.notes
        expected += [bits(whole.push(*record, now=second)) for record in straight.due(second)]
        found += [bits(forecast) for forecast in durable.due(second)]
    assert len(found) == 9
    assert found == expected
    assert assembler.counters.readings == straight.counters.readings
    durable.close()


def test_readings_are_not_put_into_an_assembler_of_other_names(example, tmp_path, open_stream):
    def assembler(**options):
        return Assembler(example.bundle.manifest, **options)

    durable = open_stream(example.bundle, tmp_path / "a", assembler=assembler())
    durable.add("s0", START, {"speed": 50}, now=START)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    with closing(open_stream(example.bundle, folder)) as alone:
        assert alone.recovery.lossy
        with pytest.raises(ConfigError, match="without an assembler"):
            alone.add("s0", START, {"speed": 50}, now=START)
