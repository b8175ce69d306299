"""Graphs of sensors of which only the positions are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.errors import DataError
from stunet_deploy.graph.description import describe_graph, remark_on_graph
from stunet_deploy.graph.positions import adjacency_from_coordinates, graph_from_positions, haversine_metres


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
    with pytest.raises(DataError, match=r"roads: latitude -118 of sensor b; .*; exchange latitude and longitude there"):
        graph_from_positions(("a", "b"), np.array([34.0, -118.0]), np.array([-118.0, 34.0]), "roads")
    with pytest.raises(DataError, match=r"longitude nan of sensor a; expected both, or neither"):
        graph_from_positions(("a",), np.array([34.0]), np.array([np.nan]), "roads")
    with pytest.raises(DataError, match=r"longitude 200 of sensor b, and 1 more"):
        graph_from_positions(("a", "b", "c"), np.full(3, 34.0), np.array([10, 200.0, 200.0]), "roads")


def city(sensors, seed=0):
    """Positions in a city, [sensor] each, and ids."""
    rng = np.random.default_rng(seed)
    latitude, longitude = 56.15 + 0.05 * rng.standard_normal(sensors), 10.2 + 0.1 * rng.standard_normal(sensors)
    return tuple(f"s{index}" for index in range(sensors)), latitude, longitude


@given(
    place=st.sampled_from([(10.2, 56.15), (0.0, 10.2), (-56.15, 10.2), (56.15, -10.2), (5.615, 10.2)]),
    one=st.integers(0, 29),
)
def test_one_absurd_position_leaves_the_other_weights(place, one):
    ids, latitude, longitude = city(30)
    rest = np.delete(np.arange(30), one)
    expected = graph_from_positions(tuple(ids[index] for index in rest), latitude[rest], longitude[rest], "city")
    latitude[one], longitude[one] = place
    graph = graph_from_positions(ids, latitude, longitude, "city")
    # That one's edges are cut, and have no part in the scale; but others may have had an edge more in its stead.
    assert np.array_equal(graph.adjacency.dense()[np.ix_(rest, rest)], expected.adjacency.dense())
    (note,) = graph.notes
    assert note.startswith(f"far from all others: s{one} (sensor s{one} at latitude")
    assert ("look exchanged" in note) == (place == (10.2, 56.15))
    assert remark_on_graph(describe_graph(graph))[0] == note


def test_of_few_sensors_one_on_another_continent_is_named():
    graph = graph_from_positions(("a", "b", "c"), np.array([56.1, 56.12, 10.1]), np.array([10.1, 10.12, 56.1]), "roads")
    assert graph.notes[0].startswith("far from all others: c (sensor c at latitude 10.1, longitude 56.1, ")
    assert "look exchanged" in graph.notes[0]


def test_a_network_on_both_sides_of_180_degrees_is_whole():
    ids, latitude, longitude = city(20)
    graph = graph_from_positions(ids, latitude, (longitude - 10.2 + 360) % 360 - 180, "Fiji")
    assert graph.notes == ()
    expected = graph_from_positions(ids, latitude, longitude, "city")
    np.testing.assert_allclose(graph.adjacency.dense(), expected.adjacency.dense(), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_sensor_without_a_position_has_no_neighbour(value):
    ids, latitude, longitude = city(30)
    expected = graph_from_positions(ids[3:], latitude[3:], longitude[3:], "city")
    latitude[:3] = longitude[:3] = value
    graph = graph_from_positions(ids, latitude, longitude, "city")
    assert graph.adjacency.isolated[:3].all()
    assert np.array_equal(graph.adjacency.dense()[3:, 3:], expected.adjacency.dense())
    assert np.isnan(graph.latitude[:3]).all()
    assert np.isfinite(graph.latitude[3:]).all()
    assert graph.source == "city: positions of 27 sensors, each joined to its 8 nearest; 3 without a position"
    assert graph.notes[0].startswith("no position of s0, s1, s2 (empty, or 0, 0): without neighbours; fill it in")


def test_a_network_around_zero_may_have_a_sensor_there():
    graph = graph_from_positions(("a", "b", "c"), np.array([0.0, 0.01, -0.01]), np.array([0.0, 0.01, 0.0]), "sea")
    assert not graph.adjacency.isolated.any()
    assert graph.notes == ()
