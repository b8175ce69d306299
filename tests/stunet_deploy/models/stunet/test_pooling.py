"""Pooling and unpooling against loops over the members of every super node."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.hierarchy import Transition
from stunet_deploy.models.stunet.graph_gru import GCGRUCell
from stunet_deploy.models.stunet.pooling import CopyUnpool, DeconvolutionUnpool, SpatialPool


def grouped(cluster: list[int] | np.ndarray, adjacency: np.ndarray | None = None) -> Transition:
    """The transition of a graph, by default without edges."""
    nodes = len(cluster)
    matrix = np.zeros((nodes, nodes)) if adjacency is None else adjacency
    return Transition.from_cluster(np.array(cluster), Adjacency.from_matrix(matrix))


CLUSTERS = {
    "pairs": [0, 1, 0, 1, 2, 2],
    "one to four members": [0, 1, 1, 2, 3, 2, 3, 3, 2, 3],
    "three members": [0, 0, 1, 0],
    "one super node": [0, 0, 0],
    "no pooling": [0, 1, 2],
    "one sensor": [0],
}


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("shape", [(2,), (2, 3)], ids=["step", "sequence"])
def test_pool_is_the_literal_one(literal, cluster, how, shape):
    x = np.random.default_rng(1).uniform(-1, 1, (*shape, len(cluster), 3))
    pool = SpatialPool(grouped(cluster), how).double()

    found = pool(torch.from_numpy(x)).numpy()

    expected = [literal.pool(cluster, how, frame) for frame in x.reshape(-1, *x.shape[-2:])]
    np.testing.assert_allclose(found, np.reshape(expected, found.shape), rtol=0, atol=1e-10)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.sampled_from(["max", "mean"]))
def test_padding_weighs_nothing_even_where_every_state_is_negative(labels, how):
    first = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    cluster = np.array([first[label] for label in labels])
    x = -np.arange(1.0, len(labels) + 1)[None, :, None]

    found = SpatialPool(grouped(cluster), how).double()(torch.from_numpy(x)).numpy()

    reduce = np.max if how == "max" else np.mean
    expected = [reduce(x[0, cluster == super_node]) for super_node in range(cluster.max() + 1)]
    np.testing.assert_allclose(found[0, :, 0], expected, rtol=1e-6)  # a third is stored in float32


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_unpool_copies_the_super_node_to_each_member(literal, cluster):
    x = np.random.default_rng(2).uniform(-1, 1, (2, 3, max(cluster) + 1, 4))

    found = CopyUnpool(grouped(cluster))(torch.from_numpy(x)).numpy()

    assert found.shape == (2, 3, len(cluster), 4)
    for row in range(2):
        for time in range(3):
            np.testing.assert_array_equal(found[row, time], literal.unpool(cluster, x[row, time]))


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
@pytest.mark.parametrize("skipped", [0, 2])
@pytest.mark.parametrize("order", [0, 2])
def test_an_unpooled_input_is_projected_as_if_it_were_copied_first(cluster, skipped, order):
    rng = np.random.default_rng(3)
    nodes, channels = len(cluster), 4
    basis = torch.from_numpy(rng.uniform(-1, 1, (order, nodes, nodes)))
    cell = GCGRUCell(basis, channels + skipped, 5).double()
    unpool = CopyUnpool(grouped(cluster))
    coarse = torch.from_numpy(rng.uniform(-1, 1, (2, 3, max(cluster) + 1, channels)))
    skip = torch.from_numpy(rng.uniform(-1, 1, (2, 3, nodes, skipped))) if skipped else None

    found = unpool.project(cell, coarse, skip)

    parts = [unpool(coarse)] if skip is None else [unpool(coarse), skip]
    torch.testing.assert_close(found, cell.project(torch.cat(parts, dim=-1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", ["max", "mean"])
def test_gradients_of_padded_groups_count_each_member_once(how):
    x = torch.tensor([[[3.0], [1.0], [2.0], [7.0], [7.5]]], requires_grad=True)
    SpatialPool(grouped([0, 0, 0, 1, 1]), how)(x).sum().backward()

    assert x.grad is not None
    expected = [1, 0, 0, 0, 1] if how == "max" else [1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2]
    np.testing.assert_allclose(x.grad[0, :, 0], expected, rtol=1e-6)


def linked(cluster: list[int], seed: int) -> np.ndarray:
    """A random symmetric graph with a few ties of degree."""
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.uniform(0.1, 1, (len(cluster), len(cluster))) * (rng.random((len(cluster),) * 2) < 0.6), 1)
    return weights + weights.T


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
@pytest.mark.parametrize("weighted", [False, True], ids=["ordered", "weighted"])
@pytest.mark.parametrize("seed", [0, 1])
def test_deconvolution_is_the_literal_one(literal, cluster, weighted, seed):
    rng, adjacency = np.random.default_rng(seed), linked(cluster, seed)
    unpool = DeconvolutionUnpool(grouped(cluster, adjacency), 3, weighted).double()
    with torch.no_grad():
        for parameter in unpool.parameters():
            parameter.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)))
    x = rng.uniform(-1, 1, (2, 3, max(cluster) + 1, 3))

    found = unpool(torch.from_numpy(x)).detach().numpy()

    for index in np.ndindex(2, 3):
        expected = literal.deconvolve(cluster, adjacency, literal.tree(unpool), x[index])
        np.testing.assert_allclose(found[index], expected, rtol=0, atol=1e-10)


def test_ranks_and_structure_by_hand():
    # Two super nodes {0, 1, 3} and {2, 4}; edges 0-1 (2), 1-3 (1), 1-2 (4), 2-4 (3).
    adjacency = np.zeros((5, 5))
    for a, b, weight in ((0, 1, 2), (1, 3, 1), (1, 2, 4), (2, 4, 3)):
        adjacency[a, b] = adjacency[b, a] = weight
    transition = grouped([0, 0, 1, 0, 1], adjacency)

    assert transition.ranks.tolist() == [1, 0, 0, 2, 1]  # 0 and 3 have one neighbour each: by id
    table = np.array([[1, 2, 1, 2], [2, 3, 3, 7], [1, 3, 2, 7], [1, 1, 1, 1], [1, 3, 1, 3]])
    expected = (table - table.mean(axis=0)) / table.std(axis=0)
    np.testing.assert_allclose(transition.structure, expected, rtol=1e-6)


def test_equal_nodes_have_no_structure():
    ring = np.roll(np.eye(6), 1, axis=1) * 0.1
    assert not grouped([0, 0, 1, 1, 2, 2], ring + ring.T).structure.any()
