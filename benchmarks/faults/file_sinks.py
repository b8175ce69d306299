"""File sinks: disks that take no more, and processes without a descriptor left, under a service that writes files.

A service in a process of its own writes CSV and Parquet files, at midnight of its days too. Meanwhile its files may
grow no more (RLIMIT_FSIZE), their disk is full, their folder is gone, or it may open nothing at all (RLIMIT_NOFILE)
while a broker restarts and clients come. Its forecasts must go on, the same to the last bit; afterwards every file must
hold each forecast once, whole and in order, and the broker must have got all. If the process is killed instead, what
waited in memory is lost, and nothing else: no file may hold half a forecast, or one twice.
"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from benchmarks.faults.brokers import FORECAST, Peer
from benchmarks.faults.live import Mosquitto, ServiceProcess, free_port, wait_until
from benchmarks.faults.network import START_S, message_of, readings_of
from benchmarks.faults.table import Row, differences
from runtime.service.file_sinks import COLUMNS, rows_of
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.series.times import format_time

_STEPS, _BEGIN, _END = 36, 2, 26
_MIDNIGHT = 16  # the interval at which a new day begins
_OPTIONS = "snapshot_every = 4"
_Mend = Callable[[], object]
_Spoil = Callable[[ServiceProcess, Path], _Mend]
_Values = list[list[str]]


def file_sinks(bundle: Bundle) -> Iterator[Row]:
    """Do what can be done here."""
    if sys.platform != "linux":
        yield Row("files of a service", 0, [], "", skipped="no limits of another process on this system")
        return
    day = _Day(bundle)
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch)
        command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(small)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        try:
            for killed in (False, True):
                yield _row(bundle, day, "that may not grow", _limit_size, killed=killed)
                yield _row(bundle, day, "in a folder that is gone", _take_away, killed=killed)
                if mounted:
                    yield _row(bundle, day, "on a full disk", _fill, killed=killed, disk=small / str(killed))
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(small)], check=True)
    if not mounted:
        yield Row("files of a service on a full disk", 0, [], "", skipped="no file system can be mounted here")
    if shutil.which("mosquitto") is None:
        yield Row("a service without a descriptor", 0, [], "", skipped="mosquitto is not installed")
    else:
        yield _without_descriptors(bundle, day)


class _Day:
    """Intervals around midnight, and what is forecast from them.

    Attributes:
        messages: of the intervals.
        rows: texts of the values by time of issue, as the files hold them.
        lines: the same of the forecast lines.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        first = START_S // 86_400 * 86_400 + 86_400 - _MIDNIGHT * manifest.interval_s
        stamps = [first + step * manifest.interval_s for step in range(_STEPS)]
        readings = [readings_of(manifest, step) for step in range(_STEPS)]
        both = list(zip(readings, stamps, strict=True))
        self.messages = [json.dumps(message_of(manifest, stamp, values)).encode() for values, stamp in both]
        with closing(Stream.open(bundle, name="ring")) as plain:
            forecasts = [plain.push(*interval) for interval in both]
        self.lines = _said(forecast.to_json_line() for forecast in forecasts)
        self.rows = {
            issued: [values.astype(str).tolist() for *_, values in rows_of(forecast)]
            for issued, forecast in zip(self.lines, forecasts, strict=True)
        }


def _limit_size(service: ServiceProcess, out: Path) -> _Mend:
    import resource

    # Room for a part of a forecast in the CSV file, and for no Parquet file.
    (path,) = (out / "csv").iterdir()
    service.limit(resource.RLIMIT_FSIZE, path.stat().st_size + 700)
    return lambda: service.limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)


def _take_away(service: ServiceProcess, out: Path) -> _Mend:
    elsewhere = out.rename(out.with_name("elsewhere"))
    return lambda: elsewhere.rename(out)


def _fill(service: ServiceProcess, out: Path) -> _Mend:
    filler = out / "filler"
    with filler.open("wb", buffering=0) as handle, suppress(OSError):
        while True:
            handle.write(bytes(512))
    return filler.unlink


def _row(bundle: Bundle, day: _Day, what: str, spoil: _Spoil, *, killed: bool, disk: Path | None = None) -> Row:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        out = (disk or folder) / "out"
        sinks = [f'kind = "csv"\nfolder = "{out}/csv"', f'kind = "parquet"\nfolder = "{out}/parquet"\nevery = 1']
        service = ServiceProcess(bundle, folder, sinks=sinks, options=_OPTIONS)
        service.send(day.messages[:_BEGIN])
        mend = spoil(service, out)
        service.send(day.messages[_BEGIN:_END])
        log = service.log
        if killed:
            service.end(signal.SIGKILL)
            with suppress(ProcessLookupError):
                mend()
            service = ServiceProcess(bundle, folder, sinks=sinks, options=_OPTIONS)
            wait_until(lambda: service.lines)  # the last forecast that it knows comes once more
        else:
            mend()
        service.send(day.messages[_END:])
        code = service.end(signal.SIGTERM)
        found = {kind: read(out / kind) for kind, read in _READ.items()}
    failures = [] if code == 0 else [f"exit code {code}: {service.log[-500:]}"]
    failures += [f"not a word of the {kind} sink" for kind in found if f"undelivered: {kind}" not in log]
    for kind, rows in found.items():
        failures += _faults(kind, rows, day, may_lack=killed)
    if not killed:
        failures += differences(_said(service.lines), day.lines, "forecast on standard output")
    counts = " and ".join(f"{len(rows)} of {_STEPS} in {kind}" for kind, rows in found.items())
    name = f"files of a service {what}" + (", the process killed" if killed else "")
    return Row(name, _END - _BEGIN, failures, f"{counts}, each whole, once, in order")


def _without_descriptors(bundle: Bundle, day: _Day) -> Row:
    import resource

    with tempfile.TemporaryDirectory() as scratch, socket.socket() as client:
        folder = Path(scratch)
        broker, port = Mosquitto(folder), free_port()
        receiver = Peer(broker, "receiver", FORECAST)
        files = [f'kind = "{kind}"\nfolder = "out/{kind}"' for kind in ("csv", "parquet")]
        service = ServiceProcess(
            bundle,
            folder,
            sinks=[files[0], f"{files[1]}\nevery = 1", 'kind = "mqtt"'],
            options=_OPTIONS,
            top=f"[http]\nport = {port}\n{broker.table()}",
        )
        try:
            service.send(day.messages[:_BEGIN])
            service.limit(resource.RLIMIT_NOFILE, 3)
            broker.stop()
            broker.start()
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            service.send(day.messages[_BEGIN:_END])
            service.limit(resource.RLIMIT_NOFILE, resource.RLIM_INFINITY)
            client.settimeout(60)
            answer = client.recv(12)
            service.send(day.messages[_END:])
            receiver.wait_for(lambda: len(_said(receiver.received)) >= _STEPS)
            log = service.log
        finally:
            code = service.end(signal.SIGTERM)
            receiver.close()
            broker.stop()
        found = {kind: read(folder / "out" / kind) for kind, read in _READ.items()}
        state = sorted(path.name for path in (folder / "state").glob("*/*"))
    failures = [] if code == 0 else [f"exit code {code}: {service.log[-500:]}"]
    failures += differences(_said(service.lines), day.lines, "forecast on standard output")
    failures += differences(_said(receiver.received), day.lines, "forecast at the broker")
    for kind, rows in found.items():
        failures += _faults(kind, rows, day)
    if answer != b"HTTP/1.0 200":
        failures.append(f"the status page says {answer!r}")
    if not any(name.endswith(".snapshot") for name in state):
        failures.append("no snapshot")
    for said in ("undelivered: parquet", "not durable", "no connection to the status page"):
        if said not in log:
            failures.append(f"not a word of: {said}")
    seen = f"all {_STEPS} forecasts at the broker and in the files, once; a client of the status page is answered after"
    return Row("a service without a descriptor, broker restarted", _END - _BEGIN, failures, seen)


def _faults(kind: str, rows: list[tuple[str, _Values]], day: _Day, *, may_lack: bool = False) -> list[str]:
    """Return what is wrong with the files of a sink.

    Args:
        kind: of the sink.
        rows: time of issue and values of each forecast, as they lie in the files.
        day: what should be in them.
        may_lack: whether the process was killed: what it held is lost, and the values after that follow a gap.
    """
    times = [time for time, _ in rows]
    failures = [] if times == sorted(set(times)) else [f"{kind}: forecasts twice or not in order"]
    if not may_lack:
        return failures + differences(dict(rows), day.rows, f"{kind} rows of")
    if any(len(values) != len(day.rows[time]) for time, values in rows):
        failures.append(f"{kind}: a part of a forecast")
    issued = list(day.rows)
    missing = set(issued[:_BEGIN] + issued[_END:]) - set(times)
    return failures + [f"{kind}: no forecast of {time}" for time in sorted(missing)]


def _said(lines: Iterable[str | bytes]) -> dict[str, object]:
    """Return the values of forecast lines by time of issue: their reasons speak of the disk."""
    return {line["issued_at"]: line["values"] for line in map(json.loads, lines)}


def _read_csv(folder: Path) -> list[tuple[str, _Values]]:
    """Return time of issue and values of each forecast, in the order of the files and their rows."""
    rows = []
    for path in sorted(folder.glob("*.csv")):
        text = path.read_text()
        if not text.endswith("\n"):
            raise ValueError(f"{path} ends within a row")
        for time, group in itertools.groupby(list(csv.reader(text.splitlines()))[1:], lambda row: row[0]):
            rows.append((time, [row[len(COLUMNS) :] for row in group]))
    return rows


def _read_parquet(folder: Path) -> list[tuple[str, _Values]]:
    """Return the same of Parquet files."""
    import pyarrow.parquet

    rows = []
    for path in sorted(folder.glob("*.parquet")):
        table = pyarrow.parquet.read_table(path)
        values = np.stack([column.to_numpy() for column in table.columns[len(COLUMNS) :]], axis=-1)
        (time,) = set(table[COLUMNS[0]].to_pylist())
        rows.append((format_time(int(time.timestamp())), values.astype(str).tolist()))
    return rows


_READ = {"csv": _read_csv, "parquet": _read_parquet}
