"""The heads of a Structural-RNN: from the states of the nodes to forecasts of the contract's shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stunet_deploy.config import Signal, SRNNConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.models.signal import ForecastOutput
from stunet_deploy.models.srnn.cells import dense
from stunet_deploy.models.srnn.edges import ByType, Select
from stunet_deploy.st_graph.st_graph import STGraph

#: Names of the parameters of a bivariate normal distribution, in the order of the target axis.
GAUSSIAN = ("mean", "mean", "std", "std", "correlation")
#: Logarithms of normalised standard deviations stay within this; correlations within the other.
_LOG_STD, _CORRELATION = 6.0, 0.999


class Emitted(NamedTuple):
    """The output of a head.

    Attributes:
        forecast: [*batch, horizon, node, target] in physical units.
        ahead: the expected readings, normalised, [*batch, horizon, node, feature]; None for classes.
    """

    forecast: Tensor
    ahead: Tensor | None


class Head(nn.Module, ABC):
    """ReLU layers and a linear one per node type (S-RNN, Section 3), and constant gathers into the contract's order.

    Args:
        graph, config: of the model.
        widths: outputs of a node of each type at one horizon; node types without any have no head.
        horizon: horizons emitted at once.
    """

    def __init__(self, graph: STGraph, config: SRNNConfig, widths: Mapping[str, int], horizon: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.node_types = tuple(name for name in graph.node_types if name in widths)
        self.layers = nn.ModuleDict(
            {
                f"node_{name}": dense([config.node_hidden, *config.head, horizon * widths[name]])
                for name in self.node_types
            }
        )

    def emitted(self, hidden: ByType, name: str) -> Float[Tensor, "*batch horizon node output"]:
        """Return the linear outputs of the nodes of a type."""
        outputs = self.layers[f"node_{name}"](hidden[name])
        return torch.unflatten(outputs, -1, (self.horizon, -1)).movedim(-2, -3)

    @abstractmethod
    def forward(self, hidden: ByType, filled: Tensor, base: Tensor | None) -> Emitted:
        """Return the forecasts.

        Args:
            hidden: states of the nodeRNNs.
            filled: normalised readings of the present interval, [*batch, node, feature].
            base: added to forecasts of readings, [*batch, ahead, node, feature]; None without residual.
        """


class ValueHead(Head):
    """Values of the targets (``regression``). A target that no node takes keeps its present value.

    Args:
        graph, config, horizon: of the model.
        signal: features and targets.
        sensors: rows of a reading.
    """

    def __init__(self, graph: STGraph, config: SRNNConfig, horizon: int, signal: Signal, sensors: int) -> None:
        super().__init__(graph, config, {name: graph.width(name) for name in graph.node_types}, horizon)
        self.features, self.sensors = len(signal.features), sensors
        self.targets = list(signal.target_index)
        self.all_targets = signal.targets == signal.features
        # Every target cell from the outputs, any other from the present readings behind them.
        cells, count = _cells(graph), sensors * self.features
        fed = np.arange(count) + len(cells)
        for position, cell in enumerate(cells):
            if cell % self.features in self.targets:
                fed[cell] = position
        self.cells = Select(cells, count, axis=-1)
        self.ahead = Select(fed, len(cells), axis=-1)
        self.output = ForecastOutput(signal)
        if config.residual:
            for layers in self.layers.values():
                last = cast(nn.Linear, cast(nn.Sequential, layers)[-1])
                nn.init.zeros_(last.weight)  # an untrained model forecasts its base: persistence
                nn.init.zeros_(last.bias)

    def forward(self, hidden: ByType, filled: Tensor, base: Tensor | None) -> Emitted:
        """Return the forecasts; see :class:`Head`."""
        emitted = torch.cat([self.emitted(hidden, name).flatten(-2) for name in self.node_types], dim=-1)
        if base is not None:
            emitted = emitted + self.cells(base.flatten(-2))
        ahead = advanced(self.ahead, emitted, filled)
        return Emitted(self.output(ahead if self.all_targets else ahead[..., self.targets]), ahead)


class GaussianHead(Head):
    """Bivariate normal distributions of the two features of every node: means, standard deviations, correlation.

    The targets are five for every node, in the order of the nodes, cut into rows of the contract's node axis.

    Args:
        graph, config, horizon: of the model.
        signal: features; limits and normalisation of the means.
        sensors: rows of a reading.

    Raises:
        ConfigError: if a node has another number of channels than two, or the targets another number.
    """

    def __init__(self, graph: STGraph, config: SRNNConfig, horizon: int, signal: Signal, sensors: int) -> None:
        wrong = [name for name in graph.node_types if graph.width(name) != 2]
        if wrong:
            raise ConfigError(
                f'output = "gaussian" with {wrong[0]} nodes of other widths', "two channels", "correct one"
            )
        _check_targets(signal, sensors, len(GAUSSIAN) * len(graph.nodes))
        super().__init__(graph, config, dict.fromkeys(graph.node_types, len(GAUSSIAN)), horizon)
        cells, features = _cells(graph), len(signal.features)
        count = sensors * features
        fed = np.arange(count) + len(cells)
        fed[cells] = np.arange(len(cells))
        self.shape = (sensors, len(signal.targets))
        self.cells = Select(cells, count, axis=-1)
        self.ahead = Select(fed, len(cells), axis=-1)
        members = [node for name in graph.node_types for node in graph.members(name)]
        self.order = Select(np.argsort(members), len(members))
        for name in ("mean", "std", "low", "high"):
            numbers = torch.tensor([getattr(signal, name)[cell % features] for cell in cells], dtype=torch.float32)
            self.register_buffer(name, numbers.reshape(1, -1, 2), persistent=False)

    def forward(self, hidden: ByType, filled: Tensor, base: Tensor | None) -> Emitted:
        """Return the forecasts; see :class:`Head`."""
        emitted = torch.cat([self.emitted(hidden, name) for name in self.node_types], dim=-2)
        mean, log_std, correlation = torch.split(emitted, [2, 2, 1], dim=-1)
        if base is not None:
            mean = mean + torch.unflatten(self.cells(base.flatten(-2)), -1, (-1, 2))
        low, high, std = self.get_buffer("low"), self.get_buffer("high"), self.get_buffer("std")
        physical = torch.maximum(torch.minimum(mean * std + self.get_buffer("mean"), high), low)
        spread = torch.exp(torch.clamp(log_std, -_LOG_STD, _LOG_STD)) * std
        parameters = torch.cat([physical, spread, _CORRELATION * torch.tanh(correlation)], dim=-1)
        forecast = torch.unflatten(self.order(parameters).flatten(-2), -1, self.shape)
        return Emitted(forecast, advanced(self.ahead, mean.flatten(-2), filled))


class ClassHead(Head):
    """Probabilities of the classes of every labelled node, at every horizon, the first being the present interval.

    The targets are the classes of the labelled nodes, in the order of the nodes, cut into rows of the contract's node
    axis.

    Args:
        graph, config: of the model.
        signal: targets.
        sensors: rows of a reading.

    Raises:
        ConfigError: if classes are given for an unknown node type, or the targets are not as many.
    """

    def __init__(self, graph: STGraph, config: SRNNConfig, signal: Signal, sensors: int) -> None:
        if unknown := sorted(set(config.classes) - set(graph.node_types)):
            raise ConfigError(
                f"classes of {unknown[0]!r}", f"node types of {list(graph.node_types)}", "correct model.classes"
            )
        super().__init__(graph, config, {name: len(config.classes[name]) for name in config.classes}, config.horizon)
        first, position = {}, 0
        for name in self.node_types:
            for node in graph.members(name):
                first[node] = position
                position += len(config.classes[name])
        order = [
            first[node] + number
            for node in sorted(first)
            for number in range(len(config.classes[graph.nodes[node].type]))
        ]
        _check_targets(signal, sensors, position)
        self.shape = (sensors, len(signal.targets))
        self.order = Select(order, position, axis=-1)

    def forward(self, hidden: ByType, filled: Tensor, base: Tensor | None) -> Emitted:
        """Return the forecasts; see :class:`Head`."""
        emitted = [torch.softmax(self.emitted(hidden, name), dim=-1).flatten(-2) for name in self.node_types]
        return Emitted(torch.unflatten(self.order(torch.cat(emitted, dim=-1)), -1, self.shape), None)


def make_head(graph: STGraph, config: SRNNConfig, signal: Signal, sensors: int) -> Head:
    """Return the head that a config asks for.

    Raises:
        ConfigError: if it does not fit the graph or the targets.
    """
    if signal.forecasts_features != (config.output == "regression"):
        kind = "features of the recording" if signal.forecasts_features else "no features of the recording"
        raise ConfigError(
            f"output = {config.output!r} with targets that are {kind}",
            "targets that are features for regression, and only there",
            "correct model.output or the targets",
        )
    if config.output == "classification":
        return ClassHead(graph, config, signal, sensors)
    kind_of = ValueHead if config.output == "regression" else GaussianHead
    return kind_of(graph, config, config.horizon if config.decoder == "direct" else 1, signal, sensors)


def advanced(
    ahead: Select, emitted: Float[Tensor, "*batch horizon cell"], filled: Float[Tensor, "*batch node feature"]
) -> Float[Tensor, "*batch horizon node feature"]:
    """Return whole readings of the horizons: emitted cells, and present ones where nothing was emitted."""
    if not ahead.identity:
        present = filled.flatten(-2).unsqueeze(-2)
        present = present.expand(*emitted.shape[:-1], present.shape[-1])
        emitted = ahead(torch.cat([emitted, present], dim=-1))
    return torch.unflatten(emitted, -1, filled.shape[-2:])


def _cells(graph: STGraph) -> list[int]:
    """Return the channel of every output: node types in order, their nodes in order, their slices in order."""
    members = [graph.nodes[node] for name in graph.node_types for node in graph.members(name)]
    return [channel for node in members for channel in range(*node.slice)]


def _check_targets(signal: Signal, sensors: int, outputs: int) -> None:
    if sensors * len(signal.targets) != outputs:
        raise ConfigError(
            f"{len(signal.targets)} targets in {sensors} rows for {outputs} outputs",
            f"{outputs} in all",
            "name one target for every output of a row",
        )
