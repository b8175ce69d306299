"""Gaps: a day with readings missing at random, in blocks, and of the whole network for hours.

Every forecast must be finite and within the manifest's limits, there must be one for every interval that came, and its
``degraded`` flag must be what the rules in docs/guide/streaming.md say, worked out here from what was sent alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.clocks import DAY_S
from benchmarks.faults.network import START_S, readings_of
from benchmarks.faults.table import Row
from runtime.options import StreamOptions
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle

#: An hour, so that a day has gaps on either side of it; and the stream's default.
_MAX_GAP, _MIN_OBSERVED = 12, 0.5


def gaps(bundle: Bundle, rng: np.random.Generator) -> Iterator[Row]:
    """Stream each day through each mode."""
    for name, observed, came in days(bundle, rng):
        failures, degraded = [], 0
        for mode in ("carry", "window"):
            found, count = streamed(bundle, mode, observed, came)
            failures += found
            degraded += count
        seen = f"{(~observed[came]).mean():.0%} of the readings missing, {int((~came).sum())} intervals did not come; "
        seen += f"degraded as the rules say: {degraded} of {2 * int(came.sum())} forecasts"
        yield Row(f"a day of intervals, {name}", 2 * int(came.sum()), failures, seen)


def days(bundle: Bundle, rng: np.random.Generator) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield what is missing, which readings are observed [time, node, feature], and which intervals come [time]."""
    manifest = bundle.manifest
    time, nodes = DAY_S // manifest.interval_s, len(manifest.sensor_ids)
    shape = (time, nodes, len(manifest.features))
    hour = 3600 // manifest.interval_s
    everything = np.ones(time, np.bool_)
    yield "30 % missing at random", rng.random(shape) > 0.3, everything
    blocks = np.ones(shape, np.bool_)
    for node in range(nodes):  # each sensor for an hour to six, twice
        for _ in range(2):
            begin = int(rng.integers(time))
            blocks[begin : begin + int(rng.integers(1, 7)) * hour, node] = False
    yield "blocks of 1 to 6 hours missing", blocks, everything
    silent = np.ones(shape, np.bool_)
    silent[4 * hour : 7 * hour] = False
    silent[12 * hour : 18 * hour, : (3 * nodes + 3) // 4] = False
    yield "the whole network silent for 3 hours, three quarters for 6", silent, everything
    came = everything.copy()
    came[3 * hour : 3 * hour + _MAX_GAP] = False  # as long as is bridged
    came[8 * hour : 8 * hour + _MAX_GAP + 1] = False
    came[14 * hour : 20 * hour] = False
    yield "no interval for 1 hour, a little more, and 6 hours", np.ones(shape, np.bool_), came


def streamed(bundle: Bundle, mode: str, observed: NDArray[np.bool_], came: NDArray[np.bool_]) -> tuple[list[str], int]:
    """Return what was wrong with the forecasts of a day, and how many were degraded."""
    manifest = bundle.manifest
    low, high = np.array([manifest.limits[manifest.features.index(target)] for target in manifest.targets]).T
    options = StreamOptions(max_gap=_MAX_GAP)
    stream = Stream.open(bundle, mode="window" if mode == "window" else "carry", options=options)
    failures, degraded = [], 0
    seen, last = 0, -1  # intervals since zero state, the last one that came
    for step in np.flatnonzero(came).tolist():
        values = np.where(observed[step], readings_of(manifest, step), np.nan)
        forecast = stream.push(values, START_S + manifest.interval_s * step)
        if not np.isfinite(forecast.values).all():
            failures.append(f"{mode}, interval {step}: not finite")
        elif (forecast.values < low - 1e-3).any() or (forecast.values > high + 1e-3).any():
            failures.append(f"{mode}, interval {step}: beyond the limits")
        missing = step - last - 1 if last >= 0 else 0
        seen = 1 if missing > _MAX_GAP else seen + missing + 1
        few = observed[step].mean() < _MIN_OBSERVED
        if forecast.degraded != (missing > 0 or seen < manifest.window or few):
            failures.append(f"{mode}, interval {step}: degraded is {forecast.degraded}, {forecast.reasons}")
        degraded += forecast.degraded
        last = step
    if stream.counters.pushes != int(came.sum()) or any(stream.counters.refused.values()):
        failures.append(f"{mode}: {stream.counters}")
    stream.close()
    return failures, degraded
