"""Pictures of a measurement of ``stunet bench``, drawn with matplotlib: one file, a column for each loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from runtime.bench.summary import LOOPS, case_of, trace_of
from stunet_deploy.cli.pictures.forecasts import COLOURS, QUIET, STYLE

_TITLES = {
    "closed_loop": "Closed loop: each forecast begins when the one before is done",
    "open_loop": "Open loop: latency counts from when a forecast was due",
}
_PERCENTILES = (0, 50, 90, 99, 99.9, 99.99)


def draw_latencies(measurement: Mapping[str, Any]) -> Figure:
    """Draw the latencies of every case as a histogram, by percentile and in the order of the forecasts."""
    where = measurement["environment"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 10), layout="constrained")
        for column, loop in zip(figure.subplots(3, len(LOOPS)).T, LOOPS, strict=True):
            column[0].set_title(_TITLES[loop])
            samples = {case_of(run): trace_of(run, loop).latency.nanoseconds / 1e6 for run in measurement["runs"]}
            colours = [COLOURS[number % len(COLOURS)] for number in range(len(samples))]
            _draw_histogram(column[0], samples, colours)
            for (name, latencies), colour in zip(samples.items(), colours, strict=True):
                _draw_percentiles(column[1], latencies, colour)
                column[2].plot(latencies, color=colour, linewidth=0.6, label=name)
            column[2].set(xlabel="forecast", ylabel="latency, ms", ylim=(0, None))
        figure.legend(*column[2].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        title = f"Latency of {measurement['model']} on {measurement['sensors']} sensors, {where['cpu']}"
        figure.suptitle(f"{title}, {where['cores_allowed']} of {where['cores']} cores", color=QUIET)
        return figure


def _draw_histogram(axes: Axes, samples: Mapping[str, NDArray[np.float64]], colours: list[str]) -> None:
    """Draw how often each latency was met; the slowest half percent is put into the last bin."""
    merged = np.concatenate(list(samples.values()))
    low, high = float(merged.min()), float(np.quantile(merged, 0.995))
    edges = np.linspace(low, high if high > low else low + 1, 81)
    for latencies, colour in zip(samples.values(), colours, strict=True):
        shares = np.full(len(latencies), 1 / len(latencies))
        axes.hist(np.minimum(latencies, edges[-1]), bins=edges.tolist(), weights=shares, color=colour, alpha=0.5)
    axes.set(xlabel="latency, ms", ylabel="share of forecasts")


def _draw_percentiles(axes: Axes, latencies: NDArray[np.float64], colour: str) -> None:
    """Draw latency by percentile, the tail widened, as far as the samples determine it: n ≥ 10 / (1 - p)."""
    share = np.arange(len(latencies)) / len(latencies)
    known = share <= 1 - 10 / len(latencies)
    axes.plot(-np.log10(1 - share[known]), np.sort(latencies)[known], color=colour)
    axes.set_xticks([-math.log10(1 - percent / 100) for percent in _PERCENTILES], [f"{p:g}" for p in _PERCENTILES])
    axes.set(xlabel="percentile", ylabel="latency, ms", ylim=(0, None))
