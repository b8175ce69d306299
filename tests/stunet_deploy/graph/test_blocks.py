"""Sparse matrices in blocks: the order of the nodes, the grouping of block rows, the cut itself."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.blocks import (
    BlockRows,
    Slots,
    arranged,
    block_cost,
    cluster_order,
    column_counts,
    cut_blocks,
    dense_cost,
    grouped,
    unpooled_polynomials,
)


def grid(side: int) -> scipy.sparse.csr_array:
    """A square of crossings, each joined to the next in both directions."""
    line = scipy.sparse.eye_array(side, k=1) + scipy.sparse.eye_array(side, k=-1)
    return scipy.sparse.csr_array(scipy.sparse.kron(line, np.eye(side)) + scipy.sparse.kron(np.eye(side), line))


def put_together(groups: list[BlockRows], width: int) -> np.ndarray:
    """The matrix of block rows, [row, column]."""
    rows = []
    for columns, blocks in groups:
        for row, block in zip(columns, blocks, strict=True):
            dense = np.zeros((block.shape[0], width))
            np.add.at(dense, (slice(None), row), block)
            rows.append(dense)
    return np.concatenate(rows)


@given(
    st.integers(1, 40), st.integers(1, 30), st.sampled_from([0.0, 0.05, 0.3, 1.0]), st.integers(1, 7), st.integers(0, 9)
)
@settings(max_examples=80)
def test_blocks_hold_the_matrix_and_gather_nothing_else(rows, columns, density, size, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, columns)).astype(np.float32) * (rng.random((rows, columns)) < density)

    groups = cut_blocks(scipy.sparse.coo_array(matrix), size)

    filled = np.zeros((-(-rows // size) * size, columns))
    filled[:rows] = matrix
    assert np.array_equal(put_together(groups, columns), filled)
    first = 0
    for group, blocks in groups:
        assert blocks.shape == (len(group), size, group.shape[1])
        for row in group:
            needed = set(np.flatnonzero(filled[first : first + size].any(axis=0)).tolist())
            assert set(row.tolist()) == needed or (not needed and len(set(row.tolist())) == 1)
            first += size


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_groups_follow_one_another_and_padding_costs_less_than_one_group(counts):
    counts = np.array(counts)
    groups = grouped(counts)
    assert [row for group in groups for row in range(group.start, group.stop)] == list(range(len(counts)))
    padded = sum((group.stop - group.start) * counts[group].max() for group in groups)
    assert padded <= len(counts) * counts.max()
    assert len(groups) == 1 or padded + 3 * len(counts) * (len(groups) - 1) < len(counts) * counts.max()


def test_one_group_where_all_are_alike_and_two_where_they_differ_much():
    assert grouped(np.full(200, 30)) == [slice(0, 200)]
    assert grouped(np.repeat([300, 20], [20, 180])) == [slice(0, 20), slice(20, 200)]


@pytest.mark.parametrize("nodes", [1, 5, 16, 37])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_slots_find_every_node_and_spare_ones_repeat_one(nodes, size):
    order = np.random.default_rng(nodes).permutation(nodes)
    slots = Slots.from_blocks(order, size)
    assert len(slots.nodes) % size == 0
    assert len(slots.nodes) - nodes < size
    assert np.array_equal(slots.nodes[slots.slots], np.arange(nodes))
    assert set(slots.nodes[nodes:].tolist()) <= {int(order[-1])}


def test_moved_rows_of_spare_slots_are_empty():
    matrix = np.arange(1.0, 10).reshape(3, 3)
    slots = Slots.from_blocks(np.array([2, 0, 1]), 2)
    moved = slots.moved(scipy.sparse.coo_array(matrix)).toarray()
    assert moved.tolist() == [[9, 7, 8, 0], [3, 1, 2, 0], [6, 4, 5, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("size", [8, 16])
def test_order_keeps_blocks_together(size):
    adjacency = grid(24)
    order = cluster_order(adjacency, size)
    assert sorted(order.tolist()) == list(range(24 * 24))
    # A compact block of s crossings has some 4 √s neighbours; a row of the grid has 2 s.
    counts = column_counts(adjacency, order, size)
    assert counts.mean() < size + 5.5 * size**0.5
    assert counts.mean() < column_counts(adjacency, np.arange(24 * 24), size).mean()


def test_counts_are_those_of_the_cut():
    rng = np.random.default_rng(3)
    weights = np.triu(rng.random((50, 50)) * (rng.random((50, 50)) < 0.05), 1)
    adjacency = scipy.sparse.csr_array(weights + weights.T)
    order = cluster_order(adjacency, 8)
    slots = Slots.from_blocks(order, 8)
    with_diagonal = slots.moved(scipy.sparse.coo_array(adjacency + scipy.sparse.eye_array(50)))
    found = [len(set(row.tolist())) for columns, _ in cut_blocks(with_diagonal.tocoo(), 8) for row in columns]
    assert found == column_counts(adjacency, order, 8).tolist()


def test_large_sparse_graphs_cost_less_in_blocks_and_small_or_full_ones_do_not():
    _, sparse = arranged(grid(40))
    assert sparse < dense_cost(1600) / 10
    for nodes in (1, 60, 600):
        _, full = arranged(scipy.sparse.csr_array(np.ones((nodes, nodes)) - np.eye(nodes)))
        assert full > dense_cost(nodes)
    assert block_cost(np.full(10, 30), 16) < block_cost(np.full(10, 40), 16) < block_cost(np.full(10, 40), 32)


def test_the_same_graph_is_arranged_alike():
    first, again = (arranged(grid(20))[0] for _ in range(2))
    assert first.size == again.size
    assert first.nodes.tobytes() == again.nodes.tobytes()


@pytest.mark.parametrize("polynomials", [1, 2, 3])
def test_unpooled_polynomials_are_the_products(polynomials):
    rng = np.random.default_rng(1)
    laplacian = rng.standard_normal((12, 12)) * (rng.random((12, 12)) < 0.3)
    cluster = rng.integers(0, 5, 12)
    copy = np.eye(5)[cluster]
    terms = [np.eye(12), laplacian]
    while len(terms) <= polynomials:
        terms.append(2 * laplacian @ terms[-1] - terms[-2])

    found = unpooled_polynomials(scipy.sparse.csr_array(laplacian), polynomials, cluster, 5).toarray()

    expected = np.concatenate([term @ copy for term in terms[1 : polynomials + 1]], axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_an_adjacency_needs_no_matrix():
    # A ring of 100,000 nodes; as a matrix it would be 80 GB.
    nodes = 100_000
    every = np.arange(nodes)
    ring = Adjacency.from_edges(nodes, every, np.roll(every, -1), np.ones(nodes)).symmetrised()
    assert len(ring.weight) == 2 * nodes
    assert not ring.directed
    assert not ring.isolated.any()
    assert ring.selected(every[:10]).dense().sum() == 18
