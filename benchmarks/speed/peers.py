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
said here about accuracy. Writes benchmarks/results/peers.{json,md,svg}; --readme puts the headline into README.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.workbench import RESULTS, ROOT, SHARED, write_results
from benchmarks.speed.peer_models import DCRNN, GraphWaveNet, parameters, random_walks
from benchmarks.speed.peer_report import headline, picture, report, write_headline
from benchmarks.speed.ways import WindowForecast, burst, random_checkpoint, st_unet, streaming, window_session
from export.bundle import export_bundle
from runtime.timing import Samples, environment, interleave, paired_ratio
from stunet_deploy.files import replacing
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series

WINDOW = 12


def compiled(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[Callable[[], Any] | None, str]:
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


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "metr-la.npz", help="recording with its graph")
    parser.add_argument("--hidden", type=int, default=96, help="channels of our model")
    parser.add_argument("--rounds", type=int, default=100, help="how often each way is timed")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes a minute")
    parser.add_argument("--readme", action="store_true", help="put the headline into README.md")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    if not options.data.is_file():
        parser.error(f"no file {options.data}; name a recording with a graph by --data, or set STUNET_DATA")

    torch.set_num_threads(1)
    torch.manual_seed(0)
    series = read_series(options.data)
    checkpoint = random_checkpoint(series, options.data, st_unet(options.hidden))
    walks = random_walks(read_graph(options.data, series.sensor_ids).adjacency.dense())
    peers = {"Graph WaveNet": GraphWaveNet(walks).eval(), "DCRNN": DCRNN(walks).eval()}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        bundle = export_bundle(checkpoint, Path(folder) / "step.bundle")
        rows = slice(0, WINDOW)
        inputs = (
            torch.from_numpy(series.values[None, rows]),
            torch.from_numpy(series.observed[None, rows].astype(np.float32)),
            torch.from_numpy(series.time_of_week()[None, rows, None]),
        )
        window = WindowForecast(checkpoint)
        calls: dict[str, Callable[[], Any]] = {
            "step": burst(streaming(bundle, series, 1), WINDOW),
            "window": window_session(window, inputs),
            "eager window": lambda: window(*inputs),
        }
        said = "left out"
        if not options.no_compile:
            call, said = compiled(window, inputs)
            if call is not None:
                calls["compiled window"] = call
        readings = torch.randn(1, WINDOW, len(series.sensor_ids), 2)  # speed and time of day
        calls |= {name: lambda model=model: model(readings) for name, model in peers.items()}
        samples = interleave(calls, options.rounds, warm_up=3)
    samples["step"] = Samples(samples["step"].nanoseconds // WINDOW)
    result = {
        "graph": {"data": options.data.name, "sensors": len(series.sensor_ids)},
        "model": asdict(checkpoint.model.config),
        "parameters": {"ST-UNet": parameters(checkpoint.model)}
        | {name: parameters(peer) for name, peer in peers.items()},
        "environment": environment() | {"torch": torch.__version__},
        "torch_compile": said,
        "calls": {name: one.summary() for name, one in samples.items()},
        "ratios": {name: paired_ratio(one, samples["step"]) for name, one in samples.items() if name != "step"},
        "samples_us": {name: (one.nanoseconds / 1000).round(1).tolist() for name, one in samples.items()},
    }
    text = report(result)
    write_results(options.out, "peers", result, text)
    with replacing(options.out / "peers.svg") as temporary:
        temporary.write_text(picture(result), encoding="utf-8")
    if options.readme:
        write_headline(ROOT / "README.md", headline(result))
    print(text)


if __name__ == "__main__":
    main()
