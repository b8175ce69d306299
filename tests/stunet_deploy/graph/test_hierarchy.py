import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.errors import CheckpointError, ConfigError, DataError
from stunet_deploy.graph import chebyshev
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.chebyshev import chebyshev_basis, laplacian, largest_eigenvalue
from stunet_deploy.graph.hierarchy import GraphHierarchy, Transition
from tests.paths import ROOT


def random_adjacency(rng, nodes, density):
    """Directed, with a diagonal, as files give it."""
    return rng.random((nodes, nodes)) * (rng.random((nodes, nodes)) < density)


def symmetric(rng, nodes, density):
    weights = np.triu(random_adjacency(rng, nodes, density), k=1)
    return weights + weights.T


@st.composite
def adjacencies(draw):
    nodes = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return random_adjacency(rng, nodes, draw(st.sampled_from([0.0, 0.1, 0.3, 1.0])))


def literal_basis(adjacency, order):
    """The definition, entry by entry."""
    nodes = len(adjacency)
    degree = [sum(adjacency[i]) for i in range(nodes)]
    normal = np.eye(nodes)
    for i in range(nodes):
        for j in range(nodes):
            if adjacency[i, j]:
                normal[i, j] -= adjacency[i, j] / (degree[i] ** 0.5 * degree[j] ** 0.5)
    scaled = 2 * normal / max(np.linalg.eigvalsh(normal)) - np.eye(nodes)
    terms = [np.eye(nodes), scaled]
    for _ in range(2, order):
        terms.append(2 * scaled @ terms[-1] - terms[-2])
    return np.array(terms[1:order]).reshape(order - 1, nodes, nodes)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@given(adjacency=adjacencies())
@settings(max_examples=30)
def test_basis_is_the_literal_recurrence(order, adjacency):
    weights = np.maximum(adjacency, adjacency.T)
    np.fill_diagonal(weights, 0)
    basis = chebyshev_basis(Adjacency.from_matrix(weights), order)
    np.testing.assert_allclose(basis, literal_basis(weights, order), rtol=0, atol=1e-12)


@given(adjacency=adjacencies())
@settings(max_examples=60)
def test_scaled_laplacian_has_eigenvalues_from_minus_one_to_one(adjacency):
    weights = np.maximum(adjacency, adjacency.T)
    np.fill_diagonal(weights, 0)
    (scaled,) = chebyshev_basis(Adjacency.from_matrix(weights), 2)
    eigenvalues = np.linalg.eigvalsh(scaled)
    assert eigenvalues.max() == pytest.approx(1, abs=1e-12)
    assert eigenvalues.min() >= -1 - 1e-12
    assert np.array_equal(scaled, scaled.T)


def test_laplacian_of_a_path_by_hand():
    weights = np.array([[0, 1.0, 0, 0], [1.0, 0, 3.0, 0], [0, 3.0, 0, 0], [0, 0, 0, 0]])
    root = np.sqrt
    expected = np.eye(4)
    expected[0, 1] = expected[1, 0] = -1 / root(1 * 4)
    expected[1, 2] = expected[2, 1] = -3 / root(4 * 3)
    found = laplacian(Adjacency.from_matrix(weights))
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-15)
    assert found[3, 3] == 1  # isolated
    assert largest_eigenvalue(found) == pytest.approx(2, abs=1e-14)  # a path is bipartite


def test_edgeless_graph_has_the_identity_as_scaled_laplacian():
    assert np.array_equal(chebyshev_basis(Adjacency.from_matrix(np.zeros((3, 3))), 3), np.stack([np.eye(3)] * 2))


@pytest.mark.parametrize("nodes", [30, 300])
def test_sparse_solver_agrees_with_the_dense_one(monkeypatch, nodes):
    matrix = laplacian(Adjacency.from_matrix(symmetric(np.random.default_rng(nodes), nodes, 0.05)))
    dense = largest_eigenvalue(matrix)
    monkeypatch.setattr(chebyshev, "LARGEST_DENSE_SPECTRUM", 0)
    assert largest_eigenvalue(matrix) == pytest.approx(dense, rel=1e-9)
    assert largest_eigenvalue(matrix) == largest_eigenvalue(matrix)
    assert largest_eigenvalue(scipy.sparse.eye_array(nodes, format="csr")) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("order", [0, -1])
def test_order_below_one_is_refused(order):
    with pytest.raises(ConfigError, match="chebyshev_order"):
        chebyshev_basis(Adjacency.from_matrix(np.zeros((2, 2))), order)


@pytest.mark.parametrize("method", ["gpa", "pga"])
@given(adjacency=adjacencies(), pool_levels=st.lists(st.integers(0, 3), max_size=3))
@settings(max_examples=60)
def test_pool_and_unpool_are_consistent(method, adjacency, pool_levels):
    hierarchy = GraphHierarchy.build(adjacency, pool_levels=pool_levels, partition=method)
    assert len(hierarchy.levels) == len(pool_levels) + 1
    for index, (transition, count) in enumerate(zip(hierarchy.transitions, pool_levels, strict=True)):
        fine, coarse = (len(level.adjacency) for level in hierarchy.levels[index : index + 2])
        pool, unpool = transition.pool, transition.unpool
        assert unpool.shape == (fine,)
        assert pool.shape == (coarse, np.bincount(unpool).max())
        assert pool.shape[1] <= 2**count
        assert np.array_equal(unpool[pool], np.broadcast_to(np.arange(coarse)[:, None], pool.shape))
        assert sorted(member for row in pool for member in set(row.tolist())) == list(range(fine))
        for row in pool.tolist():
            members = sorted(set(row))
            assert row == members + [members[0]] * (len(row) - len(members))


@given(adjacency=adjacencies())
@settings(max_examples=30)
def test_mean_weights_average_the_members(adjacency):
    (transition,) = GraphHierarchy.build(adjacency, pool_levels=[2]).transitions
    weights = transition.mean_weights()
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    values = np.random.default_rng(3).normal(size=len(adjacency))
    means = [values[transition.unpool == node].mean() for node in range(len(weights))]
    np.testing.assert_allclose((values[transition.pool] * weights).sum(axis=1), means, rtol=1e-5, atol=1e-6)


def test_gather_indices_by_hand():
    transition = Transition.from_cluster(np.array([0, 1, 0, 2, 0]), Adjacency.from_matrix(np.zeros((5, 5))))
    assert transition.pool.tolist() == [[0, 2, 4], [1, 1, 1], [3, 3, 3]]
    assert transition.unpool.tolist() == [0, 1, 0, 2, 0]
    third = np.float32(1 / 3)
    assert transition.mean_weights().tolist() == [[third] * 3, [1, 0, 0], [1, 0, 0]]


def test_levels_are_prepared_from_their_own_adjacency():
    adjacency = random_adjacency(np.random.default_rng(5), 30, 0.2)
    hierarchy = GraphHierarchy.build(adjacency, pool_levels=[1, 2], chebyshev_order=4)
    for level in hierarchy.levels:
        assert level.basis.dtype == np.float32
        assert level.adjacency.weight.dtype == np.float64
        np.testing.assert_allclose(level.basis, literal_basis(level.adjacency.dense(), 4), rtol=0, atol=1e-6)
    for transition in hierarchy.transitions:
        assert transition.pool.dtype == transition.unpool.dtype == np.int64


def test_no_matchings_repeat_the_graph():
    hierarchy = GraphHierarchy.build(symmetric(np.random.default_rng(2), 5, 0.5), pool_levels=[0])
    assert hierarchy.levels[1].adjacency is hierarchy.levels[0].adjacency
    assert hierarchy.levels[1].basis is hierarchy.levels[0].basis
    assert hierarchy.transitions[0].pool.tolist() == [[0], [1], [2], [3], [4]]


def test_one_sensor():
    hierarchy = GraphHierarchy.build([[1.0]], pool_levels=[2])
    assert hierarchy.levels[1].adjacency.dense().tolist() == [[0]]
    assert hierarchy.levels[0].basis.tolist() == [[[1]], [[1]]]
    assert hierarchy.transitions[0].pool.tolist() == [[0]]


def test_disconnected_parts_stay_apart():
    part = symmetric(np.random.default_rng(4), 6, 1.0)
    nothing = np.zeros((6, 6))
    hierarchy = GraphHierarchy.build(np.block([[part, nothing], [nothing, part]]), pool_levels=[3])
    cluster = hierarchy.transitions[0].unpool
    assert not set(cluster[:6]) & set(cluster[6:])
    assert not hierarchy.levels[0].basis[:, :6, 6:].any()


def test_order_one_stores_no_basis():
    hierarchy = GraphHierarchy.build(np.zeros((3, 3)), pool_levels=[1], chebyshev_order=1)
    assert hierarchy.levels[0].basis.shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool_levels": [1, -1]}, "pool_levels -1"),
        ({"pool_levels": [1], "chebyshev_order": 0}, "chebyshev_order 0"),
        ({"pool_levels": [1], "partition": "metis"}, "partition 'metis'"),
        ({"pool_levels": [1], "symmetrise": "min"}, "symmetrise 'min'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        GraphHierarchy.build(np.zeros((3, 3)), **settings)


def test_bad_adjacency_is_refused():
    with pytest.raises(DataError, match=r"adjacency\[1, 2\] is nan"):
        GraphHierarchy.build([[0, 1, 0], [1, 0, np.nan], [0, 0, 0]], pool_levels=[1])


@pytest.mark.parametrize(("pool_levels", "order"), [([], 3), ([2], 3), ([1, 0, 2], 1)])
def test_arrays_round_trip(pool_levels, order):
    adjacency = symmetric(np.random.default_rng(6), 20, 0.2)
    hierarchy = GraphHierarchy.build(adjacency, pool_levels=pool_levels, chebyshev_order=order)
    arrays = hierarchy.to_arrays()
    assert {"levels.0.adjacency", "levels.0.basis"} <= set(arrays)
    restored = GraphHierarchy.from_arrays(arrays).to_arrays()
    assert list(restored) == list(arrays)
    assert all(restored[name].tobytes() == arrays[name].tobytes() for name in arrays)
    assert all(restored[name].dtype == arrays[name].dtype for name in arrays)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("levels.1.basis", None),
        ("levels.7.basis", np.zeros((2, 3, 3))),
        ("levels.1.basis", np.zeros((1, 1, 1))),
        ("levels.0.basis", np.float32(1)),
        ("levels.0.adjacency", np.float64(1)),
        ("transitions.0.unpool", np.zeros(3, dtype=np.int64)),
        ("transitions.0.unpool", np.zeros(20, dtype=np.int64)),
        ("transitions.0.unpool", np.full(20, -1)),
        ("transitions.0.pool", np.zeros((1, 1), dtype=np.int64)),
        ("transitions.0.ranks", np.zeros(20, dtype=np.int64)),
        ("transitions.0.structure", np.zeros((20, 3), dtype=np.float32)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, value):
    arrays = GraphHierarchy.build(symmetric(np.random.default_rng(6), 20, 0.2), pool_levels=[2]).to_arrays()
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    with pytest.raises(CheckpointError):
        GraphHierarchy.from_arrays(arrays)
    with pytest.raises(CheckpointError, match="no arrays"):
        GraphHierarchy.from_arrays({})


PRINT_HASH = """
import hashlib, numpy as np
from stunet_deploy.graph.hierarchy import GraphHierarchy
rng = np.random.default_rng(0)
adjacency = np.round(rng.random((60, 60)), 1) * (rng.random((60, 60)) < 0.1)
for method in ("gpa", "pga"):
    arrays = GraphHierarchy.build(adjacency, pool_levels=[2, 1], partition=method).to_arrays()
    print(method, hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest())
"""


def test_same_bytes_in_every_process():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PRINT_HASH],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().count("\n") == 2


def test_same_bytes_from_any_memory_layout():
    adjacency = random_adjacency(np.random.default_rng(9), 40, 0.2)
    hashes = {
        hashlib.sha256(b"".join(array.tobytes() for array in hierarchy.to_arrays().values())).hexdigest()
        for layout in (adjacency, np.asfortranarray(adjacency), np.repeat(adjacency, 2, axis=1)[:, ::2])
        for hierarchy in [GraphHierarchy.build(layout, pool_levels=[2])]
    }
    assert len(hashes) == 1


def test_the_spectrum_of_a_complete_graph_is_found() -> None:
    """All its eigenvalues but one are n / (n − 1)."""
    complete = GraphHierarchy.build(np.ones((100, 100)) - np.eye(100), pool_levels=[1])

    np.testing.assert_allclose(complete.levels[0].basis[0], 2 * (np.eye(100) * 100 - 1) / 100 - np.eye(100), atol=1e-6)
