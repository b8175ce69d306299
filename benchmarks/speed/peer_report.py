"""What the comparison with other models found: a page, a picture, and the headline of README."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.page import machine, milliseconds, page, table, write

#: What runs each way, in the words of the table.
RUNS_ON = {
    "step": "ST-UNet, one step with state, ONNX Runtime",
    "window": "ST-UNet, window of 12, ONNX Runtime",
    "compiled window": "ST-UNet, window of 12, torch.compile",
    "eager window": "ST-UNet, window of 12, eager PyTorch",
    "Graph WaveNet": "Graph WaveNet, window of 12, eager PyTorch",
    "DCRNN": "DCRNN, window of 12, eager PyTorch",
}
MARKS = ("<!-- figures of benchmarks.speed.peers -->", "<!-- end of figures -->")


def report(result: Mapping[str, Any]) -> str:
    """Return the results as a page."""
    graph = result["graph"]
    sizes = ", ".join(f"{name} {count:,}" for name, count in result["parameters"].items())
    return page(
        "The step against what one would run instead",
        f"`{result['command']}`: {graph['data']}, {graph['sensors']} sensors, 12 intervals ahead, one thread "
        f"each; ST-UNet with {result['model']['hidden']} channels. Random weights: this is about time, not accuracy.",
        machine(result["environment"]),
        "![Time of a forecast by each way](peers.svg)",
        times(result),
        f"Parameters: {sizes}. DCRNN (2 layers of 64 units, K = 2, both random walks) and Graph WaveNet (8 layers; 32, "
        "256 and 512 channels) are written from the papers with dense matrices; the step is `Stream.push`, its checks "
        "included.",
        f"torch.compile: {result['torch_compile']}.",
    )


def times(result: Mapping[str, Any]) -> str:
    """Return a table of all ways, the fastest first."""
    rows = []
    for name in sorted(result["calls"], key=lambda name: float(result["calls"][name]["median_us"])):
        found = result["calls"][name]
        ratio = "1" if name == "step" else f"{result['ratios'][name]:.1f}"
        rows.append([RUNS_ON[name], milliseconds(found["median_us"]), milliseconds(found["p90_us"]), ratio])
    return table(["way", "median ms", "p90 ms", "times the step (paired median)"], rows)


def picture(result: Mapping[str, Any]) -> str:
    """Return a chart of the medians, on a logarithmic scale, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = sorted(result["calls"], key=lambda name: float(result["calls"][name]["median_us"]), reverse=True)
    medians = [result["calls"][name]["median_us"] / 1000 for name in names]
    # The same numbers give the same file.
    with pyplot.rc_context({"svg.hashsalt": "peers", "svg.fonttype": "none", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(8, 0.5 + 0.42 * len(names)), layout="constrained")
        colours = ["#d95f02" if name == "step" else "#7f8c9b" for name in names]
        bars = axes.barh([RUNS_ON[name] for name in names], medians, color=colours)
        axes.bar_label(bars, [f"{median:.2f} ms" for median in medians], padding=4)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g} ms")
        axes.set_xlim(min(medians) / 2, max(medians) * 3)
        axes.set_xlabel(f"median time of a forecast for {result['graph']['sensors']} sensors, one thread")
        axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return out.getvalue()


def headline(result: Mapping[str, Any]) -> str:
    """Return what README says of a result."""
    step, where = result["calls"]["step"], result["environment"]
    return "\n\n".join(
        [
            f"A streamed forecast for {result['graph']['sensors']} sensors takes **{step['median_us'] / 1000:.2f} ms** "
            f"on one core ({where['cpu']}, {result['model']['hidden']} channels). What one would run instead,\n"
            "in the same run (`python -m benchmarks.speed.peers --readme`, [how](benchmarks/results/peers.md)):",
            times(result),
            "![Time of a forecast by each way](benchmarks/results/peers.svg)",
        ]
    )


def write_headline(readme: Path, text: str) -> None:
    """Put the headline between its marks in a README."""
    begin, end = map(re.escape, MARKS)
    before = readme.read_text(encoding="utf-8")
    after, count = re.subn(f"{begin}.*?{end}", lambda _: f"{MARKS[0]}\n{text}\n{MARKS[1]}", before, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{readme} has no place for the headline: {MARKS[0]} … {MARKS[1]}")
    write(readme, after)
