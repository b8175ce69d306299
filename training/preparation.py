"""What a recording and a graph make of a config: the normalisation, and the model before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.config import RunConfig, Signal, SRNNRunConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.models.sensors import SensorStatistics
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.extremes import credible_range, physical_limits
from stunet_deploy.series.series import Series
from stunet_deploy.st_graph.files import st_graph_of_sensors
from training.protocols import Split, normalisation


def build_model(
    config: RunConfig | SRNNRunConfig,
    graph: SensorGraph,
    sensor_ids: tuple[str, ...],
    signal: Signal,
    *,
    profile: Float[Tensor, "slot node target"] | None = None,
    types: Mapping[str, str] | None = None,
    directed: bool | None = None,
    sensors: SensorStatistics | None = None,
) -> Forecaster:
    """Return an untrained model on the graph of a sensor network.

    Args:
        config: its class determines the model family.
        graph: of the sensors ``sensor_ids``.
        sensor_ids: in the order of the node axis.
        signal: normalisation, targets and limits.
        profile: table of a model that has a profile; see :class:`training.usual_days.UsualDays`.
        types, directed: see :func:`stunet_deploy.st_graph.files.st_graph_of_sensors`.
        sensors: for an ST-UNet, statistics of every sensor.

    Raises:
        ConfigError: types of sensors for a family that has none.
        DataError: a sensor without a type.
    """
    if isinstance(config, SRNNRunConfig):
        st_graph = st_graph_of_sensors(graph.adjacency, sensor_ids, len(signal.features), types, directed)
        return StructuralRNN(config.model, st_graph, signal, profile)
    if types is not None:
        raise ConfigError("types of sensors for an ST-UNet", "a Structural-RNN", "give --model srnn, or no --types")
    hierarchy = GraphHierarchy.build(
        graph.adjacency,
        pool_levels=[levels for levels, _ in config.model.scales],
        chebyshev_order=config.model.chebyshev_order,
        partition=config.model.partition,
        symmetrise=config.model.symmetrise,
        basis=config.model.basis,
    )
    return STUNet(config.model, hierarchy, signal, profile, sensors)


def prepare_signal(series: Series, split: Split, targets: tuple[str, ...], *, literature: bool = False) -> Signal:
    """Return names, limits and normalisation of the features, from the training span alone.

    Args:
        series, split: the recording and its split.
        targets: names of the features to forecast; empty for all.
        literature: see :func:`training.protocols.normalisation`.
    """
    values, observed = series.values[split.train_rows], series.observed[split.train_rows]
    limits = [
        physical_limits(*credible_range(values[..., feature], observed[..., feature]))
        if observed[..., feature].any()
        else (0.0, 0.0)
        for feature in range(len(series.features))
    ]
    low, high = np.array(limits).T
    mean, std = normalisation(series.within(low, high), split, literature=literature)
    high = np.maximum(high, low + std)
    statistics = (tuple(column.tolist()) for column in (mean, std, low, high))
    return Signal(series.features, targets or series.features, *statistics)


def normalised(physical: NDArray[np.floating], signal: Signal, features: Sequence[int]) -> Tensor:
    """Return readings [..., feature] of the named features in normalised units."""
    mean, std = (np.array(each)[list(features)] for each in (signal.mean, signal.std))
    return torch.from_numpy(((physical - mean) / std).astype(np.float32))
