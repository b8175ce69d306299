"""Sinks that write files: one CSV file a day, or Parquet files of several forecasts each."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from runtime.forecast import Forecast
from runtime.service.config import CsvConfig, ParquetConfig
from runtime.service.heartbeat import Heartbeat
from runtime.service.sinks import Sink, SinkError, make_folder
from stunet_deploy.series.times import format_time

#: Columns before those of the sensors; a row is one forecast step of one target.
COLUMNS = ("issued_at", "valid_at", "horizon_min", "target", "degraded")
#: Batches that wait for a full disk; older ones are dropped.
_WAITING_BATCHES = 10


def rows_of(forecast: Forecast) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each forecast step and target: times in seconds, minutes ahead, target, degraded, values."""
    manifest = forecast.manifest
    for step, minutes in enumerate(manifest.horizons_min, start=1):
        valid_s = forecast.issued_s + step * manifest.interval_s
        for column, target in enumerate(manifest.targets):
            row = forecast.values[step - 1, :, column]
            yield forecast.issued_s, valid_s, minutes, target, forecast.degraded, row


class CsvSink(Sink):
    """A CSV file for each day (UTC) of issue, stream and bundle, with a row for each forecast step and target.

    A forecast is written whole or not at all, and once: one that a crash has truncated is removed at the next start,
    and one that is in the file already is not written again.
    """

    def __init__(self, config: CsvConfig, stream: str) -> None:
        self.name = f"csv {config.folder}"
        self._folder = config.folder
        self._stream = stream
        self._path: Path | None = None
        self._file = -1
        self._last = ""
        make_folder(self._folder, "csv")

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Append the rows; see :class:`runtime.service.sinks.Sink`."""
        issued = format_time(forecast.issued_s)
        path = self._folder / f"{self._stream}-{issued[:10]}-{forecast.bundle_id[:8]}.csv"
        if path != self._path:
            self.close()
            self._open(path, len(forecast.manifest.horizons_min) * len(forecast.manifest.targets))
        if issued == self._last:
            return
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
        except OSError:
            os.ftruncate(self._file, begin)
            raise
        self._last = issued

    def flush(self, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Sync the file to the disk."""
        if self._path is not None:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._path is not None:
            os.close(self._file)
            self._path, self._last = None, ""

    def _open(self, path: Path, rows: int) -> None:
        """Open a file, remove a forecast that a crash has truncated, and read the time of the last one."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._path = path
        lines = path.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        last = lines[-1].partition(b",")[0] if len(lines) > 1 else b""
        same = next((n for n, line in enumerate(reversed(lines)) if line.partition(b",")[0] != last), 0)
        if same % rows:
            del lines[-same:]
            last = b""
        os.ftruncate(self._file, sum(map(len, lines)))
        self._last = last.decode(errors="replace")


class ParquetSink(Sink):
    """Parquet files of ``every`` forecasts each, named by stream, bundle and the first time of issue; needs pyarrow.

    A file is written whole or not at all, and a forecast that is in the newest file is not written again. Forecasts
    that are in no file yet are lost if the process dies; a graceful stop writes them.
    """

    def __init__(self, config: ParquetConfig, stream: str) -> None:
        import pyarrow.parquet

        self._arrow = pyarrow
        self.name = f"parquet {config.folder}"
        self._folder = config.folder
        self._every = config.every
        self._stream = stream
        self._waiting: list[Forecast] = []
        self._written_s: int | None = None
        make_folder(self._folder, "parquet")

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Hold it until there are enough for a file; see :class:`runtime.service.sinks.Sink`."""
        if self._waiting and self._waiting[-1].bundle_id != forecast.bundle_id:
            self._write_file()
        if self._written_s is None:
            self._written_s = self._last_written(forecast)
        if forecast.issued_s == self._written_s:
            return
        self._waiting.append(forecast)
        if len(self._waiting) >= self._every:
            self._write_file()

    def flush(self, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Write the forecasts that are held."""
        if self._waiting:
            self._write_file()

    def _last_written(self, forecast: Forecast) -> int:
        """Return the last time of issue in the newest file of an earlier process; 0 without a readable one."""
        paths = sorted(self._folder.glob(f"{self._stream}-{forecast.bundle_id[:8]}-*.parquet"))
        try:
            times = self._arrow.parquet.read_table(paths[-1], columns=[COLUMNS[0]])[COLUMNS[0]]
            return int(times[-1].as_py().timestamp())
        except (IndexError, OSError, self._arrow.ArrowException):
            return 0

    def _write_file(self) -> None:
        arrow, forecasts = self._arrow, self._waiting
        manifest = forecasts[0].manifest
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
        first = format_time(forecasts[0].issued_s).replace(":", "").replace("-", "")
        path = self._folder / f"{self._stream}-{manifest.bundle_id[:8]}-{first}.parquet"
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            arrow.parquet.write_table(table, temporary)
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            del self._waiting[: -_WAITING_BATCHES * self._every]
            raise SinkError(
                f"{path} cannot be written ({error.strerror or error}); {len(self._waiting)} forecasts wait for it",
                "a folder with write permission and enough space",
                "free some space",
            ) from error
        self._waiting = []
