"""Untrained models of recorded, invented and real networks to measure with: time does not depend on weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.config import RunConfig, Signal, SRNNRunConfig, STUNetConfig
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.files import read_graph
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site

Model = TypeVar("Model", bound=torch.nn.Module)

INTERVAL_S = 300
START_S = 1_330_588_800  # 2012-03-01T08:00:00Z
NEIGHBOURS = 4
SPEED = Signal(("speed",), ("speed",), mean=(55.0,), std=(12.0,), low=(0.0,), high=(90.0,))
#: Names of the real sensor and road graphs, 207 to 33,113 nodes, smallest first.
GRAPHS = ("METR-LA", "PEMS-BAY", "PEMS07", "PeMS stations", "Chicago", "Sydney")


def st_unet(hidden: int) -> RunConfig:
    """Return the default ST-UNet with so many channels."""
    return RunConfig(model=STUNetConfig(hidden=hidden))


def randomised(model: Model) -> Model:
    """Return a model with random numbers for the zeros it starts with: an untrained head forecasts persistence."""
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


def recorded_checkpoint(series: Series, data: Path, config: RunConfig | SRNNRunConfig) -> Checkpoint:
    """Return an untrained model of a recording's network.

    Args:
        series: the recording, or some sensors of it.
        data: file with its graph.
        config: of the model.
    """
    from training.reference import reference_stream
    from training.run import TrainingRun

    prepared = TrainingRun(series, read_graph(data, series.sensor_ids), config).prepare()
    reference = reference_stream(series, prepared.split)
    return Checkpoint(randomised(prepared.model), reference, {"note": "random weights, for timing"})


def shortened(checkpoint: Checkpoint, intervals: int) -> Checkpoint:
    """Return a checkpoint with the end of its reference stream: enough to verify a bundle with, and no more."""
    return replace(checkpoint, reference=checkpoint.reference.rows(slice(-intervals, None)))


def random_model(config: STUNetConfig, adjacency: Adjacency | NDArray[np.float64], seed: int = 0) -> STUNet:
    """Return an untrained ST-UNet of a graph."""
    pools = [levels for levels, _ in config.scales]
    hierarchy = GraphHierarchy.build(adjacency, pool_levels=pools, basis=config.basis)
    torch.manual_seed(seed)
    return randomised(STUNet(config, hierarchy, SPEED))


def random_checkpoint(model: STUNet, intervals: int, seed: int = 0) -> Checkpoint:
    """Return a model with a stream of daily speeds of which one reading in twenty is missing."""
    rng, sensors = np.random.default_rng(seed), model.sensors
    timestamps = START_S + INTERVAL_S * np.arange(intervals)
    daily = 12 * np.sin(2 * np.pi * timestamps[:, None] / 86_400 + rng.uniform(0, 1, sensors))
    speeds = 55 + daily + rng.normal(0, 3, (intervals, sensors))
    observed = rng.random((intervals, sensors, 1)) > 0.05
    values = np.where(observed, np.clip(speeds, 0, 90)[..., None], 0).astype(np.float32)
    site = Site(tuple(f"s{node}" for node in range(sensors)), ("speed",), ("mph",), INTERVAL_S)
    return Checkpoint(model, Series(values, observed, timestamps, site), {"note": "random weights"})


def invented_checkpoint(sensors: int, hidden: int, intervals: int, seed: int = 0) -> Checkpoint:
    """Return an untrained model of an invented network, with a stream."""
    adjacency = random_adjacency(sensors, np.random.default_rng(seed))
    return random_checkpoint(random_model(STUNetConfig(hidden=hidden), adjacency, seed), intervals, seed)


def random_adjacency(sensors: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return weights [sensor, sensor] of sensors strewn over a square, each joined to the nearest four."""
    places = rng.random((sensors, 2))
    distance, nearest = cKDTree(places).query(places, k=NEIGHBOURS + 1)
    scale = distance[:, 1:].mean()
    adjacency = np.zeros((sensors, sensors))
    adjacency[np.arange(sensors)[:, None], nearest[:, 1:]] = np.exp(-((distance[:, 1:] / scale) ** 2))
    return adjacency


def real_graph(name: str, folder: Path) -> Adjacency:
    """Return a graph of ``GRAPHS``; without published weights, those are 1 / (1 + length / mean length).

    Args:
        name: of the graph.
        folder: of the data sets that are not part of the repository.
    """
    if name in ("METR-LA", "PEMS-BAY"):
        with np.load(folder / ("metr-la.npz" if name == "METR-LA" else "pems-bay-graph.npz")) as arrays:
            return Adjacency.from_matrix(arrays["adjacency"])
    if name == "PEMS07":
        with np.load(folder / "pems0x-graphs.npz") as arrays:
            return _weighted(int(arrays["p07_nodes"]), arrays["p07_from"], arrays["p07_to"], arrays["p07_distance"])
    if name == "PeMS stations":
        with np.load(folder / "pems-typical-weekday.npz") as arrays:
            return _weighted(len(arrays["station_ids"]), arrays["src"], arrays["dst"], arrays["gap_miles"])
    with np.load(folder / "road-networks.npz") as arrays:
        columns = [arrays[f"{name.lower()}_{column}"] for column in ("node_ids", "src", "dst", "length")]
    return _weighted(len(columns[0]), *columns[1:])


def _weighted(
    nodes: int, source: NDArray[np.int32], target: NDArray[np.int32], length: NDArray[np.float32]
) -> Adjacency:
    length = length.astype(np.float64)
    weight = 1 / (1 + length / length.mean())
    # Two roads between the same crossings are one edge, the nearer one.
    keys, place = np.unique(source.astype(np.int64) * nodes + target, return_inverse=True)
    largest = np.zeros(len(keys))
    np.maximum.at(largest, place, weight)
    return Adjacency.from_edges(nodes, keys // nodes, keys % nodes, largest)
