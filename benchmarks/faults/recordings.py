"""Recordings: files to replay, damaged at every place, as CSV, Parquet and npz.

A file is either refused as a whole, with an error that says what is wrong with it, before a stream has seen anything of
it; or it holds intervals, each of which the stream takes or refuses and counts. Anything else is a failure: another
exception, a state that a refused file or interval has changed, a process that dies, which is why a process of its own
reads them. Some are also given to ``stunet run --replay``, which must answer with exit code 0 or 2 and no traceback.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.network import START_S, in_memory, readings_of
from benchmarks.faults.table import Row
from benchmarks.harness.workbench import ROOT
from runtime.replay import open_replay
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import DataError, StreamError
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time

FORMATS = ("csv", "parquet", "npz")
_INTERVALS = 8
_CELLS = (b"", b"\xff", b"\x00", *b'nan inf -1e999 1e39 fast 2012-03-01T08:00:00Z 9999-12-31T23:59:59Z "'.split())


def recordings(bundle: Bundle, files: int, rng: np.random.Generator) -> Iterator[Row]:
    """Read so many damaged files, a third of them in each format."""
    seed = int(rng.integers(2**31))
    for index, form in enumerate(FORMATS):
        number = (files + index) // len(FORMATS)
        arguments = [str(bundle.path.resolve()), form, str(number), str(seed + index)]
        command = [sys.executable, "-m", "benchmarks.faults.recordings", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            yield Row(f"damaged recordings, {form}", number, [f"process ended: {done.stderr[-500:]}"], "")
            continue
        found: dict[str, Any] = json.loads(done.stdout)
        failures = found["failures"] + _by_command(bundle, form, max(2, number // 5000), seed + index)
        seen = f"{found['refused']:,} refused as a whole, {found['taken']:,} replayed; of their intervals "
        seen += f"{found['pushed']:,} taken, {sum(found['reasons'].values()):,} refused"
        yield Row(f"damaged recordings, {form}", number, failures, seen, data=found)


def work(path: Path, form: str, files: int, seed: int) -> dict[str, Any]:
    """Read files and return what became of them."""
    bundle, rng = Bundle.load(path), np.random.default_rng(seed)
    whole = recording(bundle.manifest, form)
    stream = Stream.open(bundle)
    for step in range(bundle.manifest.window):
        stream.push(readings_of(bundle.manifest, step), START_S + (step - 20) * bundle.manifest.interval_s)
    begin = stream.snapshot()
    state = _bits(stream)
    failures: list[str] = []
    reasons: Counter[str] = Counter()
    refused = taken = pushed = 0
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        damaged = Path(scratch) / f"recording.{form}"
        for _ in range(files):
            content = spoil(whole, form, rng)
            damaged.write_bytes(content)
            try:
                records = open_replay(damaged, bundle.manifest)
            except DataError:
                refused += 1
                if _bits(stream) != state:
                    failures.append("a refused file has changed the state")
                continue
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}; {_excerpt(content, whole)}")
                continue
            taken += 1
            refusals_before = sum(reasons.values())
            try:
                for record in records:
                    before = _bits(stream)
                    try:
                        stream.push(*record)
                        pushed += 1
                    except StreamError as error:
                        reasons[error.reason] += 1
                        if _bits(stream) != before:
                            failures.append(f"an interval refused as {error.reason} has changed the state")
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}; {_excerpt(content, whole)}")
            counted = stream.counters
            if sum(counted.refused.values()) != sum(reasons.values()) - refusals_before:
                failures.append("intervals miscounted")
            stream.restore(begin)
    stream.close()
    return {"refused": refused, "taken": taken, "pushed": pushed, "reasons": dict(reasons), "failures": failures[:20]}


def recording(manifest: Manifest, form: str) -> bytes:
    """Return a small recording whole, its intervals one after the other."""
    stamps = [START_S + manifest.interval_s * step for step in range(_INTERVALS)]
    values = np.stack([readings_of(manifest, step) for step in range(_INTERVALS)]).round(2)
    names = ["timestamp", "sensor_id", *manifest.features]
    rows = [
        (format_time(stamp), sensor, *values[t, node].tolist())
        for t, stamp in enumerate(stamps)
        for node, sensor in enumerate(manifest.sensor_ids)
    ]
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        path = Path(scratch) / "recording"
        if form == "csv":
            path.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows), ""]))
        elif form == "parquet":
            import pyarrow
            from pyarrow import parquet

            columns = [list(column) for column in zip(*rows, strict=True)]
            parquet.write_table(pyarrow.table(dict(zip(names, columns, strict=True))), path)
        else:
            with path.open("wb") as file:
                np.savez(
                    file,
                    values=(values * 100).astype(np.int32),
                    scale=np.full(len(manifest.features), 0.01),
                    observed=np.ones(values.shape, np.uint8),
                    timestamps=np.array(stamps),
                    sensor_ids=np.array(manifest.sensor_ids),
                    features=np.array(manifest.features),
                    units=np.array(manifest.units),
                    timezone=np.array(manifest.timezone),
                    interval_s=np.array(manifest.interval_s),
                )
        return path.read_bytes()


def spoil(whole: bytes, form: str, rng: np.random.Generator) -> bytes:
    """Return a damaged copy of a file."""
    data, kind = bytearray(whole), int(rng.integers(8))
    a, b = sorted(int(cut) for cut in rng.integers(0, len(data) + 1, 2))
    if kind == 0:
        del data[a:]
    elif kind == 1:
        del data[a:b]
    elif kind == 2:
        data[a:b] = bytes(b - a)
    elif kind == 3:
        data[a:a] = data[a:b]
    elif kind == 4:
        data += rng.integers(0, 256, int(rng.integers(1, 400)), np.uint8).tobytes()
    elif kind == 5 and form == "csv":
        lines = bytes(data).split(b"\n")
        line = int(rng.integers(len(lines)))
        cells = lines[line].split(b",")
        cells[int(rng.integers(len(cells)))] = _CELLS[int(rng.integers(len(_CELLS)))]
        lines[line] = b",".join(cells)
        data = bytearray(b"\n".join(lines))
    else:
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _by_command(bundle: Bundle, form: str, files: int, seed: int) -> list[str]:
    """Give some files to the program; return what was wrong with its answers."""
    failures, rng = [], np.random.default_rng(seed)
    whole = recording(bundle.manifest, form)
    with tempfile.TemporaryDirectory(dir=in_memory()) as scratch:
        path = Path(scratch) / f"recording.{form}"
        for _ in range(files):
            path.write_bytes(spoil(whole, form, rng))
            command = [sys.executable, "-m", "stunet_deploy", "run", bundle.path, "--replay", path, "--json-lines"]
            done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode not in (0, 2) or "Traceback" in done.stderr:
                failures.append(f"exit code {done.returncode}: {done.stderr[-300:]}")
    return failures


def _bits(stream: Stream) -> tuple[bytes, ...]:
    """Return the state, and the stamp of the last interval."""
    last = 0 if stream.last is None else stream.last.issued_s
    return (*(line.tobytes() for line in stream.read_lines().values()), str(last).encode())


def _excerpt(content: bytes, whole: bytes) -> str:
    """Return where a file begins to differ."""
    place = next((i for i, (x, y) in enumerate(zip(content, whole, strict=False)) if x != y), len(content))
    return f"at byte {place}: {content[max(0, place - 20) : place + 40]!r}"


if __name__ == "__main__":
    _, path, form, files, seed = sys.argv
    print(json.dumps(work(Path(path), form, int(files), int(seed))))
