"""The streamed step against what one would run instead: recomputed windows of the same model, DCRNN, Graph WaveNet.

    python -m benchmarks.speed.peers [--data metr-la.npz] [--hidden 96] [--rounds 100] [--readme]

One run, one machine, one graph, one thread each, timed in turn so that a slow minute of the machine meets all alike:

    step             Stream.push on ONNX Runtime: twelve intervals in a row, as many as a window; time of one
    window           the 12-interval window of the same model as one graph through ONNX Runtime
    compiled window  the same window through torch.compile, where there is a compiler
    eager window     the same window through the model in PyTorch
    Graph WaveNet    eager PyTorch, published size, on a window of 12
    DCRNN            eager PyTorch, published size, on a window of 12

All forecast 12 intervals of every sensor. Weights are random (seeded): time does not depend on them, and nothing is
said here about accuracy. Draws peers.svg beside its page; --readme puts the headline into README.md.
"""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.command import Command
from benchmarks.harness.networks import recorded_checkpoint, st_unet
from benchmarks.harness.page import write
from benchmarks.harness.workbench import ROOT
from benchmarks.peers.diffusion import DCRNN, GraphWaveNet, parameters, random_walks
from benchmarks.speed.peer_report import headline, picture, report, write_headline
from benchmarks.speed.ways import WindowForecast, burst, microseconds, streaming, window_call, window_inputs
from export.bundle import export_bundle
from runtime.timing import Samples, interleave, paired_ratio
from stunet_deploy.graph.files import read_graph
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.series.series import read_series

WINDOW = 12


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    command = Command("benchmarks.speed.peers", __doc__)
    command.recording()
    command.option("--hidden", 96, "channels of our model", quick=4)
    command.option("--rounds", 100, "how often each way is timed", quick=3)
    command.option("--no-compile", False, "leave torch.compile out: it takes a minute", quick=True)
    command.option("--readme", False, "put the headline into README.md")
    options, result = command.run(measure, report, arguments)
    write(options.out / "peers.svg", picture(result))
    if options.readme:
        write_headline(ROOT / "README.md", headline(result))


def compiled(model: torch.nn.Module, inputs: StepInputs) -> tuple[Callable[[], Any] | None, str]:
    """Return a call of the compiled model, or None, and in words how long that took or why it failed."""
    begun = time.perf_counter()
    try:
        function = torch.compile(model)
        expected, found = model(*inputs), function(*inputs)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    except Exception as error:  # no compiler, an unsupported Python, a graph it refuses: each a finding
        reason = (str(error).strip().splitlines() or [""])[0]
        return None, f"not run: {type(error).__name__}: {reason[:200]}"
    return lambda: function(*inputs), f"compiled in {time.perf_counter() - begun:.0f} s"


def measure(options: Namespace) -> dict[str, Any]:
    """Time all ways in turn."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    series = read_series(options.data)
    checkpoint = recorded_checkpoint(series, options.data, st_unet(options.hidden))
    walks = random_walks(read_graph(options.data, series.sensor_ids).adjacency.dense())
    peers = {"Graph WaveNet": GraphWaveNet(walks).eval(), "DCRNN": DCRNN(walks).eval()}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        bundle = export_bundle(checkpoint, Path(folder) / "step.bundle")
        inputs, window = window_inputs(series, WINDOW), WindowForecast(checkpoint)
        calls: dict[str, Callable[[], Any]] = {
            "step": burst(streaming(bundle, series, 1), WINDOW),
            "window": window_call(window, inputs),
            "eager window": lambda: window(*inputs),
        }
        said = "left out"
        if not options.no_compile:
            call, said = compiled(window, inputs)
            if call is not None:
                calls["compiled window"] = call
        readings = torch.randn(1, WINDOW, len(series.sensor_ids), 2)  # speed and time of day
        calls |= {name: partial(peer, readings) for name, peer in peers.items()}
        samples = interleave(calls, options.rounds)
    samples["step"] = Samples(samples["step"].nanoseconds // WINDOW)
    return {
        "graph": {"data": options.data.name, "sensors": len(series.sensor_ids)},
        "model": asdict(checkpoint.model.config),
        "parameters": {name: parameters(one) for name, one in {"ST-UNet": checkpoint.model, **peers}.items()},
        "torch_compile": said,
        "calls": {name: one.summary() for name, one in samples.items()},
        "ratios": {name: paired_ratio(one, samples["step"]) for name, one in samples.items() if name != "step"},
        "samples_us": microseconds(samples),
    }


if __name__ == "__main__":
    main()
