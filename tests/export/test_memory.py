"""A memory of the week in a bundle: the forecasts of its checkpoint, before and after a break of the recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.bundle import export_bundle
from runtime.predictor import StreamPredictor
from stunet_deploy.series.series import Series
from training.torch_predictor import TorchPredictor

from .conftest import make_checkpoint

DAY = 288


@pytest.mark.slow
def test_a_bundle_remembers_what_its_checkpoint_remembers(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("blocks")
    bundle = export_bundle(checkpoint, tmp_path / "model.bundle")
    rng = np.random.default_rng(3)
    times = checkpoint.reference.timestamps[0] + 300 * np.arange(11 * DAY)
    times = np.delete(times, slice(9 * DAY, 10 * DAY + 7))
    shape = (len(times), *checkpoint.reference.values.shape[1:])
    observed = rng.random(shape) < 0.8
    values = np.where(observed, rng.uniform(10, 60, shape), 0).astype(np.float32)
    series = Series(values, observed, times, checkpoint.reference.site)
    ours, theirs = TorchPredictor(checkpoint.model), StreamPredictor(bundle)

    for start, issue in ((8 * DAY, np.arange(8 * DAY + 5, 9 * DAY, 90)), (9 * DAY, np.arange(9 * DAY, len(times), 60))):
        found, expected = (np.concatenate(list(one.stream(series, start, issue))) for one in (theirs, ours))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
        forgotten = series.rows(slice(start, len(times)))
        new = np.concatenate(list(ours.stream(forgotten, 0, issue - start)))
        assert np.abs(new - expected).max() > 0.1  # the memory counts
