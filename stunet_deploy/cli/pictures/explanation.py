"""Picture of an explanation: forecast, hidden states of the factors, and contributions of the edges, over time."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, date2num
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stunet_deploy.cli.pictures.forecasts import COLOURS, STYLE, local_datetimes, save_png
from stunet_deploy.models.srnn.explanation import Explanation

#: Edges drawn: of contributions the largest, of states of single edges the first.
MOST_EDGES = 20


def write(path: Path, found: Explanation, timestamps: NDArray[np.int64], zone: str, unit: str) -> None:
    """Write the picture whole or not at all.

    Args:
        path: a .png file.
        found: what to draw.
        timestamps: [time] seconds since the epoch.
        zone: IANA zone of the axis.
        unit: of the forecast.
    """
    with mpl.rc_context(STYLE):
        save_png(draw(found, timestamps, zone, unit), path)


def draw(found: Explanation, timestamps: NDArray[np.int64], zone: str, unit: str) -> Figure:
    """Return the figure; see :func:`write`."""
    moments = np.asarray(date2num(local_datetimes(timestamps, zone)))  # type: ignore[no-untyped-call]
    width = moments[1] - moments[0] if len(moments) > 1 else 1.0
    extent = (float(moments[0] - width / 2), float(moments[-1] + width / 2))
    traces = _traces(found)
    heights = [2.0, *(1.2 for _ in traces), *([0.8 + 0.22 * _edges(found)] if found.contributions else [])]
    figure = Figure(figsize=(9, 1 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
    _draw_forecast(panels[0], found, moments, unit)
    for axes, (name, trace) in zip(panels[1:], traces.items(), strict=False):
        picture = axes.imshow(
            trace.T, aspect="auto", interpolation="nearest", extent=(*extent, 0, trace.shape[1]), cmap="RdBu_r",
            vmin=-1, vmax=1,
        )  # fmt: skip
        axes.set_title(f"{name}: hidden state, a row per channel")
        axes.set_yticks([])
        axes.grid(visible=False)
        figure.colorbar(picture, ax=axes, pad=0.01)
    if found.contributions:
        _draw_contributions(figure, panels[-1], found, extent, unit)
    panels[-1].xaxis_date(tz=ZoneInfo(zone))
    panels[-1].xaxis.set_major_formatter(DateFormatter("%m-%d %H:%M", tz=ZoneInfo(zone)))  # type: ignore[no-untyped-call]
    return figure


def _draw_forecast(axes: Axes, found: Explanation, moments: NDArray[np.float64], unit: str) -> None:
    horizon = found.forecast.shape[1]
    for number, ahead in enumerate(sorted({0, horizon - 1})):
        label = f"{ahead + 1} interval{'s' * (ahead > 0)} ahead"
        axes.plot(moments, found.forecast[:, ahead, 0], color=COLOURS[number], linewidth=1.2, label=label)
    axes.set_title(f"{found.node}: forecast of {found.outputs[0]}, at the time it was made" + (unit and f", {unit}"))
    axes.legend(loc="upper right", fontsize=8)


def _draw_contributions(figure: Figure, axes: Axes, found: Explanation, extent: tuple[float, float], unit: str) -> None:
    ordered = sorted(found.contributions, key=lambda one: (one.neighbour is not None, -one.size))[: _edges(found)]
    rows = np.stack([one.over_time for one in ordered])
    largest = float(np.abs(rows).max()) or 1.0
    picture = axes.imshow(
        rows, aspect="auto", interpolation="nearest", extent=(*extent, len(rows), 0), cmap="PuOr_r",
        vmin=-largest, vmax=largest,
    )  # fmt: skip
    labels = [f"{one.edge_type}: {'all' if one.neighbour is None else one.neighbour}" for one in ordered]
    axes.set_yticks((np.arange(len(rows)) + 0.5).tolist(), labels, fontsize=8)
    axes.grid(visible=False)
    left = len(found.contributions) - len(ordered)
    axes.set_title(
        "contributions: forecast minus that without the edge, mean over the horizon"
        + (f"; {left} smaller ones left out" if left else "")
    )
    figure.colorbar(picture, ax=axes, pad=0.01, label=unit)


def _traces(found: Explanation) -> dict[str, NDArray[np.float32]]:
    """Return the states to draw: of a node with many edges of their own, not all of theirs."""
    names = list(found.traces)
    kept = names[: min(MOST_EDGES, len(names) - 2)] + names[-2:]  # last the temporal edgeRNN and the nodeRNN
    return {name: found.traces[name] for name in kept}


def _edges(found: Explanation) -> int:
    types = sum(one.neighbour is None for one in found.contributions)
    return min(len(found.contributions), types + MOST_EDGES)
