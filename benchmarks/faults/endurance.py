"""Endurance: a million steps of one stream change neither its memory nor what a step costs.

A process of its own pushes intervals with gaps and missing readings into a durable stream whose folder lies in memory
where there is such a folder (a million waits for a disk would measure the disk). Samples go into arrays that are made
and touched beforehand, so the process's resident memory grows by what the stream keeps alone; the most that it ever was
after the warm-up is judged, above what it was at the end of that. A step is everything that a push does: reading,
journal, model, and every 24th time a snapshot, which is what the 99th percentile sees. It is judged by processor time,
which leaves out what other programs take; the page says what the clock saw, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.network import START_S, in_memory, values_of
from benchmarks.faults.table import Row
from benchmarks.harness.workbench import ROOT
from runtime.durable.stream import DurableStream
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle

EVERY = 24  # intervals between two snapshots
MOST_MB, MOST_RATIO = 1.0, 1.2
FEWEST = 100_000  # steps; fewer are no measurement
_POOL = 997  # intervals, used again and again
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def endurance(bundle: Bundle, steps: int) -> Iterator[Row]:
    """Run so many steps; the first twentieth is the warm-up."""
    command = [sys.executable, "-m", "benchmarks.faults.endurance", str(bundle.path.resolve()), str(steps)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    failures = []
    judged = steps >= FEWEST
    if judged and found["growth_mb"] > MOST_MB:
        failures.append(f"memory grew by {found['growth_mb']:.2f} MB after the warm-up")
    if judged and found["processor"]["ratio"] > MOST_RATIO:
        failures.append(f"p99 of the last tenth is {found['processor']['ratio']:.2f} times that of the first")
    processor, wall = found["processor"], found["wall"]
    seen = (
        f"memory {found['growth_mb']:+.2f} MB at most, to {max(found['rss_mb']):.2f}; p99 of the last tenth / "
        f"of the first: {processor['last_us']:.0f} / {processor['first_us']:.0f} µs of processor time = "
        f"{processor['ratio']:.2f}; {wall['last_us']:.0f} / {wall['first_us']:.0f} µs by the clock = "
        f"{wall['ratio']:.2f}"
    )
    yield Row("steps of one durable stream", steps, failures, seen, data=found)


def work(path: Path, steps: int) -> dict[str, Any]:
    """Push, and return what memory and steps did."""
    bundle = Bundle.load(path)
    pool = [values_of(bundle.manifest, step) for step in range(_POOL)]
    samples = np.full((2, steps), 1, np.int64)  # by the clock, and of processor time
    rss = np.full(100, 1.0)
    warm_up = max(1, steps // 20)
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        durable = DurableStream(Stream.open(bundle), folder, every=EVERY)
        interval, done = 0, 0
        while done < steps:
            values = pool[interval % _POOL]
            if values is not None:
                begin, spent = time.perf_counter_ns(), time.thread_time_ns()
                durable.push(values, START_S + bundle.manifest.interval_s * interval)
                samples[1, done] = time.thread_time_ns() - spent
                samples[0, done] = time.perf_counter_ns() - begin
                done += 1
                if done % max(1, steps // 100) == 0:
                    rss[done * 100 // steps - 1] = _rss_mb()
                if done % max(1, steps // 20) == 0:
                    print(f"  {done:,} steps, {_rss_mb():.2f} MB", file=sys.stderr, flush=True)
            interval += 1
        counters = durable.stream.counters
        durable.close()
    wall, processor = (_tenths(line[warm_up:]) for line in samples)
    return {
        "steps": steps,
        "intervals": interval,
        "bridged": counters.bridged,
        "growth_mb": float(rss[5:].max() - rss[4]),
        "rss_mb": rss.tolist(),
        "wall": wall,
        "processor": processor,
    }


def _tenths(samples: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    """Return the 99th percentile of the first and of the last tenth, and their ratio."""
    tenth = max(1, len(samples) // 10)
    first, last = (float(np.percentile(part, 99)) / 1000 for part in (samples[:tenth], samples[-tenth:]))
    return {"first_us": first, "last_us": last, "ratio": last / first}


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MB


if __name__ == "__main__":
    print(json.dumps(work(Path(sys.argv[1]), int(sys.argv[2]))))
