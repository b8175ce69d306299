"""Faults: a process killed at random instants, snapshots damaged at random bytes.

    python benchmarks/faults.py [--bundle model.bundle] [--kills 500] [--flips 1000]

For the kills, a process of its own replays intervals (or single readings) into a durable stream and notes every
forecast, and this one ends it with SIGKILL: while it starts, while it recovers, in the middle of its pushes. The next
process goes on from what the folder holds. Afterwards the forecasts noted must be those of an uninterrupted run to the
last bit, none lost, none twice but where a process repeated the last one after its start. Each of carry and window
mode, intervals and single readings gets a quarter of the kills.

Without --bundle the model is an untrained one of the shipped freeway data: what it forecasts does not matter here.
Writes benchmarks/results/reliability.{json,md}.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workbench import RESULTS, ROOT, write_results

from runtime.assembly import Assembler
from runtime.durable import DurableStream
from runtime.forecast import Forecast
from runtime.snapshot import Snapshot
from runtime.stream import Stream
from runtime.timing import environment
from stunet_deploy.bundle import Bundle, Manifest
from stunet_deploy.errors import DataError

START_S = 1_330_588_800  # 2012-03-01T08:00:00Z
EVERY = 3  # intervals between two snapshots
READINGS = 3  # of a sensor in an interval
CASES = [(mode, source) for mode in ("carry", "window") for source in ("intervals", "readings")]
NOTE = re.compile(r"^(\d+) ([0-9a-f]{64})$", re.M)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        fault: what was done.
        times: how often.
        failures: what went wrong, one text each.
        seen: what else was counted.
    """

    fault: str
    times: int
    failures: list[str]
    seen: str


def values_of(manifest: Manifest, step: int) -> NDArray[np.float64] | None:
    """Return an interval's readings [node, feature], some missing; None for an interval that never came."""
    rng = np.random.default_rng([5, step])
    if step and rng.random() < 0.03:
        return None
    low, high = np.array(manifest.limits).T
    values = rng.uniform(low, high, (len(manifest.sensor_ids), len(low)))
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


def single_readings(manifest: Manifest, first: int, stop: int) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Yield (sensor, time, reading) from interval ``first`` on, in the order of time."""
    for step in range(first, stop + 1):  # one more, so that the last one ends
        values = values_of(manifest, step)
        if values is not None:
            for number in range(READINGS):
                second = START_S + manifest.interval_s * (step + number / READINGS)
                for node, sensor in enumerate(manifest.sensor_ids):
                    reading = dict(zip(manifest.features, (values[node] * (1 - 0.01 * number)).tolist(), strict=True))
                    yield sensor, second + node / 1000, reading


def note(forecast: Forecast) -> str:
    """Return a line that tells a forecast from any other: its time, and a hash of all that is said."""
    said = json.dumps([forecast.observed_share, forecast.reasons]).encode()
    return f"\n{forecast.issued_s} {hashlib.sha256(forecast.values.tobytes() + said).hexdigest()}\n"


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


def work(bundle: Path, folder: Path, notes: Path, mode: str, source: str, intervals: int) -> None:
    """Be the process that is killed: recover, go on, note every forecast."""
    opened = Bundle.load(bundle)
    assembler = Assembler(opened.manifest, grace_s=0)
    stream = Stream.open(opened, mode="window" if mode == "window" else "carry")
    durable = DurableStream(stream, folder, every=EVERY, assembler=assembler if source == "readings" else None)
    with notes.open("ab", buffering=0) as out:
        first = 0
        if stream.last is not None:  # it may not have been noted
            out.write(note(stream.last).encode())
            first = (stream.last.issued_s - START_S) // opened.manifest.interval_s + 1
        print("ready", flush=True)
        for forecast in forecasts_of(durable, source, first, intervals, assembler):
            out.write(note(forecast).encode())
    durable.close()
    print(json.dumps(asdict(stream.counters)))


def uninterrupted(bundle: Bundle, mode: str, source: str, intervals: int) -> tuple[dict[int, str], int]:
    """Return the notes of a run without faults by time, and its number of pushes."""
    stream = Stream.open(bundle, mode="window" if mode == "window" else "carry")
    run = forecasts_of(stream, source, 0, intervals, Assembler(bundle.manifest, grace_s=0))
    found = {forecast.issued_s: note(forecast).split()[1] for forecast in run}
    pushes = stream.counters.pushes
    stream.close()
    return found, pushes


def kill(bundle: Bundle, mode: str, source: str, intervals: int, kills: int, rng: np.random.Generator) -> Row:
    """Kill a replay again and again; start a new one whenever one ends alive."""
    expected, pushes = uninterrupted(bundle, mode, source, intervals)
    done, replays, failures = 0, 0, []
    start_s = 1.0  # how long a start takes, as measured by the last one
    while done < kills:
        replays += 1
        with tempfile.TemporaryDirectory() as scratch:
            folder, notes = Path(scratch) / "stream", Path(scratch) / "notes"
            arguments = [str(bundle.path), str(folder), str(notes), mode, source, str(intervals)]
            code = None
            while code is None or code == -signal.SIGKILL:
                begin = time.monotonic()
                process = subprocess.Popen(
                    [sys.executable, __file__, "--work", *arguments],
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                if done < kills:
                    if rng.random() < 0.75:
                        assert process.stdout is not None
                        process.stdout.readline()
                        start_s = time.monotonic() - begin
                        time.sleep(rng.uniform(0, 0.15))
                    else:
                        time.sleep(rng.uniform(0, 1.1 * start_s))
                    process.kill()
                out, err = process.communicate()
                code = process.returncode
                done += code == -signal.SIGKILL
            failures += check(notes.read_text(), expected, pushes, out, err if code else "")
    return Row(f"kill -9, {mode}, {source}", done, failures, f"replays of {pushes} intervals: {replays}")


def check(notes: str, expected: dict[int, str], pushes: int, out: str, err: str) -> list[str]:
    """Return what is wrong with the notes of a replay that was killed and went on."""
    if err:
        return [f"a process failed: {err.strip().splitlines()[-1]}"]
    found = [(int(issued), digest) for issued, digest in NOTE.findall(notes)]
    counted = json.loads(out.splitlines()[-1])
    wrong = [f"another forecast at {issued}" for issued, digest in found if expected.get(issued) != digest]
    wrong += [f"no forecast at {issued}" for issued in expected.keys() - dict(found).keys()]
    if [issued for issued, _ in found] != sorted(issued for issued, _ in found):
        wrong.append("forecasts out of order")
    if counted["pushes"] != pushes or sum(counted["refused"].values()):
        wrong.append(f"{counted['pushes']} intervals instead of {pushes}, refused {counted['refused']}")
    return wrong


def flip(bundle: Bundle, flips: int, rng: np.random.Generator) -> Row:
    """Change random bits of a snapshot: as many in its first kilobyte and in its last as between them."""
    stream = Stream.open(bundle)
    for step in range(bundle.manifest.window + 1):
        values = values_of(bundle.manifest, step)
        if values is not None:
            stream.push(values, START_S + bundle.manifest.interval_s * step)
    whole = stream.snapshot().to_bytes()
    edge = min(1000, len(whole) // 3)
    zones = ((0, edge), (edge, len(whole) - edge), (len(whole) - edge, len(whole)))
    failures = []
    for number in range(flips):
        position = int(rng.integers(*zones[number % 3]))
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        try:
            Snapshot.from_bytes(bytes(damaged))
        except DataError:
            continue
        failures.append(f"byte {position} of {len(whole)} unnoticed")
    stream.close()
    return Row("one bit of a snapshot", flips, failures, f"{len(whole)} bytes: head, arrays, tail")


def freeway_bundle(folder: Path) -> Path:
    """Export an untrained model of the shipped data; return its bundle."""
    import torch

    from export.bundle import export_bundle
    from stunet_deploy.checkpoint import Checkpoint, Site
    from stunet_deploy.config import STUNetConfig
    from stunet_deploy.graph import GraphHierarchy
    from stunet_deploy.graph_files import read_graph
    from stunet_deploy.models.stunet import STUNet
    from stunet_deploy.series import read_series
    from training.protocols import protocol_a
    from training.run import prepare_signal, reference_stream

    data = ROOT / "stunet_deploy" / "data" / "freeway.npz"
    series, config = read_series(data), STUNetConfig(hidden=8)
    adjacency = read_graph(data, series.sensor_ids).adjacency
    hierarchy = GraphHierarchy.build(adjacency, pool_levels=[levels for levels, _ in config.scales])
    split = protocol_a(series)
    torch.manual_seed(0)
    model = STUNet(config, hierarchy, prepare_signal(series, split, ())).eval()
    torch.nn.init.normal_(model.decoder.head.weight, std=0.02)
    site = Site(series.sensor_ids, series.units, series.interval_s, series.stamp, series.timezone)
    checkpoint = Checkpoint(model, site, reference_stream(series, split), {"note": "random weights, for faults"})
    return export_bundle(checkpoint, folder / "freeway.bundle").path


def report(rows: list[Row], where: dict[str, Any], command: str) -> str:
    """Return the table as Markdown."""
    lines = [
        "# Reliability",
        "",
        f"`{command}` on {where['cpu']}, {where['cores']} cores; Python {where['python']}, onnxruntime "
        f"{where['onnxruntime']}, commit {(where['commit'] or 'unknown')[:12]}.",
        "",
        "| fault | times | failures | |",
        "| --- | --- | --- | --- |",
        *(f"| {row.fault} | {row.times} | {len(row.failures)} | {row.seen} |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the suite, write its results, and return 1 if anything failed."""
    if sys.argv[1:2] == ["--work"]:
        path, folder, notes, mode, source, intervals = sys.argv[2:]
        work(Path(path), Path(folder), Path(notes), mode, source, int(intervals))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="what to stream with; an untrained model by default")
    parser.add_argument("--kills", type=int, default=500, help="number of kills, over all cases")
    parser.add_argument("--intervals", type=int, default=400, help="length of a replay")
    parser.add_argument("--flips", type=int, default=1000, help="number of damaged snapshots")
    parser.add_argument("--seed", type=int, default=0, help="of the instants and the bytes")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    with ExitStack() as stack:
        bundle = Bundle.load(options.bundle or freeway_bundle(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        rng = np.random.default_rng(options.seed)
        rows = []
        for index, (mode, source) in enumerate(CASES):
            rows.append(kill(bundle, mode, source, options.intervals, (options.kills + index) // len(CASES), rng))
            print(rows[-1], flush=True)
        rows.append(flip(bundle, options.flips, rng))
    where = environment()
    text = report(rows, where, f"python benchmarks/faults.py --kills {options.kills} --flips {options.flips}")
    data = {"environment": where, "seed": options.seed, "rows": [asdict(row) for row in rows]}
    write_results(options.out, "reliability", data, text)
    print(text)
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())
