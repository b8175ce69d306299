"""The ST-UNet written a second time, straight from the equations: plain numpy, float64, one node and gate at a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def polynomials(basis):
    """T0 ... T(K-1) from the stored T1 ... T(K-1)."""
    return [np.eye(basis.shape[-1]), *basis.astype(np.float64)]


def graph_convolution(basis, x, theta, bias):
    """Eq. (2): y_n = Σk Σm Tk[n, m] x_m Θk + b; theta [order, in, out], x [node, in]."""
    y = np.zeros((len(x), theta.shape[2])) + bias
    for t, weight in zip(polynomials(basis), theta, strict=True):
        for n in range(len(x)):
            for m in range(len(x)):
                y[n] += t[n, m] * (x[m] @ weight)
    return y


def gcgru(basis, weights, x, h):
    """Eq. (7) for x [node, in] and h [node, hidden]; weights as torch stores them, per polynomial and gate."""
    hidden = h.shape[1]

    def theta(name, channels, gate):
        blocks = [weights[name][k * channels : (k + 1) * channels] for k in range(len(basis) + 1)]
        return np.stack([block[:, gate * hidden : (gate + 1) * hidden] for block in blocks])

    def w(gate):
        bias = weights["bias"][gate * hidden : (gate + 1) * hidden]
        return graph_convolution(basis, x, theta("input_weight", x.shape[1], gate), bias)

    z = sigmoid(w(0) + graph_convolution(basis, h, theta("gate_weight", hidden, 0), 0))
    r = sigmoid(w(1) + graph_convolution(basis, h, theta("gate_weight", hidden, 1), 0))
    candidate = np.tanh(w(2) + graph_convolution(basis, r * h, theta("candidate_weight", hidden, 0), 0))
    return z * h + (1 - z) * candidate


def layer_norm(x, weights):
    if weights is None:
        return x
    rows = [(row - row.mean()) / np.sqrt(row.var() + 1e-5) for row in x]
    return np.stack(rows) * weights["weight"] + weights["bias"]


def dilated(basis, weights, norm, dilation, sequence, line):
    """Eq. (8): h_t = cell(x_t, h_(t-s)) over x [time, node, in]; line [s, node, hidden] is h_(-s) ... h_(-1)."""
    states = list(line)
    for x in sequence:
        states.append(gcgru(basis, weights, x, states[len(states) - dilation]))
    return np.stack([layer_norm(h, norm) for h in states[dilation:]]), np.stack(states[-dilation:])


def pool(cluster, how, x):
    """Pool the members of every super node, x [node, channel]; cluster [node]."""
    groups = [[x[n] for n in range(len(x)) if cluster[n] == c] for c in range(max(cluster) + 1)]
    if how == "max":
        return np.stack([np.max(group, axis=0) for group in groups])
    return np.stack([sum(float(np.float32(1 / len(group))) * member for member in group) for group in groups])


def unpool(cluster, x):
    return np.stack([x[c] for c in cluster])


def fill(how, normalised, observed, last):
    """Replace unobserved cells of [time, node, feature] by the last filled value, or by the mean (zero)."""
    filled = []
    for values, seen in zip(normalised, observed, strict=True):
        last = np.where(seen == 1, values, last if how == "last" else 0.0)
        filled.append(last)
    return np.stack(filled)


def time_channels(how, seconds):
    day, week = seconds % 86_400 / 86_400, seconds % 604_800 / 604_800
    waves = [np.sin(2 * np.pi * day), np.cos(2 * np.pi * day), np.sin(2 * np.pi * week), np.cos(2 * np.pi * week)]
    return {"week": waves, "day": waves[:2], "fraction": [day], "none": []}[how]


def decode(signal, horizon, head, filled):
    """The residual decoder for head [node, horizon·target] and filled [node, feature]: [horizon, node, target]."""
    targets = [signal.features.index(name) for name in signal.targets]
    forecast = np.zeros((horizon, len(head), len(targets)))
    for h in range(horizon):
        for n in range(len(head)):
            for position, feature in enumerate(targets):
                normalised = filled[n, feature] + head[n, h * len(targets) + position]
                physical = normalised * signal.std[feature] + signal.mean[feature]
                forecast[h, n, position] = min(max(physical, signal.low[feature]), signal.high[feature])
    return forecast


def tree(module):
    """Parameters of a torch module in float64, by name."""
    return {name: parameter.detach().double().numpy() for name, parameter in module.named_parameters()}


def stunet(model, values, observed, seconds, lines):
    """The whole network for one row: [time, node, feature] and seconds [time] to [time, horizon, node, target]."""
    config, signal, graph = model.config, model.signal, model.hierarchy
    low, high, mean, std = (np.array(getattr(signal, name)) for name in ("low", "high", "mean", "std"))
    normalised = (np.clip(values, low, high) - mean) / std
    filled = fill(config.fill, normalised, observed, lines["filled"][0] if config.fill == "last" else 0)
    x = [
        np.concatenate(
            [
                cells,
                *([seen] if config.mask_channel else []),
                np.tile(time_channels(config.time_features, s), (len(cells), 1)),
            ],
            axis=1,
        )
        for cells, seen, s in zip(filled, observed, seconds, strict=True)
    ]
    final = {"filled": filled[-1:]} if config.fill == "last" else {}

    def layer(name, module, sequence):
        norm = tree(module.norm) if config.layer_norm else None
        basis, weights = graph.levels[int(name[-1])].basis, tree(module.cell)
        entry = f"{name}.hidden"
        dilation = 1 if name == "contracting.0" or name.startswith("expanding") else config.scales[int(name[-1]) - 1][1]
        output, final[entry] = dilated(basis, weights, norm, dilation, sequence, lines[entry])
        return output

    skips = []
    for level in range(len(config.scales) + 1):
        if level:
            x = [pool(graph.transitions[level - 1].unpool, config.pooling, frame) for frame in x]
        x = layer(f"contracting.{level}", model.contracting[level], x)
        skips.append(x)
    for level in reversed(range(len(config.scales))):
        x = [unpool(graph.transitions[level].unpool, frame) for frame in x]
        if config.skip:
            x = [np.concatenate([frame, skip], axis=1) for frame, skip in zip(x, skips[level], strict=True)]
        x = layer(f"expanding.{level}", model.expanding[level], x)
    head = tree(model.head)
    heads = [graph_convolution(graph.levels[0].basis, frame, head["weight"], head["bias"]) for frame in x]
    return np.stack([decode(signal, config.horizon, h, f) for h, f in zip(heads, filled, strict=True)]), final


@pytest.fixture(scope="session")
def literal() -> SimpleNamespace:
    """The functions of this file; none of them calls the code under test."""
    names = (
        "graph_convolution",
        "gcgru",
        "dilated",
        "pool",
        "unpool",
        "fill",
        "time_channels",
        "decode",
        "stunet",
        "tree",
    )
    return SimpleNamespace(**{name: globals()[name] for name in names})
