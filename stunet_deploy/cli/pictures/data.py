"""Pictures of data files: which sensor was heard when, the mean day, and the graph as a map or a matrix."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stunet_deploy.cli.pictures.forecasts import COLOURS, GRID, INK, QUIET, STYLE, local_datetimes
from stunet_deploy.data_files import DataFile
from stunet_deploy.graph.sensor_graph import SensorGraph
from stunet_deploy.series.description import mean_day
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S

#: Cells of a picture in either direction; more would not be seen.
MOST_CELLS = 1000
#: Sensors of a graph that is drawn cell by cell; of a larger one the edges alone are.
LARGEST_MATRIX = 2_000
#: Edges drawn on a map, the heaviest ones.
MOST_EDGES = 50_000
HEARD_MAP = LinearSegmentedColormap.from_list("heard", ["#dc2626", "#fde68a", COLOURS[0]])
WEIGHT_MAP = LinearSegmentedColormap.from_list("weight", ["#ffffff", COLOURS[0], INK])


def draw_data(found: DataFile, title: str) -> Figure:
    """Draw what a data file holds: at least one of a recording and a graph."""
    parts = (2 if found.series is not None else 0) + (1 if found.graph is not None else 0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * parts, 4.2), layout="constrained")
        axes = figure.subplots(1, parts, squeeze=False)[0].tolist()
        if found.series is not None:
            _draw_heard(axes.pop(0), found.series)
            _draw_day(axes.pop(0), found.series)
        if found.graph is not None:
            _draw_graph(axes.pop(0), found.graph, found.series)
        figure.suptitle(title, x=0.01, ha="left")
        return figure


def _draw_heard(axes: Axes, series: Series) -> None:
    """The share of readings that came, time across, sensors down."""
    heard = series.observed.mean(axis=2, dtype=np.float32)
    for axis in (0, 1):
        starts = np.arange(0, heard.shape[axis], -(-heard.shape[axis] // MOST_CELLS))
        lengths = np.diff(np.append(starts, heard.shape[axis]))
        heard = np.add.reduceat(heard, starts, axis=axis) / np.expand_dims(lengths, 1 - axis)
    nodes = len(series.sensor_ids)
    rows = len(series.timestamps)
    extent = (0.0, float(rows), nodes + 0.5, 0.5)
    picture = axes.imshow(
        heard.T, aspect="auto", interpolation="nearest", extent=extent, cmap=HEARD_MAP, vmin=0, vmax=1
    )
    # Rows and not times across: a break of a weekend would be an empty band.
    shown = np.linspace(0, rows - 1, 4).astype(np.int64)
    moments = local_datetimes(series.timestamps[shown], series.timezone)
    axes.set_xticks(shown.tolist(), [f"{moment:%Y-%m-%d\n%H:%M}" for moment in moments])
    axes.grid(False)
    axes.set_ylabel("sensor, in the file's order")
    axes.set_title(f"readings that came: {series.observed.mean():.1%}")
    axes.figure.colorbar(picture, ax=axes, shrink=0.6, pad=0.01).outline.set_visible(False)


def _draw_day(axes: Axes, series: Series) -> None:
    """The mean of each feature by time of day, scaled to its own largest value if there are several."""
    slots = max(1, DAY_S // max(series.interval_s, 300))
    hours = (np.arange(slots) + 0.5) * 24 / slots
    several = len(series.features) > 1
    for feature, (name, unit) in enumerate(zip(series.features, series.units, strict=True)):
        mean = mean_day(series, feature, slots)
        top = float(np.nanmax(np.abs(mean), initial=0)) or 1.0
        label = f"{name}, at most {top:.4g} {unit}".strip() if several else f"{name} {unit}".strip()
        axes.plot(hours, mean / top if several else mean, color=COLOURS[feature % len(COLOURS)], label=label)
    axes.set_xlim(0, 24)
    axes.set_xticks(range(0, 25, 6))
    axes.set_xlabel(f"hour of the day, {series.timezone}")
    axes.set_title("mean of all sensors over a day")
    axes.legend(loc="best")


def _draw_graph(axes: Axes, graph: SensorGraph, series: Series | None) -> None:
    """A map if anything says where the sensors are, otherwise the weights as a matrix."""
    holder: Any = graph if graph.latitude is not None else series
    edges = graph.adjacency
    axes.set_title(f"graph: {len(edges.weight):,} edges")
    if holder is None or holder.latitude is None:
        picture: Any
        if len(edges) <= LARGEST_MATRIX:
            picture = axes.imshow(edges.dense(), cmap=WEIGHT_MAP, interpolation="nearest", vmin=0)
        else:
            picture = axes.scatter(edges.target, edges.source, c=edges.weight, s=0.2, cmap=WEIGHT_MAP, vmin=0)
            axes.invert_yaxis()
        axes.grid(False)
        axes.set_xlabel("to sensor")
        axes.set_ylabel("from sensor")
        axes.figure.colorbar(picture, ax=axes, shrink=0.6, pad=0.01, label="weight").outline.set_visible(False)
        return
    place = np.stack([holder.longitude, holder.latitude], axis=1)
    drawn = np.argsort(edges.weight, kind="stable")[-MOST_EDGES:]
    segments = np.stack([place[edges.source[drawn]], place[edges.target[drawn]]], axis=1)
    opacity = edges.weight[drawn] / (edges.weight.max(initial=0) or 1.0)
    axes.add_collection(LineCollection(list(segments), colors=COLOURS[0], linewidths=0.8, alpha=opacity.tolist()))
    alone = edges.isolated
    axes.scatter(place[~alone, 0], place[~alone, 1], s=6, color=INK, zorder=3)
    if alone.any():
        axes.scatter(place[alone, 0], place[alone, 1], s=14, color=COLOURS[1], zorder=4, label="without a neighbour")
        axes.legend(loc="best")
    # A degree of longitude is shorter than one of latitude by the cosine of the latitude.
    axes.set_aspect(1 / max(0.1, float(np.cos(np.radians(np.nanmean(place[:, 1]))))))
    axes.tick_params(colors=QUIET)
    axes.set_facecolor(GRID + "40")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("degrees east")
    axes.set_ylabel("degrees north")
