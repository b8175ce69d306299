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


def zero_reading(signal):
    """What the public files hold for a missing reading, 0 in physical units, in normalised ones: [feature]."""
    rows = zip(signal.low, signal.high, signal.mean, signal.std, strict=True)
    return np.array([(min(max(0.0, low), high) - mean) / std for low, high, mean, std in rows])


def fill(how, signal, normalised, observed, last):
    """Replace unobserved cells of [time, node, feature] by the last filled value, the mean (zero) or a reading of 0."""
    constants = {"mean": 0.0, "zeros": zero_reading(signal)}
    filled = []
    for values, seen in zip(normalised, observed, strict=True):
        last = np.where(seen == 1, values, constants.get(how, last))
        filled.append(last)
    return np.stack(filled)


def fill_usual(normalised, observed, usual, departed, part):
    """Replace unobserved cells by u(t) + (1 - part)^age (x(t - age) - u(t - age)), one by one; [time, node, feature].

    ``departed`` [node, feature] stands for the departure until a cell is observed, at age 0 in the first interval.
    """
    filled = normalised.copy()
    for t, n, feature in zip(*np.nonzero(observed == 0), strict=True):
        read = np.flatnonzero(observed[:t, n, feature])
        age = t - read[-1] if len(read) else t
        departure = departed[n, feature]
        if len(read):
            departure = normalised[t - age, n, feature] - usual[t - age, n, feature]
        filled[t, n, feature] = usual[t, n, feature] + (1 - part) ** age * departure
    return filled


def time_channels(how, seconds, harmonics=1):
    day, week = seconds % 86_400 / 86_400, seconds % 604_800 / 604_800
    waves = [np.sin(2 * np.pi * day), np.cos(2 * np.pi * day), np.sin(2 * np.pi * week), np.cos(2 * np.pi * week)]
    higher = [wave(2 * np.pi * n * day) for n in range(2, harmonics + 1) for wave in (np.sin, np.cos)]
    return {"week": waves + higher, "day": waves[:2] + higher, "fraction": [day], "none": []}[how]


def denormalise(signal, normalised):
    """Normalised forecasts [horizon, node, target] in physical units, clipped to the limits."""
    physical = np.zeros_like(normalised)
    for position, target in enumerate(signal.targets):
        feature = signal.features.index(target)
        numbers = normalised[..., position] * signal.std[feature] + signal.mean[feature]
        physical[..., position] = np.minimum(np.maximum(numbers, signal.low[feature]), signal.high[feature])
    return physical


def ranks(cluster, adjacency):
    """Rank of every node among the members of its super node: by neighbours, most first, then by id."""
    neighbours = [sum(weight > 0 for weight in row) for row in adjacency]
    found = []
    for n, c in enumerate(cluster):
        members = sorted((m for m in range(len(cluster)) if cluster[m] == c), key=lambda m: (-neighbours[m], m))
        found.append(members.index(n))
    return found


def structure(cluster, adjacency):
    """Degree and strength inside the super node and in the graph, standardised over the nodes, [node, 4]."""
    columns = []
    for among in (lambda n, m: cluster[n] == cluster[m], lambda n, m: True):
        rows = [[adjacency[n][m] for m in range(len(cluster)) if among(n, m)] for n in range(len(cluster))]
        columns += [[sum(weight > 0 for weight in row) for row in rows], [sum(row) for row in rows]]
    table = np.array(columns, np.float64).T
    spread = table.std(axis=0)
    standard = [(c - c.mean()) / s if s > 1e-9 else 0 * c for c, s in zip(table.T, spread, strict=True)]
    return np.array(standard).T.astype(np.float32)


def deconvolve(cluster, adjacency, weights, x):
    """Member of rank j gets Θj h, or Θj [h, s] with its structural vector s; x [super node, channel]."""
    rank, vectors = ranks(cluster, adjacency), structure(cluster, adjacency)
    rows = []
    for n, c in enumerate(cluster):
        theta, seen = weights["weight"][rank[n]], x[c]
        if "structure_weight" in weights:
            theta = np.concatenate([theta, weights["structure_weight"][rank[n]]])
            seen = np.concatenate([seen, vectors[n].astype(np.float64)])
        rows.append(seen @ theta)
    return np.stack(rows)


def profile_ahead(model, second):
    """The mean day's normalised targets now and at every horizon, [1 + horizon, node, target]."""
    table = model.profile.table.double().numpy()
    slots = len(table) // 2
    week = second % 604_800
    first = int(week % 86_400 / 86_400 * slots)
    weekend = week >= 5 * 86_400
    return np.stack([table[(first + h) % slots + slots * weekend] for h in range(model.config.horizon + 1)])


def tree(module):
    """Parameters of a torch module in float64, by name."""
    return {name: parameter.detach().double().numpy() for name, parameter in module.named_parameters()}


def u_network(config, graph, module, frame, states):
    """One interval through the U, frame [node, channel], from the states that its layers read; what they write."""
    written = {}

    def layer(name, level, frame):
        side = getattr(module, name)[level]
        entry = f"{name}.{level}.hidden"
        written[entry] = gcgru(graph.levels[level].basis, tree(side.cell), frame, states[entry])
        return layer_norm(written[entry], tree(side.norm) or None)

    skips = []
    for level in range(len(config.scales) + 1):
        if level:
            frame = pool(graph.transitions[level - 1].unpool, config.pooling, frame)
        frame = layer("contracting", level, frame)
        skips.append(frame)
    for level in reversed(range(len(config.scales))):
        cluster, adjacency = graph.transitions[level].unpool, graph.levels[level].adjacency.dense()
        if config.unpooling == "copy":
            frame = unpool(cluster, frame)
        else:
            frame = deconvolve(cluster, adjacency, tree(module.unpools[level]), frame)
        if config.skip:
            frame = np.concatenate([frame, skips[level]], axis=1)
        frame = layer("expanding", level, frame)
    return frame, written


def week_memory(model, departed, second, history):
    """Append the memory after an interval, [node, target * slot] and [slot]; return what a perceptron sees of it."""
    week, known = history["week"], history["week.known"]
    interval = 86_400 / model.profile.per_day
    length, apart = (interval * max(1, -(-shortest // interval)) for shortest in (1200, 600))
    number = int(604_800 // length)
    slot, place = int(second // length), second % length // interval
    steps = 1 + int(-(-(model.config.horizon + 1) * interval // apart))
    around = [second + apart * step for step in range(steps)]
    looked = [int((time - day) // length) % number for day in (86_400, 7 * 86_400) for time in around]
    seen = np.tile(known[-1][looked].reshape(2, -1).mean(axis=1), (len(departed), 1))
    earlier = week[-1].reshape(*departed.shape, number)
    slots = earlier.copy()
    before = slots[..., slot] if place else 0.0
    slots[..., slot] = before + (departed - before) / (place + 1)
    week.append(slots.reshape(len(departed), -1))
    known.append(known[-1].copy())
    known[-1][slot] = 1
    return np.concatenate([*(earlier[:, target][:, looked] for target in range(departed.shape[1])), seen], axis=1)


def perceptron(config, weights, own, marks, common, looked, encoded, static):
    """One of the perceptrons of the direct decoder."""

    def fed(x):
        return np.concatenate([x, np.sign(x) * np.log1p(4 * np.abs(x))], axis=1) if config.compress else x

    hidden = np.concatenate([fed(own), *marks], axis=1) @ weights["own_weight"] + weights["own_bias"]
    hidden = hidden + encoded @ weights["encoded_weight"]
    if config.memory:
        hidden = hidden + fed(looked) @ weights["looked_weight"]
    if config.static_features:
        hidden = hidden + static.double().numpy() @ weights["static_weight"]
    if config.common:
        hidden = hidden + common @ weights["common_weight"]
    hidden = np.maximum(hidden, 0) @ weights["hidden_weight"] + weights["hidden_bias"]
    return np.maximum(hidden, 0) @ weights["out_weight"]


def stunet(model, values, observed, seconds, lines, teacher=None):
    """The whole network for one row: [time, node, feature] and seconds [time] to [time, horizon, node, target].

    ``teacher(t, j)`` is what decoder step j after interval t is told instead of its forecast of step j - 1, or NaN.
    """
    config, signal, graph = model.config, model.signal, model.hierarchy
    low, high, mean, std = (np.array(getattr(signal, name)) for name in ("low", "high", "mean", "std"))
    targets = [signal.features.index(name) for name in signal.targets]
    head = tree(model.decoder.head)
    # Every state since the beginning, oldest first: h(t - age) is history[-age] before interval t has written.
    history = {name: list(line) for name, line in lines.items()}
    delay = {name: len(line) for name, line in lines.items()}
    layers = [name.removeprefix("encoder.") for name in lines if name.startswith("encoder.")]
    forecasts = []
    for t, (raw, seen, second) in enumerate(zip(values, observed, seconds, strict=True)):
        normalised = (np.clip(raw, low, high) - mean) / std
        constants = {"mean": 0.0, "zeros": zero_reading(signal)}
        usual = model.sensor_mean.double().numpy().copy()
        if config.profile:
            usual[:, targets] = profile_ahead(model, second)[0]
        if config.fill == "usual":
            substitute = usual + history["departed"][-1]
        else:
            substitute = constants[config.fill] if config.fill in constants else history["substitute"][-1]
        filled = np.where(seen == 1, normalised, substitute)
        channels = [filled, *([seen] if config.mask_channel and config.fill != "zeros" else [])]
        channels.append(np.tile(time_channels(config.time_features, second), (len(filled), 1)))
        deviations = profile_ahead(model, second) - filled[:, targets] if config.profile else None
        scaled = config.sensor_scale and config.residual and config.decoder == "direct"
        scale = model.scale.double().numpy() if scaled else np.ones((len(filled), len(targets)))
        if config.profile:
            alone = config.decoder == "direct" and config.lags > 0 and not config.profile_ahead
            channels += [ahead / scale for ahead in (deviations[:1] if alone else deviations)]
        states = {name: history[f"encoder.{name}"][-delay[f"encoder.{name}"]] for name in layers}
        encoded, written = u_network(config, graph, model.encoder, np.concatenate(channels, axis=1), states)
        for name, state in written.items():
            history[f"encoder.{name}"].append(state)
        base = [filled[:, targets] if config.residual else 0.0] * config.horizon
        if config.profile and config.residual:
            start = tree(model.profile)
            base = [base[h] + start["blend"][h] * deviations[h + 1] for h in range(config.horizon)]
            if config.damped:
                base = [base[h] - start["damping"][h] * deviations[0] for h in range(config.horizon)]
        steps = []
        if config.decoder == "direct":
            out = graph_convolution(graph.levels[0].basis, encoded, head["weight"], head["bias"])
            if config.lags:
                marked = config.mask_channel and config.fill != "zeros"
                changes = config.changes and config.profile and config.lags > 1
                reading = filled[:, targets] / scale
                noted = {"lags": -deviations[0] / scale if config.profile else reading}
                noted |= ({"lags.seen": seen[:, targets]} if marked else {}) | (
                    {"lags.readings": reading} if changes else {}
                )
                windows = {}
                for name, now in noted.items():
                    windows[name] = np.concatenate([now, history[name][-1]] if config.lags > 1 else [now], axis=1)
                    if config.lags > 1:
                        history[name].append(windows[name][:, : -len(targets)])
                marks = [windows["lags.seen"]] if marked else []
                common = [np.concatenate([windows["lags"], *marks], axis=1).mean(axis=0)]
                common.append(time_channels(config.time_features, second, config.harmonics))
                own = [windows["lags"]]
                if changes:
                    change = windows["lags.readings"] - np.tile(reading, config.lags)
                    own.append((change * windows["lags.seen"] if marked else change)[:, len(targets) :])
                if config.profile:
                    own += [ahead / scale for ahead in deviations]
                    own += [filled[:, targets]] if config.static_features else []
                own = np.concatenate(own, axis=1)
                looked = None
                if config.memory:
                    looked = week_memory(model, -deviations[0] / scale * seen[:, targets], second, history)
                for member in model.decoder.members:
                    known = (own, marks, np.concatenate(common), looked, encoded, model.static)
                    out = out + perceptron(config, tree(member), *known) / config.members
            steps = [base[h] + scale * out[:, h * len(targets) : (h + 1) * len(targets)] for h in range(config.horizon)]
        else:
            # The decoder goes on with a copy of the states, as if its intervals were those to come.
            future = {name: list(history[f"encoder.{name}"]) for name in layers}
            fed = np.zeros((len(filled), len(targets)))
            for j in range(1, config.horizon + 1):
                states = {name: future[name][-delay[f"encoder.{name}"]] for name in layers}
                shown = np.concatenate([fed, deviations[j]], axis=1) if config.profile else fed
                encoded, written = u_network(config, graph, model.decoder.unet, shown, states)
                for name, state in written.items():
                    future[name].append(state)
                steps.append(
                    base[j - 1] + graph_convolution(graph.levels[0].basis, encoded, head["weight"], head["bias"])
                )
                told = np.full_like(fed, np.nan) if teacher is None else teacher(t, j + 1)
                fed = np.where(np.isnan(told), steps[-1], told)
        forecasts.append(denormalise(signal, np.stack(steps)))
        if config.fill == "usual":
            history["departed"].append((1 - 2 / (1 + config.horizon)) * (filled - usual))
        elif config.fill not in constants:
            following = filled.copy()
            if config.fill == "forecast":
                limits = [(bound - mean[targets]) / std[targets] for bound in (low[targets], high[targets])]
                following[:, targets] = np.clip(steps[0], *limits)
                ordinary = model.sensor_mean.double().numpy().copy()
                if config.profile:
                    ordinary[:, targets] = profile_ahead(model, second)[1]
                part = 2 / (1 + config.horizon)
                following = np.where(seen == 1, following, (1 - part) * following + part * ordinary)
            history["substitute"].append(following)
    return np.stack(forecasts), {name: np.stack(states[-delay[name] :]) for name, states in history.items()}


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
        "fill_usual",
        "time_channels",
        "denormalise",
        "ranks",
        "structure",
        "deconvolve",
        "stunet",
        "tree",
    )
    return SimpleNamespace(**{name: globals()[name] for name in names})
