"""Forecast errors of a bundle on its checkpoint's reference stream, with which precisions are compared."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from runtime.backends.base import open_backend
from runtime.golden_replay import carried_forecasts
from stunet_deploy.bundle import Bundle
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.metrics import ErrorSums, far_from_zero, scored_horizons


def score_reference(bundle: Bundle, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return the carried errors of a bundle on the checkpoint's reference stream, as ``stunet evaluate`` prints them.

    The stream is the one before the test span: most of it was trained on. It serves to compare precisions with one
    another, not to judge the model; for that, evaluate on recordings of your own. A stream shorter than a window and
    its labels gives no errors, nor do targets of which a recording has no labels.
    """
    reference, manifest, signal = checkpoint.reference, bundle.manifest, checkpoint.model.signal
    if not signal.forecasts_features or len(reference.timestamps) < manifest.window + manifest.horizon:
        return []
    columns = list(signal.target_index)
    labels, known = reference.values[..., columns], reference.observed[..., columns]
    sums = ErrorSums()
    scored = slice(len(reference.timestamps) - manifest.horizon)
    recording = (reference.timestamps[scored], reference.values[scored], reference.observed[scored])
    with closing(open_backend(bundle)) as runner:
        for t, forecast in enumerate(carried_forecasts(runner, manifest, *recording)):
            if t >= manifest.window - 1:
                ahead = slice(t + 1, t + 1 + manifest.horizon)
                sums.add(forecast[None], labels[ahead][None], known[ahead][None])
    scores = sums.scores()
    percentages = [
        far_from_zero(labels[manifest.window :, :, i], known[manifest.window :, :, i]) for i in range(len(columns))
    ]
    return [
        {
            "model": manifest.model,
            "protocol": "stream",
            "span": "reference",
            "target": target,
            "horizon_minutes": manifest.horizons_min[step - 1],
            "mae": _rounded(scores.mae[step - 1, column]),
            "wape": _rounded(scores.wape[step - 1, column]),
            "mape": _rounded(scores.mape[step - 1, column]) if percentages[column] else None,
            "rmse": _rounded(scores.rmse[step - 1, column]),
            "count": int(scores.count[step - 1, column]),
        }
        for step in scored_horizons(manifest.horizon)
        for column, target in enumerate(manifest.targets)
    ]


def _rounded(number: float) -> float | None:
    return round(float(number), 6) if np.isfinite(number) else None
