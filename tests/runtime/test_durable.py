from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import closing, suppress
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.assembly import Assembler
from runtime.durable import DurableStream
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from stunet_deploy.errors import BackendError, ConfigError, StreamError

START = 1_330_588_800
INTERVAL_S = 300
OPTIONS = {"stuck_after": 4, "max_gap": 5}


def readings_of(step):
    """Return an interval's readings [node, feature], a tenth of them missing, some unchanging."""
    rng = np.random.default_rng([17, step])
    values = np.stack([rng.uniform(10, 85, 5), rng.uniform(-0.9, 0.9, 5)], axis=-1)
    values[rng.random((5, 2)) < 0.1] = np.nan
    values[0, 0] = 42.0 if step % 20 < 12 else values[0, 0]
    return values


def push(stream, step):
    return stream.push(readings_of(step), START + INTERVAL_S * step)


def bits(forecast):
    return (forecast.issued_s, forecast.reasons, forecast.observed_share, forecast.values.tobytes())


def open_stream(bundle, folder, *, mode="carry", every=3, assembler=None):
    return DurableStream(Stream.open(bundle, mode=mode, **OPTIONS), folder, every=every, assembler=assembler)


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


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(mode=st.sampled_from(["carry", "window"]), every=st.integers(1, 5), steps=st.lists(STEPS, max_size=30))
def test_whatever_happens_in_between_the_forecasts_are_those_of_an_uninterrupted_run(
    example, tmp_path_factory, mode, every, steps
):
    root = tmp_path_factory.mktemp("interleaved")
    folder = root / "0"
    whole = Stream.open(example.bundle, mode=mode, **OPTIONS)
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


def test_a_folder_holds_two_snapshots_and_their_journals(example, tmp_path):
    with closing(open_stream(example.bundle, tmp_path, every=4)) as durable:
        for step in range(30):
            push(durable, step)
            assert len(names(tmp_path)) <= 4
    assert names(tmp_path) == [f"{n:08}{suffix}" for n in (8, 9) for suffix in (".journal", ".snapshot")]
    assert Snapshot.load(newest(tmp_path, ".snapshot")).counters["pushes"] == 30


def test_a_damaged_snapshot_gives_way_to_the_older_one_and_both_journals(example, tmp_path):
    whole = Stream.open(example.bundle, **OPTIONS)
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


def test_without_any_whole_snapshot_the_journals_warm_a_new_stream_up_and_the_forecast_says_so(example, tmp_path):
    durable = open_stream(example.bundle, tmp_path / "a", every=4)
    for step in range(11):
        push(durable, step)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    for path in folder.glob("*.snapshot"):
        flip(path, 0)
    fresh = Stream.open(example.bundle, **OPTIONS)
    for step in range(4, 11):
        push(fresh, step)
    with closing(open_stream(example.bundle, folder)) as durable:
        assert durable.recovery.snapshot is None
        assert durable.recovery.lossy
        found = push(durable, 11)
        assert found.values.tobytes() == push(fresh, 11).values.tobytes()
        assert found.reasons[-1].startswith("restored in part: snapshot 3 not used")
        assert not push(durable, 12).degraded


def test_a_damaged_journal_is_used_up_to_the_damage_and_the_gap_is_seen(example, tmp_path):
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
def test_a_journal_whose_header_is_damaged_is_missed(example, tmp_path, position):
    durable = open_stream(example.bundle, tmp_path / "a", every=20)
    for step in range(5):
        push(durable, step)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    flip(newest(folder, ".journal"), position)
    with closing(open_stream(example.bundle, folder)) as durable:
        assert durable.recovery.intervals == 0
        assert durable.recovery.lossy
        assert "header is damaged" in push(durable, 5).reasons[-1]


def test_the_folder_of_another_bundle_or_mode_is_refused_and_stays(example, build_example, tmp_path):
    folder = tmp_path / "a"
    with closing(open_stream(example.bundle, folder)) as durable:
        push(durable, 0)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for bundle, mode in ((build_example((1,)).bundle, "carry"), (example.bundle, "window")):
        with pytest.raises(StreamError, match="a snapshot of"):
            open_stream(bundle, folder, mode=mode)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    open_stream(example.bundle, folder).close()


def test_a_folder_has_one_stream(example, tmp_path):
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


def test_a_backend_that_fails_at_an_interval_does_not_fail_for_ever(example, tmp_path):
    durable = open_stream(example.bundle, tmp_path / "a", every=50)
    for step in range(4):
        push(durable, step)
    stream = durable.stream
    stream.write_lines({name: np.full_like(line, np.nan) for name, line in stream.read_lines().items()})
    with pytest.raises(BackendError, match="not finite"):
        push(durable, 4)
    fresh = Stream.open(example.bundle, **OPTIONS)
    assert push(durable, 5).values.tobytes() == push(fresh, 5).values.tobytes()
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    with closing(open_stream(example.bundle, folder)) as restored:
        assert push(restored, 6).values.tobytes() == push(fresh, 6).values.tobytes()


def test_a_state_that_cannot_be_read_costs_a_snapshot_and_no_forecast(example, tmp_path, monkeypatch):
    def fail():
        raise BackendError("a device that is gone", "a device", "look for it")

    durable = open_stream(example.bundle, tmp_path / "a", every=2)
    whole = Stream.open(example.bundle, **OPTIONS)
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


def test_a_clock_that_went_back_is_remembered(example, tmp_path):
    durable = open_stream(example.bundle, tmp_path / "a", every=50)
    whole = Stream.open(example.bundle, **OPTIONS)
    for step, day in [(0, 1), (1, 1), (2, 0), (3, 0)]:
        stamp = START + INTERVAL_S * step + 86_400 * day
        for stream in (durable, whole):
            stream.push(readings_of(step), stamp, now=stamp + INTERVAL_S)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    with closing(open_stream(example.bundle, folder)) as restored:
        assert bits(restored.stream.last) == bits(whole.last)
        assert restored.stream.counters.resets == 1


def test_of_several_intervals_that_are_due_each_waits_for_the_forecast_before_to_be_used(example, tmp_path):
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
def test_single_readings_of_an_open_interval_survive(example, tmp_path, mode):
    whole = Stream.open(example.bundle, mode=mode, **OPTIONS)
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


def test_readings_are_not_put_into_an_assembler_of_other_names(example, tmp_path):
    def assembler(**options):
        return Assembler(example.bundle.manifest, **options)

    durable = open_stream(example.bundle, tmp_path / "a", assembler=assembler())
    durable.add("s0", START, {"speed": 50}, now=START)
    folder = crash(durable, tmp_path / "a", tmp_path / "b")
    with closing(open_stream(example.bundle, folder)) as alone:
        assert alone.recovery.lossy
        with pytest.raises(ConfigError, match="without an assembler"):
            alone.add("s0", START, {"speed": 50}, now=START)


@pytest.fixture
def stops(tmp_path, monkeypatch):
    """Return a function that lists copies of a folder, as it was around every call to the system that changes one."""
    copies = []
    watched = []

    def around(call):
        def stop(*arguments, **options):
            copy()
            result = call(*arguments, **options)
            copy()
            return result

        return stop

    def copy():
        if watched:
            folder = watched.pop()  # what follows calls the system as well
            copies.append((tmp_path / f"stop{len(copies)}", pushes[0]))
            shutil.copytree(folder, copies[-1][0])
            watched.append(folder)

    pushes = [0]
    for name in ("open", "write", "fsync", "replace", "rename", "unlink"):
        monkeypatch.setattr(os, name, around(getattr(os, name)))

    def watch(folder, count):
        watched[:] = [] if folder is None else [folder]
        pushes[0] = count
        return copies

    return watch


@pytest.mark.parametrize("mode", ["carry", "window"])
def test_a_death_between_any_two_calls_to_the_system_loses_nothing(example, tmp_path, stops, mode):
    folder = tmp_path / "original"
    whole = Stream.open(example.bundle, mode=mode, **OPTIONS)
    expected = [bits(push(whole, step)) for step in range(7)]
    durable = open_stream(example.bundle, folder, mode=mode, every=2)
    for step in range(5):
        stops(folder, step)
        push(durable, step)
    copies = list(stops(None, 0))
    durable.close()
    assert len(copies) > 40
    answered_or_not = set()
    for copy, pushes in copies:
        with closing(open_stream(example.bundle, copy, mode=mode, every=50)) as restored:
            assert not restored.recovery.lossy
            known = restored.stream.counters.pushes
            answered_or_not.add(known - pushes)
            if known:
                assert bits(restored.stream.last) == expected[known - 1]
            # The sender repeats what was not answered, and goes on.
            assert [bits(push(restored, step)) for step in range(pushes, 7)] == expected[pushes:]
            assert restored.stream.counters.pushes == 7
        shutil.rmtree(copy)
    assert answered_or_not == {0, 1}


FULL_DISK = textwrap.dedent("""
    import resource, sys
    from runtime.durable import DurableStream
    from runtime.stream import Stream
    import numpy as np

    def push(stream, step):
        values = np.random.default_rng([17, step]).uniform(0, 0.9, (5, 2))
        return stream.push(values, 1_330_588_800 + 300 * step)

    def limit(size):
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    bundle, folder = sys.argv[1:]
    whole = Stream.open(bundle)
    durable = DurableStream(Stream.open(bundle), folder, every=4)
    for step in range(40):
        if step == 10:
            limit(700)  # bytes of any one file: room for a few more records, and for no snapshot
        if step == 30:
            limit(None)
        found, expected = push(durable, step), push(whole, step)
        if found.values.tobytes() != expected.values.tobytes():
            sys.exit(f"another forecast at {step}")
        said = any(reason.startswith("not durable") for reason in found.reasons)
        print(step, int(said), durable.stream.counters.unkept, durable.stream.counters.failed_writes)
    print(durable.trouble)
    durable.close()
    again = DurableStream(Stream.open(bundle), folder)
    if push(again, 40).values.tobytes() != push(whole, 40).values.tobytes():
        sys.exit("another forecast after a restart")
""")


def test_a_full_disk_stops_no_forecast_and_is_over_when_there_is_room(example, tmp_path):
    pytest.importorskip("resource", reason="no limit on the size of files on this system")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(example.bundle.path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    table = np.array([line.split() for line in lines], int)
    said, unkept, failed = table[:, 1], table[:, 2], table[:, 3]
    assert not said[:10].any()
    assert said[16:30].all()
    assert not said[30:].any()
    assert 10 <= unkept[-1] <= 20
    assert unkept[29] == unkept[-1] < failed[-1]
    assert last == "None"


needs_mount = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux can mount a small file system"
)


@pytest.fixture
def small_disk(tmp_path):
    """Return the mount point of a file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@needs_mount
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_is_full_or_read_only_is_used_again_when_it_can_be(example, small_disk, fault):
    whole = Stream.open(example.bundle, **OPTIONS)
    folder = small_disk / "stream"
    durable = open_stream(example.bundle, folder)
    filler = small_disk / "filler"
    for step in range(30):
        if step == 8 and fault == "full":
            with filler.open("wb", buffering=0) as handle, suppress(OSError):
                while True:
                    handle.write(bytes(512))
        elif step == 8:  # an open file would keep the system from it
            durable.close()
            subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
            durable = open_stream(example.bundle, folder)
        elif step == 20 and fault == "full":
            filler.unlink()
        elif step == 20:
            subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        found, expected = push(durable, step), push(whole, step)
        assert found.values.tobytes() == expected.values.tobytes()
        said = [reason for reason in found.reasons if reason.startswith("not durable")]
        if 14 <= step < 20:
            assert said[0].endswith("(No space left on device)" if fault == "full" else "(Read-only file system)")
        elif step < 8 or step >= 20:
            assert said == []
    assert durable.trouble is None
    assert durable.stream.counters.failed_writes > 0
    # A journal's last page may still have had room.
    assert durable.stream.counters.unkept == (12 if fault == "read-only" else 0)
    durable.close()
    with closing(open_stream(example.bundle, folder)) as restored:
        assert bits(push(restored, 30)) == bits(push(whole, 30))
