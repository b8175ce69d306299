"""What a way to run a step is given, and what is found about it: parity, state, latency."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend
from runtime.bench.machine import Energy
from runtime.bench.nvml import open_gpu
from runtime.timing import Samples, measure
from stunet_deploy.bundle import Golden
from stunet_deploy.compare import compare, course, json_number
from stunet_deploy.series.wall_clock import time_of_week

Inputs = dict[str, NDArray[Any]]


class Feed:
    """The golden stream as inputs of a step, over and over, with the float64 reference's forecasts.

    Args:
        golden: the recorded stream.
        timezone: of the model's time features.
        tolerance: largest difference that a float32 step may have, in the unit of the target.
    """

    def __init__(self, golden: Golden, timezone: str, tolerance: float) -> None:
        self.golden = golden
        self.tolerance = tolerance
        times = time_of_week(golden.timestamps, timezone)
        self._rows: list[Inputs] = [
            {"values": values[None], "observed": mask[None].astype(np.float32), "time_of_week": moment.reshape(1, 1)}
            for values, mask, moment in zip(golden.values, golden.observed, times, strict=True)
        ]

    def __call__(self, t: int) -> Inputs:
        """Return the inputs of interval t."""
        return self._rows[t % len(self._rows)]


def parity(feed: Feed, backend: Backend) -> dict[str, Any]:
    """Compare a way with the float64 reference over the golden stream, state carried: difference and its course."""
    golden = feed.golden
    scored = set(golden.scored.tolist())
    found = []
    backend.reset()
    for t in range(len(golden.timestamps)):
        forecast = backend.step(feed(t))["forecast"][0]
        if t in scored:
            found.append(forecast.copy())
    one = compare(np.stack(found), golden.forecast, feed.tolerance)
    return {
        "intervals": len(golden.timestamps),
        "max_abs_error": json_number(one.max_abs_error),
        "mean_abs_error": json_number(one.mean_abs_error),
        "tolerance_fp32": one.tolerance,
        "within": one.passed,
        "course": course(one),
    }


def state(feed: Feed, backend: Backend) -> dict[str, Any]:
    """Move lines through every phase, and reset: the largest difference from an undisturbed stream, 0 where exact."""
    slots = backend.contract.slots
    length = 3 * slots

    def forecasts(first: int, count: int) -> NDArray[np.float32]:
        return np.stack([backend.step(feed(t))["forecast"].copy() for t in range(first, first + count)])

    backend.reset()
    forecasts(0, length)
    lines = backend.read_lines()
    expected = forecasts(length, length)
    worst = 0.0
    for phase in range(1, slots + 1):
        backend.reset()
        forecasts(5, phase)
        backend.write_lines(lines)
        worst = max(worst, float(np.abs(forecasts(length, length) - expected).max()))
    backend.reset()
    fresh = forecasts(0, length)
    backend.reset(list(range(backend.batch)))
    again = forecasts(0, length)
    return {"phases": slots, "restored": worst, "reset": float(np.abs(again - fresh).max())}


def latency(step: Callable[[Inputs], Any], feed: Feed, *, seconds: float, calls: int, energy: bool) -> dict[str, Any]:
    """Time intervals host to host: one after another, at a fixed rate, and after idling.

    Args:
        step: the way.
        feed: its inputs.
        seconds: about how long to time each.
        calls: at most this many calls one after another.
        energy: read the GPU's counter.
    """
    clock = iter(range(10**9))

    def call() -> None:
        step(feed(next(clock)))

    first = measure(call, warm_up=5, repeats=20)
    repeats = int(min(calls, max(20, seconds * 1e6 / first.median_us)))
    with Energy(open_gpu() if energy else None) as counter:
        closed = measure(call, warm_up=10, repeats=repeats)
    period_s = max(0.002, 3e-6 * closed.median_us)
    idle = []
    for _ in range(5):
        time.sleep(min(0.5, seconds / 10))
        idle.append(measure(call, warm_up=0, repeats=1).nanoseconds[0])
    return {
        "closed": closed.summary(),
        "open": open_loop(call, period_s, max(20, int(seconds / period_s))),
        "after_idle": Samples(np.array(idle)).summary(),
        "energy_mj_per_interval": None if counter.gpu_joules is None else 1000 * counter.gpu_joules / (repeats + 10),
        "samples_us": (closed.nanoseconds[:2000] / 1000).round(1).tolist(),
    }


def open_loop(call: Callable[[], None], period_s: float, count: int) -> dict[str, Any]:
    """Time intervals that arrive at a fixed rate, from arrival to forecast: waiting for the one before counts."""
    durations = np.empty(count, np.int64)
    start = time.perf_counter_ns() + 1_000_000
    for index in range(count):
        due = start + int(index * period_s * 1e9)
        while (left := due - time.perf_counter_ns()) > 0:
            if left > 300_000:  # sleeping is too coarse for the rest
                time.sleep((left - 200_000) / 1e9)
        call()
        durations[index] = time.perf_counter_ns() - due
    misses = int((durations > period_s * 1e9).sum())
    return {"period_us": 1e6 * period_s, "misses": misses, **Samples(durations).summary()}
