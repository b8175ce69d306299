"""A measurement as one HTML file: numbers, pictures and the machine, nothing fetched from anywhere."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime.bench.charts import Floats, histogram, percentile_plot, time_series
from runtime.bench.summary import LOOPS, case_of, trace_of

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child, .loops th:nth-child(2), .loops td:nth-child(2) { text-align: left; }
td small { color: #777; display: block; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #444; }
svg .grid { stroke: #e4e4e4; } figure { margin: 1rem 0; } figcaption { color: #555; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 13px; }
@media (prefers-color-scheme: dark) {
  body { background: #16181c; color: #ddd; } svg text { fill: #bbb; } svg .grid { stroke: #333; }
  th, td { border-color: #333; } pre { background: #22252b; } figcaption, td small { color: #999; }
}
"""
_LOOP_WORDS = {
    "closed_loop": "Closed loop: each forecast begins as soon as the one before is there",
    "open_loop": "Open loop: forecasts are due at a fixed rate, and their latency counts from then",
}
_COLUMNS = {"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "max"}


def html_report(measurement: Mapping[str, Any]) -> str:
    """Return the report of a measurement; see docs/guide/bench.md for what each number means."""
    where, plan, runs = measurement["environment"], measurement["plan"], measurement["runs"]
    title = f"{measurement['model']} on {measurement['sensors']} sensors"
    body = [
        f"<h1>Latency of {html.escape(title)}</h1>",
        f"<p>Bundle {measurement['bundle_id'][:12]}, {plan['count']} forecasts in each loop. "
        f"{html.escape(str(where['cpu']))}, {where['cores_allowed']} of {where['cores']} cores, "
        f"load {where['before']['load']} before and {where['after']['load']} after.</p>",
        _table(runs),
        "<p>Microseconds; below each percentile the interval that holds 95 % of its bootstrap repetitions. "
        "A percentile is a latency that was measured, and is left out where fewer than 10 / (1 − p) were.</p>",
        _once(runs),
    ]
    for loop in LOOPS:
        samples = {case_of(run): _milliseconds(run, loop) for run in runs}
        body.append(f"<h2>{_LOOP_WORDS[loop]}</h2>")
        body += [
            _figure(histogram(samples, "ms"), "Histogram; the slowest half percent lies in the last bin."),
            _figure(percentile_plot(samples, "ms"), "Latency by percentile, the tail widened."),
            _figure(time_series(samples, "ms"), "In the order of the forecasts: of each bucket the slowest."),
        ]
    body.append("<h2>Where and how</h2>")
    artifacts = {case_of(run): run["artifact"] for run in runs}
    body.append(_pre({"plan": plan, "artifacts": artifacts, "environment": where}))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
            *body,
            "</body></html>\n",
        ]
    )


def _table(runs: Sequence[Mapping[str, Any]]) -> str:
    head = ["", "loop", *_COLUMNS.values(), "jitter", "misses", "n"]
    rows = []
    for run in runs:
        for loop in LOOPS:
            found = run[loop]
            cells = [case_of(run), loop.removesuffix("_loop")]
            for key in _COLUMNS:
                interval = found["intervals_us"].get(key)
                beside = "" if interval is None else f"<small>{interval[0]:.0f} … {interval[1]:.0f}</small>"
                cells.append(_number(found[f"{key}_us"]) + beside)
            misses = found["deadline_misses"]
            cells += [_number(found["jitter_us"]), "–" if misses is None else str(misses), str(found["n"])]
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    names = "".join(f"<th>{name}</th>" for name in head)
    return f'<table class="loops"><tr>{names}</tr>{"".join(rows)}</table>'


def _once(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what is not measured in a loop."""
    names: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "first after idle, us": lambda run: _number(run["first_after_idle_us"]),
        "cold start, ms": lambda run: _number(run["cold_start_ms"]),
        "resident, MB": lambda run: _number(run["rss_mb"]),
        "device, MB": lambda run: _number(run["device_memory_mb"]),
        "mJ a forecast": lambda run: _number(run["energy_mj"]),
        "largest error": lambda run: f"{run['parity']['max_abs_error'] or float('nan'):.1e}",
        "tolerance": lambda run: f"{run['parity']['tolerance']:g}",
    }
    head = "<th></th>" + "".join(f"<th>{case_of(run)}</th>" for run in runs)
    rows = [
        f"<tr><td>{name}</td>" + "".join(f"<td>{value(run)}</td>" for run in runs) + "</tr>"
        for name, value in names.items()
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _milliseconds(run: Mapping[str, Any], loop: str) -> Floats:
    return trace_of(run, loop).latency.nanoseconds / 1e6


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _figure(picture: str, caption: str) -> str:
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _pre(data: Mapping[str, Any]) -> str:
    return f"<pre>{html.escape(json.dumps(data, indent=1))}</pre>"
