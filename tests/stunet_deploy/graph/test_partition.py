import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.partition import (
    best_on_cycle,
    best_on_path,
    coarsen,
    global_paths,
    growing_paths,
    match,
    partitioned,
    sorted_edges,
)

METHODS = ("gpa", "pga")


def sparse(matrix):
    return Adjacency.from_matrix(matrix)


def random_adjacency(rng, nodes, density):
    weights = np.triu(rng.random((nodes, nodes)) * (rng.random((nodes, nodes)) < density), k=1)
    return weights + weights.T


@st.composite
def adjacencies(draw):
    """Small graphs with many equal and zero weights, where ties and isolated nodes are common."""
    nodes = draw(st.integers(1, 9))
    pairs = nodes * (nodes - 1) // 2
    weights = draw(st.lists(st.sampled_from([0.0, 0.0, 0.1, 0.25, 0.3, 1.0, 3.0]), min_size=pairs, max_size=pairs))
    adjacency = np.zeros((nodes, nodes))
    adjacency[np.triu_indices(nodes, k=1)] = weights
    return adjacency + adjacency.T


def pairs_of(partner):
    return [(node, int(other)) for node, other in enumerate(partner) if node < other]


def weight_of(adjacency, partner):
    return sum(adjacency[pair] for pair in pairs_of(partner))


def optimum(adjacency):
    graph = networkx.Graph()
    graph.add_weighted_edges_from(zip(*(column.tolist() for column in sorted_edges(sparse(adjacency))), strict=True))
    return sum(adjacency[pair] for pair in networkx.max_weight_matching(graph))


def graph_of(edges, nodes):
    adjacency = np.zeros((nodes, nodes))
    for u, v, weight in edges:
        adjacency[u, v] = adjacency[v, u] = weight
    return adjacency


def test_edges_are_sorted_by_weight_then_ids_without_zeros():
    edges = sorted_edges(sparse(graph_of([(2, 3, 1.0), (0, 3, 2.0), (1, 2, 1.0), (0, 2, 1.0)], 5)))
    assert list(zip(edges.low.tolist(), edges.high.tolist(), edges.weight.tolist(), strict=True)) == [
        (0, 3, 2.0),
        (0, 2, 1.0),
        (1, 2, 1.0),
        (2, 3, 1.0),
    ]


@pytest.mark.parametrize(
    ("weights", "total", "chosen"),
    [
        ([], 0, []),
        ([3], 3, [0]),
        ([10, 1, 2, 9], 19, [0, 3]),
        ([2, 3, 2], 4, [0, 2]),
        ([1, 2, 1], 2, [1]),  # a tie is no strict improvement
        ([5, 5], 5, [0]),
    ],
)
def test_best_matching_of_a_path(weights, total, chosen):
    assert best_on_path(weights) == (total, chosen)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=12).filter(lambda weights: len(weights) % 2 == 0))
@settings(max_examples=60)
def test_best_matching_of_a_cycle_is_the_optimum(weights):
    nodes = len(weights)
    adjacency = graph_of([(i, (i + 1) % nodes, float(weight)) for i, weight in enumerate(weights)], nodes)
    total, chosen = best_on_cycle(weights)
    assert total == sum(weights[index] for index in chosen) == optimum(adjacency)
    touched = [node for index in chosen for node in (index, (index + 1) % nodes)]
    assert len(set(touched)) == len(touched)


def test_global_paths_close_even_cycles_only():
    square = graph_of([(0, 1, 4.0), (1, 2, 3.0), (2, 3, 2.0), (0, 3, 1.0)], 4)
    (cycle,) = global_paths(sorted_edges(sparse(square)), 4)
    assert cycle.is_cycle
    assert cycle.nodes == [0, 1, 2, 3]
    assert cycle.weights == [4, 3, 2, 1]

    pentagon = graph_of([(i, (i + 1) % 5, 5.0 - i) for i in range(5)], 5)
    (path,) = global_paths(sorted_edges(sparse(pentagon)), 5)
    assert not path.is_cycle
    assert path.nodes == [0, 1, 2, 3, 4]
    assert path.weights == [5, 4, 3, 2]


def test_growing_paths_start_at_the_lowest_node_and_follow_the_heaviest_edge():
    star = graph_of([(0, 2, 1.0), (0, 3, 5.0), (0, 1, 5.0), (1, 2, 1.0), (3, 4, 2.0)], 6)
    assert [path.nodes for path in growing_paths(sorted_edges(sparse(star)), 6)] == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize("method", METHODS)
def test_path_of_the_published_trap_is_matched_at_its_optimum(method):
    adjacency = graph_of([(0, 1, 10.0), (1, 2, 1.0), (2, 3, 2.0), (3, 4, 9.0)], 5)
    partner = match(sparse(adjacency), method)
    assert pairs_of(partner) == [(0, 1), (3, 4)]
    assert weight_of(adjacency, partner) == 19


@pytest.mark.parametrize("method", METHODS)
@given(adjacency=adjacencies())
@settings(max_examples=150)
def test_matching_is_valid_maximal_and_at_least_half_the_optimum(method, adjacency):
    partner = match(sparse(adjacency), method)
    nodes = np.arange(len(adjacency))
    assert np.array_equal(partner[partner], nodes)
    assert all(adjacency[pair] > 0 for pair in pairs_of(partner))
    free = np.flatnonzero(partner == nodes)
    assert not adjacency[np.ix_(free, free)].any()
    assert 2 * weight_of(adjacency, partner) >= optimum(adjacency) * (1 - 1e-12)


@pytest.mark.parametrize(("method", "least"), [("gpa", 0.95), ("pga", 0.92)])
def test_matching_is_near_the_optimum_on_average(method, least):
    rng = np.random.default_rng(7)
    shares = []
    for _ in range(40):
        adjacency = random_adjacency(rng, int(rng.integers(10, 60)), rng.uniform(0.05, 0.5))
        if adjacency.any():
            shares.append(weight_of(adjacency, match(sparse(adjacency), method)) / optimum(adjacency))
    assert min(shares) >= 0.5
    assert np.mean(shares) >= least


def test_coarse_nodes_ascend_by_smallest_member():
    cluster, _ = coarsen(sparse(np.zeros((5, 5))), np.array([0, 4, 3, 2, 1]))
    assert cluster.tolist() == [0, 1, 2, 2, 1]


def test_parallel_edges_are_summed_one_after_the_other_in_sorted_order():
    # Nodes 0-1 and 2-3 merge; four edges join them. The small ones first would give another sum.
    adjacency = graph_of([(0, 1, 1.0), (2, 3, 1.0), (0, 2, 1e16), (0, 3, 1.0), (1, 2, 1.0), (1, 3, 0.5)], 4)
    cluster, coarse = coarsen(sparse(adjacency), np.array([1, 0, 3, 2]))
    assert cluster.tolist() == [0, 0, 1, 1]
    total = ((1e16 + 1.0) + 1.0) + 0.5
    assert total != 1e16 + (1.0 + 1.0 + 0.5)
    assert coarse.dense().tolist() == [[0, total], [total, 0]]


@pytest.mark.parametrize("method", METHODS)
@given(adjacency=adjacencies(), levels=st.integers(0, 3))
@settings(max_examples=80)
def test_partition_conserves_the_weight_between_clusters(method, adjacency, levels):
    cluster, coarser = partitioned(sparse(adjacency), levels, method)
    coarse = coarser.dense()
    membership = np.eye(len(coarse))[cluster]
    summed = membership.T @ adjacency @ membership
    np.fill_diagonal(summed, 0)
    np.testing.assert_allclose(coarse, summed, rtol=1e-12, atol=1e-12)
    assert np.array_equal(coarse, coarse.T)
    sizes = np.bincount(cluster)
    assert sizes.min() >= 1
    assert sizes.max() <= 2**levels
    first_members = [int(np.flatnonzero(cluster == node)[0]) for node in range(len(coarse))]
    assert first_members == sorted(first_members)


def test_no_levels_give_the_graph_itself():
    adjacency = random_adjacency(np.random.default_rng(1), 6, 0.5)
    cluster, coarse = partitioned(sparse(adjacency), 0)
    assert cluster.tolist() == list(range(6))
    assert np.array_equal(coarse.dense(), adjacency)
