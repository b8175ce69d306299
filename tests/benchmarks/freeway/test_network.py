"""The invented freeway network: geometry, reachability and adjacency."""

from pathlib import Path

import numpy as np
import pytest

import stunet_deploy
from benchmarks.freeway.network import STEP_S, crossing_freeways


@pytest.fixture(scope="module")
def network():
    return crossing_freeways()


def test_sensors_come_first_and_are_unique(network):
    names = [link.name for link in network.sensors]
    assert names == [link.name for link in network.links[: len(names)]]
    assert len(set(names)) == len(names)
    assert 60 <= len(names) <= 100


def test_links_are_whole_steps_long(network):
    for link in network.sensors:
        steps = link.length / (link.speed * STEP_S)
        assert steps == pytest.approx(round(steps), abs=1e-9)


def test_a_network_without_cycles(network):
    """A queue on a cycle could lock itself; so no sensor may be reached from one downstream of it."""
    distances = network.distances()
    both = np.isfinite(distances) & np.isfinite(distances.T)
    assert np.array_equal(both, np.eye(len(distances), dtype=bool))


def test_distance_between_neighbours_is_half_of_each_link(network):
    sensors = network.sensors
    distances = network.distances()
    for i, j in network.road_edges():
        assert sensors[i].end == sensors[j].start
        assert distances[i, j] == pytest.approx((sensors[i].length + sensors[j].length) / 2)


def test_roads_branch_at_the_crossing(network):
    names = [link.name for link in network.sensors]
    downstream = {name: [] for name in names}
    for i, j in network.road_edges():
        downstream[names[i]].append(names[j])
    assert sum(len(ways) == 3 for ways in downstream.values()) == 4
    assert downstream["AE-BN"] == [downstream["AW-BN"][0]]


def test_every_trip_has_somewhere_to_go(network):
    reachable = network.reachable()
    assert reachable.shape == (len(network.origins), len(network.destinations))
    assert reachable.any(axis=1).all()
    assert reachable.any(axis=0).all()
    start = next(i for i, place in enumerate(network.origins) if place.node == "AE start")
    ends = [place.node for place, there in zip(network.destinations, reachable[start], strict=True) if there]
    assert "AE end" in ends
    assert not any(node.startswith("AW exit-") for node in ends)


def test_the_adjacency_is_that_of_the_shipped_data(network):
    shipped = Path(stunet_deploy.__file__).with_name("data") / "freeway.npz"
    with np.load(shipped) as arrays:
        np.testing.assert_array_equal(network.adjacency(), arrays["adjacency"])
