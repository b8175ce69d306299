"""Structural-RNN's definition written a second time: one node, one edge, one gate at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stunet_deploy.models.forecaster import StepInputs, unroll
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.st_graph import Edge, EdgeType

#: Of a network in float64.
ROUND = 1e-10


class Reference:
    """The definition, read off a model's weights; nothing of its tables."""

    def __init__(self, model: StructuralRNN) -> None:
        self.config, self.graph, self.signal = model.config, model.graph, model.signal
        self.weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
        self.ends = [node.slice for node in self.graph.nodes]
        self.types = {node.name: node.type for node in self.graph.nodes}
        self.names = [node.name for node in self.graph.nodes]
        self.masked = self.config.mask_channel and self.config.fill != "zeros" and not self.config.presence

    def layers(self, prefix: str, x: np.ndarray) -> np.ndarray:
        numbers = sorted({int(name[len(prefix) :].split(".")[1]) for name in self.weights if name.startswith(prefix)})
        for number in numbers:
            x = np.maximum(x, 0) if number else x
            x = self.weights[f"{prefix}.{number}.weight"] @ x + self.weights[f"{prefix}.{number}.bias"]
        return x

    def factor(self, name: str, x: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        """Return (output, next state): embedding, cell, and the input beside the output."""
        prefix = f"network.factors.{name}"
        embedded = self.layers(f"{prefix}.embedding", x)
        state = self.cell(f"{prefix}.cell", embedded, state)
        skip = self.config.edge_skip and not name.startswith("node")
        return (np.concatenate([state[0], embedded]) if skip else state[0]), state

    def cell(self, prefix: str, x: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        w, u, b = (self.weights[f"{prefix}.{name}"] for name in ("input_weight", "hidden_weight", "bias"))
        n = u.shape[0]

        def gate(k: int, h: np.ndarray) -> np.ndarray:
            columns = slice(k * n, (k + 1) * n)
            return x @ w[:, columns] + b[columns] + h @ u[:, columns]

        def sigma(z: np.ndarray) -> np.ndarray:
            return 1 / (1 + np.exp(-z))

        if self.config.cell == "lstm":
            h, c = state
            write, keep, read = (sigma(gate(k, h)) for k in range(3))
            c = keep * c + write * np.tanh(gate(3, h))
            return read * np.tanh(c), c
        (h,) = state
        keep, reset = sigma(gate(0, h)), sigma(gate(1, h))
        return (keep * h + (1 - keep) * np.tanh(gate(2, reset * h)),)

    def zero(self, width: int) -> tuple[np.ndarray, ...]:
        return (np.zeros(width),) * (2 if self.config.cell == "lstm" else 1)

    def sees(self, edge: Edge) -> list[tuple[str, str]]:
        """Pairs (receiver, neighbour) of an edge."""
        directed = next(kind.directed for kind in self.graph.edge_types if kind.name == edge.type)
        return [(edge.target, edge.source)] + ([] if directed else [(edge.source, edge.target)])

    def neighbours(self, node: str, kind: EdgeType) -> list[tuple[str, float]]:
        return [
            (neighbour, edge.weight)
            for edge in self.graph.edges
            if edge.type == kind.name
            for receiver, neighbour in self.sees(edge)
            if receiver == node
        ]

    def beside(self, kind: EdgeType, v: str, u: str, x: dict[str, np.ndarray]) -> np.ndarray:
        if self.config.edge_features == "difference":
            return x[u] - x[v]
        first, second = kind.between
        if first == second or (self.types[v] == first and not kind.directed):
            return np.concatenate([x[v], x[u]])
        return np.concatenate([x[u], x[v]])

    def run(self, values: np.ndarray, observed: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Forecast after every interval; values, observed [time, sensor, feature], time [time] seconds."""
        signal, config = self.signal, self.config
        mean, std = np.array(signal.mean), np.array(signal.std)
        low, high = np.array(signal.low), np.array(signal.high)
        last = np.zeros(values.shape[1:])
        self.state: dict[Any, tuple[np.ndarray, ...]] = {}
        self.before: dict[str, np.ndarray] = {}
        self.was_present = dict.fromkeys(self.names, False)
        forecasts = []
        for reading, seen, seconds in zip(values, observed, time, strict=True):
            fill = {
                "usual": (1 - 2 / (1 + config.horizon)) * last,  # without a profile the mean, 0, is usual
                "last": last,
                "mean": 0 * last,
                "zeros": (np.clip(0, low, high) - mean) / std + 0 * last,
            }[config.fill]
            last = np.where(seen, (np.clip(reading, low, high) - mean) / std, fill)
            hidden = self.interval(last, seen, seconds, rolled=False)
            forecasts.append(self.forecast(hidden, last, seconds, seen))
        return np.stack(forecasts)

    def interval(self, filled: np.ndarray, seen: np.ndarray, seconds: float, rolled: bool) -> dict[str, np.ndarray]:
        config = self.config
        flat, marks = filled.flatten(), (np.ones_like(filled) if rolled else seen.astype(float)).flatten()
        present = {
            name: not config.presence or bool(seen.flatten()[first:after].all())
            for name, (first, after) in zip(self.names, self.ends, strict=True)
        }
        x = {
            name: np.concatenate([flat[first:after], *([marks[first:after]] if self.masked else [])])
            * (1.0 if present[name] else 0.0)
            for name, (first, after) in zip(self.names, self.ends, strict=True)
        }
        raw = {
            name: np.concatenate([flat[first:after], *([marks[first:after]] if self.masked else [])])
            for name, (first, after) in zip(self.names, self.ends, strict=True)
        }
        joined = {name: config.presence and present[name] and not self.was_present[name] for name in self.names}
        differs = config.edge_features == "difference"
        earlier = {}
        for name in self.names:
            before = self.before.get(name, np.zeros_like(x[name]))
            earlier[name] = (x[name] if differs else 0 * x[name]) if joined[name] else before
        own = {name: x[name] - earlier[name] if differs else x[name] for name in self.names}
        temporal, asking = {}, {}
        for v in self.names:
            key = ("temporal", v)
            state = self.zero(config.edge_hidden) if joined[v] or key not in self.state else self.state[key]
            both = own[v] if differs else np.concatenate([x[v], earlier[v]])
            temporal[v], self.state[key] = self.factor(f"temporal_{self.types[v]}", both, state)
            asking[v] = self.state[key][0]
        hidden = {}
        for v in self.names:
            received = []
            for kind in self.graph.edge_types:
                if self.types[v] in kind.receiving:
                    received.append(self.along(kind, v, x, present, joined, asking[v]))
            time = [time_channels(config.time_features, seconds)]
            embedding = f"network.embeddings.node_{self.types[v]}"
            node_input = [*received, temporal[v], self.layers(embedding, np.concatenate([own[v], *time]))]
            key = ("node", v)
            state = self.zero(config.node_hidden) if joined[v] or key not in self.state else self.state[key]
            hidden[v], self.state[key] = self.factor(f"node_{self.types[v]}", np.concatenate(node_input), state)
        self.before = raw
        self.was_present = present
        return hidden

    def along(self, kind: EdgeType, v: str, x: Any, present: Any, joined: Any, asking: np.ndarray) -> np.ndarray:
        """Return what a node receives along one edge type."""
        config, name = self.config, f"spatial_{kind.name}"
        width = config.edge_hidden + (self.embedded(name) if config.edge_skip else 0)
        neighbours = self.neighbours(v, kind)
        if not neighbours:
            return np.zeros(width)
        if config.edge_state == "summed":
            there = [(u, weight) for u, weight in neighbours if present[u]]
            like = self.beside(kind, v, neighbours[0][0], x)
            summed = sum((weight * self.beside(kind, v, u, x) for u, weight in there), np.zeros_like(like))
            key: Any = (kind.name, v)
            state = self.zero(config.edge_hidden) if joined[v] or key not in self.state else self.state[key]
            output, self.state[key] = self.factor(name, summed, state)
            return output
        outputs, weights = [], []
        for u, weight in neighbours:
            key = (kind.name, v, u)
            fresh = joined[v] or joined[u] or key not in self.state
            state = self.zero(config.edge_hidden) if fresh else self.state[key]
            output, self.state[key] = self.factor(name, self.beside(kind, v, u, x), state)
            if present[u]:
                outputs.append(output)
                weights.append(weight)
        if not outputs:
            return np.zeros(width)
        if config.combine == "attention":
            prefix = f"network.attentions.{name}"
            query = self.weights[f"{prefix}.query.weight"] @ asking
            scores = [query @ (self.weights[f"{prefix}.key.weight"] @ out) / len(query) ** 0.5 for out in outputs]
            exponents = np.exp(np.array(scores) - max(scores))
            weights = list(exponents / exponents.sum())
        return sum((weight * output for weight, output in zip(weights, outputs, strict=True)), np.zeros(width))

    def embedded(self, name: str) -> int:
        return int(self.weights[f"network.factors.{name}.cell.input_weight"].shape[0])

    def forecast(self, hidden: Any, filled: np.ndarray, seconds: float, seen: np.ndarray) -> np.ndarray:
        config = self.config
        if config.decoder == "direct":
            return self.emit(hidden, filled, config.horizon)[0]
        kept = self.state, self.before, self.was_present
        self.state, steps = dict(self.state), []
        for ahead in range(config.horizon):
            step, filled = self.emit(hidden, filled, 1)
            steps.append(step[0])
            filled = filled[0]
            if ahead + 1 < config.horizon:
                hidden = self.interval(filled, seen, seconds, rolled=True)
        self.state, self.before, self.was_present = kept
        return np.stack(steps)

    def emit(self, hidden: Any, filled: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the forecast in physical units [horizon, sensor, target] and normalised [horizon, sensor, feature]."""
        signal, config, features = self.signal, self.config, filled.shape[1]
        ahead = np.stack([filled.flatten()] * horizon)
        parameters: list[list[float]] = [[] for _ in range(horizon)]
        for v, (first, after) in zip(self.names, self.ends, strict=True):
            if config.output == "classification" and self.types[v] not in config.classes:
                continue
            outputs = self.layers(f"head.layers.node_{self.types[v]}", hidden[v]).reshape(horizon, -1)
            for h in range(horizon):
                if config.output == "classification":
                    parameters[h] += list(np.exp(outputs[h]) / np.exp(outputs[h]).sum())
                    continue
                for offset, channel in enumerate(range(first, after)):
                    feature = channel % features
                    if config.output == "gaussian" or signal.features[feature] in signal.targets:
                        base = filled.flatten()[channel] if config.residual else 0.0
                        ahead[h, channel] = base + outputs[h][offset]
                if config.output == "gaussian":
                    pair = [channel % features for channel in range(first, after)]
                    for offset, f in enumerate(pair):
                        number = ahead[h, first + offset] * signal.std[f] + signal.mean[f]
                        parameters[h].append(min(max(number, signal.low[f]), signal.high[f]))
                    for offset, f in enumerate(pair):
                        parameters[h].append(np.exp(np.clip(outputs[h][2 + offset], -6, 6)) * signal.std[f])
                    parameters[h].append(0.999 * np.tanh(outputs[h][4]))
        whole = ahead.reshape(horizon, *filled.shape)
        if config.output != "regression":
            return np.array(parameters).reshape(horizon, filled.shape[0], -1), whole
        columns = list(signal.target_index)
        pick = [np.array(getattr(signal, name))[columns] for name in ("mean", "std", "low", "high")]
        return np.clip(whole[..., columns] * pick[1] + pick[0], pick[2], pick[3]), whole


def time_channels(kind: str, seconds: float) -> np.ndarray:
    day, week = seconds / 86_400, seconds / 604_800
    turn = 2 * np.pi
    return {
        "none": np.array([]),
        "fraction": np.array([day % 1]),
        "day": np.array([np.sin(turn * day), np.cos(turn * day)]),
        "week": np.array([np.sin(turn * day), np.cos(turn * day), np.sin(turn * week), np.cos(turn * week)]),
    }[kind]


def readings(rng: np.random.Generator, model: StructuralRNN, batch: int, time: int) -> StepInputs:
    shape = (batch, time, model.sensors, len(model.signal.features))
    # Of a node that comes and goes one channel may be observed alone: then it is absent.
    observed = rng.random(shape) < (0.85 if model.config.presence else 0.7)
    values, seconds = rng.uniform(-10, 100, shape), rng.uniform(0, 604_800, (batch, time, 1))
    return StepInputs(*map(torch.from_numpy, (values, observed.astype(np.float64), seconds)))


@pytest.fixture(scope="session")
def hold_to_the_definition() -> Callable[..., None]:
    """Return a function that compares a model, stepped and at once, with the definition on random readings."""

    def hold_to_the_definition(rng: np.random.Generator, model: StructuralRNN, time: int = 4) -> None:
        inputs = readings(rng, model, 2, time)
        with torch.no_grad():
            stepped, _ = unroll(model, inputs, model.initial_lines(2))
            forward, _ = model(inputs, model.initial_lines(2))
        for row in range(2):
            values, observed, seconds = (tensor[row].numpy() for tensor in inputs)
            expected = Reference(model).run(values, observed > 0.5, seconds[:, 0])
            np.testing.assert_allclose(stepped[row].numpy(), expected, rtol=ROUND, atol=ROUND)
            np.testing.assert_allclose(forward[row].numpy(), expected, rtol=ROUND, atol=ROUND)

    return hold_to_the_definition
