"""A model of one network on another: directed and in mph first, then undirected, larger and in km/h."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, SRNNConfig, SRNNRunConfig, STUNetConfig, TrainingConfig
from stunet_deploy.errors import CheckpointError, ConfigError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site
from tests.shapes import unchecked
from training import transfer
from training.history import Epoch
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor

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
    assert other.model.profile.damping is not None
    assert not torch.equal(other.model.profile.damping, weights(first)["profile.damping"])
    for name, weight in weights(other).items():
        assert name == "profile.damping" or torch.equal(weight, weights(first)[name])


def test_other_types_are_refused(start: Checkpoint, wave_once: Series) -> None:
    series, graph = elsewhere(wave_once)
    types = {sensor: "ramp" if number % 2 else "road" for number, sensor in enumerate(series.sensor_ids)}
    with pytest.raises(ConfigError, match=r"node types: ramp .*road .*model to start from was trained on: sensor"):
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
        (wave_once, RunConfig(), "--model srnn"),
        (two, ANY, "features: speed, flow"),
        (slow, ANY, "1800"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainingRun(series, graph, config, start=start).run()
    with pytest.raises(ConfigError, match="--start-from"):
        TrainingRun(wave_once, graph, CONFIG, epochs=0).run()


def test_only_a_run_from_the_same_weights_is_resumed(start: Checkpoint, wave_once: Series, tmp_path: Any) -> None:
    state, graph = tmp_path / "state", directed(wave_once)
    TrainingRun(wave_once, graph, ANY, start=start, epochs=1, state_file=state).run()
    with pytest.raises(CheckpointError, match="belongs to another run"):
        TrainingRun(wave_once, graph, CONFIG, epochs=1, state_file=state, resume=True).run()
    with pytest.raises(ConfigError, match="no epochs to resume"):
        TrainingRun(wave_once, graph, ANY, start=start, epochs=0, state_file=state, resume=True).run()


NETWORK = STUNetConfig(scales=((0, 2),), hidden=4, profile=True, time_features="day", horizon=3, window=6)
UNET = RunConfig(NETWORK, replace(TRAINING, alone=5))
ANY_UNET = RunConfig(training=TRAINING)


@pytest.fixture(scope="module")
def unet(wave_once: Series) -> Checkpoint:
    with unchecked():
        return TrainingRun(wave_once, directed(wave_once), UNET, seed=1).run()


def forecasts(checkpoint: Checkpoint, series: Series) -> np.ndarray:
    """Forecasts of a recording from its first interval on."""
    return np.concatenate(list(TorchPredictor(checkpoint.model).stream(series, 0, np.arange(20, 300))))


def test_an_stunet_without_training_is_its_weights_on_the_new_networks_tables(
    unet: Checkpoint, wave_once: Series, tmp_path: Any
) -> None:
    series, graph = elsewhere(wave_once)
    other = TrainingRun(series, graph, ANY_UNET, start=unet, epochs=0).run()
    other.save(tmp_path / "other.pt")
    tables = TrainingRun(series, graph, UNET).prepare().model.state_dict()
    taken = {name: weight for name, weight in weights(unet).items() if name != "profile.damping"}
    by_hand = replace(other, model=TrainingRun(series, graph, UNET).prepare().model.eval())
    by_hand.model.load_state_dict(tables | taken)

    again = Checkpoint.load(tmp_path / "other.pt")
    assert again.model.config == NETWORK
    assert (again.model.sensors, again.site) == (10, series.site)
    np.testing.assert_array_equal(forecasts(again, series), forecasts(by_hand, series))
    assert again.training["start"]["weights"] == transfer.weights_hash(unet.model)
    assert other.training["epochs"] == 0


def test_an_stunet_knows_no_units_no_order_and_no_names(unet: Checkpoint, wave_once: Series) -> None:
    """The same network in other units, its sensors renamed and in another order, has the same forecasts in them."""
    order = [3, 0, 4, 2, 1]
    moved = wave_once.aligned([wave_once.sensor_ids[node] for node in order], ["speed"])
    names = tuple(f"new-{node}" for node in range(5))
    moved = replace(moved, site=replace(moved.site, sensor_ids=names, features=("pace",), units=("s",)))
    moved = replace(moved, values=moved.values * np.float32(0.25))
    adjacency = directed(wave_once).adjacency.dense()[np.ix_(order, order)]
    here = TrainingRun(wave_once, directed(wave_once), ANY_UNET, start=unet, epochs=0).run()
    there = TrainingRun(moved, network(adjacency, moved), ANY_UNET, start=unet, epochs=0).run()

    expected = 0.25 * forecasts(here, wave_once)[:, :, order]
    np.testing.assert_allclose(forecasts(there, moved), expected, atol=1e-3)
    assert np.abs(np.diff(expected, axis=2)).max() > 1


def test_an_stunet_goes_on_at_another_interval(unet: Checkpoint, wave_once: Series) -> None:
    faster = replace(wave_once, site=replace(wave_once.site, interval_s=1800), timestamps=wave_once.timestamps // 2)
    epochs: list[Epoch] = []
    trained = TrainingRun(faster, directed(faster), ANY_UNET, start=unet, epochs=2, report=epochs.append).run()

    assert trained.site.interval_s == 1800
    assert trained.model.profile is not None
    assert len(trained.model.profile.table) == 2 * 48
    assert len(epochs) == 2
    assert any(not torch.equal(weight, weights(unet)[name]) for name, weight in weights(trained).items())


def test_a_start_is_kept_unless_an_epoch_is_better(unet: Checkpoint, wave_once: Series, tmp_path: Any) -> None:
    series, graph = elsewhere(wave_once)
    harmful = replace(ANY_UNET, training=replace(TRAINING, learning_rate=0.5, average=0.0, schedule="step"))
    epochs: list[Epoch] = []
    as_it_is = TrainingRun(series, graph, ANY_UNET, start=unet, epochs=0).run()
    spoilt = TrainingRun(series, graph, harmful, start=unet, epochs=2, report=epochs.append).run()

    assert min(epoch.validation_mae for epoch in epochs) > as_it_is.training["validation_mae"]
    assert (spoilt.training["epochs"], spoilt.training["best_epoch"]) == (2, 0)
    assert spoilt.training["validation_mae"] == as_it_is.training["validation_mae"]
    for name, tensor in spoilt.model.state_dict().items():
        assert torch.equal(tensor, as_it_is.model.state_dict()[name]), name

    def interrupt(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        TrainingRun(series, graph, harmful, start=unet, epochs=2, state_file=state, report=interrupt).run()
    resumed = TrainingRun(series, graph, harmful, start=unet, epochs=2, state_file=state, resume=True).run()
    assert resumed.training["best_epoch"] == 0
    assert resumed.training["validation_mae"] == as_it_is.training["validation_mae"]


def test_what_differs_between_two_networks_is_remarked(wave_once: Series) -> None:
    site = wave_once.site
    other = replace(site, features=("flow",), interval_s=600)

    assert transfer.remarks(site, replace(site, sensor_ids=tuple("abcde"), units=("km/h",))) == []
    of_flow, of_interval = transfer.remarks(site, other)
    assert "of speed, the recording of flow" in of_flow
    assert "3600 s, the recording has 600 s" in of_interval


def test_what_does_not_suit_an_stunet_is_refused(unet: Checkpoint, start: Checkpoint, wave_once: Series) -> None:
    graph = directed(wave_once)
    two = replace(
        wave_once,
        values=np.repeat(wave_once.values, 2, axis=2),
        observed=np.repeat(wave_once.observed, 2, axis=2),
        site=replace(wave_once.site, features=("speed", "flow"), units=("mph", "veh/h")),
    )
    of_two = TrainingRun(two, graph, replace(UNET, targets=("flow",)), epochs=1).run()
    exchanged = two.aligned(two.sensor_ids, ["flow", "speed"])

    def with_model(**model: Any) -> RunConfig:
        return replace(UNET, model=replace(NETWORK, **model))

    cases: tuple[tuple[Checkpoint, Series, Any, str], ...] = (
        (unet, wave_once, with_model(hidden=5), "another hidden than"),
        (unet, wave_once, with_model(horizon=4, window=7), "another horizon, window than"),
        (unet, wave_once, ANY, "--model stunet"),
        (start, wave_once, ANY_UNET, "--model srnn"),
        (unet, two, ANY_UNET, r"2 features \(speed, flow\)"),
        (of_two, wave_once, ANY_UNET, r"1 features \(speed\)"),
        (of_two, exchanged, replace(ANY_UNET, targets=("flow",)), "targets flow; expected speed, at the places"),
        (of_two, two, replace(ANY_UNET, targets=("speed", "flow")), "targets speed, flow; expected flow"),
    )
    for checkpoint, series, config, message in cases:
        with pytest.raises(ConfigError, match=message):
            TrainingRun(series, graph, config, start=checkpoint, epochs=0).run()
    for fits in (two, exchanged):
        assert TrainingRun(fits, graph, ANY_UNET, start=of_two, epochs=0).run().model.signal.targets == (
            fits.features[1],
        )


def test_a_memory_is_trained_on_days_enough_and_used_on_any(wave_once: Series) -> None:
    config = replace(UNET, model=replace(NETWORK, memory=True))
    start = TrainingRun(wave_once, directed(wave_once), config, epochs=1).run()
    short = wave_once.rows(slice(0, 90))

    assert TrainingRun(short, directed(short), ANY_UNET, start=start, epochs=0).run().model.contract.lasting
    with pytest.raises(ConfigError, match="start from a model without"):
        TrainingRun(short, directed(short), ANY_UNET, start=start, epochs=1).run()


def test_weights_of_members_of_super_nodes_need_as_many(wave_once: Series) -> None:
    config = replace(UNET, model=replace(NETWORK, scales=((2, 2),), unpooling="weighted_deconv"))
    start = TrainingRun(wave_once, directed(wave_once), config, epochs=1).run()
    pair = wave_once.aligned(wave_once.sensor_ids[:2], ["speed"])

    with pytest.raises(ConfigError, match=r'other members.*unpooling = "copy"'):
        TrainingRun(pair, directed(pair), ANY_UNET, start=start, epochs=0).run()
