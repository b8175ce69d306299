"""What a step costs from 207 to 33,113 nodes, dense and in blocks, and the memory that training and a stream take.

    python -m benchmarks.speed.large_graphs [--rounds 12]

Real graphs, random weights (seeded), one thread, K = 3, one scale (2, 2). Every graph is measured in a process of its
own; the sessions that are compared run in turn, so that a slow moment of the machine meets all of them. Dense is
measured up to 5,175 nodes: at 33,113 its constants alone would be 8.8 GB a level.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.command import Command
from benchmarks.harness.networks import GRAPHS, INTERVAL_S, random_checkpoint, random_model, real_graph
from benchmarks.harness.page import machine, page, table
from benchmarks.harness.sessions import step_call
from export.bundle import export_bundle
from export.step_graph import export_step
from runtime.stream import Stream
from runtime.timing import interleave
from runtime.timing import measure as measure_calls
from stunet_deploy.bundle import Bundle
from stunet_deploy.config import BasisForm, STUNetConfig
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.stunet.model import STUNet

#: Above this many nodes dense bases are too large to export.
LARGEST_DENSE = 6_000
WINDOW = 12
PUSHES = 24


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = Command("benchmarks.speed.large_graphs", __doc__)
    command.weeks("metr-la")  # the smallest graph; the others lie beside it
    command.option("--hidden", (32, 96), "channels of the models, the first for memory", quick=(4,))
    command.option("--rounds", 12, "how often each step is timed", quick=2)
    command.option("--graphs", GRAPHS, "graphs to measure steps of", choices=GRAPHS, quick=GRAPHS[:1])
    command.option("--largest", GRAPHS[-1], "graph to train and stream for its memory", choices=GRAPHS, quick=GRAPHS[0])
    command.run(measure, report, arguments)


def graph_model(graph: Adjacency, hidden: int, basis: BasisForm = "auto") -> STUNet:
    """Return an untrained model of a graph."""
    return random_model(STUNetConfig(hidden=hidden, basis=basis), graph)


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure_steps(graph: Adjacency, widths: Sequence[int], rounds: int) -> dict[str, Any]:
    """Return times, sizes and largest difference of the steps of a graph, for every form and width."""
    found: dict[str, Any] = {"nodes": len(graph)}
    forms: tuple[BasisForm, ...] = ("auto", "dense", "blocks") if len(graph) < LARGEST_DENSE else ("auto",)
    calls = {}
    for hidden in widths:
        for form in forms:
            started = time.perf_counter()
            model = graph_model(graph, hidden, form)
            prepared = time.perf_counter()
            if form == "auto":
                found["levels"] = [level.slots.size for level in model.hierarchy.levels]
            elif all((size == 1) == (form == "dense") for size in found["levels"]):
                continue  # that is what auto chose
            step = export_step(model, {})
            exported = time.perf_counter()
            calls[f"{form} {hidden}"] = step_call(step, model.contract)
            found[f"{form} {hidden}"] = {
                "onnx_mb": step.ByteSize() / 1e6,
                "prepare_s": prepared - started,
                "export_s": exported - prepared,
            }
    outputs = {key: call()[0] for key, call in calls.items()}
    for key, one in interleave(calls, rounds, warm_up=1).items():
        found[key] |= {
            "min_ms": float(one.nanoseconds.min()) / 1e6,
            "median_ms": one.median_us / 1e3,
            "samples_us": (one.nanoseconds / 1e3).round(1).tolist(),
            "difference": float(np.abs(outputs[key] - outputs[f"auto {key.split()[1]}"]).max()),
        }
    return found


def measure_training(graph: Adjacency, hidden: int) -> dict[str, Any]:
    """Return time and peak memory of one update on a window of a graph, a loss after every interval."""
    model = graph_model(graph, hidden).train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    shape = (1, WINDOW, model.sensors, 1)
    inputs = StepInputs(55 + 10 * torch.randn(shape), torch.ones(shape), torch.zeros(1, WINDOW, 1))
    started = time.perf_counter()
    forecast, _ = model(inputs, model.initial_lines(1))
    (forecast - 55).abs().mean().backward()
    optimiser.step()
    return {"seconds": time.perf_counter() - started, "peak_mb": peak_mb()}


def measure_export(graph: Adjacency, hidden: int, folder: Path) -> dict[str, Any]:
    """Write the bundle of a graph, verified over its golden stream."""
    started = time.perf_counter()
    bundle = export_bundle(random_checkpoint(graph_model(graph, hidden), PUSHES), folder)
    seconds = time.perf_counter() - started
    size = sum(file.stat().st_size for file in folder.iterdir())
    error = bundle.manifest.parity["fp32"]["max_abs_error"]
    return {"seconds": seconds, "peak_mb": peak_mb(), "bundle_mb": size / 1e6, "max_abs_error": error}


def measure_stream(folder: Path) -> dict[str, Any]:
    """Return the time of a push and the peak memory of a stream of a bundle."""
    bundle = Bundle.load(folder)
    stream, clock = Stream.open(bundle, threads=1), iter(range(PUSHES))
    readings = np.random.default_rng(0).normal(55, 10, (PUSHES, len(bundle.manifest.sensor_ids), 1)).astype(np.float32)

    def push() -> None:
        interval = next(clock)
        stream.push(readings[interval], interval * INTERVAL_S)

    samples = measure_calls(push, warm_up=0, repeats=PUSHES)
    return {"push_ms": samples.median_us / 1e3, "peak_mb": peak_mb()}


def in_its_own_process(part: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Run a part in a new process, on one thread, and return what it found."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # or the imports of every process would take most of the time
    with ProcessPoolExecutor(1, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as process:
        return process.submit(part, *arguments).result()


def exponent(graphs: dict[str, Any], key: str) -> float:
    """Return a in time ~ nodes^a, fitted to the shortest times by least squares of the logarithms."""
    nodes = [one["nodes"] for one in graphs.values()]
    return float(np.polyfit(np.log(nodes), np.log([one[key]["min_ms"] for one in graphs.values()]), 1)[0])


def measure(options: Namespace) -> dict[str, Any]:
    """Measure the steps of all graphs, and the memory that the largest takes."""
    (week,) = options.weeks
    graphs = {}
    for name in options.graphs:
        print(name, flush=True)
        graphs[name] = in_its_own_process(measure_steps, real_graph(name, week.folder), options.hidden, options.rounds)
    largest, narrow = real_graph(options.largest, week.folder), options.hidden[0]
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "large.bundle"
        memory = {
            "graph": options.largest,
            "hidden": narrow,
            "training": in_its_own_process(measure_training, largest, narrow),
            "export": in_its_own_process(measure_export, largest, narrow, bundle),
            "stream": in_its_own_process(measure_stream, bundle),
        }
    result = {"graphs": graphs, "memory": memory}
    if len(graphs) > 1:
        result["exponents"] = {str(hidden): exponent(graphs, f"auto {hidden}") for hidden in options.hidden}
    return result


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    memory, rows = result["memory"], []
    for name, one in result["graphs"].items():
        for hidden in (key.removeprefix("auto ") for key in one if key.startswith("auto ")):
            auto, taken = one[f"auto {hidden}"], " → ".join(_form(size) for size in one["levels"])
            dense, blocks = (one.get(f"{form} {hidden}", auto) for form in ("dense", "blocks"))
            compared = ["–"] * 5
            if dense is not blocks:
                faster, smaller = (dense[key] / blocks[key] for key in ("min_ms", "onnx_mb"))
                numbers = f"{dense['min_ms']:.2f}", f"{dense['onnx_mb']:.1f}", f"{faster:.2f} ×", f"{smaller:.2f} ×"
                compared = [*numbers, f"{max(dense['difference'], blocks['difference']):.1e}"]
            cells = f"{auto['min_ms']:.2f}", f"{1e3 * auto['min_ms'] / one['nodes']:.1f}", f"{auto['onnx_mb']:.1f}"
            rows.append([name, f"{one['nodes']:,}", hidden, taken, *cells, *compared])
    columns = ["graph", "nodes", "hidden", "`auto` takes", "step ms", "µs a node", "step.onnx MB"]
    columns += ["dense ms", "MB", "blocks are faster", "smaller", "differ by mph"]
    fits = ", ".join(f"N^{fit:.2f} at hidden {hidden}" for hidden, fit in result.get("exponents", {}).items())
    training, stream, export = (memory[part] for part in ("training", "stream", "export"))
    return page(
        "Large graphs",
        f"`{result['command']}`: ST-UNet with K = 3 and one scale (2, 2) on real graphs, random weights; one thread, "
        "shortest of the rounds, dense and blocks in turn.",
        machine(result["environment"]),
        table(columns, rows),
        fits and f"The step grows as {fits} (least squares over all graphs, logarithms of both).",
        f"{memory['graph']} at hidden {memory.get('hidden', 32)}, each in a process of its own: an update on {WINDOW} "
        f"intervals takes {training['seconds']:.1f} s and at most {training['peak_mb'] / 1e3:.2f} GB resident; a "
        f"stream {stream['push_ms']:.0f} ms a push (median) and {stream['peak_mb'] / 1e3:.2f} GB; the export of its "
        f"bundle {export['seconds']:.0f} s and {export['peak_mb'] / 1e3:.2f} GB, {export['bundle_mb']:.0f} MB on disk, "
        f"{export['max_abs_error']:.1e} mph from the float64 reference at most.",
    )


def _form(size: int) -> str:
    return "dense" if size == 1 else f"blocks of {size}"


if __name__ == "__main__":
    main()
