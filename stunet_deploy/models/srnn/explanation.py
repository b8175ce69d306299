"""The explanation of a forecast at one node: states of its factors over time, and the contribution of each edge.

The contribution of an edge to a forecast is the forecast minus the one that the same weights make on the st-graph
without this edge, both carried from zero state over the same readings. So it includes what came along the edge now
and earlier, and is in the units of the forecast. Where an edge type takes a mean over neighbours, those that are left
share it; where no edge of a type is left, the node receives zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from stunet_deploy.errors import ConfigError
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.srnn.heads import GAUSSIAN
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.st_graph import Edge

#: Intervals taken at once: the state of a large network over a whole day would not fit into memory.
_AT_ONCE = 32


@dataclass(frozen=True)
class Contribution:
    """The contribution of one edge, or of all edges of a type, to the forecasts of a node.

    Attributes:
        edge_type: name of the type.
        neighbour: name of the node at the other end; None for all edges of the type together.
        change: the forecast minus the one without, [time, horizon, output].
    """

    edge_type: str
    neighbour: str | None
    change: NDArray[np.float32]

    @property
    def over_time(self) -> NDArray[np.float32]:
        """Mean over the horizon, [time]: signed for a node of one output, else the Euclidean norm over its outputs."""
        mean = self.change.mean(axis=1)
        combined: NDArray[np.float32] = mean[:, 0] if mean.shape[1] == 1 else np.sqrt(np.square(mean).sum(axis=1))
        return combined

    @property
    def size(self) -> float:
        """Mean over time of the absolute value of :attr:`over_time`."""
        return float(np.abs(self.over_time).mean())


@dataclass(frozen=True)
class Explanation:
    """One node over time.

    Attributes:
        node: its name.
        outputs: names of its forecast quantities.
        forecast: [time, horizon, output] in physical units.
        traces: hidden state of every factor at the node after every interval, [time, channel], by factor.
        contributions: every edge type that the node receives, then its edges, in the order of the st-graph.
    """

    node: str
    outputs: tuple[str, ...]
    forecast: NDArray[np.float32]
    traces: Mapping[str, NDArray[np.float32]]
    contributions: tuple[Contribution, ...]


def explain(model: StructuralRNN, inputs: StepInputs, node: str, warm_up: int = 0) -> Explanation:
    """Explain the forecasts of one node over a recording.

    Args:
        model: in evaluation mode.
        inputs: consecutive intervals, [1, time, ...]; the state before the first is zero.
        node: name of a node of the st-graph.
        warm_up: intervals at the beginning that fill the state and are not part of the answer.

    Raises:
        ConfigError: if there is no such node, it forecasts nothing, or nothing is left after the warm-up.
    """
    names = [known.name for known in model.graph.nodes]
    if node not in names:
        some = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
        raise ConfigError(f"no node {node!r} in the st-graph", f"one of its {len(names)} nodes: {some}", "name one")
    cells, outputs = _outputs(model, names.index(node))
    if not cells:
        raise ConfigError(f"node {node!r}, which forecasts nothing", "a node with an output", "name another one")
    if not 0 <= warm_up < inputs.values.shape[1]:
        came = f"{inputs.values.shape[1]} intervals, {warm_up} of them to fill the state"
        raise ConfigError(came, "at least one more", "give a longer recording")
    forecast, traces = _forecast(model, inputs, cells, dict(_rows(model, names.index(node))))
    contributions = []
    for edge_type, neighbour, edges in _left_out(model, node):
        without, _ = _forecast(_without(model, edges), inputs, cells, None)
        contributions.append(Contribution(edge_type, neighbour, (forecast - without)[warm_up:]))
    seen = {name: trace[warm_up:] for name, trace in traces.items()}
    return Explanation(node, outputs, forecast[warm_up:], seen, tuple(contributions))


@torch.inference_mode()
def _forecast(
    model: StructuralRNN, inputs: StepInputs, cells: list[int], rows: Mapping[str, tuple[str, int]] | None
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Return the forecasts of some cells, [time, horizon, cell], and the wanted rows of states, [time, channel]."""
    lines, forecasts = model.initial_lines(1), []
    traces: dict[str, list[torch.Tensor]] = {name: [] for name in rows or {}}
    intervals = torch.arange(inputs.values.shape[1])
    # The states between the intervals of a sequence are not given out.
    for some in intervals.split(1 if rows else _AT_ONCE):
        forecast, lines = model(StepInputs(*(tensor[:, some] for tensor in inputs)), lines)
        forecasts.append(forecast[0].flatten(-2)[..., cells])
        for name, (state, row) in (rows or {}).items():
            traces[name].append(lines[state][0, 0, row])
    of_factors = {name: torch.stack(trace).float().numpy() for name, trace in traces.items()}
    return torch.cat(forecasts).float().numpy(), of_factors


def _without(model: StructuralRNN, edges: frozenset[Edge]) -> StructuralRNN:
    """Return the model with the same weights on its st-graph without some edges."""
    graph = replace(model.graph, edges=tuple(edge for edge in model.graph.edges if edge not in edges))
    weights = model.state_dict()
    other = StructuralRNN(model.config, graph, model.signal, weights.get("profile.table"))
    other.load_state_dict(weights)
    return other.to(next(model.parameters()).dtype).eval()


def _left_out(model: StructuralRNN, node: str) -> Iterator[tuple[str, str | None, frozenset[Edge]]]:
    """Yield (edge type, neighbour, edges to leave out): all edges of every type at the node, then each of them."""
    graph = model.graph
    node_type = next(known.type for known in graph.nodes if known.name == node)
    for kind in graph.edge_types_at(node_type):
        at_node = {
            edge.source if edge.target == node else edge.target: edge
            for edge in graph.edges
            if edge.type == kind.name and (edge.target == node or (edge.source == node and not kind.directed))
        }
        if at_node:
            yield kind.name, None, frozenset(at_node.values())
        for neighbour, edge in at_node.items():
            yield kind.name, neighbour, frozenset([edge])


def _rows(model: StructuralRNN, index: int) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield (name, (state entry, row)) of every factor's hidden state at a node."""
    graph = model.graph
    node_type = graph.nodes[index].type
    for kind in graph.edge_types_at(node_type):
        hood = graph.neighbourhood(kind.name)
        found = np.flatnonzero(hood.receivers == index)
        if not len(found):
            continue
        row, state = int(found[0]), f"spatial.{kind.name}.hidden"
        if model.config.edge_state == "summed":
            yield f"spatial {kind.name}", (state, row)
            continue
        first = sum(len(neighbours) for neighbours in hood.neighbours[:row])
        for pair, neighbour in enumerate(hood.neighbours[row].tolist()):
            yield f"spatial {kind.name}, {graph.nodes[neighbour].name}", (state, first + pair)
    member = graph.members(node_type).index(index)
    for factor in ("temporal", "node"):
        yield f"{factor} {node_type}", (f"{factor}.{node_type}.hidden", member)


def _outputs(model: StructuralRNN, index: int) -> tuple[list[int], tuple[str, ...]]:
    """Return the positions of a node's outputs in the flattened [node, target] of a forecast, and their names."""
    graph, signal, config = model.graph, model.signal, model.config
    node = graph.nodes[index]
    if config.output == "gaussian":
        first = index * len(GAUSSIAN)
        return [first, first + 1], signal.features[:2]  # the means alone: deviations are another quantity
    if config.output == "classification":
        before = sum(len(config.classes.get(other.type, ())) for other in graph.nodes[:index])
        classes = tuple(config.classes.get(node.type, ()))
        return [before + number for number in range(len(classes))], classes
    targets = list(signal.target_index)
    places = [divmod(channel, len(signal.features)) for channel in range(*node.slice)]
    kept = [(sensor, feature) for sensor, feature in places if feature in targets]
    cells = [sensor * len(targets) + targets.index(feature) for sensor, feature in kept]
    return cells, tuple(signal.features[feature] for _, feature in kept)
