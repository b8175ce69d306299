"""Recovery: a stream brought back to where its last process was, from the newest whole snapshot and journals since."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.aggregation import Assembler
from runtime.durable.guard import STARTS, Guard
from runtime.durable.journal import Entry, Input, SingleReading, Written, decode, read_journal
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from stunet_deploy.errors import BackendError, DataError, StreamError
from stunet_deploy.series.times import format_time

SNAPSHOT, JOURNAL = ".snapshot", ".journal"
#: What is appended to the name of a file that could not be used, or not whole: it is kept under that name, too.
UNUSED = ".unused"
#: Such files that are kept; of more, those of the lowest numbers are removed.
_KEPT_UNUSED = 8
#: Digits of the largest number of a file; names with more are none of ours.
_DIGITS = 15
#: Bytes of readings of open intervals in a snapshot, beside its states.
_READINGS = 1 << 28


@dataclass
class Recovery:
    """The outcome of a start from the files on the disk.

    Attributes:
        snapshot: number of the snapshot restored, or None if the stream started from zero.
        intervals: number of intervals run again from the journal.
        readings: number of single readings taken again from the journal.
        notes: damage that was found, and how it was treated; empty after a plain restart.
        lossy: whether inputs are missing, so that the stream is not where it was.
        unused: names of files that could not be used, or not whole.
    """

    snapshot: int | None = None
    intervals: int = 0
    readings: int = 0
    notes: list[str] = field(default_factory=list)
    lossy: bool = False
    unused: list[str] = field(default_factory=list)

    def lose(self, note: str) -> None:
        """Note that something is missing."""
        self.notes.append(note)
        self.lossy = True


def file_of(folder: Path, number: int, suffix: str) -> str:
    """Return the path of a numbered snapshot or journal.

    A string, not a Path: pathlib interns every name, and CPython rebuilds its table of interned strings again and again
    (a megabyte each time) where ever new names pass through.
    """
    return os.path.join(folder, f"{number:08}{suffix}")


def numbers_of(folder: Path, suffix: str) -> list[int]:
    """Return the numbers of the files of a kind, oldest first; none where the folder has gone."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(int(stem) for stem in stems if stem.isdecimal() and len(stem) <= _DIGITS)


def keep_unused(folder: Path, names: Iterable[str]) -> None:
    """Give files that could not be used a second name, under which they outlast those that take their place.

    Another version of the program may be able to use them, and a person can look at them.
    """
    for name in names:
        path, kept = folder / name, folder / f"{name}{UNUSED}"
        with suppress(OSError):  # the disk takes nothing
            try:
                os.link(path, kept)
            except FileExistsError:
                pass
            except OSError:  # a folder, a file of another user or on a disk without links: it moves
                os.rename(path, kept)
    for path in sorted(folder.glob(f"*{UNUSED}"))[:-_KEPT_UNUSED]:
        with suppress(OSError):
            path.unlink()


def recover(stream: Stream, assembler: Assembler | None, folder: Path, guard: Guard) -> Recovery:
    """Restore a fresh stream and its assembler from a folder, as far as it is whole and can be run.

    Whatever cannot be used is said and left out: damage, another layout, what is of another bundle.
    """
    found = Recovery()
    most = _READINGS + 16 * sum(line.nbytes for line in stream.read_lines().values())
    for number in reversed(numbers_of(folder, SNAPSHOT)):
        path = file_of(folder, number, SNAPSHOT)
        try:
            snapshot = Snapshot.load(path, most)
            watched = stream.restore(snapshot)
        except (DataError, StreamError) as error:
            found.notes.append(f"snapshot {number} not used: {error.came}")
            found.unused.append(os.path.basename(path))
            continue
        if not watched:
            found.notes.append(f"snapshot {number} has the memory of another drift watch, which begins anew")
        unknown = [*snapshot.unknown, *_unknown_counters(snapshot, stream, assembler)]
        if unknown:
            found.notes.append(f"snapshot {number} has what this version does not know: {', '.join(unknown)}")
            found.unused.append(os.path.basename(path))
        _restore_readings(snapshot, assembler, found)
        found.snapshot = number
        break
    if found.snapshot is None and found.unused:
        found.lose("no snapshot is whole, so the stream started from zero")
    # Without a snapshot the journals still warm the stream up.
    journals = [n for n in numbers_of(folder, JOURNAL) if found.snapshot is None or n >= found.snapshot]
    for number in journals:
        try:
            written = read_journal(file_of(folder, number, JOURNAL))
        except (OSError, MemoryError) as error:
            found.lose(f"journal {number} cannot be read ({getattr(error, 'strerror', None) or 'too little memory'})")
            found.unused.append(os.path.basename(file_of(folder, number, JOURNAL)))
            continue
        # The last one may have been cut while it was begun, but then there is no snapshot to it yet.
        if written.records or number != journals[-1] or os.path.exists(file_of(folder, number, SNAPSHOT)):
            before = len(found.notes)
            _replay(stream, assembler, number, written, found, guard)
            if len(found.notes) > before and not written.torn:
                found.unused.append(os.path.basename(file_of(folder, number, JOURNAL)))
    guard.over()
    return found


def _unknown_counters(snapshot: Snapshot, stream: Stream, assembler: Assembler | None) -> list[str]:
    """Return the counters of a snapshot that this version does not have."""
    found = snapshot.counters.keys() - vars(stream.counters).keys()
    if assembler is not None and snapshot.readings is not None:
        found |= snapshot.readings.counters.keys() - vars(assembler.counters).keys()
    return sorted(f"counter {name}" for name in found)


def _restore_readings(snapshot: Snapshot, assembler: Assembler | None, found: Recovery) -> None:
    readings = snapshot.readings
    if assembler is None:
        if readings is not None and len(readings.nodes):
            found.lose(f"{len(readings.nodes)} single readings dropped: there is no assembler")
        return
    if snapshot.last is not None:
        assembler.close_until(snapshot.last.issued_s, snapshot.last.observed)
    if readings is not None:
        try:
            assembler.restore(readings)
        except StreamError as error:
            found.lose(f"{error.came} dropped: the assembler reads {error.expected}")


def _replay(
    stream: Stream, assembler: Assembler | None, number: int, written: Written, found: Recovery, guard: Guard
) -> None:
    """Take the entries of one journal again."""
    manifest = stream.bundle.manifest
    header = _header(written)
    if header.get("bundle_id") != manifest.bundle_id:
        found.lose(f"journal {number} not used: its header is damaged or of another bundle")
        return
    missing = header["pushes"] - stream.counters.pushes
    if missing and found.snapshot is not None:
        found.lose(f"{missing} intervals before journal {number} were not written")
    dropped, skipped = 0, []
    for index, record in enumerate(written.records[1:], start=1):
        try:
            entry = decode(record, (len(manifest.sensor_ids), len(manifest.features)))
        except DataError as error:
            skipped.append(error.came)
            continue
        if isinstance(entry, SingleReading) and (assembler is None or header["names"] != list(assembler.names)):
            dropped += 1
        elif not _can_follow(stream, assembler, entry):
            skipped.append("a record that cannot follow the one before")
        elif isinstance(entry, Input) and not guard.passes(number, index, entry):
            path = guard.set_aside(number, index, record, entry)
            found.lose(f"the interval {format_time(entry.stamp)} ended {STARTS} starts and is now in {path.name}")
            if assembler is not None:
                assembler.close_until(entry.stamp)
        else:
            _take(stream, assembler, entry, found)
    if skipped:
        found.lose(f"journal {number}: {len(skipped)} records skipped, the first is {skipped[0]}")
    if dropped:
        found.lose(f"{dropped} single readings of journal {number} dropped: the assembler is gone or reads other names")
    if written.torn:
        found.notes.append(f"journal {number} ends within a record, as a crash leaves it")
    elif written.rest:
        found.lose(f"journal {number} is damaged: {written.rest} bytes at its end are missing")


def _header(written: Written) -> dict[str, Any]:
    """Return the header of a journal; empty if it is none."""
    try:
        header = json.loads(written.records[0])
        good = isinstance(header["pushes"], int) and (header["names"] is None or isinstance(header["names"], list))
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return {}
    return header if good else {}


def _can_follow(stream: Stream, assembler: Assembler | None, entry: Entry) -> bool:
    """Return whether a stream can have accepted an entry after those before it."""
    manifest = stream.bundle.manifest
    if isinstance(entry, Input):
        later = entry.restart or stream.last is None or entry.stamp > stream.last.issued_s
        return later and (entry.stamp - manifest.phase_s) % manifest.interval_s == 0
    if isinstance(entry, SingleReading) and assembler is not None:
        return len(entry.values) == len(assembler.names) and not any(map(math.isinf, entry.values))
    return True


def _take(stream: Stream, assembler: Assembler | None, entry: Entry, found: Recovery) -> None:
    """Take one entry again, as it was taken when it was written."""
    if isinstance(entry, SingleReading):
        if assembler is not None:
            assembler.put(entry)
            found.readings += 1
    elif isinstance(entry, Input):
        try:
            stream.replay(entry)
        except BackendError as error:
            stream.reset()
            found.lose(f"the backend failed again at an interval of the journal ({error.came})")
        if assembler is not None:
            assembler.close_until(entry.stamp, entry.interval.observed)
        found.intervals += 1
    else:
        stream.reset()
