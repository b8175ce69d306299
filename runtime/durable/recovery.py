"""Recovery: a stream brought back to where its last process was, from the newest whole snapshot and journals since."""

from __future__ import annotations

import json
import os
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


@dataclass
class Recovery:
    """The outcome of a start from the files on the disk.

    Attributes:
        snapshot: number of the snapshot restored, or None if the stream started from zero.
        intervals: number of intervals run again from the journal.
        readings: number of single readings taken again from the journal.
        notes: damage that was found, and how it was treated; empty after a plain restart.
        lossy: whether inputs are missing, so that the stream is not where it was.
    """

    snapshot: int | None = None
    intervals: int = 0
    readings: int = 0
    notes: list[str] = field(default_factory=list)
    lossy: bool = False

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
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def recover(stream: Stream, assembler: Assembler | None, folder: Path, guard: Guard) -> Recovery:
    """Restore a fresh stream and its assembler from a folder, as far as it is whole and can be run.

    Raises:
        StreamError: if the newest whole snapshot is of another bundle or mode.
    """
    found = Recovery()
    for number in reversed(numbers_of(folder, SNAPSHOT)):
        try:
            snapshot = Snapshot.load(file_of(folder, number, SNAPSHOT))
        except DataError as error:
            found.notes.append(f"snapshot {number} not used: {error.came}")
            continue
        stream.restore(snapshot)
        _restore_readings(snapshot, assembler, found)
        found.snapshot = number
        break
    if found.snapshot is None and found.notes:
        found.lose("no snapshot is whole, so the stream started from zero")
    # Without a snapshot the journals still warm the stream up.
    journals = [n for n in numbers_of(folder, JOURNAL) if found.snapshot is None or n >= found.snapshot]
    for number in journals:
        try:
            written = read_journal(file_of(folder, number, JOURNAL))
        except OSError as error:
            found.lose(f"journal {number} cannot be read ({error.strerror})")
            continue
        # The last one may have been cut while it was begun, but then there is no snapshot to it yet.
        if written.records or number != journals[-1] or os.path.exists(file_of(folder, number, SNAPSHOT)):
            _replay(stream, assembler, number, written, found, guard)
    guard.over()
    return found


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
    dropped = 0
    for index, record in enumerate(written.records[1:], start=1):
        try:
            entry = decode(record, (len(manifest.sensor_ids), len(manifest.features)))
        except DataError as error:
            found.lose(f"journal {number}: {error.came} skipped")
            continue
        if isinstance(entry, SingleReading) and (assembler is None or header["names"] != list(assembler.names)):
            dropped += 1
        elif isinstance(entry, Input) and not guard.passes(number, index, entry):
            path = guard.set_aside(number, index, record, entry)
            found.lose(f"the interval {format_time(entry.stamp)} ended {STARTS} starts and is now in {path.name}")
            if assembler is not None:
                assembler.close_until(entry.stamp)
        else:
            _take(stream, assembler, entry, found)
    if dropped:
        found.lose(f"{dropped} single readings of journal {number} dropped: the assembler is gone or reads other names")
    if written.torn:
        found.notes.append(f"journal {number} ends within a record, as a crash leaves it")
    elif written.rest:
        found.lose(f"journal {number} is damaged: {written.rest} bytes at its end are missing")


def _header(written: Written) -> dict[str, Any]:
    try:
        header = json.loads(written.records[0])
    except (IndexError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


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
