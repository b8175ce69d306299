"""Chunks and labels cut from a recording, held to what the rows say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stunet_deploy.config import Signal
from stunet_deploy.errors import DataError
from stunet_deploy.models.fill import Fill
from stunet_deploy.models.signal import SignalInput
from stunet_deploy.series.series import read_series
from training.data import ChunkSampler, TensorSeries

CPU = torch.device("cpu")
SPEED = Signal(("speed",), ("speed",), (45.0,), (12.0,), (0.0,), (90.0,))
FLOW_AND_SPEED = Signal(("speed", "flow"), ("flow", "speed"), (45.0, 30.0), (12.0, 4.0), (0.0, 0.0), (90.0, 60.0))


def test_labels_are_the_raw_readings_after_the_issue_row(wave):
    series = wave(features=2)
    recording = TensorSeries.of(series, FLOW_AND_SPEED, CPU)
    issue = torch.tensor([[10, 11], [200, 201]])

    labels, observed = recording.labels(issue, 3)

    assert labels.shape == observed.shape == (2, 2, 3, 6, 2)
    for batch, time, ahead in np.ndindex(2, 2, 3):
        row = int(issue[batch, time]) + ahead + 1
        np.testing.assert_array_equal(labels[batch, time, ahead], series.values[row][:, [1, 0]])
        np.testing.assert_array_equal(observed[batch, time, ahead], series.observed[row][:, [1, 0]])


def test_an_observed_zero_is_a_label_and_what_is_under_an_unobserved_mark_is_not(series):
    values, observed = series.values.copy(), series.observed.copy()
    values[51], observed[51] = 0, True
    values[52], observed[52] = np.nan, False
    recording = TensorSeries.of(replace(series, values=values, observed=observed), SPEED, CPU)

    labels, known = recording.labels(torch.tensor([[50]]), 2)

    assert known[0, 0, 0].all()
    assert not known[0, 0, 1].any()
    assert torch.isfinite(labels).all()
    assert torch.isfinite(recording.values).all()


def test_inputs_are_rows_of_the_recording(series):
    rows = torch.tensor([[3, 4, 5], [100, 101, 102]])

    inputs = TensorSeries.of(series, SPEED, CPU).inputs(rows)

    np.testing.assert_array_equal(inputs.values, series.values[rows])
    np.testing.assert_array_equal(inputs.observed, series.observed[rows])
    np.testing.assert_array_equal(inputs.time_of_week[..., 0], series.time_of_week()[rows])


def test_a_reading_outside_the_limits_is_dropped_and_not_clipped(series):
    values, observed = series.values.copy(), series.observed.copy()
    values[3, :4, 0], observed[3] = [90, 90.1, -0.1, 0], True

    inputs = TensorSeries.of(replace(series, values=values, observed=observed), SPEED, CPU).inputs(torch.tensor([[3]]))

    assert inputs.values[0, 0, :4, 0].tolist() == [90, 0, 0, 0]
    assert inputs.observed[0, 0, :4, 0].tolist() == [1, 0, 0, 1]


def test_every_chunk_with_its_labels_lies_in_one_run_and_every_such_chunk_is_possible():
    runs, length, horizon = [slice(4, 9), slice(20, 40), slice(50, 61)], 8, 3

    sampler = ChunkSampler.of(runs, length, horizon)

    def fits(start: int) -> bool:
        return any(run.start <= start and start + length + horizon <= run.stop for run in runs)

    assert sampler.length == length
    assert sampler.starts.tolist() == [start for start in range(70) if fits(start)]


def test_chunks_are_as_long_as_the_longest_run_allows():
    sampler = ChunkSampler.of([slice(0, 9), slice(20, 30)], 100, 3)

    assert sampler.length == 7
    assert sampler.starts.tolist() == [20]


@pytest.mark.parametrize("runs", [[], [slice(0, 3)], [slice(0, 2), slice(5, 8)]])
def test_runs_without_room_for_labels_are_refused(runs):
    with pytest.raises(DataError, match="consecutive rows"):
        ChunkSampler.of(runs, 5, 3)


def test_an_epoch_scores_about_as_many_rows_as_there_are_starts():
    sampler = ChunkSampler.of([slice(0, 500)], 20, 3)

    draws = sampler.draws(4, 12)

    assert draws * 4 * 12 >= len(sampler.starts) > (draws - 1) * 4 * 12
    generator = torch.Generator().manual_seed(1)
    for rows in (sampler.draw(4, generator) for _ in range(draws)):
        assert rows.shape == (4, 20)
        assert (rows.diff(dim=1) == 1).all()
        assert set(rows[:, 0].tolist()) <= set(sampler.starts.tolist())


def test_chunks_repeat_by_seed_and_differ_between_draws():
    sampler = ChunkSampler.of([slice(0, 500)], 20, 3)

    def two_draws(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([sampler.draw(4, generator) for _ in range(2)])

    first = two_draws(1)
    assert torch.equal(first, two_draws(1))
    assert not torch.equal(first, two_draws(2))
    assert not torch.equal(first[0], first[1])


def test_the_literature_mode_feeds_what_the_public_file_holds(shared_data):
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "layouts" / "metr-la.h5") as file:
        public = file["df/block0_values"][:].astype(np.float32)[..., None]
    rows = torch.arange(len(public))[None]
    fill = Fill("zeros", SignalInput(SPEED, "none", False))
    for name in ("metr-la.npz", "layouts/metr-la.h5"):  # the first has imputed values where the second has 0
        inputs = TensorSeries.of(read_series(shared_data / name), SPEED, CPU).inputs(rows)
        fed = fill.sequence(inputs.values, inputs.observed, {}, torch.zeros_like(inputs.values))

        np.testing.assert_allclose(fed[0] * SPEED.std[0] + SPEED.mean[0], public, atol=1e-4)
        assert (public == 0).mean() > 0.02
