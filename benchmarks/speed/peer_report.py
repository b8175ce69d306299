"""What the comparison with other models found: a page, a picture, and the headline of README."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stunet_deploy.files import replacing

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
    """Return the results as Markdown."""
    where, graph = result["environment"], result["graph"]
    lines = [
        "# The step against what one would run instead",
        "",
        "`python -m benchmarks.speed.peers`: "
        f"{graph['data']}, {graph['sensors']} sensors, 12 intervals ahead, one thread "
        f"each; ST-UNet with {result['model']['hidden']} channels. Random weights: this is about time, not accuracy.",
        "",
        f"{where['cpu']}, {where['cores']} cores, load {where['load']} at the end; Python {where['python']}, "
        f"torch {where['torch']}, onnxruntime {where['onnxruntime']}, commit {(where['commit'] or 'unknown')[:12]}.",
        "",
        "![Time of a forecast by each way](peers.svg)",
        "",
        *table(result),
    ]
    sizes = ", ".join(f"{name} {count:,}" for name, count in result["parameters"].items())
    lines += [
        "",
        f"Parameters: {sizes}. DCRNN (2 layers of 64 units, K = 2, both random walks) and Graph WaveNet (8 layers; 32, "
        "256 and 512 channels) are written from the papers with dense matrices; the step is `Stream.push`, its checks "
        "included. The windows of ST-UNet have the fill `last`, the step has `forecast`.",
        "",
        f"torch.compile: {result['torch_compile']}.",
        "",
    ]
    return "\n".join(lines)


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of all ways, the fastest first."""
    lines = ["| way | median ms | p90 ms | times the step (paired median) |", "| --- | --- | --- | --- |"]
    for name in sorted(result["calls"], key=lambda name: float(result["calls"][name]["median_us"])):
        found = result["calls"][name]
        ratio = "1" if name == "step" else f"{result['ratios'][name]:.1f}"
        p90 = "–" if found["p90_us"] is None else f"{found['p90_us'] / 1000:.2f}"
        lines.append(f"| {RUNS_ON[name]} | {found['median_us'] / 1000:.2f} | {p90} | {ratio} |")
    return lines


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
    return "\n".join(
        [
            f"A streamed forecast for {result['graph']['sensors']} sensors takes **{step['median_us'] / 1000:.2f} ms** "
            f"on one core ({where['cpu']}, {result['model']['hidden']} channels). What one would run instead, in the "
            "same run (`python -m benchmarks.speed.peers --readme`, [how](benchmarks/results/peers.md)):",
            "",
            *table(result),
            "",
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
    with replacing(readme) as temporary:
        temporary.write_text(after, encoding="utf-8")
