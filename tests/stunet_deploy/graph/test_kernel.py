"""Weights from distances, of matrices and of lists."""

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.graph.adjacency import adjacency_from_edges
from stunet_deploy.graph.kernel import (
    STGCN_SIGMA_METRES,
    STGCN_THRESHOLD,
    adjacency_from_distances,
    are_neighbours,
    kernel_adjacency,
    usual,
)


def test_dcrnn_kernel_scales_by_the_spread_of_listed_distances():
    # Listed: 0, 0, 3, 1. Mean 1, variance (1 + 1 + 4 + 0) / 4 = 1.5.
    distances = np.array([[0, 3, np.inf], [1, 0, np.inf], [np.inf, np.inf, np.inf]])
    weights = kernel_adjacency(distances)
    np.testing.assert_allclose(weights, [[0, 0, 0], [np.exp(-1 / 1.5), 0, 0], [0, 0, 0]], rtol=1e-14)
    kept = kernel_adjacency(distances, threshold=0.001)
    assert kept[0, 1] == pytest.approx(np.exp(-9 / 1.5), rel=1e-14)


def test_stgcn_kernel_in_units_of_ten_kilometres():
    distances = np.array([[0, 2000.0, 2800.0], [2000.0, 0, 9000.0], [2800.0, 9000.0, 0]])
    weights = kernel_adjacency(distances, sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD)
    assert weights[0, 1] == pytest.approx(np.exp(-(0.2**2) / 0.1), rel=1e-12)
    assert weights[0, 2] == 0  # exp(-0.784) = 0.457
    assert weights[1, 2] == 0
    assert np.array_equal(weights, weights.T)


@pytest.mark.parametrize("gaps", [(500.0, 500.0), (500.0, 510.0)])
def test_equally_spaced_sensors_keep_their_edges(gaps):
    distances = np.full((3, 3), np.inf)
    distances[0, 1], distances[1, 2] = gaps
    weights = kernel_adjacency(distances)
    assert weights[0, 1] == pytest.approx(np.exp(-1), rel=0.05)
    assert weights[1, 2] == pytest.approx(np.exp(-1), rel=0.05)


def test_sensors_at_one_place_are_joined_fully():
    assert kernel_adjacency(np.zeros((2, 2))).tolist() == [[0, 1], [1, 0]]
    assert not kernel_adjacency(np.full((2, 2), np.inf)).any()


@pytest.mark.parametrize(("value", "message"), [(-1.0, "is -1"), (np.nan, "is nan")])
def test_bad_distance_is_refused_by_its_cell(value, message):
    with pytest.raises(DataError, match=rf"distances\[0, 1\] {message}"):
        kernel_adjacency(np.array([[0, value], [1, 0]]))


def test_repeated_edges_count_by_the_nearest():
    edges = [("a", "b", 2.0), ("b", "a", 1.0), ("a", "b", 3.0)]
    assert adjacency_from_edges(["a", "b", "c"], edges).dense().tolist() == [[0, 3, 0], [1, 0, 0], [0, 0, 0]]
    # The shortest are 2 and 1: their spread would cut both, their mean square is 2.5.
    nearest, scale = adjacency_from_distances(["a", "b"], edges, neighbours=False)
    assert scale == (pytest.approx(np.sqrt(2.5), rel=1e-14), "root mean square")
    np.testing.assert_allclose(nearest.dense(), [[0, np.exp(-4 / 2.5)], [np.exp(-1 / 2.5), 0]], rtol=1e-14)
    with pytest.raises(DataError, match="sensor 'c'"):
        adjacency_from_edges(["a", "b"], [("a", "c", 1.0)])


@pytest.mark.parametrize(
    ("distances", "usual_ones"),
    [
        ([], 0),
        ([999_999.0], 1),  # of few distances none is known to be the usual
        ([300.0, 999_999.0], 2),
        ([300.0, 400.0, 350.0, 999_999.0], 3),
        ([300.0, 400.0, 350.0, 1_900.0], 4),
        ([300.0, 400.0, 350.0, 360.0, 340.0, 370.0, 999_999.0, 999_999.0], 6),
        ([300.0, 400.0, 350.0, 360.0, 1_900.0, 2_000.0, 2_100.0], 7),  # two kinds of roads
        ([0.0, 0.0, 0.0, 300.0, 400.0, 999_999.0], 6),
        ([5.0, 300.0, 400.0, 350.0], 4),  # far below the others is near
    ],
)
def test_distances_far_above_the_others(distances, usual_ones):
    assert np.count_nonzero(usual(np.array(distances))) == usual_ones


def test_a_matrix_with_an_absurd_distance_keeps_its_other_weights():
    distances = np.abs(np.subtract.outer(np.arange(9.0) ** 2, np.arange(9.0) ** 2))
    absurd = distances.copy()
    absurd[2, 5] = np.inf
    without = kernel_adjacency(absurd)
    absurd[2, 5] = 999_999
    assert np.array_equal(kernel_adjacency(absurd), without)


@pytest.mark.parametrize(
    ("sensors", "each", "neighbours"),
    [(2, 1, True), (5, 4, True), (6, 5, False), (12, 11, False), (30, 2, True), (30, 8, True), (60, 20, False)],
)
def test_a_list_of_neighbours_is_told_from_one_of_pairs(sensors, each, neighbours):
    ring = [(str(one), str((one + step) % sensors), 1.0) for one in range(sensors) for step in range(each // 2 + 1)]
    if each == sensors - 1:
        ring = [(str(one), str(other), 1.0) for one in range(sensors) for other in range(sensors)]
    assert are_neighbours(ring) is neighbours
