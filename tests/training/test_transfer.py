"""A Structural-RNN of one network on another: directed and in mph first, then undirected, larger and in km/h."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, SRNNConfig, SRNNRunConfig, TrainingConfig
from stunet_deploy.errors import CheckpointError, ConfigError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from tests.shapes import unchecked
from training.run import TrainingRun

pytestmark = pytest.mark.usefixtures("shapes_unchecked")
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
TRAINING = TrainingConfig(epochs=3, chunk=12, warm_up=5, batch=8, threads=1, learning_rate=1e-2)
CONFIG = SRNNRunConfig(SRNNConfig(**SMALL), TRAINING)
ANY = SRNNRunConfig(training=TRAINING)


def directed(series: Series) -> SensorGraph:
    """A one-way ring."""
    return network(np.roll(np.eye(len(series.sensor_ids)), 1, axis=1), series)


def network(adjacency: np.ndarray, series: Series) -> SensorGraph:
    return SensorGraph(Adjacency.from_matrix(adjacency), series.sensor_ids, None, None, "made up")


def elsewhere(series: Series) -> tuple[Series, SensorGraph]:
    """Another network: twice the sensors, other names, km/h, edges in both directions."""
    other = replace(
        series,
        values=np.concatenate([series.values, np.roll(series.values, 5, axis=0)], axis=1) * np.float32(1.6),
        observed=np.concatenate([series.observed, np.roll(series.observed, 5, axis=0)], axis=1),
        site=replace(
            series.site,
            sensor_ids=tuple(f"d7-{node}" for node in range(2 * len(series.sensor_ids))),
            units=tuple("km/h" for _ in series.units),
        ),
        source="elsewhere",
    )
    ring = directed(other).adjacency.dense()
    return other, network(ring + ring.T, other)


@pytest.fixture(scope="module")
def start(wave_once: Series) -> Checkpoint:
    with unchecked():
        return TrainingRun(wave_once, directed(wave_once), CONFIG, seed=1).run()


@pytest.fixture(scope="module")
def wave_once() -> Series:
    rng = np.random.default_rng(2)
    hours = np.arange(360)
    phase = 2 * np.pi * (hours[:, None] / 24 - np.arange(5) / 5)
    values = (45 + 20 * np.sin(phase) + rng.normal(0, 1, phase.shape))[..., None].astype(np.float32)
    observed = rng.random(values.shape) > 0.05
    stamps = 1_330_905_600 + 3600 * hours.astype(np.int64)
    names = tuple(f"la-{node}" for node in range(5))
    return Series(np.where(observed, values, 0), observed, stamps, Site(names, ("speed",), ("mph",), 3600))


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(checkpoint.model.named_parameters())


def test_without_training_the_weights_serve_another_network(
    start: Checkpoint, wave_once: Series, tmp_path: Any
) -> None:
    series, graph = elsewhere(wave_once)
    other = TrainingRun(series, graph, ANY, start=start, epochs=0).run()
    other.save(tmp_path / "other.pt")
    again = Checkpoint.load(tmp_path / "other.pt")

    assert isinstance(again.model, StructuralRNN)
    assert again.model.config == CONFIG.model
    assert again.model.sensors == 10
    assert again.site.sensor_ids == series.sensor_ids
    assert again.site.units == ("km/h",)
    assert all(torch.equal(weight, weights(start)[name]) for name, weight in weights(again).items())
    assert [kind.name for kind in again.model.graph.edge_types] == ["upstream", "downstream"]
    # The speeds of the new network are those of the first, 1.6 times as large.
    assert again.model.signal.mean[0] == pytest.approx(1.6 * start.model.signal.mean[0], rel=0.02)
    assert again.training["epochs"] == again.training["best_epoch"] == 0
    assert again.training["start"]["sensors"] == 5
    slow = replace(CONFIG, training=replace(TRAINING, learning_rate=1e-9))
    untrained = TrainingRun(series, graph, slow, epochs=1).run()
    assert again.training["validation_mae"] < untrained.training["validation_mae"]


def test_training_goes_on_from_the_weights(start: Checkpoint, wave_once: Series) -> None:
    series, graph = elsewhere(wave_once)
    first, fresh = [], []
    as_it_is = TrainingRun(series, graph, ANY, start=start, epochs=0).run()
    trained = TrainingRun(series, graph, ANY, start=start, epochs=2, report=first.append).run()
    TrainingRun(series, graph, CONFIG, epochs=1, report=fresh.append).run()

    assert len(first) == trained.training["epochs"] == 2
    assert first[0].loss < fresh[0].loss
    assert trained.training["validation_mae"] < as_it_is.training["validation_mae"]
    assert any(not torch.equal(weight, weights(start)[name]) for name, weight in weights(trained).items())


def test_on_its_own_network_it_forecasts_what_it_did(start: Checkpoint, wave_once: Series) -> None:
    same = TrainingRun(wave_once, directed(wave_once), ANY, start=start, epochs=0).run()

    assert same.training["validation_mae"] == start.training["validation_mae"]
    assert same.model.signal == start.model.signal


def test_directions_are_ignored_where_the_first_network_had_none(wave_once: Series) -> None:
    ring = directed(wave_once).adjacency.dense()
    both_ways = TrainingRun(wave_once, network(ring + ring.T, wave_once), CONFIG, epochs=1).run()
    other = TrainingRun(wave_once, directed(wave_once), ANY, start=both_ways, epochs=0).run().model

    assert isinstance(other, StructuralRNN)
    assert other.graph == both_ways.model.graph  # type: ignore[attr-defined]


def test_a_daily_profile_is_that_of_the_new_network(wave_once: Series) -> None:
    config = SRNNRunConfig(SRNNConfig(**SMALL, profile=True), TRAINING)
    series, graph = elsewhere(wave_once)
    first = TrainingRun(wave_once, directed(wave_once), config, epochs=1).run()
    other = TrainingRun(series, graph, ANY, start=first, epochs=0).run()

    assert other.model.profile is not None
    assert other.model.profile.table.shape[1] == 10
    assert all(torch.equal(weight, weights(first)[name]) for name, weight in weights(other).items())


def test_other_types_are_refused(start: Checkpoint, wave_once: Series) -> None:
    series, graph = elsewhere(wave_once)
    types = {sensor: "ramp" if number % 2 else "road" for number, sensor in enumerate(series.sensor_ids)}
    with pytest.raises(ConfigError, match=r"node types ramp .*road .*model to start from: sensor"):
        TrainingRun(series, graph, ANY, start=start, epochs=0, types=types).run()
    typed = TrainingRun(series, graph, CONFIG, types=types, epochs=1).run()
    with pytest.raises(ConfigError, match="--types"):
        TrainingRun(series, graph, ANY, start=typed, epochs=0).run()


def test_other_architectures_targets_and_data_are_refused(start: Checkpoint, wave_once: Series) -> None:
    graph = directed(wave_once)
    wide = replace(CONFIG, model=replace(CONFIG.model, edge_hidden=5))
    two = replace(
        wave_once,
        values=np.repeat(wave_once.values, 2, axis=2),
        observed=np.repeat(wave_once.observed, 2, axis=2),
        site=replace(wave_once.site, features=("speed", "flow"), units=("mph", "veh/h")),
    )
    slow = replace(wave_once, site=replace(wave_once.site, interval_s=1800), timestamps=wave_once.timestamps // 2)
    for series, config, message in (
        (wave_once, wide, "another edge_hidden"),
        (wave_once, RunConfig(), "ST-UNet"),
        (two, ANY, "features: speed, flow"),
        (slow, ANY, "1800"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainingRun(series, graph, config, start=start).run()
    stunet = replace(start, model=TrainingRun(wave_once, graph, RunConfig(training=TRAINING), epochs=1).run().model)
    with pytest.raises(ConfigError, match="family 'stunet'"):
        TrainingRun(wave_once, graph, ANY, start=stunet).run()
    with pytest.raises(ConfigError, match="--start-from"):
        TrainingRun(wave_once, graph, CONFIG, epochs=0).run()


def test_only_a_run_from_the_same_weights_is_resumed(start: Checkpoint, wave_once: Series, tmp_path: Any) -> None:
    state, graph = tmp_path / "state", directed(wave_once)
    TrainingRun(wave_once, graph, ANY, start=start, epochs=1, state_file=state).run()
    with pytest.raises(CheckpointError, match="belongs to another run"):
        TrainingRun(wave_once, graph, CONFIG, epochs=1, state_file=state, resume=True).run()
    with pytest.raises(ConfigError, match="no epochs to resume"):
        TrainingRun(wave_once, graph, ANY, start=start, epochs=0, state_file=state, resume=True).run()
