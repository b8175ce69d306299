"""What a missing reading is to a model, in a bundle and its stream as in the checkpoint."""

from dataclasses import replace

import numpy as np
import pytest

from export.bundle import export_bundle
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.series.series import Series
from training.torch_predictor import TorchPredictor


@pytest.fixture(scope="module")
def exported(make, tmp_path_factory):
    """Return a function of the fill that gives a checkpoint and its bundle, each made once."""
    made = {}

    def get(fill) -> tuple[Checkpoint, Bundle]:
        if fill not in made:
            checkpoint = make("S-UNet" if fill == "zeros" else "ST-UNet").with_fill(fill)
            assert checkpoint.model.config.fill == fill
            made[fill] = checkpoint, export_bundle(checkpoint, tmp_path_factory.mktemp(fill) / "model.bundle")
        return made[fill]

    return get


def recording(checkpoint: Checkpoint) -> Series:
    """Return the reference stream with readings outside the limits at two sensors."""
    reference = checkpoint.reference
    values, observed = reference.values.copy(), reference.observed.copy()
    values[20:40:3, 1], observed[20:40:3, 1] = 300, True
    values[25:50:4, 2], observed[25:50:4, 2] = -7, True
    return replace(reference, values=values, observed=observed)


def pushed(bundle: Bundle, series: Series, rows: range, **options) -> np.ndarray:
    stream = Stream.open(bundle, **options)
    try:
        push = [stream.push(series.values[t], int(series.timestamps[t]), series.observed[t]) for t in rows]
    finally:
        stream.close()
    return np.stack([forecast.values for forecast in push])


def as_zeros(series: Series) -> Series:
    """Return a series that holds a reading of 0 where one is missing or impossible."""
    good = series.observed & (series.values >= 0) & (series.values <= 90)
    return replace(series, values=np.where(good, series.values, np.float32(0)), observed=np.ones_like(good))


@pytest.mark.parametrize("fill", ["usual", "forecast", "zeros"])
@pytest.mark.parametrize("regime", ["stream", "window"])
def test_a_bundle_and_its_checkpoint_read_missing_and_impossible_readings_alike(exported, fill, regime):
    checkpoint, bundle = exported(fill)
    series = recording(checkpoint)
    forecaster = TorchPredictor(checkpoint.model)
    issue = np.arange(10, 100)
    if regime == "stream":
        expected = np.concatenate(list(forecaster.stream(series, 0, issue)))
        found = pushed(bundle, series, range(100))[10:]
    else:
        expected = np.concatenate(list(forecaster.window(series, issue, bundle.manifest.window)))
        found = pushed(bundle, series, range(100), mode="window")[10:]

    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_literature_stream_takes_a_missing_reading_for_a_zero_and_a_native_one_does_not(exported):
    (checkpoint, literature), (_, native) = exported("zeros"), exported("usual")
    series = recording(checkpoint)
    zeros = as_zeros(series)

    np.testing.assert_array_equal(pushed(literature, series, range(60)), pushed(literature, zeros, range(60)))
    assert np.abs(pushed(native, series, range(60)) - pushed(native, zeros, range(60))).max() > 1
