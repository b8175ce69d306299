"""What the models read, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.peers.task import Peer, Task, best
from stunet_deploy.errors import ConfigError, DataError
from training.baselines import persistence
from training.evaluation import Predictor, evaluate

MakeTask = Callable[..., Task]


def test_readings_are_filled_with_the_last_and_normalised_by_the_training_span(make_task: MakeTask) -> None:
    task = make_task()
    mean, std = task.scale
    observed, values = task.series.observed[..., 0], task.series.values[..., 0]

    row, node = next((row, node) for row, node in np.argwhere(~observed) if row > 20 and observed[row - 1, node])
    assert task.readings.values[row, node] == task.readings.values[row - 1, node]
    assert task.readings.values[row - 1, node] == pytest.approx((values[row - 1, node] - mean) / std, rel=1e-5)
    channels = task.readings.channels(np.array([30, 2]), 12)
    assert channels.shape == (2, 12, 4, 3)
    np.testing.assert_allclose(channels[0, -1, :, 1], 6 / 24, rtol=1e-6)  # the second day's 6 o'clock
    assert (channels[0, -1, :, 2] == 1).all()
    np.testing.assert_array_equal(channels[1, 0], channels[1, 9])  # before the first row


def test_a_choice_is_made_by_the_error_over_observed_labels_of_the_validation_span(make_task: MakeTask) -> None:
    task = make_task()
    forecast = persistence(task.series, task.split).predict

    rows = task.validation[:, None] + np.arange(1, 4)
    missed = np.abs(forecast(task.validation) - task.series.values[rows])[..., 0]
    expected = missed[task.series.observed[rows, :, 0]].mean()

    def held(readings, issue):
        return np.repeat(readings.values[issue][:, None], 3, axis=1)

    assert task.error(held) == pytest.approx(expected, rel=1e-5)
    choice, chosen = best(task, (1, 0, -1), lambda more: lambda readings, issue: held(readings, issue) + more)
    assert choice == 0
    assert task.error(chosen) == task.error(held)


def test_a_peer_is_a_predictor_of_any_recording_of_its_sensors(make_task: MakeTask) -> None:
    task = make_task()
    peer = Peer("held", task, lambda readings, issue: np.repeat(readings.values[issue][:, None], 3, axis=1))

    ours, theirs = evaluate(task.series, task.split, [peer, persistence(task.series, task.split)], regimes=("window",))[
        ::3
    ]

    assert isinstance(peer, Predictor)
    assert ours.mae == pytest.approx(theirs.mae, rel=1e-5)
    other = make_task(missing=0.6)
    (forecast,) = peer.window(other.series, task.split.test[:1], 12)
    np.testing.assert_allclose(forecast, persistence(other.series, task.split).predict(task.split.test[:1]), rtol=1e-5)


def test_a_task_without_time_or_target_is_refused(make_task: MakeTask) -> None:
    task = make_task()
    with pytest.raises(ConfigError, match="0 minutes"):
        make_task(minutes=0)
    with pytest.raises(DataError, match="flow"):
        Task(task.series, task.split, "flow", task.graph)
