"""What the tasks share: the noise schedule, graphs without structure, models of equal size, and a loop that learns."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import numpy as np
import pytest
import torch

from stunet_deploy.config import SRNNConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.files import read_st_graph
from tests.paths import ROOT
from training.tasks.learning import (
    as_inputs,
    channel_signal,
    count_parameters,
    fit,
    forecast,
    forecast_all,
    of_equal_size,
    one_node,
    without_edges,
)
from training.tasks.settings import TaskTraining

FIELDS = fields(TaskTraining)
SMALL = SRNNConfig(
    edge_embedding=(4,),
    edge_hidden=6,
    node_embedding=(4,),
    node_hidden=8,
    head=(8,),
    fill="mean",
    time_features="none",
    mask_channel=False,
    horizon=1,
)


def test_the_noise_grows_as_scheduled() -> None:
    training = TaskTraining(noise=((250, 0.01), (500, 0.05)))

    assert [training.noise_std(update) for update in (0, 249, 250, 499, 500, 9000)] == [0, 0, 0.01, 0.01, 0.05, 0.05]
    assert TaskTraining().noise_std(100) == 0


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"updates": 0}, "updates"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"noise": ((500, 0.1), (250, 0.2))}, "noise"),
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        TaskTraining(**wrong)  # type: ignore[arg-type]


def test_graphs_without_structure_keep_the_channels() -> None:
    graph = read_st_graph("body-five-parts")

    whole, alone = one_node(graph), without_edges(graph)

    assert [node.slice for node in whole.nodes] == [(6, 117)]
    assert alone.nodes == graph.nodes
    assert (whole.edges, alone.edges, alone.edge_types) == ((), (), ())


def test_a_plain_model_of_equal_size() -> None:
    graph = read_st_graph("body-five-parts")
    signal = channel_signal([f"c{number}" for number in range(117)], [0.0] * 117, [1.0] * 117)
    parameters = count_parameters(StructuralRNN(SMALL, graph, signal))
    plain = one_node(graph)

    size = count_parameters(StructuralRNN(of_equal_size(SMALL, plain, signal, parameters), plain, signal))

    assert size == pytest.approx(parameters, rel=0.1)


def test_the_loop_learns_and_repeats_itself() -> None:
    graph = read_st_graph("pedestrians", {"person": 2})
    waves = np.sin(np.arange(8)[:, None, None, None] + np.arange(20)[:, None, None] * 0.5) * np.ones(2)
    values = np.broadcast_to(waves, (8, 20, 2, 2)).copy()
    truth = torch.from_numpy(values[:, 1:]).float()
    losses: list[list[float]] = []
    for _ in range(2):
        torch.manual_seed(0)
        model = StructuralRNN(SMALL, graph, channel_signal(["x", "y"], [0.0, 0.0], [1.0, 1.0]))
        inputs = as_inputs(values[:, :-1])
        seen: list[float] = []

        def loss_at(update: int, model: StructuralRNN = model, inputs: object = inputs) -> torch.Tensor:
            return (forecast(model, inputs)[:, :, 0] - truth).abs().mean()  # type: ignore[arg-type]

        def note(update: int, loss: float, seen: list[float] = seen) -> None:
            seen.append(loss)

        fit(model, TaskTraining(updates=15, learning_rate=4e-2), loss_at, note)
        losses.append(seen)

    assert losses[0] == losses[1]
    assert losses[0][-1] < 0.6 * losses[0][0]
    np.testing.assert_allclose(
        forecast_all(model, inputs, [3], batch=3), forecast(model, inputs).detach()[:, 3:4], atol=1e-6
    )


def test_the_page_of_the_tasks_has_every_setting_with_its_default() -> None:
    text = (ROOT / "docs" / "reference" / "srnn-tasks.md").read_text(encoding="utf-8")
    rows = {row[0]: json.loads(row[1]) for row in re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", text, re.M)}

    assert rows == {field.name: list(value) if isinstance(value := field.default, tuple) else value for field in FIELDS}
