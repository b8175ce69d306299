"""Disks: one that takes no more bytes, and one that takes none at all, while a stream runs.

Forecasts must go on, the same to the last bit, and say that they would not survive; when the disk is well again that
must end on its own, and a restart must find the stream where it was. The full disk is a limit on the size of files
(RLIMIT_FSIZE) and, where a small file system can be mounted, a real one; the read-only disk is that one remounted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.faults.network import START_S, readings_of
from benchmarks.faults.table import Row
from runtime.durable.stream import DurableStream
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle

_STEPS, _BEGIN, _END = 60, 15, 40
_EVERY = 4


def disks(bundle: Bundle) -> Iterator[Row]:
    """Do what can be done here."""
    yield _limited(bundle)
    with tempfile.TemporaryDirectory() as scratch:
        disk = Path(scratch)
        command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
        mounted = sys.platform == "linux" and subprocess.run(command, capture_output=True, check=False).returncode == 0
        if not mounted:
            yield Row("a full disk, and one that is read-only", 0, [], "", skipped="no file system can be mounted here")
            return
        try:
            yield _full(bundle, disk)
            yield _read_only(bundle, disk)
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _limited(bundle: Bundle) -> Row:
    name = "a limit on the size of files"
    if sys.platform == "win32":
        return Row(name, 0, [], "", skipped="there is none on this system")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def spoil() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, hard))  # a few more records, and no snapshot

    def mend() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with tempfile.TemporaryDirectory() as folder:
        try:
            return _row(name, bundle, Path(folder) / "stream", spoil, mend)
        finally:
            mend()


def _full(bundle: Bundle, disk: Path) -> Row:
    filler = disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as handle, suppress(OSError):
            while True:
                handle.write(bytes(512))

    return _row("a full disk", bundle, disk / "full", fill, filler.unlink)


def _read_only(bundle: Bundle, disk: Path) -> Row:
    def remount(how: str) -> Callable[[], object]:
        return lambda: subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

    # An open file would keep the system from it, so the stream is closed before and opened behind it.
    return _row("a read-only disk", bundle, disk / "read-only", remount("ro"), remount("rw"), reopened=True)


def _row(
    name: str,
    bundle: Bundle,
    folder: Path,
    spoil: Callable[[], object],
    mend: Callable[[], object],
    *,
    reopened: bool = False,
) -> Row:
    """Return the row of a disk that is spoilt for some intervals."""
    failures = []
    whole = Stream.open(bundle)
    durable = DurableStream(Stream.open(bundle), folder, every=_EVERY)
    said = 0
    for step in range(_STEPS):
        if step == _BEGIN:
            if reopened:
                durable.close()
            spoil()
            if reopened:
                durable = DurableStream(Stream.open(bundle), folder, every=_EVERY)
        if step == _END:
            mend()
        stamp, values = START_S + bundle.manifest.interval_s * step, readings_of(bundle.manifest, step)
        before = durable.trouble
        found, expected = durable.push(values, stamp), whole.push(values, stamp)
        if found.values.tobytes() != expected.values.tobytes():
            failures.append(f"another forecast at interval {step}")
        warned = any(reason.startswith("not durable") for reason in found.reasons)
        said += warned
        if warned and not _BEGIN <= step < _END:
            failures.append(f"not durable at interval {step}: {found.reasons}")
        if not warned and before is not None and durable.trouble is not None:
            failures.append(f"silent about it at interval {step}")
    if not said:
        failures.append("the fault was not noticed")
    counters = durable.stream.counters
    if durable.trouble is not None:
        failures.append(f"still not durable: {durable.trouble}")
    durable.close()
    again = DurableStream(Stream.open(bundle), folder)
    last = again.stream.last
    if again.recovery.notes or last is None or last.values.tobytes() != expected.values.tobytes():
        failures.append(f"not where it was after a restart: {again.recovery}")
    again.close()
    seen = f"{said} forecasts say so, {counters.unkept} intervals were not on the disk, {counters.failed_writes} writes"
    return Row(name, _END - _BEGIN, failures, f"{seen} failed; over when the disk was well")
