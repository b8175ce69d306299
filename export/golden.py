"""The golden stream: a recorded stream with hidden cells, and what the float64 reference forecasts on it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from stunet_deploy.bundle import Golden
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.errors import CheckpointError
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.series.wall_clock import time_of_week

LONGEST = 1_000
SHORTEST = 24
HIDDEN_SHARE = 0.1
SEED = 0
MAX_BYTES = 32_000_000
#: Room in the file for names and headers of the arrays.
_OVERHEAD = 4_096
_ROWS_AT_ONCE = 96
#: Fewer of a large network, so that their activations stay within memory.
_READINGS_AT_ONCE = 400_000


def make_golden(checkpoint: Checkpoint) -> Golden:
    """Hide a tenth of the reference stream's observed cells by seed and forecast it in float64.

    The file is kept under 32 MB by storing fewer of the forecasts first, then by fewer intervals.

    Raises:
        CheckpointError: if the reference stream is shorter than 24 intervals.
    """
    reference, model = checkpoint.reference, checkpoint.model
    available = len(reference.timestamps)
    if available < SHORTEST:
        raise CheckpointError(
            f"a reference stream of {available} intervals", f"at least {SHORTEST}", "train on a longer recording"
        )
    interval_bytes = 8 + reference.values[0].nbytes + reference.observed[0].nbytes
    horizon, nodes, targets = model.config.horizon, reference.values.shape[1], len(model.signal.targets)
    forecast_bytes = 8 + 4 * horizon * nodes * targets
    room = MAX_BYTES - _OVERHEAD
    fits = (room - SHORTEST * forecast_bytes) // interval_bytes
    time = max(SHORTEST, min(available, LONGEST, fits))
    stored = max(SHORTEST, min(time, (room - time * interval_bytes) // forecast_bytes))
    rows = slice(available - time, available)
    generator = np.random.default_rng(SEED)
    observed = reference.observed[rows] & (generator.random(reference.observed[rows].shape) >= HIDDEN_SHARE)
    values = np.where(observed, reference.values[rows], np.float32(0))
    timestamps = reference.timestamps[rows]
    # The last interval is always stored: drift would show there first.
    scored = np.unique(np.linspace(0, time - 1, stored).round().astype(np.int64))
    stream = Golden(timestamps, values, observed, scored, np.empty(0, np.float32))
    return replace(stream, forecast=_forecast(checkpoint, stream, torch.float64))


def rounding(checkpoint: Checkpoint, golden: Golden) -> tuple[float, ...]:
    """Return how far the model in float32 is from the reference at most, per target: what no export can better."""
    difference = np.abs(_forecast(checkpoint, golden, torch.float32) - golden.forecast)
    return tuple(difference.max(axis=(0, 1, 2)).tolist())


@torch.inference_mode()
def _forecast(checkpoint: Checkpoint, stream: Golden, dtype: torch.dtype) -> NDArray[np.float32]:
    """Return the forecasts of the model in a type after the ``scored`` intervals, rounded once to float32."""
    model = copy.deepcopy(checkpoint.model).to(dtype).eval()
    timestamps, scored = stream.timestamps, stream.scored
    # The step's inputs are float32 everywhere; the reference is exact about what it is given.
    time = time_of_week(timestamps, checkpoint.site.timezone)[:, None]
    sequence = [torch.from_numpy(array).to(dtype)[None] for array in (stream.values, stream.observed, time)]
    lines = model.initial_lines(1)
    forecasts = []
    at_once = max(1, min(_ROWS_AT_ONCE, _READINGS_AT_ONCE // stream.values.shape[1]))
    for first in range(0, len(timestamps), at_once):
        rows = slice(first, first + at_once)
        wanted = torch.from_numpy(scored[(scored >= rows.start) & (scored < rows.stop)] - first)
        forecast, lines = model(StepInputs(*(tensor[:, rows] for tensor in sequence)), lines, issued=wanted)
        forecasts.append(forecast[0].numpy().astype(np.float32))
    return np.concatenate(forecasts)
