"""Kills: a process ended at random instants, and the next one that goes on from what its folder holds.

A process of its own replays intervals (or single readings) into a durable stream and notes every forecast; it is ended
with SIGKILL while it starts, while it recovers, in the middle of its pushes. Afterwards the forecasts noted must be
those of an uninterrupted run to the last bit, none lost, none twice but where a process repeated the last one after its
start.
"""

from __future__ import annotations

import re
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.driven import forkserver
from benchmarks.faults.network import START_S, Mode, digest, single_readings, values_of
from benchmarks.faults.table import Row
from runtime.aggregation import Assembler
from runtime.durable.stream import DurableStream
from runtime.forecast import Forecast
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle

EVERY = 3  # intervals between two snapshots
CASES: list[tuple[Mode, str]] = list(product(("carry", "window"), ("intervals", "readings")))
BEGUN = "begun"  # what a process notes first
_NOTE = re.compile(rf"^(?:{BEGUN}|(\d+) ([0-9a-f]{{64}}))$", re.M)


def kills(bundle: Bundle, number: int, intervals: int, rng: np.random.Generator) -> Iterator[Row]:
    """Kill so many processes in all; each of carry and window mode, intervals and single readings gets a quarter."""
    for index, (mode, source) in enumerate(CASES):
        yield kill(bundle, mode, source, intervals, (number + index) // len(CASES), rng)


def kill(bundle: Bundle, mode: Mode, source: str, intervals: int, number: int, rng: np.random.Generator) -> Row:
    """Kill a replay again and again; start a new one whenever one ends alive."""
    expected, pushes = uninterrupted(bundle, mode, source, intervals)
    context = forkserver()
    done, running, replays, failures = 0, 0, 0, []
    start_s = 0.1  # how long a start takes, as measured by the last one
    while done < number:
        replays += 1
        with tempfile.TemporaryDirectory() as scratch:
            folder, notes = Path(scratch) / "stream", Path(scratch) / "notes"
            code: int | None = -signal.SIGKILL
            while code == -signal.SIGKILL:
                told, tell = context.Pipe(duplex=False)
                process = context.Process(target=work, args=(bundle.path, folder, notes, mode, source, intervals, tell))
                begin = time.monotonic()
                process.start()
                tell.close()  # so that its end is seen here
                said, pushing = [], rng.random() < 0.75
                if done < number:
                    if pushing:
                        said = _heard(told)
                        start_s = time.monotonic() - begin
                        time.sleep(rng.uniform(0, 0.15))
                    else:
                        time.sleep(rng.uniform(0, 1.1 * start_s))
                    process.kill()
                while more := _heard(told):
                    said += more
                process.join()
                code = process.exitcode
                done += code == -signal.SIGKILL
                running += code == -signal.SIGKILL and pushing
            if code:
                failures.append(f"a process failed with exit code {code}")
            else:
                failures += check(notes.read_text(), expected, pushes, said[-1])
    seen = f"{running} of them while it pushed, the others while it started; replays of {pushes} intervals: {replays}"
    return Row(f"kill -9, {mode}, {source}", done, failures, seen)


def _heard(told: Connection) -> list[Any]:
    """Return what a process says next; nothing if it has ended."""
    try:
        return [told.recv()]
    except EOFError:
        return []


def check(notes: str, expected: dict[int, str], pushes: int, counted: dict[str, Any]) -> list[str]:
    """Return what is wrong with the notes of a replay that was killed and went on, and with what it counted."""
    wrong, found, last, begun = [], set(), -1, False
    for note in _NOTE.finditer(notes):
        if note.group(1) is None:
            begun = True
            continue
        issued = int(note.group(1))
        found.add(issued)
        if expected.get(issued) != note.group(2):
            wrong.append(f"another forecast at {issued}")
        if issued < last or (issued == last and not begun):
            wrong.append(f"the forecast at {issued} after that at {last}")
        last, begun = issued, False
    wrong += [f"no forecast at {issued}" for issued in expected.keys() - found]
    if counted["pushes"] != pushes or sum(counted["refused"].values()):
        wrong.append(f"{counted['pushes']} intervals instead of {pushes}, refused {counted['refused']}")
    return wrong


def uninterrupted(bundle: Bundle, mode: Mode, source: str, intervals: int) -> tuple[dict[int, str], int]:
    """Return the hashes of a run without faults by time, and its number of pushes."""
    stream = Stream.open(bundle, mode=mode)
    run = forecasts_of(stream, source, 0, intervals, Assembler(bundle.manifest, grace_s=0))
    found = {forecast.issued_s: digest(forecast) for forecast in run}
    pushes = stream.counters.pushes
    stream.close()
    return found, pushes


def forecasts_of(
    stream: Stream | DurableStream, source: str, first: int, stop: int, assembler: Assembler
) -> Iterator[Forecast]:
    """Replay the intervals from ``first`` to before ``stop``, with or without a disk behind the stream."""
    inner = stream.stream if isinstance(stream, DurableStream) else stream
    manifest = inner.bundle.manifest
    if source == "intervals":
        for step in range(first, stop):
            values = values_of(manifest, step)
            if values is not None:
                yield stream.push(values, START_S + manifest.interval_s * step)
        return
    for sensor, second, reading in single_readings(manifest, first, stop):
        if isinstance(stream, DurableStream):
            yield from stream.due(second)
            stream.add(sensor, second, reading, now=second)
        else:
            for record in assembler.due(second):
                yield stream.push(*record, now=second)
            assembler.add(sensor, second, reading, now=second)


def work(path: Path, folder: Path, notes: Path, mode: Mode, source: str, intervals: int, tell: Connection) -> None:
    """Be the process that is killed: recover, go on, note every forecast; say when it begins, and what was counted."""
    bundle = Bundle.load(path)
    assembler = Assembler(bundle.manifest, grace_s=0)
    stream = Stream.open(bundle, mode=mode)
    durable = DurableStream(stream, folder, every=EVERY, assembler=assembler if source == "readings" else None)
    with notes.open("ab", buffering=0) as out:
        first = 0
        if stream.last is not None:  # it may not have been noted
            out.write(f"\n{BEGUN}\n{stream.last.issued_s} {digest(stream.last)}\n".encode())
            first = (stream.last.issued_s - START_S) // bundle.manifest.interval_s + 1
        tell.send("ready")
        for forecast in forecasts_of(durable, source, first, intervals, assembler):
            out.write(f"\n{forecast.issued_s} {digest(forecast)}\n".encode())
    durable.close()
    tell.send(asdict(stream.counters))
