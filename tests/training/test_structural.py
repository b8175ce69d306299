"""A Structural-RNN in the training loop that every model family shares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import SRNNConfig, SRNNRunConfig, TrainingConfig
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.models.srnn.model import StructuralRNN
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

SMALL: dict[str, Any] = {
    "edge_embedding": (4,),
    "edge_hidden": 4,
    "node_embedding": (4,),
    "node_hidden": 8,
    "head": (8,),
    "time_features": "day",
    "horizon": 3,
    "window": 6,
}


def make_config(**model: Any) -> SRNNRunConfig:
    training = TrainingConfig(epochs=2, chunk=12, warm_up=5, batch=8, threads=1, learning_rate=1e-2)
    return SRNNRunConfig(SRNNConfig(**SMALL, **model), training)


@pytest.mark.parametrize("model", [{}, {"decoder": "recurrent"}, {"profile": True}], ids=str)
def test_training_ends_better_than_it_began_and_its_checkpoint_forecasts_the_same(
    series: Any, graph: Any, model: dict[str, Any], tmp_path: Any
) -> None:
    epochs = []
    checkpoint = TrainingRun(series, graph, make_config(**model), seed=3, report=epochs.append).run()
    checkpoint.save(tmp_path / "model.pt")
    again = Checkpoint.load(tmp_path / "model.pt")

    assert epochs[-1].validation_mae < epochs[0].validation_mae
    assert checkpoint.training["best_epoch"] >= 1
    left, right = TorchPredictor(checkpoint.model), TorchPredictor(again.model)
    assert left.name == "srnn"
    issue = np.arange(20, 30)
    for one, other in zip(left.stream(series, 0, issue), right.stream(series, 0, issue), strict=True):
        np.testing.assert_array_equal(one, other)


def test_types_of_sensors_become_types_of_nodes(series: Any, graph: Any) -> None:
    types = {sensor: "freeway" if number % 2 else "ramp" for number, sensor in enumerate(series.sensor_ids)}
    model = TrainingRun(series, graph, make_config(), types=types).run().model

    assert isinstance(model, StructuralRNN)
    assert model.graph.node_types == ("freeway", "ramp")
    assert {kind.name for kind in model.graph.edge_types} == {
        "near-freeway-freeway",
        "near-freeway-ramp",
        "near-ramp-ramp",
    }


def test_equal_runs_give_equal_weights_and_another_graph_is_another_run(series: Any, graph: Any, tmp_path: Any) -> None:
    config = make_config()
    first, second = (TrainingRun(series, graph, config, seed=5).run().model.state_dict() for _ in range(2))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())

    state = tmp_path / "model.pt.state"
    TrainingRun(series, graph, config, seed=5, state_file=state).run()
    directed = replace(graph, adjacency=Adjacency.from_matrix(np.triu(graph.adjacency.dense())))
    with pytest.raises(Exception, match="belongs to another run"):
        TrainingRun(series, directed, config, seed=5, state_file=state, resume=True).run()
