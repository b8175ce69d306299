"""What a step costs from 207 to 33,113 nodes, dense and in blocks, and the memory that training and a stream take.

    python -m benchmarks.speed.large_graphs [--rounds 12] [--out benchmarks/results]

Real graphs (see real_graphs.py), random weights (seeded), one thread, K = 3, one scale (2, 2). Every graph is measured
in a process of its own; the sessions that are compared run in turn, so that a slow moment of the machine meets all of
them. Dense is measured up to 5,175 nodes: at 33,113 its constants alone would be 8.8 GB a level.
Writes benchmarks/results/large_graphs.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.harness.real_graphs import GRAPHS, real_graph
from benchmarks.harness.workbench import RESULTS, ROOT, SHARED, write_results
from export.bundle import export_bundle
from export.step_graph import export_step
from runtime.stream import Stream
from runtime.timing import Samples, environment, interleave
from stunet_deploy.bundle import Bundle
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.graph.hierarchy import BasisForm, GraphHierarchy
from stunet_deploy.models.stunet.model import StepInputs, STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site

HIDDEN = (32, 96)
#: Above this many nodes nobody would export dense bases.
LARGEST_DENSE = 6_000
NARROW = HIDDEN[0]
INTERVAL_S = 300
WINDOW = 12
PUSHES = 24
SPEED = Signal(("speed",), ("speed",), mean=(55.0,), std=(12.0,), low=(0.0,), high=(90.0,))


def random_model(name: str, hidden: int, basis: BasisForm) -> STUNet:
    """Return a model of a graph with random weights, its head included."""
    config = STUNetConfig(hidden=hidden, basis=basis)
    pools = [levels for levels, _ in config.scales]
    hierarchy = GraphHierarchy.build(real_graph(name, SHARED), pool_levels=pools, basis=basis)
    torch.manual_seed(0)
    model = STUNet(config, hierarchy, SPEED).eval()
    torch.nn.init.normal_(model.decoder.head.weight, std=0.02)
    return model


def random_checkpoint(model: STUNet) -> Checkpoint:
    """Return a model with a short stream of random speeds."""
    rng, sensors = np.random.default_rng(0), model.sensors
    shape = (PUSHES, sensors, 1)
    observed = rng.random(shape) > 0.05
    values = np.where(observed, rng.normal(55, 10, shape).clip(0, 90), 0).astype(np.float32)
    site = Site(tuple(map(str, range(sensors))), ("speed",), ("mph",), INTERVAL_S)
    times = 1_330_588_800 + INTERVAL_S * np.arange(PUSHES, dtype=np.int64)
    return Checkpoint(model, Series(values, observed, times, site), {"note": "random weights"})


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure_steps(name: str, rounds: int) -> dict[str, Any]:
    """Return times, sizes and largest difference of the steps of a graph, for every form and width."""
    found: dict[str, Any] = {}
    calls, outputs = {}, {}
    for hidden in HIDDEN:
        forms: list[BasisForm] = ["auto"]
        nodes = len(real_graph(name, SHARED))
        forms += ["dense", "blocks"] if nodes < LARGEST_DENSE else []
        for form in forms:
            started = time.perf_counter()
            model = random_model(name, hidden, form)
            prepared = time.perf_counter()
            levels = [level.slots.size for level in model.hierarchy.levels]
            if form != "auto" and all((size == 1) == (form == "dense") for size in found["levels"]):
                continue  # that is what auto chose
            found |= {"nodes": nodes, "levels": levels} if form == "auto" else {}
            data = export_step(model, {}).SerializeToString(deterministic=True)
            exported = time.perf_counter()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            rng = np.random.default_rng(0)
            contract = model.contract
            feed = {spec.name: rng.random(spec.with_batch(1), dtype=np.float32) for spec in contract.inputs}
            feed |= {tap.name: np.zeros(tap.state.with_batch(1), np.float32) for tap in contract.taps}
            key = f"{form} {hidden}"
            calls[key] = lambda session=session, feed=feed: session.run(None, feed)
            outputs[key] = calls[key]()[0]
            found[key] = {
                "onnx_mb": len(data) / 1e6,
                "prepare_s": prepared - started,
                "export_s": exported - prepared,
            }
    samples = interleave(calls, rounds, warm_up=1)
    for key, one in samples.items():
        nanoseconds = one.nanoseconds
        found[key] |= {"min_ms": float(nanoseconds.min()) / 1e6, "median_ms": float(np.median(nanoseconds)) / 1e6}
        found[key]["samples_us"] = (nanoseconds / 1e3).round(1).tolist()
        found[key]["difference"] = float(np.abs(outputs[key] - outputs[f"auto {key.split()[1]}"]).max())
    return found


def measure_training(name: str) -> dict[str, Any]:
    """Return time and peak memory of one update on a window of a graph, a loss after every interval."""
    model = random_model(name, NARROW, "auto").train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    shape = (1, WINDOW, model.sensors, 1)
    inputs = StepInputs(55 + 10 * torch.randn(shape), torch.ones(shape), torch.zeros(1, WINDOW, 1))
    started = time.perf_counter()
    forecast, _ = model(inputs, model.initial_lines(1))
    (forecast - 55).abs().mean().backward()
    optimiser.step()
    return {"seconds": time.perf_counter() - started, "peak_mb": peak_mb()}


def measure_export(name: str, folder: Path) -> dict[str, Any]:
    """Write the bundle of a graph, verified over its golden stream."""
    started = time.perf_counter()
    bundle = export_bundle(random_checkpoint(random_model(name, NARROW, "auto")), folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    error = bundle.manifest.parity["fp32"]["max_abs_error"]
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": peak_mb(), "bundle_mb": size / 1e6, "max_abs_error": error}


def measure_stream(folder: Path) -> dict[str, Any]:
    """Return the time of a push and the peak memory of a stream of a bundle."""
    bundle = Bundle.load(folder)
    stream = Stream.open(bundle, threads=1)
    rng, nanoseconds = np.random.default_rng(0), []
    for interval in range(PUSHES):
        readings = rng.normal(55, 10, (len(bundle.manifest.sensor_ids), 1)).astype(np.float32)
        started = time.perf_counter_ns()
        stream.push(readings, interval * INTERVAL_S)
        nanoseconds.append(time.perf_counter_ns() - started)
    return {"push_ms": Samples(np.array(nanoseconds)).median_us / 1e3, "peak_mb": peak_mb()}


def in_its_own_process(part: str, *arguments: str) -> dict[str, Any]:
    """Run a part of this file in a new process, on one thread, and return what it found."""
    command = [sys.executable, "-m", "benchmarks.speed.large_graphs", "--part", part, *arguments]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def exponent(graphs: dict[str, Any], key: str) -> float:
    """Return a in time ~ nodes^a, fitted to the shortest times by least squares of the logarithms."""
    nodes = [one["nodes"] for one in graphs.values()]
    return float(np.polyfit(np.log(nodes), np.log([one[key]["min_ms"] for one in graphs.values()]), 1)[0])


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="how often each step is timed")
    parser.add_argument("--graphs", nargs="+", default=GRAPHS, choices=GRAPHS, help="graphs to measure steps of")
    parser.add_argument(
        "--largest", default=GRAPHS[-1], choices=GRAPHS, help="graph to train and stream for its memory"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--part", choices=("steps", "training", "export", "stream"), help=argparse.SUPPRESS)
    parser.add_argument("--graph", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (SHARED / "road-networks.npz").is_file():
        parser.error(f"no road-networks.npz in {SHARED}; name the folder of the data by STUNET_DATA")
    torch.set_num_threads(1)
    if options.part:
        parts = {
            "steps": lambda: measure_steps(options.graph, options.rounds),
            "training": lambda: measure_training(options.largest),
            "export": lambda: measure_export(options.largest, options.bundle),
            "stream": lambda: measure_stream(options.bundle),
        }
        print(json.dumps(parts[options.part]()))
        return
    graphs = {}
    for name in options.graphs:
        print(name, flush=True)
        graphs[name] = in_its_own_process("steps", "--graph", name, "--rounds", str(options.rounds))
    memory = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = ("--bundle", str(Path(folder) / "large.bundle"))
        for part, arguments in (("training", ()), ("export", bundle), ("stream", bundle)):
            print(part, flush=True)
            memory[part] = in_its_own_process(part, "--largest", options.largest, *arguments)
    result: dict[str, Any] = {"graphs": graphs, "memory": {"graph": options.largest, **memory}}
    result |= {"environment": environment() | {"torch": torch.__version__}}
    if len(graphs) > 1:
        result["exponents"] = {str(hidden): exponent(graphs, f"auto {hidden}") for hidden in HIDDEN}
    text = report(result)
    write_results(options.out, "large_graphs", result, text)
    print(text)


def report(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    where, memory = result["environment"], result["memory"]
    lines = [
        "# Large graphs",
        "",
        "`python -m benchmarks.speed.large_graphs`: "
        "ST-UNet with K = 3 and one scale (2, 2) on real graphs, random weights; "
        "one thread, shortest of the rounds, dense and blocks in turn.",
        "",
        f"{where['cpu']}, {where['cores']} cores, load {where['load']} at the end; Python {where['python']}, "
        f"torch {where['torch']}, onnxruntime {where['onnxruntime']}, commit {(where['commit'] or 'unknown')[:12]}.",
        "",
        "| graph | nodes | hidden | `auto` takes | step ms | µs a node | step.onnx MB | dense ms | MB | "
        "blocks are faster | smaller | differ by mph |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in result["graphs"].items():
        for hidden in HIDDEN:
            auto, taken = one[f"auto {hidden}"], " → ".join(_form(size) for size in one["levels"])
            dense, blocks = (one.get(f"{form} {hidden}", auto) for form in ("dense", "blocks"))
            compared = ["–"] * 5
            if dense is not blocks:
                faster, smaller = (dense[key] / blocks[key] for key in ("min_ms", "onnx_mb"))
                numbers = f"{dense['min_ms']:.2f}", f"{dense['onnx_mb']:.1f}", f"{faster:.2f} ×", f"{smaller:.2f} ×"
                compared = [*numbers, f"{max(dense['difference'], blocks['difference']):.1e}"]
            cells = f"{auto['min_ms']:.2f}", f"{1e3 * auto['min_ms'] / one['nodes']:.1f}", f"{auto['onnx_mb']:.1f}"
            lines.append(f"| {name} | {one['nodes']:,} | {hidden} | {taken} | {' | '.join((*cells, *compared))} |")
    if "exponents" in result:
        fits = ", ".join(f"N^{fit:.2f} at hidden {hidden}" for hidden, fit in result["exponents"].items())
        lines += ["", f"The step grows as {fits} (least squares over all graphs, logarithms of both)."]
    training, stream, export = (memory[part] for part in ("training", "stream", "export"))
    lines += [
        "",
        f"{memory['graph']} at hidden {NARROW}, each in a process of its own: an update on {WINDOW} intervals takes "
        f"{training['seconds']:.1f} s and at most {training['peak_mb'] / 1e3:.2f} GB resident; a stream "
        f"{stream['push_ms']:.0f} ms a push (median) and {stream['peak_mb'] / 1e3:.2f} GB; the export of its bundle "
        f"{export['seconds']:.0f} s and {export['peak_mb'] / 1e3:.2f} GB, {export['bundle_mb']:.0f} MB on disk, "
        f"{export['max_abs_error']:.1e} mph from the float64 reference at most.",
        "",
    ]
    return "\n".join(lines)


def _form(size: int) -> str:
    return "dense" if size == 1 else f"blocks of {size}"


if __name__ == "__main__":
    main()
