"""The streamed step against recomputing the window, in one run on one graph.

    python -m benchmarks.speed.bench_step [--data metr-la.npz] [--hidden 96] [--rounds 200]

Six ways to the same kind of forecast, timed in turn so that a slow minute of the machine meets all of them alike:

    push      Stream.push on ONNX Runtime, one thread: twelve in a row, as many intervals as a window; time of one
    push x2   the same on two threads
    push cold a single push right after the others have used the processor's caches
    eager     the 12-interval window through the model in PyTorch, one thread, `forward` (the fast sequence form)
    stepwise  the same window as 12 calls of the model's `step` in PyTorch, one thread
    window    the same window as one graph through ONNX Runtime, one thread

ST-UNet and a Structural-RNN of default widths, their weights random (seeded): time does not depend on them. Writes
benchmarks/results/bench_step.{json,md}.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.workbench import RESULTS, SHARED, write_results
from benchmarks.speed.ways import WindowForecast, burst, random_checkpoint, st_unet, streaming, window_session
from export.bundle import export_bundle
from runtime.bench.measure import cold_start
from runtime.bench.plan import Case
from runtime.timing import Samples, environment, interleave, paired_ratio
from stunet_deploy.config import RunConfig, SRNNRunConfig
from stunet_deploy.models.forecaster import StepInputs, unroll
from stunet_deploy.series.series import Series, read_series

WIDTHS = ("hidden", "edge_hidden", "node_hidden")


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "metr-la.npz", help="recording with its graph")
    parser.add_argument("--hidden", type=int, default=96, help="channels of the ST-UNet")
    parser.add_argument("--rounds", type=int, default=200, help="how often each way is timed")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    if not options.data.is_file():
        parser.error(f"no file {options.data}; name a recording with a graph by --data, or set STUNET_DATA")

    torch.set_num_threads(1)
    configs: dict[str, RunConfig | SRNNRunConfig] = {
        "ST-UNet": st_unet(options.hidden),
        "Structural-RNN": SRNNRunConfig(),
    }
    series = read_series(options.data)
    networks = {name: measure(series, options.data, config, options.rounds) for name, config in configs.items()}
    result = {
        "graph": {"data": options.data.name, "sensors": len(series.sensor_ids)},
        "environment": environment() | {"torch": torch.__version__},
        "networks": networks,
    }
    text = report(result)
    write_results(options.out, "bench_step", result, text)
    print(text)


def measure(series: Series, data: Path, config: RunConfig | SRNNRunConfig, rounds: int) -> dict[str, Any]:
    """Time all ways of one network in turn."""
    checkpoint = random_checkpoint(series, data, config)
    model, length = checkpoint.model, checkpoint.model.config.window
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        bundle = export_bundle(checkpoint, Path(folder) / "step.bundle")
        rows = slice(0, length)
        inputs = (
            torch.from_numpy(series.values[None, rows]),
            torch.from_numpy(series.observed[None, rows].astype(np.float32)),
            torch.from_numpy(series.time_of_week()[None, rows, None]),
        )
        window = WindowForecast(checkpoint)
        calls = {
            "push": burst(streaming(bundle, series, 1), length),
            "push x2": burst(streaming(bundle, series, 2), length),
            "eager": lambda: window(*inputs),
            "stepwise": lambda: unroll(model, StepInputs(*inputs), model.initial_lines(1)),
            "window": window_session(window, inputs),
            "push cold": streaming(bundle, series, 1),
        }
        samples = interleave(calls, rounds, warm_up=10)
        for name in ("push", "push x2"):
            samples[name] = Samples(samples[name].nanoseconds // length)
        start = cold_start(bundle.path, Case())
        max_abs_error = bundle.manifest.parity["fp32"]["max_abs_error"]
    return {
        "model": asdict(model.config),
        "max_abs_error": max_abs_error,
        "calls": {name: one.summary() for name, one in samples.items()},
        "ratios": {name: paired_ratio(samples[name], samples["push"]) for name in samples if name != "push"},
        "cold_start": start,
        "samples_us": {name: (one.nanoseconds / 1000).round(1).tolist() for name, one in samples.items()},
    }


def report(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    where, graph = result["environment"], result["graph"]
    lines = [
        "# Streamed step against recomputed window",
        "",
        f"`python -m benchmarks.speed.bench_step`: {graph['data']}, {graph['sensors']} sensors; random weights. "
        "Windows of ST-UNet have the fill `last`, its steps have `forecast`.",
        "",
        f"{where['cpu']}, {where['cores']} cores, load {where['load']} at the end; Python {where['python']}, "
        f"torch {where['torch']}, onnxruntime {where['onnxruntime']}, commit {(where['commit'] or 'unknown')[:12]}.",
        "",
    ]
    for name, network in result["networks"].items():
        lines += _network(name, network)
    return "\n".join(lines)


def _network(name: str, network: dict[str, Any]) -> list[str]:
    model, start = network["model"], network["cold_start"]
    widths = ", ".join(f"{key.replace('_', ' ')} {model[key]}" for key in WIDTHS if key in model)
    lines = [
        f"## {name}: {widths}, window of {model['window']}",
        "",
        "| way | threads | median ms | p90 ms | p95 ms | times the push (paired median) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way, microseconds in network["samples_us"].items():
        one = Samples(np.round(1000 * np.array(microseconds)).astype(np.int64))
        ratio = "1" if way == "push" else f"{network['ratios'][way]:.2f}"
        tail = [one.percentile(percent) for percent in (90.0, 95.0)]
        cells = " | ".join("–" if value is None else f"{value / 1000:.2f}" for value in (one.median_us, *tail))
        lines.append(f"| {way} | {2 if way.endswith('x2') else 1} | {cells} | {ratio} |")
    return [
        *lines,
        "",
        f"A fresh process: import {start['import_ms']:.0f} ms, load {start['load_ms']:.0f} ms, open "
        f"{start['context_ms']:.0f} ms, first forecast {start['first_step_ms']:.1f} ms, {start['rss_mb']:.0f} MB "
        f"resident after 100 forecasts, torch imported: {'yes' if start['torch_imported'] else 'no'}.",
        "",
        f"Largest difference from the float64 reference over the golden stream: {network['max_abs_error']:.1e}.",
        "",
    ]


if __name__ == "__main__":
    main()
