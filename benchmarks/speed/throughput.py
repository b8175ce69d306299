"""Forecasts a second: many streams in one batched step, and many processes on the machine's cores.

    python -m benchmarks.speed.throughput [--data metr-la.npz] [--hidden 96] [--streams 1 2 4 8 16 32] [--seconds 5]

First `StreamGroup` with 1 to 32 streams on one thread, timed in turn; forecasts of its members are compared with those
of a stream alone. Then processes x threads as far as the cores go, every process with a stream (or a group of the most
efficient size) of its own, all pushing at once for some seconds. Weights are random (seeded): time does not depend on
them.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, milliseconds, page, table
from runtime.bench.loops import closed_loop
from runtime.group import StreamGroup
from runtime.stream import Stream
from runtime.timing import Samples, interleave
from stunet_deploy.bundle import Bundle, Golden


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = Command("benchmarks.speed.throughput", __doc__)
    command.recording()
    command.option("--hidden", 96, "channels of the model", quick=4)
    command.option("--bundle", None, "measure this bundle instead of an untrained model", kind=Path)
    command.option("--streams", (1, 2, 4, 8, 16, 32), "sizes of the group", quick=(3, 1))
    command.option("--rounds", 200, "how often each size is timed", quick=3)
    command.option("--cores", len(os.sched_getaffinity(0)), "of the sweep", quick=2)
    command.option("--seconds", 5.0, "how long processes push", quick=0.2)
    command.run(measure, report, arguments)


def pushing(bundle: Bundle, golden: Golden, count: int, threads: int) -> Callable[[], Any]:
    """Return a call that pushes the next interval of ``count`` streams, each at another place of the golden stream."""
    group = StreamGroup.open(bundle, count, threads=threads)
    values = np.where(golden.observed, golden.values, np.nan)
    clock = itertools.count()
    offsets = np.arange(count) * max(1, len(values) // count)
    interval_s, first = bundle.manifest.interval_s, int(golden.timestamps[0])

    def push() -> Any:
        tick = next(clock)
        return group.push(values[(tick + offsets) % len(values)], [first + tick * interval_s] * count)

    return push


def largest_difference(bundle: Bundle, golden: Golden, count: int, intervals: int = 24) -> float:
    """Return by how much forecasts of a group's members differ at most from those of a stream alone."""
    push = pushing(bundle, golden, count, 1)
    together = [push() for _ in range(intervals)]
    values = np.where(golden.observed, golden.values, np.nan)
    worst = 0.0
    for member in {0, count // 2, count - 1}:
        alone = Stream.open(bundle)
        offset = member * max(1, len(values) // count)
        for tick, forecasts in enumerate(together):
            stamp = int(golden.timestamps[0]) + tick * bundle.manifest.interval_s
            expected = alone.push(values[(tick + offset) % len(values)], stamp).values
            worst = max(worst, float(np.abs(forecasts[member].values - expected).max()))
    return worst


def batched(bundle: Bundle, golden: Golden, counts: list[int], rounds: int) -> list[dict[str, Any]]:
    """Time a push of each number of streams, in turn."""
    calls = {str(count): pushing(bundle, golden, count, 1) for count in counts}
    samples = interleave(calls, rounds, warm_up=5)
    return [
        {
            "streams": count,
            "push": samples[str(count)].summary(),
            "forecasts_per_s": count * 1e6 / samples[str(count)].median_us,
            "difference": largest_difference(bundle, golden, count),
            "samples_us": (samples[str(count)].nanoseconds / 1000).round(1).tolist(),
        }
        for count in counts
    ]


def work(folder: str, streams: int, threads: int, seconds: float, start: Barrier, results: Any) -> None:
    """Push for some seconds, together with other processes; queue (intervals, seconds, nanoseconds of each)."""
    bundle = Bundle.load(folder)
    push = pushing(bundle, bundle.golden(), streams, threads)
    for _ in range(20):
        push()
    start.wait()
    begun = time.perf_counter()
    parts = []
    while time.perf_counter() - begun < seconds:
        parts.append(closed_loop(lambda: push()[0].step_us, 5).latency.nanoseconds)
    results.put((sum(map(len, parts)), time.perf_counter() - begun, np.concatenate(parts)))


def spread(folder: Path, streams: int, processes: int, threads: int, seconds: float) -> dict[str, Any]:
    """Let processes push at the same time and return what they made together."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=work, args=(str(folder), streams, threads, seconds, start, results))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60 + 10 * seconds) for _ in workers]
    for worker in workers:
        worker.join()
    return {
        "streams": streams,
        "processes": processes,
        "threads": threads,
        "forecasts_per_s": sum(streams * count / took for count, took, _ in found),
        "push": Samples(np.concatenate([nanoseconds for *_, nanoseconds in found])).summary(),
    }


def export_random(data: Path, hidden: int, folder: Path) -> Bundle:
    """Export an untrained model of a recording's network."""
    from benchmarks.harness.networks import recorded_checkpoint, st_unet
    from export.bundle import export_bundle
    from stunet_deploy.series.series import read_series

    return export_bundle(recorded_checkpoint(read_series(data), data, st_unet(hidden)), folder)


def measure(options: Namespace) -> dict[str, Any]:
    """Time groups, and then processes."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "step.bundle"
        bundle = Bundle.load(options.bundle) if options.bundle else export_random(options.data, options.hidden, made)
        rows = batched(bundle, bundle.golden(), sorted(options.streams), options.rounds)
        best = max(rows, key=lambda row: float(row["forecasts_per_s"]))["streams"]
        powers = [2**power for power in range(options.cores.bit_length()) if 2**power <= options.cores]
        sweep = [
            spread(bundle.path, streams, processes, threads, options.seconds)
            for streams in sorted({1, best})
            for processes, threads in itertools.product(powers, powers)
            if processes * threads <= options.cores
        ]
    manifest = bundle.manifest
    return {
        "model": {"name": manifest.model, "sensors": len(manifest.sensor_ids), "config": dict(manifest.config)},
        "tolerance": manifest.tolerance[0],
        "batched": rows,
        "processes": sweep,
    }


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    model, alone = result["model"], result["batched"][0]["forecasts_per_s"]
    groups = [
        [
            row["streams"],
            *(milliseconds(row["push"][key]) for key in ("median_us", "p90_us", "p95_us")),
            f"{row['forecasts_per_s']:.0f}",
            f"{row['forecasts_per_s'] / alone:.2f}",
            f"{row['difference']:.1e}",
        ]
        for row in result["batched"]
    ]
    processes = [
        [
            *(row[key] for key in ("streams", "processes", "threads")),
            f"{row['forecasts_per_s']:.0f}",
            *(milliseconds(row["push"][key]) for key in ("median_us", "p99_us")),
        ]
        for row in result["processes"]
    ]
    times = ["push: median ms", "p90 ms", "p95 ms", "forecasts a second", "times one", "difference from alone"]
    return page(
        "Many streams",
        f"`{result['command']}`: {model['name']} on {model['sensors']} sensors, fp32.",
        machine(result["environment"]),
        "## In one batched step, one thread",
        table(["streams", *times], groups),
        f"The tolerance of the bundle is {result['tolerance']:.1e}.",
        "## Processes and threads, all at once",
        table(
            ["streams in a step", "processes", "threads each", "forecasts a second", "push: median ms", "p99 ms"],
            processes,
        ),
    )


if __name__ == "__main__":
    main()
