"""Pictures of forecasts and errors, drawn with matplotlib: files for ``evaluate``, inline SVG for the demo's report."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from stunet_deploy.files import replacing
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S
from stunet_deploy.wording import span_in_words
from training.evaluation import Predictor, Result
from training.protocols import Split

INK, QUIET, GRID = "#1f2937", "#6b7280", "#e5e7eb"
#: The model first; whatever it is compared with stays in the background.
COLOURS = ("#2563eb", "#f59e0b", "#10b981", "#9ca3af")
#: From standing to free flow; the report's map uses the same.
SPEED_COLOURS = ("#7f1d1d", "#dc2626", "#f97316", "#facc15", "#84cc16", "#15803d")
SPEED_MAP = LinearSegmentedColormap.from_list("speed", SPEED_COLOURS)
SENSORS_SHOWN = 6
#: A sensor that was silent for longer shows little.
SEEN_ENOUGH = 0.8
#: Two sensors with a higher correlation show the same queue.
ALIKE = 0.7

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "axes.grid": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "svg.fonttype": "none",
    # Equal pictures are equal bytes.
    "svg.hashsalt": "stunet",
}


@dataclass(frozen=True)
class Day:
    """Forecasts of one target over a stretch of time, each set at the time it was made for.

    Attributes:
        times: [time] seconds since the epoch, UTC.
        zone: IANA zone of the axis.
        sensor_ids: one per node.
        observed: [time, node], NaN where unobserved.
        ahead: forecasts [time, node] by minutes of lead time, NaN where there is none.
        unit: unit of the target.
    """

    times: NDArray[np.int64]
    zone: str
    sensor_ids: Sequence[str]
    observed: NDArray[np.float32]
    ahead: Mapping[float, NDArray[np.float32]]
    unit: str

    def cut(self, rows: slice) -> Day:
        """Return the same with some of the times."""
        ahead = {minutes: values[rows] for minutes, values in self.ahead.items()}
        return Day(self.times[rows], self.zone, self.sensor_ids, self.observed[rows], ahead, self.unit)

    def liveliest(self, count: int) -> list[int]:
        """Return the nodes whose observations vary most, each telling something that the others do not.

        Nodes that were silent for long come last, as do those that rise and fall with one already chosen.
        """
        seen = np.isfinite(self.observed)
        mean = np.where(seen, self.observed, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        deviation = np.where(seen, self.observed - mean, 0)
        spread = np.sqrt((deviation**2).sum(axis=0)) + 1e-9
        correlation = deviation.T @ deviation / np.outer(spread, spread)
        order = np.argsort(np.where(seen.mean(axis=0) >= SEEN_ENOUGH, -spread, spread), kind="stable").tolist()
        chosen: list[int] = []
        for node in order:
            if all(correlation[node, other] < ALIKE for other in chosen):
                chosen.append(node)
        chosen += [node for node in order if node not in chosen]
        return sorted(chosen[:count])


def align_forecasts(
    series: Series,
    issue: NDArray[np.int64],
    forecasts: NDArray[np.float32],
    target: int,
    column: int,
    leads: Sequence[int],
) -> Day:
    """Set forecasts [issue, horizon, node, target] issued at consecutive rows at the times they were made for.

    Args:
        series: the recording.
        issue: rows the forecasts were issued at.
        forecasts: as a predictor gave them.
        target: position of the target in the forecasts.
        column: position of the target among the features.
        leads: lead times in intervals.
    """
    observed = np.where(series.observed[issue, :, column], series.values[issue, :, column], np.float32("nan"))
    ahead = {}
    for lead in leads:
        shifted = np.full(observed.shape, np.nan, np.float32)
        shifted[lead:] = forecasts[:-lead, lead - 1, :, target]
        ahead[lead * series.interval_s / 60] = shifted
    return Day(series.timestamps[issue], series.timezone, series.sensor_ids, observed, ahead, series.units[column])


def draw_day(day: Day, nodes: Sequence[int], title: str) -> Figure:
    """Draw forecasts against observations, a panel per node."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.75 * -(-len(nodes) // 2) + 0.6), layout="constrained")
        grid = figure.subplots(-(-len(nodes) // 2), min(2, len(nodes)), sharex=True, sharey=True, squeeze=False)
        times = local_datetimes(day.times, day.zone)
        for axes, node in zip(grid.flat, nodes, strict=False):
            axes.plot(times, day.observed[:, node], color=INK, linewidth=1.1, alpha=0.55, label="observed")
            for (minutes, values), colour in zip(day.ahead.items(), COLOURS, strict=False):
                label = f"forecast {span_in_words(minutes)} before"
                axes.plot(times, values[:, node], color=colour, linewidth=1.2, label=label)
            axes.set_title(day.sensor_ids[node])
            _clock_axis(axes, day.zone)
        for axes in grid.flat[len(nodes) :]:
            axes.set_visible(False)
        figure.supylabel(f"{title} {day.unit}".strip(), fontsize=9.5, color=QUIET)
        figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
        return figure


def draw_corridors(day: Day, corridors: Mapping[str, Sequence[int]], minutes: float) -> Figure:
    """Draw time against place along each corridor: what came, and what had been forecast ``minutes`` before."""
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(10, 1.25 * len(corridors) + 0.7), layout="constrained")
        grid = figure.subplots(len(corridors), 2, sharex=True, squeeze=False)
        times = day.times / DAY_S  # what matplotlib calls a date
        top = float(np.nanmax(day.observed))
        for row, (name, nodes) in zip(grid, corridors.items(), strict=True):
            for axes, values in zip(row, (day.observed, day.ahead[minutes]), strict=True):
                extent = (times[0], times[-1], 0.5, len(nodes) + 0.5)
                picture = axes.imshow(
                    values[:, list(nodes)].T,
                    aspect="auto",
                    origin="lower",
                    interpolation="nearest",
                    extent=extent,
                    cmap=SPEED_MAP,
                    vmin=0,
                    vmax=top,
                )
                axes.set_facecolor(GRID)
                axes.set_yticks([])
                axes.xaxis_date()
                _clock_axis(axes, day.zone)
            row[0].set_ylabel(name)
        grid[0, 0].set_title("observed")
        grid[0, 1].set_title(f"forecast {span_in_words(minutes)} before")
        figure.colorbar(picture, ax=grid, label=day.unit, shrink=0.6, pad=0.01).outline.set_visible(False)
        return figure


def draw_horizons(results: Sequence[Result], unit: str) -> Figure:
    """Draw MAE against lead time, a line per model, of the stream regime."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.subplots()
        names = list(dict.fromkeys(result.model for result in results))
        for name, colour in zip(names, COLOURS, strict=False):
            points = [(r.horizon_minutes, r.mae) for r in results if r.model == name and r.protocol == "stream"]
            width = 2.4 if name == names[0] else 1.5
            axes.plot(*zip(*points, strict=True), marker="o", markersize=5, color=colour, label=name, linewidth=width)
        axes.set_xticks(sorted({result.horizon_minutes for result in results}))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes ahead")
        axes.set_ylabel(f"MAE {unit}".strip())
        figure.legend(loc="outside upper left", ncols=2)
        return figure


def draw_latency(step_us: NDArray[np.float64], marks: Mapping[str, float]) -> Figure:
    """Draw the distribution of step times in microseconds, with named marks such as the median."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.subplots()
        # Few steps meet another process and take ten times as long: a logarithmic axis shows them and the others.
        bins = np.geomspace(step_us.min(), step_us.max() * 1.001, 70)
        axes.hist(step_us, bins=bins.tolist(), color=COLOURS[0], alpha=0.85)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        for (name, value), colour in zip(marks.items(), (INK, COLOURS[1]), strict=False):
            axes.axvline(value, color=colour, linewidth=1.4, linestyle="--", label=f"{name} {value:.0f} µs")
        axes.set_xlabel("µs for one step of all sensors")
        axes.set_ylabel("steps")
        figure.legend(loc="outside upper left", ncols=2)
        return figure


def write_plots(
    folder: Path,
    series: Series,
    split: Split,
    predictor: Predictor,
    targets: Sequence[str],
    results: Sequence[Result],
) -> list[Path]:
    """Write pictures of the last day of the test span and of the errors, per target, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    per_day = DAY_S // series.interval_s
    run = next(run for run in reversed(series.segments()) if run.start <= split.test[-1])
    last_day = np.arange(max(run.start, int(split.test[-1]) + 1 - per_day), int(split.test[-1]) + 1)
    start = max(run.start, int(last_day[0]) - per_day)
    forecasts = np.concatenate(list(predictor.stream(series, start, last_day)))
    leads = sorted({-(-split.horizon // 2), split.horizon})
    paths = []
    for position, target in enumerate(targets):
        day = align_forecasts(series, last_day, forecasts, position, series.features.index(target), leads)
        figures = {
            f"forecast-{target}.png": draw_day(day, day.liveliest(SENSORS_SHOWN), target),
            f"error-by-horizon-{target}.png": draw_horizons([r for r in results if r.target == target], day.unit),
        }
        for name, figure in figures.items():
            save_png(figure, folder / name)
            paths.append(folder / name)
    return paths


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, facecolor="white")


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG element to put into a page."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def local_datetimes(timestamps: NDArray[np.int64], zone: str) -> list[datetime]:
    """Return seconds since the epoch as times of a zone."""
    return [datetime.fromtimestamp(second, ZoneInfo(zone)) for second in timestamps.tolist()]


def _clock_axis(axes: Axes, zone: str) -> None:
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=ZoneInfo(zone)))  # type: ignore[no-untyped-call]
    axes.margins(x=0.01)
