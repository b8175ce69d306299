"""Charts as inline SVG, written without a plotting library: a controller has none."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#a6761d", "#666666")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 280, 64, 16, 30, 44


@dataclass(frozen=True)
class Axis:
    """One axis of a chart: its name, what it spans, and (value, label) of its ticks."""

    name: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    @classmethod
    def linear(cls, name: str, low: float, high: float) -> Axis:
        """Return an axis with ticks at round numbers."""
        span = high - low or abs(high) or 1.0
        step = 10 ** math.floor(math.log10(span / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
        first = math.ceil(low / step)
        count = math.floor((low + span) / step) - first + 1
        return cls(name, low, low + span, [((first + i) * step, f"{(first + i) * step:g}") for i in range(count)])

    def place(self, values: Floats, begin: float, end: float) -> Floats:
        """Return where values lie between two pixels."""
        return begin + (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low) * (end - begin)


def histogram(samples: Mapping[str, Floats], unit: str, bins: int = 80) -> str:
    """Return how often each latency was met; the slowest half percent is put into the last bin."""
    merged = np.concatenate(list(samples.values()))
    low, high = float(merged.min()), float(np.quantile(merged, 0.995))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    counts = {
        name: np.histogram(np.minimum(values, edges[-1]), edges)[0] / len(values) for name, values in samples.items()
    }
    x = Axis.linear(f"latency, {unit}", float(edges[0]), float(edges[-1]))
    y = Axis.linear("share of forecasts", 0, float(max(count.max() for count in counts.values())))
    stairs = {
        name: (np.repeat(edges, 2), np.concatenate([[0], np.repeat(count, 2), [0]])) for name, count in counts.items()
    }
    return line_chart(stairs, x, y, filled=True)


def time_series(samples: Mapping[str, Floats], unit: str, buckets: int = 300) -> str:
    """Return latencies in the order of the forecasts: of each bucket of consecutive ones the slowest."""
    lines = {}
    for name, values in samples.items():
        parts = np.array_split(values, min(buckets, len(values)))
        middles = np.cumsum([len(part) for part in parts]) - np.array([len(part) for part in parts]) / 2
        lines[name] = (middles, np.array([part.max() for part in parts]))
    x = Axis.linear("forecast", 0, float(max(len(values) for values in samples.values())))
    y = Axis.linear(f"slowest of its neighbours, {unit}", 0, float(max(line.max() for _, line in lines.values())))
    return line_chart(lines, x, y)


def percentile_plot(samples: Mapping[str, Floats], unit: str) -> str:
    """Return latency by percentile on a scale that widens the tail; each line ends where samples end to know it."""
    ticks = [(0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99")]
    lines = {}
    for name, values in samples.items():
        ordered = np.sort(values)
        share = np.arange(len(ordered)) / len(ordered)
        known = share <= 1 - 10 / len(ordered)
        lines[name] = (-np.log10(1 - share[known]), ordered[known])
    furthest = max((float(line[0].max()) for line in lines.values() if len(line[0])), default=1.0)
    shown = [(-math.log10(1 - share), label) for share, label in ticks]
    x = Axis("percentile", 0, max(furthest, 0.1), [tick for tick in shown if tick[0] <= max(furthest, 0.1) + 1e-9])
    values = np.concatenate([line[1] for line in lines.values()])
    y = Axis.linear(f"latency, {unit}", 0, float(values.max()) if len(values) else 1.0)
    return line_chart(lines, x, y)


def line_chart(lines: Mapping[str, tuple[Floats, Floats]], x: Axis, y: Axis, *, filled: bool = False) -> str:
    """Return lines by name as an SVG element, named in a legend if there are several."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(y.name)} by {html.escape(x.name)}">'
    ]
    for value, label in x.ticks:
        at = float(x.place(np.array([value]), _LEFT, right)[0])
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    for value, label in y.ticks:
        at = float(y.place(np.array([value]), bottom, _TOP)[0])
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    for number, (name, (xs, ys)) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = zip(x.place(xs, _LEFT, right), y.place(ys, bottom, _TOP), strict=True)
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        fill = f'fill="{colour}" fill-opacity="0.15"' if filled else 'fill="none"'
        parts.append(f'<polyline points="{path}" {fill} stroke="{colour}" stroke-width="1.5"/>')
        if len(lines) > 1:
            at = _LEFT + (right - _LEFT) * number / len(lines)
            parts.append(f'<text x="{at:.1f}" y="{_TOP - 12}" style="fill: {colour}">{html.escape(name)}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{html.escape(x.name)}</text>')
    middle = (_TOP + bottom) / 2
    turned = f'transform="rotate(-90 14 {middle})" x="14" y="{middle}" text-anchor="middle"'
    parts.append(f"<text {turned}>{html.escape(y.name)}</text>")
    return "\n".join([*parts, "</svg>"])
