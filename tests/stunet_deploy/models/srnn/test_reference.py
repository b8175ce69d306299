"""Structural-RNN against its definition: on random graphs, with classes, on one node, round a hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.config import Signal, SRNNConfig
from stunet_deploy.models.srnn import edges as edge_tables
from stunet_deploy.models.srnn.edges import DENSE_FACTOR
from stunet_deploy.models.srnn.model import StructuralRNN
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph


def random_st_graph(rng: np.random.Generator, equal_widths: bool, mixed: bool) -> STGraph:
    """One to eight nodes of one to three types, in shuffled slices with gaps; every possible edge type, some unused."""
    types = [f"type{n}" for n in range(rng.integers(1, 4))]
    widths = {name: 2 if equal_widths else int(rng.integers(1, 4)) for name in types}
    owners = [*types, *rng.choice(types, size=rng.integers(0, 6))]
    rng.shuffle(owners)
    nodes, channel = [], int(rng.integers(0, 2)) if mixed else 0
    for number, owner in enumerate(owners):
        nodes.append(Node(f"n{number}", str(owner), (channel, channel + widths[owner])))
        channel += widths[owner] + (int(rng.integers(0, 2)) if mixed else 0)
    rng.shuffle(nodes)
    edge_types, edges = [], []
    for a in types:
        for b in types:
            if rng.random() < 0.5:
                directed = bool(rng.random() < 0.5)
                kind = EdgeType(f"{a}-{b}-{len(edge_types)}", (a, b), directed)
                edge_types.append(kind)
                edges += random_edges(rng, kind, nodes)
    return STGraph(tuple(types), tuple(edge_types), tuple(nodes), tuple(edges))


def random_edges(rng: np.random.Generator, kind: EdgeType, nodes: list[Node]) -> list[Edge]:
    """A third of the possible edges, so that some nodes stay isolated."""
    ends = [(u, v) for u in nodes for v in nodes if (u.type, v.type) == kind.between and u is not v]
    if not kind.directed and kind.between[0] == kind.between[1]:
        ends = [(u, v) for u, v in ends if u.name < v.name]
    return [Edge(u.name, v.name, kind.name, float(rng.integers(1, 17)) / 8) for u, v in ends if rng.random() < 1 / 3]


def random_model(rng: np.random.Generator, config: SRNNConfig, graph: STGraph, signal: Signal) -> StructuralRNN:
    model = StructuralRNN(config, graph, signal).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.5, parameter.shape)))
    return model


def make_signal(
    rng: np.random.Generator, features: int, targets: tuple[str, ...] | None = None, free: int = 0
) -> Signal:
    names = tuple(f"f{n}" for n in range(features))
    # The model stores them in float32, and so do the weights of edges: an eighth is exact there.
    numbers = {key: tuple(map(float, rng.uniform(*ends, features).astype(np.float32))) for key, ends in LIMITS.items()}
    own = tuple(f"t{n}" for n in range(free))
    return Signal(names, own or targets or names, **numbers, target_std=(1.0,) * free, target_units=("",) * free)


LIMITS = {"mean": (40, 60), "std": (8, 15), "low": (0, 5), "high": (70, 90)}


@given(
    seed=st.integers(0, 2**32 - 1),
    cell=st.sampled_from(["lstm", "gru"]),
    edges=st.sampled_from([("summed", "sum"), ("per_edge", "sum"), ("per_edge", "attention")]),
    decoder=st.sampled_from(["direct", "recurrent"]),
    fill=st.sampled_from(["usual", "last", "mean", "zeros"]),
    time=st.sampled_from(["week", "day", "fraction", "none"]),
    plain=st.booleans(),
    dense=st.sampled_from([0, DENSE_FACTOR]),
)
@settings(max_examples=20)
def test_a_random_st_graph_gives_what_the_definition_gives(
    seed: int,
    cell: str,
    edges: tuple[str, str],
    decoder: str,
    fill: str,
    time: str,
    plain: bool,
    dense: int,
    hold_to_the_definition: Callable[..., None],
) -> None:
    rng = np.random.default_rng(seed)
    graph = random_st_graph(rng, equal_widths=False, mixed=True)
    config = SRNNConfig(
        edge_state=edges[0],
        combine=edges[1],
        cell=cell,
        decoder=decoder,
        fill=fill,
        time_features=time,
        edge_embedding=() if plain else (5, 4),
        node_embedding=() if plain else (3,),
        head=() if plain else (6, 4),
        edge_hidden=3,
        node_hidden=4,
        edge_skip=not plain,
        residual=not plain,
        mask_channel=not plain,
        horizon=3,
    )
    features = int(rng.integers(1, graph.channels + 2))
    targets = ("f0",) if plain else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge_tables, "DENSE_FACTOR", dense)  # small graphs are dense, unless told otherwise
        model = random_model(rng, config, graph, make_signal(rng, features, targets))
    hold_to_the_definition(rng, model)


@given(
    seed=st.integers(0, 2**32 - 1),
    edges=st.sampled_from([("summed", "sum"), ("per_edge", "sum"), ("per_edge", "attention")]),
    features=st.sampled_from(["concat", "difference"]),
    output=st.sampled_from(["regression", "gaussian"]),
    decoder=st.sampled_from(["direct", "recurrent"]),
    dense=st.sampled_from([0, DENSE_FACTOR]),
)
@settings(max_examples=15)
def test_nodes_that_come_and_go_are_those_of_the_definition(
    seed: int,
    edges: tuple[str, str],
    features: str,
    output: str,
    decoder: str,
    dense: int,
    hold_to_the_definition: Callable[..., None],
) -> None:
    rng = np.random.default_rng(seed)
    graph = random_st_graph(rng, equal_widths=True, mixed=False)
    config = SRNNConfig(
        edge_state=edges[0],
        combine=edges[1],
        edge_features=features,
        output=output,
        decoder=decoder,
        presence=True,
        fill="mean",
        edge_embedding=(4,),
        edge_hidden=3,
        node_hidden=4,
        head=(5,),
        time_features="none",
        horizon=2,
    )
    signal = make_signal(rng, 2, free=5 if output == "gaussian" else 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge_tables, "DENSE_FACTOR", dense)
        model = random_model(rng, config, graph, signal)
    hold_to_the_definition(rng, model, time=6)


@pytest.mark.parametrize("horizon", [1, 2])
def test_classes_are_those_of_the_definition(horizon: int, hold_to_the_definition: Callable[..., None]) -> None:
    rng = np.random.default_rng(5)
    kinds = (EdgeType("human-object", ("human", "object")), EdgeType("object-object", ("object", "object")))
    nodes = [Node("o1", "object", (0, 2)), Node("human", "human", (2, 5)), Node("o2", "object", (5, 7))]
    edges = (
        Edge("human", "o1", "human-object"),
        Edge("o2", "human", "human-object"),
        Edge("o1", "o2", "object-object"),
    )
    graph = STGraph(("human", "object"), kinds, tuple(nodes), edges)
    classes = {"human": ("reach", "eat", "none"), "object": ("still", "held")}
    config = SRNNConfig(output="classification", classes=classes, horizon=horizon, edge_hidden=3, node_hidden=4)

    hold_to_the_definition(rng, random_model(rng, config, graph, make_signal(rng, 7, free=7)))


def test_one_node_alone(hold_to_the_definition: Callable[..., None]) -> None:
    rng = np.random.default_rng(2)
    graph = STGraph(("sensor",), (EdgeType("near", ("sensor", "sensor")),), (Node("only", "sensor", (0, 1)),))

    hold_to_the_definition(rng, random_model(rng, SRNNConfig(horizon=2), graph, make_signal(rng, 1)))


@pytest.mark.parametrize("edges", [("summed", "sum"), ("per_edge", "sum"), ("per_edge", "attention")])
def test_hubs_and_large_networks_add_the_same(
    edges: tuple[str, str], hold_to_the_definition: Callable[..., None]
) -> None:
    """Ten nodes in a ring are multiplied, 80 gathered, 120 round a hub gathered in groups: all by the definition."""
    rng = np.random.default_rng(4)
    rings = [[(n, (n + 1) % count) for n in range(count)] for count in (10, 80)]
    star = [(0, n) for n in range(1, 120)] + [(n, n + 1) for n in range(1, 40)]
    for pairs, groups in zip([*rings, star], (0, 1, 3), strict=True):
        count = 1 + max(map(max, pairs))
        nodes = tuple(Node(f"n{n}", "sensor", (n, n + 1)) for n in range(count))
        joined = tuple(Edge(f"n{one}", f"n{other}", "near", 0.5 + one) for one, other in pairs)
        graph = STGraph(("sensor",), (EdgeType("near", ("sensor", "sensor")),), nodes, joined)
        sizes: dict[str, Any] = {"edge_hidden": 2, "node_hidden": 3, "edge_embedding": (), "head": ()}
        config = SRNNConfig(horizon=2, edge_state=edges[0], combine=edges[1], **sizes)
        model = random_model(rng, config, graph, make_signal(rng, 1))
        if edges[0] == "summed":
            sums = model.network.edges["spatial_near"].sums[0]
            assert (0 if sums.dense else len(sums.groups)) == groups
        hold_to_the_definition(rng, model, time=2)
