"""JSON of a stream for the endpoints; docs/reference/endpoints.md describes every field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.drift import DriftReport
from runtime.service.status import Status
from runtime.service.web.health import problems, stale_after_s, warnings
from runtime.service.web.history import Row
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time


def overview(status: Status) -> dict[str, Any]:
    """Return the state of a stream, small and new at every call."""
    manifest, last, durations = status.manifest, status.last, status.step_times.read()
    return {
        "stream": status.stream,
        "bundle_id": manifest.bundle_id,
        "model": manifest.model,
        "backend": status.backend,
        "precision": status.config.precision,
        "mode": status.config.mode,
        "source": status.config.source.kind,
        "live": status.live,
        "ended": status.ended,
        "problems": problems(status),
        "warnings": warnings(status),
        "issued_s": None if last is None else last.issued_s,
        "age_s": _rounded(status.age_s),
        "stale_after_s": stale_after_s(status) if status.live else None,
        "observed_share": None if last is None else round(last.observed_share, 6),
        "reasons": [] if last is None else list(last.reasons),
        "step_ms": {
            "last": None if last is None else _rounded(last.step_us / 1000),
            "median": _rounded(durations.median_ms),
            "p99": _rounded(durations.p99_ms),
        },
        "delivered_age_s": _rounded(status.deliveries.read().age_s),
        "waiting": status.waiting,
        "waiting_limit": status.config.queue,
        "catching_up": status.catching_up,
        "durable": status.trouble is None,
        "counters": {
            "delivered": status.counters["service"]["delivered"],
            "forecasts": status.counters["service"]["forecasts"],
            "bridged": status.counters["stream"]["bridged"],
            "resets": status.counters["stream"]["resets"],
            "backend_failures": status.counters["service"]["backend_failures"],
            "refused": status.refused,
            "dropped": status.dropped,
            "undelivered": status.undelivered,
            "held": status.waiting_forecasts,
        },
        "drift": None if status.drift is None else _drift(status.drift, manifest),
    }


def network(manifest: Manifest) -> dict[str, Any]:
    """Return the constant facts of a bundle: sensors, positions, units, horizons."""
    targets = []
    for target, unit in zip(manifest.targets, manifest.units_of_targets, strict=True):
        about = {"name": target, "unit": unit, "decimals": decimals_of(manifest, target), "low": None, "high": None}
        if target in manifest.features:
            known = manifest.features.index(target)
            low, high = manifest.limits[known]
            about |= {"low": low, "high": high, "mean": manifest.mean[known], "std": manifest.std[known]}
        targets.append(about)
    return {
        "bundle_id": manifest.bundle_id,
        "sensors": list(manifest.sensor_ids),
        "latitude": None if manifest.latitude is None else list(manifest.latitude),
        "longitude": None if manifest.longitude is None else list(manifest.longitude),
        "edges": edges(manifest),
        "targets": targets,
        "interval_s": manifest.interval_s,
        "stamp": manifest.stamp,
        "timezone": manifest.timezone,
        "horizons_min": list(manifest.horizons_min),
    }


def edges(manifest: Manifest) -> list[tuple[int, int]] | None:
    """Return the edges of the bundle's graph, each pair of nodes once; None if the manifest does not hold them.

    The manifest of a Structural-RNN holds them; an ST-UNet has its graph in the step, as a Chebyshev basis.
    """
    text = manifest.config.get("st_graph")
    if not isinstance(text, str):
        return None
    nodes = {sensor: node for node, sensor in enumerate(manifest.sensor_ids)}
    found = {
        (min(pair), max(pair))
        for edge in json.loads(text)["edges"]
        if len(pair := {nodes.get(edge["source"], -1), nodes.get(edge["target"], -1)}) == 2 and -1 not in pair
    }
    return sorted(found) or None


def values(row: Row, manifest: Manifest) -> Iterable[bytes]:
    """Yield the JSON of one interval at all sensors in parts, between which other threads may run."""
    head = {"bundle_id": manifest.bundle_id, "issued_s": row.issued_s, "issued_at": format_time(row.issued_s)}
    yield json.dumps(head).encode()[:-1] + b', "observed": {'
    for number, target in enumerate(manifest.targets):
        yield _key(number, target) + _numbers(row.observed[:, number], decimals_of(manifest, target))
    yield b'}, "forecast": {'
    for number, target in enumerate(manifest.targets):
        yield _key(number, target) + b"["
        for horizon in range(manifest.horizon):
            comma = b"" if horizon == 0 else b", "
            yield comma + _numbers(row.forecast[horizon, :, number], decimals_of(manifest, target))
        yield b"]"
    yield b"}}"


def sensor(rows: list[Row], manifest: Manifest, node: int) -> dict[str, Any]:
    """Return observations and forecasts at one sensor, oldest interval first."""
    observed = np.array([row.observed[node] for row in rows]).reshape(len(rows), len(manifest.targets))
    forecast = np.array([row.forecast[:, node] for row in rows]).reshape(
        len(rows), manifest.horizon, len(manifest.targets)
    )
    return {
        "bundle_id": manifest.bundle_id,
        "sensor": manifest.sensor_ids[node],
        "issued_s": [row.issued_s for row in rows],
        "observed": {
            target: _listed(observed[:, number], decimals_of(manifest, target))
            for number, target in enumerate(manifest.targets)
        },
        "forecast": {
            target: _rounded_off(forecast[:, :, number], decimals_of(manifest, target)).tolist()
            for number, target in enumerate(manifest.targets)
        },
    }


def accuracy(drift: DriftReport, manifest: Manifest) -> dict[str, Any]:
    """Return the running errors at each sensor over all horizons, of the forecasts and of persistence."""
    return {
        "bundle_id": manifest.bundle_id,
        "sensor_mae": _by_target(drift.sensor_mae, manifest),
        "sensor_persistence_mae": _by_target(drift.sensor_persistence_mae, manifest),
    }


def decimals_of(manifest: Manifest, target: str) -> int:
    """Return the number of decimals of a target: three significant digits of the largest value allowed."""
    if target not in manifest.features:
        return 3
    largest = max(abs(limit) for limit in manifest.limits[manifest.features.index(target)])
    return 3 if largest == 0 else min(6, max(0, 2 - math.floor(math.log10(largest))))


def _drift(drift: DriftReport, manifest: Manifest) -> dict[str, Any]:
    return {
        "scored": drift.scored,
        "intervals": drift.intervals,
        "alarm": drift.alarm,
        "alarm_since_s": drift.alarm_since_s,
        "statistic": _rounded(drift.statistic),
        "threshold": drift.threshold,
        "mae": _by_target(drift.mae, manifest),
        "persistence_mae": _by_target(drift.persistence_mae, manifest),
    }


def _by_target(errors: NDArray[np.float64], manifest: Manifest) -> dict[str, list[float | None]]:
    """Return errors [horizon or node, target] with one decimal more than values."""
    return {
        target: _listed(errors[:, number], decimals_of(manifest, target) + 1)
        for number, target in enumerate(manifest.targets)
    }


def _key(number: int, target: str) -> bytes:
    return (", " if number else "").encode() + json.dumps(target).encode() + b": "


def _numbers(values: NDArray[np.float32], decimals: int) -> bytes:
    return json.dumps(_listed(values, decimals), separators=(",", ":")).encode()


def _listed(values: NDArray[np.floating[Any]], decimals: int) -> list[float | None]:
    """Return numbers [number] as JSON has them: rounded, null where unobserved."""
    rounded = _rounded_off(values, decimals)
    listed: list[float | None] = rounded.tolist()
    for index in np.flatnonzero(np.isnan(rounded)):
        listed[index] = None
    return listed


def _rounded_off(values: NDArray[np.floating[Any]], decimals: int) -> NDArray[np.float64]:
    # Rounded as float32 they would be written with the seventeen digits of a float64; and there is no -0.0.
    rounded: NDArray[np.float64] = np.asarray(np.round(values.astype(np.float64), decimals) + 0.0, np.float64)
    return rounded


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
