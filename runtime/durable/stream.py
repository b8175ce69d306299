"""A stream that outlives its process: a journal of what came in, and snapshots of what it made of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from numpy.typing import ArrayLike

from runtime.aggregation import Assembler
from runtime.clock import Timestamp
from runtime.durable.guard import Guard
from runtime.durable.journal import Entry, Input, Journal, Reset, SingleReading, encode
from runtime.durable.recovery import JOURNAL, SNAPSHOT, file_of, keep_unused, numbers_of, recover
from runtime.forecast import Forecast
from runtime.messages import Record
from runtime.readings import Reading, Values
from runtime.stream import Stream
from stunet_deploy.errors import BackendError, ConfigError, StreamError, StunetError
from stunet_deploy.series.times import format_time

if os.name == "posix":
    import fcntl


class DurableStream:
    """A stream with a folder, from which it goes on after any end of its process as if nothing had been.

    The folder holds numbered pairs: ``00000007.snapshot`` and ``00000007.journal`` with what came in after it. Every
    accepted interval is on the disk before the state changes. Snapshots and journals are kept from the last but one
    good snapshot on, so if the newest is damaged the older one and both journals lead to the same state. What cannot be
    used, also because it is of another bundle or version, is kept under a second name that ends in ``.unused``.

    If the disk is full, read-only or gone, forecasts go on; they say why they would not survive, and a new snapshot is
    tried at every interval until one succeeds.

    Args:
        stream: a fresh stream; what the folder holds is restored into it.
        folder: of this stream alone; made if it does not exist.
        every: number of intervals between two snapshots.
        assembler: what single readings are gathered with, if they come one by one.

    Attributes:
        stream: the stream; push to it through this object only.
        recovery: what was found at the start.
        trouble: why a snapshot or the journal cannot be written at the moment; None while all is well.

    Raises:
        ConfigError: if the folder cannot be made or read, or another process uses it.
        BackendError: if the backend cannot take the state.
    """

    def __init__(
        self, stream: Stream, folder: str | Path, *, every: int = 12, assembler: Assembler | None = None
    ) -> None:
        if every < 1:
            raise ConfigError(f"every = {every}", "at least 1 interval", "correct the option")
        self.stream = stream
        self.folder = Path(folder)
        self._assembler = assembler
        self._every = every
        self._lock = _lock(self.folder)
        self._journal: Journal | None = None  # None while there is a hole in what the disk knows
        self._since = 0
        self.trouble: str | None = None
        self._first = True
        try:
            self._number = max([0, *numbers_of(self.folder, SNAPSHOT), *numbers_of(self.folder, JOURNAL)])
        except OSError as error:  # to begin as if nothing were there would lose what is
            _unlock(self._lock)
            came = f"{self.folder} cannot be listed ({error.strerror})"
            raise ConfigError(came, "a folder for snapshots", "mend the disk, or choose another folder") from error
        for unfinished in self.folder.glob(".*.tmp"):
            with suppress(OSError):
                unfinished.unlink()
        manifest = stream.bundle.manifest
        self._guard = Guard(self.folder, (len(manifest.sensor_ids), len(manifest.features)))
        try:
            self.recovery = recover(stream, assembler, self.folder, self._guard)
            keep_unused(self.folder, self.recovery.unused)
        except StunetError:
            _unlock(self._lock)
            raise
        self._good = self.recovery.snapshot
        stream.keep = self._keep
        self.snapshot()

    def push(
        self, values: Values, timestamp: Timestamp, observed: ArrayLike | None = None, *, now: float | None = None
    ) -> Forecast:
        """Take the readings of one interval and forecast; see :meth:`runtime.stream.Stream.push`.

        Raises:
            StreamError: if the readings or their time cannot be accepted; the stream is unchanged.
            BackendError: if the backend fails; the stream then starts from zero.
        """
        pushes = self.stream.counters.pushes
        try:
            forecast = self.stream.push(values, timestamp, observed, now=now)
        except BackendError:
            self.reset()
            raise
        if self.stream.counters.pushes > pushes:
            self._since += 1
            if self._since >= self._every and self.trouble is None:
                self.snapshot()
        return forecast

    def add(
        self, sensor: str, timestamp: Timestamp, reading: Reading, *, now: float | None, catching_up: bool = False
    ) -> SingleReading | None:
        """Take a single reading and return it if it is new; see :meth:`runtime.aggregation.Assembler.add`.

        It survives the death of the process at once, and a power cut as soon as its interval is pushed.

        Raises:
            StreamError: if the reading cannot be accepted; nothing has changed.
        """
        accepted = self._assembling().add(sensor, timestamp, reading, now=now, catching_up=catching_up)
        if accepted is not None:
            self._append(accepted)
        return accepted

    def due(self, now: float, *, until: float | None = None) -> Iterator[Forecast]:
        """Push the intervals that are due and yield their forecasts; see :meth:`runtime.aggregation.Assembler.due`.

        An interval is pushed when the forecast of the one before has been used: only the last forecast is known after
        the death of the process.

        Raises:
            BackendError: if the backend fails; the stream then starts from zero.
        """
        yield from self._push_all(self._assembling().due(now, until=until), lambda: now)

    def due_by_sensors(self) -> Iterator[Forecast]:
        """Do the same by the time of the readings; see :meth:`runtime.aggregation.Assembler.due_by_sensors`.

        Raises:
            BackendError: as :meth:`due`.
        """
        assembler = self._assembling()
        yield from self._push_all(assembler.due_by_sensors(), lambda: assembler.time)

    def due_of_backlog(self, now: float, *, drained: bool, until: float | None = None) -> Iterator[Forecast]:
        """Do the same for a backlog; see :meth:`runtime.aggregation.Assembler.due_of_backlog`.

        Raises:
            BackendError: as :meth:`due`.
        """
        yield from self._push_all(self._assembling().due_of_backlog(now, drained=drained, until=until), lambda: now)

    def _push_all(self, records: Iterator[Record], now: Callable[[], float]) -> Iterator[Forecast]:
        for record in records:
            try:
                forecast = self.push(*record, now=now())
            except StreamError:  # after a jump of the clock it may be older than the last; the stream has counted it
                continue
            yield forecast

    def reset(self) -> None:
        """Start from zero state; the counters and the readings of the open interval stay."""
        self._append(Reset())
        self.stream.reset()

    def snapshot(self) -> bool:
        """Write a snapshot and begin a new journal; return whether that worked (:attr:`trouble` says why not)."""
        return self._turn_over([])

    def close(self) -> None:
        """Write a last snapshot and let go of the folder; the stream itself stays open, without a disk."""
        self.snapshot()
        self._close_journal()
        self.stream.keep = None
        _unlock(self._lock)
        self._lock = None

    def _assembling(self) -> Assembler:
        if self._assembler is None:
            raise ConfigError("a single reading without an assembler", "one", "open the stream with an assembler")
        return self._assembler

    def _keep(self, accepted: Input) -> tuple[str, ...]:
        """Write an interval ahead of its use; return why it would not survive, if so.

        Raises:
            StreamError: if it is one that has killed the process before, and comes again.
        """
        if self._guard.knows(accepted):
            error = StreamError(
                f"the interval {format_time(accepted.stamp)} with the readings that have killed the process",
                "an interval that can be run",
                f"look at the .aside files in {self.folder}, and report them",
                reason="deadly",
            )
            self.stream.counters.refuse(error)
            raise error
        if self.trouble is None or not self._turn_over([accepted]):
            self._append(accepted)
        if self._journal is None:
            self.stream.counters.unkept += 1
        reasons = []
        if self.trouble is not None:
            reasons.append(f"not durable: {self.trouble}")
        if self.recovery.lossy and self._first:
            reasons.append(f"restored in part: {'; '.join(self.recovery.notes)}")
        self._first = False
        return tuple(reasons)

    def _append(self, entry: Entry) -> None:
        """Write an entry to the journal; if that fails there is a hole, and no journal until the next snapshot."""
        if self._journal is None:
            return
        try:
            # An interval comes every few minutes and may wait for the disk. A reading of an open interval reaches
            # the system at once, which is enough for the death of the process, and the disk with its interval.
            self._journal.append(encode(entry), sync=not isinstance(entry, SingleReading))
        except OSError as error:
            self._fail(f"the journal cannot be written ({error.strerror})")
            self._close_journal()

    def _turn_over(self, entries: list[Entry]) -> bool:
        """Write a snapshot, and a new journal that begins with entries the snapshot does not hold."""
        number = self._number + 1
        try:
            state = self.stream.snapshot()
        except BackendError as error:  # the next interval meets it too, and is the one to say so
            self._fail(f"the state cannot be read ({error.came})")
            return False
        if self._assembler is not None:
            state = replace(state, readings=self._assembler.state())
        journal = None
        try:
            # The journal first: as long as the snapshot is not there, what comes in goes to the old journal.
            journal = Journal(file_of(self.folder, number, JOURNAL), self._header(number))
            for entry in entries:
                journal.append(encode(entry), sync=True)
            state.save(file_of(self.folder, number, SNAPSHOT))
        except OSError as error:
            self._fail(f"no snapshot can be written ({error.strerror})")
            if journal is not None:
                journal.close()
            for suffix in (SNAPSHOT, JOURNAL):
                with suppress(OSError):
                    os.unlink(file_of(self.folder, number, suffix))
            return False
        self._close_journal()
        self._journal, self._number, self._since, self.trouble = journal, number, 0, None
        for suffix in (SNAPSHOT, JOURNAL):
            with suppress(OSError):  # what cannot be removed now is removed after the next snapshot
                for old in numbers_of(self.folder, suffix):
                    if self._good is not None and old < self._good:
                        os.unlink(file_of(self.folder, old, suffix))
        self._good = number
        return True

    def _fail(self, trouble: str) -> None:
        self.stream.counters.failed_writes += 1
        self.trouble = trouble

    def _close_journal(self) -> None:
        if self._journal is not None:
            with suppress(OSError):
                self._journal.close()
            self._journal = None

    def _header(self, number: int) -> bytes:
        header = {
            "bundle_id": self.stream.bundle.manifest.bundle_id,
            "number": number,
            "pushes": self.stream.counters.pushes,
            "names": None if self._assembler is None else self._assembler.names,
        }
        return json.dumps(header).encode()


def in_use(folder: Path) -> bool:
    """Return whether a process holds a folder."""
    if os.name != "posix":
        return False
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _lock(folder: Path) -> int | None:
    """Make a folder and hold it against other processes until this one ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.name != "posix":
            return None
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made or opened ({error.strerror})", "a folder for snapshots", "choose another folder"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(
            f"{folder}, which another stream uses",
            "a folder of its own for each stream",
            "end what uses it, or choose another `state` folder",
        ) from error
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)
