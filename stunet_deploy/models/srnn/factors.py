"""The factors of an st-graph as recurrent networks, and the constant tables that connect them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from stunet_deploy.config import SRNNConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.models.srnn.cells import Factor, dense
from stunet_deploy.models.srnn.edges import Attention, ByType, EdgeCombine, EdgeFeatures, Received, Select
from stunet_deploy.st_graph.st_graph import STGraph

#: Runs one factor on the projected input of its rows, for an interval or a sequence, and keeps its state:
#: (name, factor, projected input, rows that start from zero) -> hidden.
RunFactor = Callable[[str, Factor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Frame:
    """The input of an interval, or of a sequence with a time axis after ``batch``, as the factors take it.

    Attributes:
        features: [*batch, sensor, channel] filled readings, and the mask where it is a channel.
        previous: the same one interval before.
        context: per node type, the input of its nodeRNN alone: time and profile, [*batch, node, channel].
        present: [*batch, node] 1 or 0, or None where all nodes are always present.
        joined: [*batch, node] 1 for those present now and not before; None where all are always present.
    """

    features: Tensor
    previous: Tensor
    context: ByType
    present: Tensor | None = None
    joined: Tensor | None = None

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Frame:
        """Return the frame with a function applied to every tensor."""
        context = {name: function(tensor) for name, tensor in self.context.items()}
        optional = (None if tensor is None else function(tensor) for tensor in (self.present, self.joined))
        return Frame(function(self.features), function(self.previous), context, *optional)


class STNetwork(nn.Module):
    """All factors of an st-graph (S-RNN, Section 3): weights by type, tables by node.

    Args:
        config: the architecture.
        graph: the st-graph.
        features: features of a sensor.
        copies: 2 where every reading has its mask beside it, else 1.
        sensors: rows of a reading.
        context: channels that only nodeRNNs see.

    Raises:
        ConfigError: if the config does not fit the graph.
    """

    def __init__(
        self, config: SRNNConfig, graph: STGraph, features: int, copies: int, sensors: int, context: int
    ) -> None:
        super().__init__()
        self.config, self.graph = config, graph
        self.asks = config.combine == "attention"
        self.sizes = {name: len(graph.members(name)) for name in graph.node_types}
        self.channels, self.members = nn.ModuleDict(), nn.ModuleDict()
        for name in graph.node_types:
            cells = [_cells(graph.nodes[node].slice, features, copies) for node in graph.members(name)]
            self.channels[_key("node", name)] = Select(np.concatenate(cells), sensors * features * copies, axis=-1)
            self.members[_key("node", name)] = Select(graph.members(name), len(graph.nodes))
        members = [node for name in graph.node_types for node in graph.members(name)]
        self.order = Select(np.argsort(members), len(members), axis=-1)
        self.factors, self.embeddings, self.attentions = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.edges, self.combines, self.received = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self._build({name: graph.width(name) * copies for name in graph.node_types}, context)

    def rows(self) -> dict[str, tuple[Factor, int]]:
        """Return every factor at work and the rows of its state, by name, in the order of the contract."""
        edges = {key.removeprefix("spatial_"): cast(EdgeFeatures, module).rows for key, module in self.edges.items()}
        rows = {f"spatial.{name}": (self._factor("spatial", name), count) for name, count in edges.items()}
        for kind in ("temporal", "node"):
            rows |= {f"{kind}.{name}": (self._factor(kind, name), size) for name, size in self.sizes.items()}
        return rows

    def forward(self, frame: Frame, run: RunFactor) -> dict[str, Tensor]:
        """Return the state of every nodeRNN, by node type (S-RNN, Section 3)."""
        present = None if frame.present is None else self.by_type(frame.present.unsqueeze(-1))
        joined = None if frame.joined is None else self.by_type(frame.joined.unsqueeze(-1))
        x = self._features(frame.features, present)
        earlier = self._earlier(frame.previous, x, joined)
        own = {name: x[name] - earlier[name] for name in x} if self.config.edge_features == "difference" else x

        def act(kind: str, name: str, features: Tensor, fresh: Tensor | None) -> tuple[Tensor, Tensor]:
            factor = self._factor(kind, name)
            embedded = factor.embedding(features)
            state = run(f"{kind}.{name}", factor, factor.cell.project(embedded), fresh)
            return state, factor.output(state, embedded)

        asking, temporal, spatial = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
        for name in self.graph.node_types:
            seen = own[name] if own is not x else torch.cat([x[name], earlier[name]], dim=-1)
            asking[name], temporal[name] = act("temporal", name, seen, None if joined is None else joined[name])
        for key, module in self.edges.items():
            features, name = cast(EdgeFeatures, module), key.removeprefix("spatial_")
            fresh = None if joined is None else features.fresh(joined)
            _, spatial[name] = act("spatial", name, features(x, present), fresh)
            if key in self.combines:
                attention = cast(Attention, self.attentions[key]) if self.asks else None
                spatial[name] = self.combines[key](spatial[name], attention, asking, present)
        hidden = {}
        for name in self.graph.node_types:
            embedded = self.embeddings[_key("node", name)](torch.cat([own[name], frame.context[name]], dim=-1))
            received = [self._received(kind.name, name, spatial, own[name]) for kind in self.graph.edge_types_at(name)]
            factor = self._factor("node", name)
            projected = factor.cell.project(torch.cat([*received, temporal[name], embedded], dim=-1))
            hidden[name] = run(f"node.{name}", factor, projected, None if joined is None else joined[name])
        return hidden

    def present(self, observed: Tensor) -> Tensor:
        """Return who is present, [*batch, node]: nodes all of whose channels are observed."""
        flat = (observed > 0.5).to(observed.dtype).flatten(-2)
        by_type = [
            torch.unflatten(self.channels[_key("node", name)](flat), -1, (self.sizes[name], -1)).amin(-1)
            for name in self.graph.node_types
        ]
        present: Tensor = self.order(torch.cat(by_type, dim=-1))
        return present

    def by_type(self, nodes: Tensor) -> dict[str, Tensor]:
        """Cut [*batch, node, channel] into the nodes of every type."""
        return {name: self.members[_key("node", name)](nodes) for name in self.graph.node_types}

    def _features(self, features: Tensor, present: ByType | None) -> dict[str, Tensor]:
        """Return the features of every node, by type; zeros for those that are absent."""
        flat = features.flatten(-2)
        x = {
            name: torch.unflatten(self.channels[_key("node", name)](flat), -1, (self.sizes[name], -1))
            for name in self.graph.node_types
        }
        return x if present is None else {name: torch.where(present[name] > 0.5, x[name], 0.0) for name in x}

    def _earlier(self, previous: Tensor, x: ByType, joined: ByType | None) -> dict[str, Tensor]:
        """Return the features one interval before; who has just come had none, and has not moved."""
        earlier = self._features(previous, None)
        if joined is None:
            return earlier
        start = x if self.config.edge_features == "difference" else {name: torch.zeros_like(x[name]) for name in x}
        return {name: torch.where(joined[name] > 0.5, start[name], earlier[name]) for name in earlier}

    def _received(self, kind: str, node_type: str, spatial: ByType, like: Tensor) -> Tensor:
        """Return the output of an edge type at the nodes of a type; zeros for those without such an edge."""
        key = f"{kind}:{node_type}"
        if key not in self.received:
            channels = self._factor("spatial", kind).channels
            return torch.zeros_like(like[..., :1]).expand(*like.shape[:-1], channels)
        received: Tensor = self.received[key](spatial[kind])
        return received

    def _factor(self, kind: str, name: str) -> Factor:
        return cast(Factor, self.factors[_key(kind, name)])

    def _build(self, widths: Mapping[str, int], context: int) -> None:
        """Make the factors of every type, with edges in this graph or without, and the tables of types with edges."""
        config, graph = self.config, self.graph
        difference, per_edge = config.edge_features == "difference", config.edge_state == "per_edge"
        edge = (config.edge_embedding, config.edge_hidden, config.cell, config.edge_skip)
        for kind in graph.edge_types:
            key, (first, second) = _key("spatial", kind.name), (widths[name] for name in kind.between)
            if difference and first != second:
                raise ConfigError(
                    f"edge_features = 'difference' between {kind.between[0]} of {first} and {kind.between[1]} of "
                    f"{second} channels",
                    "nodes of equal width",
                    "set edge_features to 'concat'",
                )
            if kind.mean and config.presence:
                raise ConfigError(
                    f"edge type {kind.name!r} with mean = true and presence = true",
                    "sums: a mean over those present is no constant of the graph",
                    "take out mean, or use attention",
                )
            self.factors[key] = factor = Factor(first if difference else first + second, *edge)
            if self.asks:
                self.attentions[key] = Attention(config.edge_hidden, factor.channels, config.edge_hidden)
            if len(graph.neighbourhood(kind.name).receivers):
                features = EdgeFeatures(graph, kind, per_edge, difference)
                self.edges[key] = features
                if per_edge:
                    self.combines[key] = EdgeCombine(features.halves, self.sizes)
                for name in dict.fromkeys(half.receiver_type for half in features.halves):
                    self.received[f"{kind.name}:{name}"] = Received(features.halves, name, self.sizes[name])
        for name, width in widths.items():
            self.factors[_key("temporal", name)] = temporal = Factor(width if difference else 2 * width, *edge)
            embedding = config.node_embedding
            self.embeddings[_key("node", name)] = dense([width + context, *embedding])
            received = sum(self._factor("spatial", kind.name).channels for kind in graph.edge_types_at(name))
            channels = received + temporal.channels + (embedding[-1] if embedding else width + context)
            self.factors[_key("node", name)] = Factor(channels, (), config.node_hidden, config.cell, skip=False)


def _key(kind: str, name: str) -> str:
    """Return the name of a module: a type's name alone may be one that modules have already."""
    return f"{kind}_{name}"


def _cells(slice_: tuple[int, int], features: int, copies: int) -> list[int]:
    """Return where a node's channels, then their masks, lie in a flattened [sensor, feature and mask]."""
    places = [divmod(channel, features) for channel in range(*slice_)]
    return [
        sensor * features * copies + copy * features + feature for copy in range(copies) for sensor, feature in places
    ]
