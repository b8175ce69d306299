"""The torch model that the evaluation scores, held to the model's own step."""

import numpy as np
import pytest
import torch

from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.forecaster import StepInputs, unroll
from stunet_deploy.models.stunet.model import STUNet
from training import torch_predictor
from training.torch_predictor import TorchPredictor


@pytest.fixture
def model(graph):
    torch.manual_seed(3)
    config = STUNetConfig(scales=((1, 2),), hidden=4, horizon=3, window=6)
    hierarchy = GraphHierarchy.build(graph.adjacency, pool_levels=[1])
    signal = Signal(("speed", "flow"), ("flow",), (45.0, 30.0), (14.0, 4.0), (0.0, 0.0), (90.0, 60.0))
    network = STUNet(config, hierarchy, signal).eval()
    torch.nn.init.normal_(network.decoder.head.weight, std=0.3)
    return network


def inputs_of(series, rows: slice) -> StepInputs:
    arrays = (series.values, series.observed.astype(np.float32), series.time_of_week()[:, None])
    return StepInputs(*(torch.from_numpy(array[rows])[None] for array in arrays))


def test_a_window_forecast_is_the_last_of_a_window_from_zero_state(model, wave, monkeypatch):
    monkeypatch.setattr(torch_predictor, "_WINDOWS_AT_ONCE", 16)
    series = wave(features=2)
    issue = np.arange(5, 5 + 16 + 7)

    found = list(TorchPredictor(model).window(series, issue, 6))

    assert len(found) == 2
    found = np.concatenate(found)
    assert found.shape == (len(issue), 3, 6, 1)
    for row, forecast in zip(issue, found, strict=True):
        with torch.inference_mode():
            expected, _ = unroll(model, inputs_of(series, slice(row - 5, row + 1)), model.initial_lines(1))
        np.testing.assert_allclose(forecast, expected[0, -1], rtol=1e-5, atol=1e-4)


def test_a_stream_is_the_steps_one_by_one_across_its_chunks(model, wave, monkeypatch):
    monkeypatch.setattr(torch_predictor, "_ROWS_AT_ONCE", 48)
    series = wave(160, features=2)
    start = 7
    issue = np.array([8, 30, start + 47, start + 48, start + 95, start + 96, 140])

    found = np.concatenate(list(TorchPredictor(model).stream(series, start, issue)))

    with torch.inference_mode():
        expected, _ = unroll(model, inputs_of(series, slice(start, 141)), model.initial_lines(1))
    np.testing.assert_allclose(found, expected[0][issue - start], rtol=1e-5, atol=1e-4)


def test_a_stream_remembers_more_than_a_window(model, series, wave):
    series = wave(features=2)
    issue = np.arange(100, 120)

    window = np.concatenate(list(TorchPredictor(model).window(series, issue, 6)))
    stream = np.concatenate(list(TorchPredictor(model).stream(series, 0, issue)))

    assert np.abs(window - stream).max() > 1e-3
