"""What one looks at after a run: the map, a detector's day, and what the forecasts made of an incident."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray

from benchmarks.live.comparison import LiveDay
from benchmarks.live.demand import Incident
from benchmarks.live.history import INTERVAL_S
from benchmarks.live.network import CREDIT, Detector, Network
from stunet_deploy.files import replacing

_AHEAD = 6
"""Intervals ahead of the forecasts that are drawn as a line."""

_ASIDE_M = 30.0
"""Metres by which a detector is drawn to the right of its road."""

_ACTUAL, _FORECAST, _USUAL, _MARK = "#1b1b1b", "#d1495b", "#8d99ae", "#f2b134"


class Scene(NamedTuple):
    """What is drawn from close by: a detector, and what went on there when, in seconds after midnight."""

    detector: int
    start: int
    end: int
    what: str


def find_scene(day: LiveDay, network: Network, incidents: Sequence[Incident]) -> Scene:
    """Return the incident that slowed down the traffic behind it most; without one, the slowest hour of all."""
    scenes = [
        Scene(detector, incident.start, incident.end, _describe(incident))
        for incident in incidents
        for detector in network.behind(incident.edge, incident.offset_m)
    ]
    if not scenes:
        each, hours = 3600 // INTERVAL_S, len(day.actual) * INTERVAL_S // 3600
        below = _below(day)[: hours * each].reshape(hours, each, -1).mean(axis=1)
        hour, detector = np.unravel_index(below.argmax(), below.shape)
        return Scene(int(detector), int(hour) * 3600, int(hour + 1) * 3600, "the slowest hour")
    return max(scenes, key=lambda scene: _slowdown(day, scene))


def _slowdown(day: LiveDay, scene: Scene) -> float:
    """Return by how much speed lay below the usual one on average."""
    return float(_below(day)[scene.start // INTERVAL_S : scene.end // INTERVAL_S + 1, scene.detector].mean())


def _below(day: LiveDay) -> NDArray[np.float64]:
    """Return by how much speed lay below the usual one [interval, detector]; 0 where unobserved."""
    below: NDArray[np.float64] = np.nan_to_num(day.usual - day.actual)
    return below


def draw(out: Path, day: LiveDay, network: Network, incidents: Sequence[Incident]) -> None:
    """Write the picture of a live day as a PNG file."""
    scene = find_scene(day, network, incidents)
    row = int(scene.start + 0.6 * (scene.end - scene.start)) // INTERVAL_S
    figure = pyplot.figure(figsize=(11, 9.6), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=(1.25, 1, 1))
    maps = [figure.add_subplot(grid[0, column]) for column in (0, 1)]
    issue = int(np.searchsorted(day.issued, row - _AHEAD))
    painted = _draw_map(maps[0], network, day.actual[row], f"{_clock(row)}: what the detectors measured")
    _draw_map(
        maps[1], network, day.forecast[issue, _AHEAD - 1], f"{_clock(row)}: as forecast {_minutes(_AHEAD)} before"
    )
    maps[1].text(1, 0, CREDIT, transform=maps[1].transAxes, fontsize=6.5, ha="right", color="#555")
    figure.colorbar(painted, ax=maps, shrink=0.85, label="km/h", aspect=30)
    whole, near = (figure.add_subplot(grid[place, :]) for place in (1, 2))
    _draw_day(whole, day, scene.detector)
    _draw_scene(near, day, scene)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, metadata={"Software": ""})
    pyplot.close(figure)
    with replacing(out) as temporary:
        temporary.write_bytes(content.getvalue())


def _draw_map(axes: Any, network: Network, speed: NDArray[np.float64], title: str) -> Any:
    for edge in network.roads.getEdges():
        if edge.allows("passenger"):
            xs, ys = zip(*edge.getShape(), strict=True)
            axes.plot(xs, ys, color="#cfd2d6", linewidth=1 + edge.getLaneNumber(), solid_capstyle="round", zorder=1)
    x, y = np.array([_beside(network, detector) for detector in network.detectors]).T
    painted = axes.scatter(
        x, y, c=speed, cmap="RdYlGn", vmin=10, vmax=100, s=46, edgecolor="#333", linewidth=0.5, zorder=2
    )
    axes.set(title=title, aspect="equal", xticks=[], yticks=[])
    axes.set_xlim(x.min() - 150, x.max() + 150)
    axes.set_ylim(y.min() - 150, y.max() + 150)
    axes.title.set_fontsize(10)
    return painted


def _beside(network: Network, detector: Detector) -> tuple[float, float]:
    """Return a point to the right of a detector, so that the two directions of a road do not hide one another."""
    (x0, y0), *_, (x1, y1) = network.roads.getEdge(detector.edge).getShape()
    length = math.hypot(x1 - x0, y1 - y0)
    return detector.x + _ASIDE_M * (y1 - y0) / length, detector.y - _ASIDE_M * (x1 - x0) / length


def _draw_day(axes: Any, day: LiveDay, detector: int) -> None:
    hours = day.hours(np.arange(len(day.actual)))
    axes.plot(hours, day.usual[:, detector], color=_USUAL, linewidth=1, label="mean of the days before")
    axes.plot(hours, day.actual[:, detector], color=_ACTUAL, linewidth=1.1, label="measured")
    axes.plot(
        day.hours(day.issued + _AHEAD),
        day.forecast[:, _AHEAD - 1, detector],
        color=_FORECAST,
        linewidth=1.1,
        label=f"forecast {_minutes(_AHEAD)} before",
    )
    axes.set(title=f"Detector {day.names[detector]}", ylabel="km/h", xlim=(0, hours[-1]), ylim=(0, None))
    axes.set_xticks(range(0, round(hours[-1]) + 1, 2), [f"{hour}:00" for hour in range(0, round(hours[-1]) + 1, 2)])
    axes.title.set_fontsize(10)
    axes.legend(fontsize=8, ncols=3, loc="lower left", frameon=False)


def _draw_scene(axes: Any, day: LiveDay, scene: Scene) -> None:
    first = max(0, scene.start // INTERVAL_S - 9)
    last = min(len(day.actual), scene.end // INTERVAL_S + 15)
    axes.axvspan(scene.start / 3600, scene.end / 3600, color=_MARK, alpha=0.25, label=scene.what)
    for number, (issued, forecast) in enumerate(zip(day.issued.tolist(), day.forecast, strict=True)):
        if first <= issued < last and number % 3 == 0:
            rows = issued + np.arange(len(forecast) + 1)
            line = np.concatenate([[day.actual[issued, scene.detector]], forecast[:, scene.detector]])
            axes.plot(day.hours(rows), line, color=_FORECAST, linewidth=0.8, alpha=0.7)
            axes.plot(day.hours(rows[:1]), line[:1], "o", color=_FORECAST, markersize=3)
    rows = np.arange(first, last)
    axes.plot(day.hours(rows), day.actual[rows, scene.detector], color=_ACTUAL, linewidth=1.6, label="measured")
    axes.plot([], [], color=_FORECAST, linewidth=0.8, label="every third forecast, an hour ahead")
    ticks = np.arange(-(-first // 6) * 6, last, 6)
    axes.set_xticks(day.hours(ticks), [_clock(tick) for tick in ticks.tolist()])
    axes.set(
        title=f"Detector {day.names[scene.detector]} from close by",
        ylabel="km/h",
        xlim=(first * INTERVAL_S / 3600, last * INTERVAL_S / 3600),
        ylim=(0, None),
    )
    axes.title.set_fontsize(10)
    axes.legend(fontsize=8, ncols=3, loc="lower left", frameon=False)


def _describe(incident: Incident) -> str:
    if incident.lane is not None:
        return "a lane blocked"
    return f"slow traffic beyond the map, {3.6 * incident.speed:.0f} km/h"


def _clock(row: int) -> str:
    return f"{row * INTERVAL_S // 3600}:{row * INTERVAL_S // 60 % 60:02d}"


def _minutes(ahead: int) -> str:
    return f"{ahead * INTERVAL_S // 60} minutes"
