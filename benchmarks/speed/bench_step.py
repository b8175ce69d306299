"""The streamed step against recomputing the window, in one run on one graph.

    python -m benchmarks.speed.bench_step [--data metr-la.npz] [--hidden 96] [--rounds 200]

Six ways to the same kind of forecast, timed in turn so that a slow minute of the machine meets all of them alike:

    push      Stream.push on ONNX Runtime, one thread: twelve in a row, as many intervals as a window; time of one
    push x2   the same on two threads
    push cold a single push right after the others have used the processor's caches
    eager     the 12-interval window through the model in PyTorch, one thread, `forward` (the fast sequence form)
    stepwise  the same window as 12 calls of the model's `step` in PyTorch, one thread
    window    the same window as one graph through ONNX Runtime, one thread

ST-UNet and a Structural-RNN of default widths, their weights random (seeded): time does not depend on them.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.command import Command
from benchmarks.harness.networks import recorded_checkpoint, st_unet
from benchmarks.harness.page import machine, milliseconds, page, table
from benchmarks.speed.ways import WindowForecast, burst, microseconds, streaming, window_call, window_inputs
from export.bundle import export_bundle
from runtime.bench.measure import cold_start
from runtime.bench.plan import Case
from runtime.timing import Samples, interleave, paired_ratio
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import SRNNRunConfig
from stunet_deploy.models.forecaster import unroll
from stunet_deploy.series.series import Series, read_series

MODELS = ("ST-UNet", "Structural-RNN")
WIDTHS = ("hidden", "edge_hidden", "node_hidden")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = Command("benchmarks.speed.bench_step", __doc__)
    command.recording()
    command.option("--hidden", 96, "channels of the ST-UNet", quick=4)
    command.option("--rounds", 200, "how often each way is timed", quick=2)
    command.option("--models", MODELS, "which models", quick=MODELS[1:], choices=MODELS)
    command.run(measure, report, arguments)


def measure(options: Namespace) -> dict[str, Any]:
    """Time both networks."""
    torch.set_num_threads(1)
    series = read_series(options.data)
    networks = {}
    for name in options.models:
        config = st_unet(options.hidden) if name == MODELS[0] else SRNNRunConfig()
        networks[name] = measure_network(recorded_checkpoint(series, options.data, config), series, options.rounds)
    return {"graph": {"data": options.data.name, "sensors": len(series.sensor_ids)}, "networks": networks}


def measure_network(checkpoint: Checkpoint, series: Series, rounds: int) -> dict[str, Any]:
    """Time all ways of one network in turn."""
    model, length = checkpoint.model, checkpoint.model.config.window
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        bundle = export_bundle(checkpoint, Path(folder) / "step.bundle")
        inputs, window = window_inputs(series, length), WindowForecast(checkpoint)
        calls = {
            "push": burst(streaming(bundle, series, 1), length),
            "push x2": burst(streaming(bundle, series, 2), length),
            "eager": lambda: window(*inputs),
            "stepwise": lambda: unroll(model, inputs, model.initial_lines(1)),
            "window": window_call(window, inputs),
            "push cold": streaming(bundle, series, 1),
        }
        samples = interleave(calls, rounds, warm_up=min(10, rounds))
        for name in ("push", "push x2"):
            samples[name] = Samples(samples[name].nanoseconds // length)
        start = cold_start(bundle.path, Case())
    return {
        "model": asdict(model.config),
        "max_abs_error": bundle.manifest.parity["fp32"]["max_abs_error"],
        "calls": {name: one.summary() for name, one in samples.items()},
        "ratios": {name: paired_ratio(samples[name], samples["push"]) for name in samples if name != "push"},
        "cold_start": start,
        "samples_us": microseconds(samples),
    }


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    graph = result["graph"]
    return page(
        "Streamed step against recomputed window",
        f"`{result['command']}`: {graph['data']}, {graph['sensors']} sensors; random weights.",
        machine(result["environment"]),
        *(block for name, network in result["networks"].items() for block in _network(name, network)),
    )


def _network(name: str, network: dict[str, Any]) -> list[str]:
    model, start = network["model"], network["cold_start"]
    widths = ", ".join(f"{key.replace('_', ' ')} {model[key]}" for key in WIDTHS if key in model)
    rows = []
    for way, samples in network["samples_us"].items():
        one = Samples(np.round(1000 * np.array(samples)).astype(np.int64))
        ratio = "1" if way == "push" else f"{network['ratios'][way]:.2f}"
        times = map(milliseconds, (one.median_us, one.percentile(90.0), one.percentile(95.0)))
        rows.append([way, 2 if way.endswith("x2") else 1, *times, ratio])
    return [
        f"## {name}: {widths}, window of {model['window']}",
        table(["way", "threads", "median ms", "p90 ms", "p95 ms", "times the push (paired median)"], rows),
        f"A fresh process: import {start['import_ms']:.0f} ms, load {start['load_ms']:.0f} ms, open "
        f"{start['context_ms']:.0f} ms, first forecast {start['first_step_ms']:.1f} ms, {start['rss_mb']:.0f} MB "
        f"resident after 100 forecasts, torch imported: {'yes' if start['torch_imported'] else 'no'}.",
        f"Largest difference from the float64 reference over the golden stream: {network['max_abs_error']:.1e}.",
    ]


if __name__ == "__main__":
    main()
