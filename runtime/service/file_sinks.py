"""Sinks that write files: one CSV file a day, or Parquet files of several forecasts each."""

from __future__ import annotations

import bisect
import csv
import errno
import io
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from runtime.forecast import Forecast
from runtime.service.config import CsvConfig, ParquetConfig
from runtime.service.heartbeat import Heartbeat
from runtime.service.sinks import HoldingSink, SinkError, make_folder
from stunet_deploy.files import sync_names
from stunet_deploy.series.times import format_time

#: Columns before those of the sensors; a row is one forecast step of one target.
COLUMNS = ("issued_at", "valid_at", "horizon_min", "target", "degraded")


def rows_of(forecast: Forecast) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each forecast step and target: times in seconds, minutes ahead, target, degraded, values."""
    manifest = forecast.manifest
    for step, minutes in enumerate(manifest.horizons_min, start=1):
        valid_s = forecast.issued_s + step * manifest.interval_s
        for column, target in enumerate(manifest.targets):
            row = forecast.values[step - 1, :, column]
            yield forecast.issued_s, valid_s, minutes, target, forecast.degraded, row


class CsvSink(HoldingSink):
    """A CSV file for each day (UTC) of issue, stream and bundle, with a row for each forecast step and target.

    A forecast is on the disk whole or not at all, and once: one of which a crash or a full disk has left a part is
    removed before the next is written, and one that an earlier process has written is not written again.
    """

    def __init__(self, config: CsvConfig, stream: str) -> None:
        super().__init__(f"csv {config.folder}", stream)
        self._folder = config.folder
        self._path: Path | None = None  # of the open file
        self._file = -1
        self._last = b""  # time of issue in its last row
        self._own: set[Path] = set()  # files that this process has opened
        self._earlier: set[bytes] = set()  # times of issue that an earlier process has left in the last of them
        make_folder(self._folder, "csv")

    def close(self) -> None:
        """Close the file."""
        if self._path is not None:
            self._path = None
            os.close(self._file)

    def _deliver(self, heartbeat: Heartbeat, *, last: bool) -> int:
        forecast = self._waiting[0]
        time = format_time(forecast.issued_s)
        issued, path = time.encode(), self._folder / f"{self._stream}-{time[:10]}-{forecast.bundle_id[:8]}.csv"
        try:
            if path != self._path:
                self.close()
                self._open(path, len(forecast.manifest.horizons_min) * len(forecast.manifest.targets))
            if issued != self._last and issued not in self._earlier:
                self._append(forecast)
                self._last = issued
        except OSError as error:
            with suppress(OSError):
                self.close()  # before the next try, what is in the file is looked at anew
            raise _cannot_write(path, error) from error
        return 1

    def _append(self, forecast: Forecast) -> None:
        """Bring the rows of a forecast to the disk, or none of them."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        begin = os.lseek(self._file, 0, os.SEEK_END)
        if begin == 0:
            writer.writerow([*COLUMNS, *forecast.manifest.sensor_ids])
        for issued_s, valid_s, minutes, target, degraded, values in rows_of(forecast):
            # The text of a float32 is its shortest exact form.
            numbers = values.astype(str).tolist()
            times = format_time(issued_s), format_time(valid_s)
            writer.writerow([*times, f"{minutes:g}", target, int(degraded), *numbers])
        rest = text.getvalue().encode()
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)  # some file systems say only here that they are full
            if begin == 0:
                sync_names(self._folder)
        except OSError:
            os.ftruncate(self._file, begin)
            raise

    def _open(self, path: Path, rows: int) -> None:
        """Open a file, and remove what an earlier process or a failed try has left of a forecast."""
        if not self._own:  # the last process may have ended in the file of another day
            for newest in sorted(self._folder.glob(f"{self._stream}-????-??-??-{path.stem[-8:]}.csv"))[-1:]:
                if newest != path:
                    self._open_whole(newest, rows)
                    self.close()
        earlier = self._open_whole(path, rows)
        if path not in self._own:
            self._own.add(path)
            self._earlier = earlier

    def _open_whole(self, path: Path, rows: int) -> set[bytes]:
        """Open a file of whole forecasts, of so many rows each, and return their times of issue."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._path, self._last = path, b""
        issued, times, count, begin, end = b"", set(), 0, 0, 0
        with open(self._file, "rb", closefd=False) as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                time = line[: line.find(b",")]
                if end > 0:  # behind the header
                    count = count + 1 if time == issued else 1
                    begin = end if count % rows == 1 or rows == 1 else begin
                    issued = time
                    if count == rows:
                        times.add(issued)
                        self._last = issued
                end += len(line)
        os.ftruncate(self._file, begin if count % rows else end)
        return times


class ParquetSink(HoldingSink):
    """Parquet files of ``every`` forecasts each, named by stream, bundle and the first time of issue; needs pyarrow.

    A file is written whole or not at all, and a forecast that an earlier process has written is not written again.
    Forecasts that are in no file yet are lost if the process dies; a graceful stop writes them.
    """

    def __init__(self, config: ParquetConfig, stream: str) -> None:
        import pyarrow.parquet

        super().__init__(f"parquet {config.folder}", stream, least=config.every)
        self._arrow = pyarrow
        self._folder = config.folder
        self._every = config.every
        self._bundle = ""  # of the files that earlier processes have written
        self._old: list[Path] = []
        self._read: Path | None = None  # the last of them looked into, and its times of issue
        self._times: set[int] = set()
        make_folder(self._folder, "parquet")
        unfinished = re.compile(rf"\.{re.escape(stream)}-[0-9a-f]{{8}}-\d{{8}}T\d{{6}}Z(-\d+)?\.parquet\.tmp")
        for path in self._folder.glob(".*.tmp"):
            if unfinished.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()

    @property
    def held(self) -> int:
        """Number of forecasts that wait for more than the others of their file."""
        return super().held if self._failing else 0

    def _deliver(self, heartbeat: Heartbeat, *, last: bool) -> int:
        first = self._waiting[0]
        try:
            if self._is_there(first):
                return 1
            same = itertools.takewhile(lambda one: one.bundle_id == first.bundle_id, self._waiting)
            batch = list(itertools.islice(same, self._every))
            if len(batch) < self._every and len(batch) == len(self._waiting) and not last:
                return 0
            self._write_file(batch)
        except (OSError, self._arrow.ArrowException) as error:
            raise _cannot_write(self._path_of(first), error) from error
        return len(batch)

    def _is_there(self, forecast: Forecast) -> bool:
        """Return whether an earlier process has written a forecast: the file that would hold it is known by its name.

        Raises:
            OSError: if that cannot be found out at the moment.
        """
        if forecast.bundle_id != self._bundle:
            self._old = sorted(self._folder.glob(f"{self._stream}-{forecast.bundle_id[:8]}-*.parquet"))
            self._bundle = forecast.bundle_id
        older = self._old[: bisect.bisect_right(self._old, self._path_of(forecast))]
        if older and older[-1] != self._read:
            self._times = self._times_of(older[-1])
            self._read = older[-1]
        return bool(older) and forecast.issued_s in self._times

    def _times_of(self, path: Path) -> set[int]:
        """Return the times of issue in a file; none if it is damaged or no file of a sink."""
        try:
            times = self._arrow.parquet.read_table(path, columns=[COLUMNS[0]])[COLUMNS[0]]
            return {int(time.timestamp()) for time in times.to_pylist()}
        except (OSError, KeyError, AttributeError, ValueError, self._arrow.ArrowException) as error:
            if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
                raise
            return set()

    def _path_of(self, forecast: Forecast) -> Path:
        """Return the path of the file that begins with a forecast."""
        first = format_time(forecast.issued_s).replace(":", "").replace("-", "")
        return self._folder / f"{self._stream}-{forecast.bundle_id[:8]}-{first}.parquet"

    def _write_file(self, forecasts: list[Forecast]) -> None:
        """Bring a file to the disk, or nothing of it."""
        arrow, manifest = self._arrow, forecasts[0].manifest
        rows = [row for forecast in forecasts for row in rows_of(forecast)]
        issued, valid, minutes, targets, degraded, numbers = zip(*rows, strict=True)
        values = np.stack(numbers)
        moment = arrow.timestamp("s", tz="UTC")
        columns = [
            arrow.array(issued, moment),
            arrow.array(valid, moment),
            arrow.array(minutes, arrow.float32()),
            arrow.array(targets),
            arrow.array(degraded),
            *(arrow.array(values[:, node]) for node in range(values.shape[1])),
        ]
        table = arrow.Table.from_arrays(columns, names=[*COLUMNS, *manifest.sensor_ids])
        begin = path = self._path_of(forecasts[0])
        for number in itertools.count(2):
            if not path.exists():
                break
            path = begin.with_name(f"{begin.stem}-{number}.parquet")  # the clock has gone back
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            arrow.parquet.write_table(table, temporary)
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except (OSError, arrow.ArrowException):
            with suppress(OSError):
                temporary.unlink()
            raise
        with suppress(OSError):  # it is there all the same
            sync_names(self._folder)


def _cannot_write(path: Path, error: Exception) -> SinkError:
    return SinkError(
        f"{path} cannot be written ({getattr(error, 'strerror', None) or error})",
        "a folder with write permission and enough space",
        "free some space, or mend the disk",
    )
