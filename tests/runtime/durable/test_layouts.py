"""Files of other versions and of nobody: what a start cannot use is said, left out and kept; it never ends a start."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import os
import shutil
import struct
import tempfile
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from runtime.aggregation import Assembler
from runtime.counters import Counters
from runtime.drift import DriftWatch
from runtime.durable.journal import read_journal
from runtime.durable.stream import DurableStream
from runtime.snapshot import MAGIC, Snapshot
from runtime.stream import Stream
from stunet_deploy.errors import DataError

START, INTERVAL_S = 1_330_588_800, 300
LAST = {f"last.{name}" for name in ("values", "observed", "forecast")}
READINGS = {f"readings.{name}" for name in ("nodes", "seconds", "values")}


@pytest.fixture
def open_whole(example, options):
    """Return a function that opens all that a snapshot can hold in a folder, in the same memory again and again."""
    stream = Stream.open(example.bundle, options=options)
    stream.watch = DriftWatch(example.bundle.manifest)
    fresh = stream.snapshot()

    def open_whole(folder):
        stream.restore(fresh)
        return DurableStream(stream, folder, every=4, assembler=Assembler(example.bundle.manifest))

    yield open_whole
    stream.close()


@pytest.fixture
def died(tmp_path, open_whole, push):
    """Return a folder of a process that died after eleven intervals: two snapshots, journals, an open reading."""
    durable = open_whole(tmp_path / "alive")
    for step in range(11):
        push(durable, step)
        if step == 7:  # before the newest snapshot
            durable.add("s1", START + 8 * INTERVAL_S + 3, {"speed": 50.0}, now=START + 8 * INTERVAL_S + 3)
            durable.snapshot()
    durable.add("s0", START + 11 * INTERVAL_S + 5, {"speed": 50.0}, now=START + 11 * INTERVAL_S + 5)
    shutil.copytree(tmp_path / "alive", tmp_path / "died")
    durable.close()
    return tmp_path / "died"


@pytest.fixture
def start_again(died, open_whole, push, bits):
    """Return a function that starts from the folder and goes on; it returns what was found, and the next forecast."""

    def start_again(*, twice=True):
        with closing(open_whole(died)) as durable:
            found = durable.recovery
            forecast = push(durable, 11)
            state = bits(forecast)[2:], durable.stream.counters.pushes
        if not twice:
            return found, state
        with closing(open_whole(died)) as durable:  # what it wrote is whole
            assert durable.recovery.notes == []
            assert durable.stream.last.values.tobytes() == forecast.values.tobytes()
        return found, state

    return start_again


def unsealed(path):
    """Return the JSON and the arrays of a snapshot."""
    body = path.read_bytes()[len(MAGIC) + 32 :]
    with np.load(io.BytesIO(body)) as archive:
        arrays = dict(archive)
    return json.loads(arrays.pop("about").tobytes()), arrays


def seal(path, about, arrays):
    body = io.BytesIO()
    np.savez(body, **arrays, about=np.frombuffer(json.dumps(about).encode(), np.uint8))
    path.write_bytes(MAGIC + hashlib.sha256(body.getvalue()).digest() + body.getvalue())


def newest(folder, suffix):
    return max(folder.glob(f"*{suffix}"))


def fields_of(value, path=()):
    """Yield the path of every field of a JSON object."""
    for name, inner in value.items():
        yield (*path, name)
        if isinstance(inner, dict):
            yield from fields_of(inner, (*path, name))


def altered(about, path, change):
    copy = json.loads(json.dumps(about))
    table = copy
    for name in path[:-1]:
        table = table[name]
    change(table, path[-1])
    return copy


JSON_CHANGES = {
    "removed": lambda table, name: table.pop(name),
    "text": lambda table, name: table.update({name: "\x1b[2J"}),
    "list": lambda table, name: table.update({name: [[]]}),
    "negative": lambda table, name: table.update({name: -7}),
    "huge": lambda table, name: table.update({name: 10**40}),
    "nan": lambda table, name: table.update({name: float("nan")}),
    "null": lambda table, name: table.update({name: None}),
    "true": lambda table, name: table.update({name: True}),
    "added": lambda table, name: table.update({f"{name}_2": 5}),
}
ARRAY_CHANGES = {
    "removed": lambda arrays, name: arrays.pop(name),
    "flat": lambda arrays, name: arrays.update({name: arrays[name].reshape(-1)[:-1]}),
    "deeper": lambda arrays, name: arrays.update({name: arrays[name][None]}),
    "longer": lambda arrays, name: arrays.update({name: np.concatenate([np.atleast_1d(arrays[name])] * 2)}),
    "halves": lambda arrays, name: arrays.update({name: np.zeros(arrays[name].shape, np.float16)}),
    "text": lambda arrays, name: arrays.update({name: arrays[name].astype(str)}),
    "added": lambda arrays, name: arrays.update({f"{name}_2": arrays[name]}),
}


def variants(about, arrays):
    """Yield every snapshot with one alteration that its reader can know of, and what was altered."""
    for path in fields_of(about):
        for kind, change in JSON_CHANGES.items():
            alike = path[-2:-1] == ("refused",) and path[-1] != "late"  # one of these counters stands for all
            if (path[-1], kind) not in ANOTHER_VALUE and not alike:
                yield path, altered(about, path, change), arrays
    for name in arrays:
        for change in ARRAY_CHANGES.values():
            other = dict(arrays)
            change(other, name)
            yield (name,), about, other


#: What could be, and is not known for an alteration.
ANOTHER_VALUE = {("closed_s", "null"), ("closed_s", "negative"), ("step_us", "huge")}


def test_every_change_to_a_snapshot_is_survived_and_said(died, start_again, tmp_path):
    shutil.copytree(died, tmp_path / "kept")
    _, whole = start_again()
    name = newest(tmp_path / "kept", ".snapshot").name
    about, arrays = unsealed(tmp_path / "kept" / name)
    assert arrays.keys() >= LAST | READINGS | {"flat.runs", "drift.last"}
    for path, other, others in variants(about, arrays):
        shutil.rmtree(died)
        shutil.copytree(tmp_path / "kept", died)
        seal(died / name, other, others)
        before = {path.name: path.read_bytes() for path in died.iterdir()}
        found, state = start_again(twice=False)
        # Counters may come and go; a drift watch judges its own memory.
        assert found.notes or "counters" in path or path[0].startswith("drift."), path
        kept = {path.name.removesuffix(".unused"): path.read_bytes() for path in died.glob("*.unused")}
        assert kept == {name: before[name] for name in found.unused}
        assert not found.lossy
        assert state == whole or "counters" in path
        assert all(note.isprintable() and len(note) < 2000 for note in found.notes)


@pytest.mark.parametrize("array", ["line", "last.forecast", "last.values", "flat.values"])
def test_numbers_that_no_stream_can_have_are_not_restored(died, start_again, array):
    path = newest(died, ".snapshot")
    about, arrays = unsealed(path)
    name = next(key for key in arrays if key.startswith(array))
    arrays[name] = np.full_like(arrays[name], np.nan)
    seal(path, about, arrays)
    found, _ = start_again()
    assert not found.lossy
    assert "impossible" in found.notes[0]


def test_what_a_later_version_adds_is_left_with_a_remark(died, start_again):
    path = newest(died, ".snapshot")
    about, arrays = unsealed(path)
    about["counters"]["dreams"] = 7
    about["colour"] = "red"
    about["readings"]["counters"]["visions"] = {"late": 1}
    seal(path, about, arrays | {"last.weather": np.zeros(3)})
    found, _ = start_again()
    assert not found.lossy
    (note,) = found.notes
    assert note.endswith("does not know: colour, last.weather, counter dreams, counter visions")


def test_without_counters_of_an_earlier_version_they_begin_at_zero(died, open_whole):
    path = newest(died, ".snapshot")
    about, arrays = unsealed(path)
    pushes = about["counters"]["pushes"]
    about["counters"] = {"pushes": pushes, "refused": {"late": 3}}
    seal(path, about, arrays)
    with closing(open_whole(died)) as durable:
        assert durable.recovery.notes == []
        counters = durable.stream.counters
        assert (counters.refused["late"], counters.refused["deadly"]) == (3, 0)
        assert vars(counters).keys() == vars(Counters()).keys()


FRAME = struct.Struct("<II")


def write_records(path, records):
    path.write_bytes(b"".join(FRAME.pack(len(record), zlib.crc32(record)) + record for record in records))


def interval_with(record, **changes):
    """Return the record of an interval with other bytes."""
    data = bytearray(record)
    for where, what in changes.items():
        begin = {"stamp": 1, "values": 18, "observed": len(data) - 10}[where]
        data[begin : begin + len(what)] = what
    return bytes(data)


RECORDS = {
    "another kind": lambda record: b"Z" + record[1:],
    "empty kind": lambda record: b"\0",
    "shorter": lambda record: record[:-1],
    "longer": lambda record: record + b"\0",
    "of no time": lambda record: interval_with(record, stamp=struct.pack("<q", 2**62)),
    "off the grid": lambda record: interval_with(record, stamp=struct.pack("<q", START + 7)),
    "in the past": lambda record: interval_with(record, stamp=struct.pack("<q", START - INTERVAL_S)),
    "not a number": lambda record: interval_with(record, values=struct.pack("<f", np.nan)),
    "no truth": lambda record: interval_with(record, observed=b"\x07"),
    "a reading of no sensor": lambda record: b"S" + struct.pack("<Idd", 99, START, 50.0) + bytes(8),
    "a reading of no time": lambda record: b"S" + struct.pack("<Idd", 0, np.nan, 50.0) + bytes(8),
    "a reading of other names": lambda record: b"S" + struct.pack("<Idd", 0, START + 4000, 50.0),
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS)
def test_a_record_of_another_kind_is_skipped_and_said(died, start_again, change):
    path = newest(died, ".journal")
    header, first, *others = read_journal(path).records
    write_records(path, [header, change(first), *others])
    found, _ = start_again()
    assert found.lossy
    assert "1 records skipped" in found.notes[0]
    assert (died / f"{path.name}.unused").exists()


@pytest.mark.parametrize("change", JSON_CHANGES.values(), ids=JSON_CHANGES)
@pytest.mark.parametrize("field", ["bundle_id", "number", "pushes", "names"])
def test_every_change_to_the_header_of_a_journal_is_survived(died, start_again, field, change):
    path = newest(died, ".journal")
    header, *others = read_journal(path).records
    write_records(path, [json.dumps(altered(json.loads(header), (field,), change)).encode(), *others])
    found, _ = start_again()
    assert found.lossy or found.intervals == 3


@pytest.mark.parametrize("header", [b"", b"[]", b"null", b"{", b'{"bundle_id": 3}', b"[" * 100_000])
def test_what_is_no_header_is_said(died, start_again, header):
    path = newest(died, ".journal")
    _, *others = read_journal(path).records
    write_records(path, [header, *others])
    found, _ = start_again()
    assert found.lossy
    assert "header is damaged" in found.notes[-1] or "bytes at its end" in found.notes[-1] or "header" in found.notes[0]


def as_folder(path):
    path.unlink()
    path.mkdir()
    (path / "in it").write_text("")


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


def as_link(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def as_sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


ODD = {"empty": lambda path: path.write_bytes(b""), "folder": as_folder, "huge": as_sparse}
if os.name == "posix":
    ODD |= {"pipe": as_pipe, "link to a device": as_link}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize("suffix", [".snapshot", ".journal"])
def test_what_is_no_file_of_ours_ends_no_start(died, start_again, suffix, make):
    make(newest(died, suffix))
    found, state = start_again()
    assert found.notes
    assert found.lossy is (suffix == ".journal")
    assert state[1] == (12 if suffix == ".snapshot" else 9)


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", ["replaying", "00000002.4.aside", ".00000009.snapshot.tmp", f"{'9' * 200}.snapshot"])
def test_what_lies_beside_ends_no_start(died, open_whole, name, make):
    (died / name).write_text("")
    make(died / name)
    with closing(open_whole(died)) as durable:
        assert durable.recovery.notes == []
        assert durable.trouble is None


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_nothing_is_written_through_a_link(died, tmp_path, open_whole, push):
    other = tmp_path / "precious"
    other.write_text("precious")
    with closing(open_whole(died)) as durable:
        number = durable._number + 1
        for name in (f"{number:08}.journal", f".{number:08}.snapshot.tmp"):
            (died / name).symlink_to(other)
        durable.snapshot()
        push(durable, 11)
        assert other.read_text() == "precious"
        assert durable.snapshot()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
def test_files_of_another_user_end_no_start(died, open_whole, push):
    codecs.lookup("ascii")  # imported while this user may read where Python lies
    with tempfile.TemporaryDirectory() as scratch:  # unlike tmp_path, in no folder that is root's alone
        os.chmod(scratch, 0o755)
        folder = Path(shutil.copytree(died, Path(scratch) / "died"))
        path = newest(folder, ".snapshot")
        path.chmod(0)
        for each in (folder, *folder.iterdir()):
            os.chown(each, 65534, 65534)
        os.chown(path, 0, 0)
        os.seteuid(65534)
        try:
            with closing(open_whole(folder)) as durable:
                assert "Permission denied" in durable.recovery.notes[0]
                assert not durable.recovery.lossy
                push(durable, 11)
                assert durable.stream.counters.pushes == 12
        finally:
            os.seteuid(0)


def test_unused_files_do_not_become_ever_more(died, start_again):
    for _ in range(12):
        newest(died, ".snapshot").write_bytes(b"")
        start_again()
    assert len([*died.glob("*.unused")]) == 8


def test_a_snapshot_of_a_later_layout_gives_way_to_the_older_one(died, start_again):
    path = newest(died, ".snapshot")
    later = path.read_bytes().replace(MAGIC, b"stunet-snapshot 2\n")
    path.write_bytes(later)
    found, state = start_again()
    assert (found.lossy, state[1]) == (False, 12)
    assert (died / f"{path.name}.unused").read_bytes() == later
    with pytest.raises(DataError, match="begins with"):
        Snapshot.load(died / f"{path.name}.unused")
