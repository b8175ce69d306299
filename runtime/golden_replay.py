"""The step alone over a recording: its inputs, its forecasts, and their comparison with the float64 reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend
from runtime.window import FORECAST
from stunet_deploy.bundle import Golden
from stunet_deploy.compare import Comparison, compare
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.wall_clock import time_of_week


def recorded_inputs(
    manifest: Manifest, timestamps: NDArray[np.int64], values: NDArray[np.float32], observed: NDArray[np.bool_]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the inputs [1, ...] of the step at every interval of a recording.

    Args:
        manifest: of the bundle, for its time zone.
        timestamps: [time] seconds since the epoch, UTC.
        values: [time, node, feature] in physical units.
        observed: [time, node, feature].
    """
    times_of_week = time_of_week(timestamps, manifest.timezone)
    for reading, mask, moment in zip(values, observed, times_of_week, strict=True):
        yield {
            "values": reading[None],
            "observed": mask[None].astype(np.float32),
            "time_of_week": moment.reshape(1, 1),
        }


def carried_forecasts(
    runner: Backend,
    manifest: Manifest,
    timestamps: NDArray[np.int64],
    values: NDArray[np.float32],
    observed: NDArray[np.bool_],
) -> Iterator[NDArray[np.float32]]:
    """Yield the forecast [horizon, node, target] after every interval of a recording, without a stream's clock.

    Args:
        runner: an open backend of one row, in zero state.
        manifest, timestamps, values, observed: see :func:`recorded_inputs`.

    Raises:
        BackendError: if the backend fails.
    """
    for inputs in recorded_inputs(manifest, timestamps, values, observed):
        yield runner.step(inputs)[FORECAST][0].copy()


def golden_forecasts(runner: Backend, manifest: Manifest, golden: Golden) -> NDArray[np.float32]:
    """Return the forecasts [issue, horizon, node, target] where the golden stream has those of the reference.

    Args:
        runner: an open backend of one row, in zero state.
        manifest: of its bundle.
        golden: the recorded stream.

    Raises:
        BackendError: if the backend fails.
    """
    kept = dict.fromkeys(golden.scored.tolist(), np.empty(0, np.float32))
    recording = (golden.timestamps, golden.values, golden.observed)
    for t, forecast in enumerate(carried_forecasts(runner, manifest, *recording)):
        if t in kept:
            kept[t] = forecast
    return np.stack(list(kept.values()))


def compare_golden(found: NDArray[np.float32], golden: Golden, tolerances: Sequence[float]) -> list[Comparison]:
    """Compare forecasts [issue, horizon, node, target] with the float64 reference, target by target."""
    return [
        compare(found[..., column], golden.forecast[..., column], tolerance)
        for column, tolerance in enumerate(tolerances)
    ]
