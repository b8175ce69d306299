"""A measurement as JSON and as a table, and its samples read from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bench.loops import Trace
from runtime.bench.plan import Plan, Run
from runtime.bench.resampling import percentile_intervals
from runtime.timing import Samples
from stunet_deploy.errors import ConfigError, DataError

#: Percentiles of the JSON by key.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
LOOPS = ("closed_loop", "open_loop")


def run_to_json(run: Run, plan: Plan, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return one run with its samples; docs/guide/bench.md has every field."""
    closed, opened = Trace.join(run.closed), Trace.join(run.opened)
    cold = sorted(run.cold_starts, key=lambda start: float(start["total_ms"]))
    middle = cold[len(cold) // 2] if cold else None
    idle = sorted(run.idle_us)
    return {
        **asdict(run.case),
        "closed_loop": _loop_to_json(closed, plan),
        "open_loop": _loop_to_json(opened, plan)
        | {
            "rate": plan.rate,
            "utilisation": (plan.rate or 0) * float(opened.service.nanoseconds.mean()) / 1e9,
            "wait_p50_us": opened.wait.median_us,
            "wait_p99_us": opened.wait.percentile(99),
        },
        "first_after_idle_us": idle[len(idle) // 2] if idle else None,
        "cold_start_ms": None if middle is None else middle["total_ms"],
        "cold_start": middle,
        "rss_mb": None if middle is None else middle["rss_mb"],
        "device_memory_mb": run.device_memory_mb,
        "energy_mj": _millijoules(run.energy.cpu_joules, len(closed.end)),
        "device_energy_mj": _millijoules(run.energy.gpu_joules, len(closed.end)),
        "parity": run.parity,
        "artifact": run.artifact,
        "environment": dict(environment),
        "samples": {
            "closed_loop": _trace_to_json(closed),
            "open_loop": _trace_to_json(opened),
            "first_after_idle_us": run.idle_us,
            "cold_starts": run.cold_starts,
        },
    }


def _loop_to_json(trace: Trace, plan: Plan) -> dict[str, Any]:
    latency = trace.latency
    intervals = percentile_intervals(latency, list(PERCENTILES.values()), np.random.default_rng(0))
    found = {key: latency.percentile(percent) for key, percent in PERCENTILES.items()}
    p99 = found["p99"]
    late = None if plan.deadline_us is None else int((latency.nanoseconds > 1000 * plan.deadline_us).sum())
    return {
        **{f"{key}_us": value for key, value in found.items()},
        "max_us": float(latency.nanoseconds.max()) / 1000,
        "n": len(latency.nanoseconds),
        "min_us": float(latency.nanoseconds.min()) / 1000,
        "mean_us": float(latency.nanoseconds.mean()) / 1000,
        "jitter_us": None if p99 is None else p99 - latency.median_us,
        "intervals_us": {key: intervals[percent] for key, percent in PERCENTILES.items()},
        "deadline_misses": late,
        "step_p50_us": Samples(trace.step).percentile(50),
        "step_p99_us": Samples(trace.step).percentile(99),
    }


def _trace_to_json(trace: Trace) -> dict[str, list[int]]:
    """Return nanoseconds; moments count from the first interval that was due."""
    first = int(trace.due[0])
    return {
        "due_ns": (trace.due - first).tolist(),
        "begin_ns": (trace.begin - first).tolist(),
        "end_ns": (trace.end - first).tolist(),
        "step_ns": trace.step.tolist(),
    }


def _millijoules(joules: float | None, count: int) -> float | None:
    return None if joules is None else 1000 * joules / count


def read_measurement(path: Path) -> dict[str, Any]:
    """Read a measurement that :func:`runtime.bench.measure.bench` returned, from a file.

    Raises:
        DataError: if the file is not a measurement.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        for run in data["runs"]:
            trace_of(run, "closed_loop"), trace_of(run, "open_loop"), case_of(run)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no measurement ({error!r})",
            "what 'stunet bench --out FILE' writes",
            "measure again: stunet bench bundle/ --out FILE",
        ) from error
    found: dict[str, Any] = data
    return found


def trace_of(run: Mapping[str, Any], loop: str) -> Trace:
    """Return the samples of a run's loop."""
    samples = run["samples"][loop]
    return Trace(*(np.array(samples[f"{name}_ns"], np.int64) for name in ("due", "begin", "end", "step")))


def case_of(run: Mapping[str, Any]) -> str:
    """Return a run's backend, precision and threads in words."""
    threads = run["threads"]
    return f"{run['backend']} {run['precision']}, {threads} thread{'' if threads == 1 else 's'}"


def samples_of(measurement: Mapping[str, Any]) -> dict[tuple[str, str], Samples]:
    """Return the latencies of a measurement by (case, loop)."""
    return {(case_of(run), loop): trace_of(run, loop).latency for run in measurement["runs"] for loop in LOOPS}


def required_count(at: str) -> int:
    """Return how many forecasts it takes to know a percentile: n ≥ 10 / (1 - p)."""
    return 1 if at == "max" else -(-10_000 // round(1000 - 10 * PERCENTILES[at]))


def check_count(at: str, count: int) -> None:
    """Refuse to judge by a percentile that so many forecasts cannot know.

    Raises:
        ConfigError: naming the count that it takes.
    """
    needed = required_count(at)
    if count < needed:
        raise ConfigError(f"--at {at} of {count} forecasts", f"at least {needed}", f"use --count {needed}")


def missed(measurement: Mapping[str, Any], at: str) -> list[str]:
    """Return the runs and loops whose percentile ``at`` exceeds the deadline of the plan, each in words."""
    deadline = measurement["plan"]["deadline_us"]
    return [
        f"{case_of(run)}, {loop.replace('_', ' ')}: {at} {run[loop][f'{at}_us']:.0f} us"
        for run in measurement["runs"]
        for loop in LOOPS
        if run[loop][f"{at}_us"] > deadline
    ]


def advised_threads(runs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of threads to run with, for each backend and precision that was measured with several.

    It is the smallest of those whose open-loop median is not known to be above the lowest one: their intervals overlap.
    A thread that gains nothing takes a core from others.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(f"{run['backend']} {run['precision']}", []).append(run)
    advised = {}
    for name, group in groups.items():
        intervals = {run["threads"]: run["open_loop"]["intervals_us"]["p50"] for run in group}
        if len(intervals) > 1 and None not in intervals.values():
            lowest = min(high for _, high in intervals.values())
            advised[name] = min(threads for threads, (low, _) in intervals.items() if low <= lowest)
    return advised


def table(measurement: Mapping[str, Any]) -> str:
    """Return the measurement as text: one row for each case and loop, then what there is once."""
    head = ["", "loop", "p50", "p90", "p99", "p99.9", "max", "jitter", "misses"]
    rows = [head]
    for run in measurement["runs"]:
        for loop in LOOPS:
            found = run[loop]
            numbers = [found[key] for key in ("p50_us", "p90_us", "p99_us", "p999_us", "max_us", "jitter_us")]
            misses = found["deadline_misses"]
            rows.append(
                [case_of(run), loop.removesuffix("_loop"), *map(_cell, numbers), "–" if misses is None else str(misses)]
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in columns)
        for columns in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]
    lines[0] += "   (microseconds)"
    for run in measurement["runs"]:
        low, high = run["closed_loop"]["intervals_us"]["p50"] or (float("nan"), float("nan"))
        lines += ["", f"{case_of(run)}: closed p50 within {low:.1f} … {high:.1f} us, {_rest(run)}"]
    lines += [""] * bool(measurement["advised_threads"])
    lines += [f"{name}: run it with --threads {best}" for name, best in measurement["advised_threads"].items()]
    where = measurement["environment"]
    load = where["before"]["load"]
    lines += ["", f"{where['cpu']}, {where['cores']} cores, load {'unknown' if load is None else load[0]} before"]
    return "\n".join(lines)


def _rest(run: Mapping[str, Any]) -> str:
    """Return in words what a run found beside the loops."""
    step, cold, parity = run["closed_loop"]["step_p50_us"], run["cold_start"], run["parity"]
    words = [] if step is None else [f"of which the step {step:.1f}"]
    if run["first_after_idle_us"] is not None:
        words.append(f"first after idle {run['first_after_idle_us']:.0f} us")
    if cold is not None:
        words.append(
            f"cold start {cold['total_ms']:.0f} ms (interpreter {cold['interpreter_ms']:.0f}, import "
            f"{cold['import_ms']:.0f}, load {cold['load_ms']:.0f}, context {cold['context_ms']:.0f}, first step "
            f"{cold['first_step_ms']:.1f})"
        )
    if run["rss_mb"] is not None:
        words.append(f"{run['rss_mb']:.0f} MB resident")
    if run["device_memory_mb"] is not None:
        words.append(f"{run['device_memory_mb']:.0f} MB on the device")
    if run["energy_mj"] is not None:
        words.append(f"{run['energy_mj']:.2f} mJ a forecast")
    words.append(
        f"largest error {parity['max_abs_error']:.1e} of {parity['tolerance']:g}"
        if parity["max_abs_error"] is not None
        else "forecasts that are not finite"
    )
    return ", ".join(words)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
