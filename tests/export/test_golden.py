"""The golden stream: what it hides, how it is kept small, and whose forecasts it stores."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from export import golden
from export.golden import make_golden
from stunet_deploy.bundle import Golden
from stunet_deploy.errors import CheckpointError
from stunet_deploy.models.forecaster import StepInputs, unroll
from stunet_deploy.series.wall_clock import time_of_week


def test_about_a_tenth_of_the_observed_cells_is_hidden_and_none_invented(make):
    checkpoint = make(intervals=600)
    reference = checkpoint.reference

    stream = make_golden(checkpoint)

    assert not (stream.observed & ~reference.observed).any()
    assert 1 - stream.observed.sum() / reference.observed.sum() == pytest.approx(0.1, abs=0.015)
    np.testing.assert_array_equal(stream.values, np.where(stream.observed, reference.values, 0))
    np.testing.assert_array_equal(stream.timestamps, reference.timestamps)


@pytest.mark.parametrize(
    "name",
    [
        "ST-UNet",
        "two scales",
        "T-UNet",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("recurrent", "recurrent profile")),
    ],
)
def test_the_forecasts_are_those_of_the_step_in_float64(make, name):
    checkpoint = make(name, 230)  # more than two pieces of the sequence form

    stream = make_golden(checkpoint)

    model = checkpoint.model.double()
    time = time_of_week(stream.timestamps, checkpoint.site.timezone)[:, None]
    arrays = (stream.values, stream.observed, time)
    with torch.inference_mode():
        sequence = StepInputs(*(torch.from_numpy(array).double()[None] for array in arrays))
        expected, _ = unroll(model, sequence, model.initial_lines(1))
    assert stream.forecast.dtype == np.float32
    np.testing.assert_array_equal(stream.scored, np.arange(230))
    np.testing.assert_allclose(stream.forecast, expected[0], rtol=2e-7, atol=0)


def test_the_model_keeps_its_precision(checkpoint):
    make_golden(checkpoint)

    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.float32}


def test_equal_checkpoints_give_equal_bytes(make, tmp_path):
    for name in ("first.npz", "second.npz"):
        make_golden(make()).save(tmp_path / name)

    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_it_survives_its_file(checkpoint, tmp_path):
    stream = make_golden(checkpoint)
    stream.save(tmp_path / "golden.npz")

    again = Golden.load(tmp_path / "golden.npz")

    for name, array in vars(stream).items():
        np.testing.assert_array_equal(vars(again)[name], array)


def test_the_latest_intervals_are_taken(make, monkeypatch):
    monkeypatch.setattr(golden, "LONGEST", 40)
    checkpoint = make()

    np.testing.assert_array_equal(make_golden(checkpoint).timestamps, checkpoint.reference.timestamps[-40:])


@pytest.mark.parametrize("intervals", [1, 23])
def test_a_stream_that_is_too_short_is_refused(checkpoint, intervals):
    short = checkpoint.reference.rows(slice(intervals))

    with pytest.raises(CheckpointError, match="at least 24"):
        make_golden(replace(checkpoint, reference=short))


def test_twenty_four_intervals_are_enough(make):
    assert len(make_golden(make(intervals=24)).forecast) == 24


# One interval of the small network takes 43 bytes of input and 92 of forecast.
@pytest.mark.parametrize(
    ("room", "intervals", "forecasts"),
    [
        (1_000_000, 120, 120),
        (120 * 43 + 60 * 92, 120, 60),  # fewer forecasts first
        (120 * 43 + 24 * 92, 120, 24),
        (50 * 43 + 24 * 92, 50, 24),  # then fewer intervals
        (24 * 43, 24, 24),  # and never fewer than 24 of either
    ],
)
def test_the_file_is_kept_small(checkpoint, monkeypatch, tmp_path, room, intervals, forecasts):
    monkeypatch.setattr(golden, "MAX_BYTES", golden._OVERHEAD + room)

    stream = make_golden(checkpoint)
    stream.save(tmp_path / "golden.npz")

    assert (len(stream.timestamps), len(stream.scored), len(stream.forecast)) == (intervals, forecasts, forecasts)
    assert stream.scored[0] == 0
    assert stream.scored[-1] == intervals - 1
    assert (np.diff(stream.scored) >= 1).all()
    assert np.diff(stream.scored).max() <= -(-intervals // (forecasts - 1)) + 1
    if room > 24 * (43 + 92):
        assert (tmp_path / "golden.npz").stat().st_size <= golden.MAX_BYTES
