import numpy as np
import pytest

from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.graph.adjacency import (
    STGCN_SIGMA_METRES,
    STGCN_THRESHOLD,
    Adjacency,
    adjacency_from_coordinates,
    adjacency_from_distances,
    adjacency_from_edges,
    checked_adjacency,
    haversine_metres,
    kernel_adjacency,
)


def test_symmetrise_by_maximum_or_mean_and_clear_the_diagonal():
    directed = Adjacency.from_matrix([[1.0, 0.25], [0.75, 1.0]])
    assert directed.symmetrised().dense().tolist() == [[0, 0.75], [0.75, 0]]
    assert directed.symmetrised("mean").dense().tolist() == [[0, 0.5], [0.5, 0]]
    with pytest.raises(ConfigError, match="symmetrise 'min'"):
        directed.symmetrised("min")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0, 1, 2], [1, 0, 2]], r"shape \[2, 3\]"),
        ([], r"shape \[0\]"),
        ([[0, 1], [-1, 0]], r"adjacency\[1, 0\] is -1"),
        ([[0, np.nan], [1, 0]], r"adjacency\[0, 1\] is nan"),
        ([[0, np.inf], [1, 0]], r"adjacency\[0, 1\] is inf"),
    ],
)
def test_bad_adjacency_is_refused_by_its_cell(matrix, message):
    with pytest.raises(DataError, match=message):
        checked_adjacency(matrix)


def test_input_matrix_is_left_as_it_was():
    matrix = np.eye(2)
    checked_adjacency(matrix)
    assert matrix.tolist() == [[1, 0], [0, 1]]


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
    nearest, sigma = adjacency_from_distances(["a", "b"], edges)
    assert sigma == pytest.approx(np.sqrt(2.5), rel=1e-14)
    np.testing.assert_allclose(nearest.dense(), [[0, np.exp(-4 / 2.5)], [np.exp(-1 / 2.5), 0]], rtol=1e-14)
    with pytest.raises(DataError, match="sensor 'c'"):
        adjacency_from_edges(["a", "b"], [("a", "c", 1.0)])


def test_haversine_of_known_distances():
    # A degree of latitude is a 360th of the circumference; one of longitude at 60 degrees north half of that.
    metres = haversine_metres(np.array([0.0, 1.0, 60.0, 60.0]), np.array([0.0, 0.0, 10.0, 11.0]))
    degree = 2 * np.pi * 6_371_008.8 / 360
    assert metres[0, 1] == pytest.approx(degree, rel=1e-12)
    assert metres[2, 3] == pytest.approx(degree / 2, rel=1e-4)
    assert metres[0, 0] == 0


def test_coordinates_join_nearest_neighbours_in_either_direction():
    # On a meridian, 1, 2 and 4 apart: the mean square of the three nearest distances is 7.
    adjacency = adjacency_from_coordinates(np.array([0.0, 0.001, 0.003, 0.007]), np.zeros(4), neighbours=1).dense()
    expected = np.zeros((4, 4))
    expected[[0, 1, 2], [1, 2, 3]] = np.exp([-1 / 7, -4 / 7, -16 / 7])
    np.testing.assert_allclose(adjacency, expected + expected.T, rtol=1e-6)
    assert np.array_equal(adjacency, adjacency.T)


def test_coordinates_of_one_sensor_and_of_sensors_at_one_place():
    assert adjacency_from_coordinates(np.array([34.0]), np.array([-118.0])).dense().tolist() == [[0]]
    together = adjacency_from_coordinates(np.full(3, 34.0), np.full(3, -118.0)).dense()
    assert together.tolist() == (np.ones((3, 3)) - np.eye(3)).tolist()


def test_coordinates_off_the_earth_are_refused():
    with pytest.raises(DataError, match=r"latitude -118.0 of sensor 1"):
        adjacency_from_coordinates(np.array([34.0, -118.0]), np.array([-118.0, 34.0]))
    with pytest.raises(DataError, match=r"longitude nan of sensor 0"):
        adjacency_from_coordinates(np.array([34.0]), np.array([np.nan]))
