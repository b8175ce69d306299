"""The network of the size of PeMSD7(L): connected, with the typical weekday that its stations have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from benchmarks.paper.stations import NOISE_MPH, STATIONS, connected, network, weekdays
from training.protocols import choose_protocol


def test_the_nodes_around_the_middle_of_the_largest_part_are_taken() -> None:
    chain, pair = np.eye(7, k=1), np.eye(2, k=1)
    weights = np.block([[pair + pair.T, np.zeros((2, 7))], [np.zeros((7, 2)), chain + chain.T]])
    places = np.concatenate([np.zeros((2, 2)), np.stack([np.arange(7.0), np.ones(7)], axis=1)])

    assert connected(weights, places, 3).tolist() == [4, 5, 6]
    assert connected(weights, places, 100).tolist() == [2, 3, 4, 5, 6, 7, 8]


def test_weekdays_repeat_the_hourly_medians_with_seeded_noise() -> None:
    hourly = (60 + 10 * np.cos(2 * np.pi * np.arange(24) / 24))[:, None] + np.array([[0, 5]])

    series = weekdays(hourly.astype(np.float32), ("a", "b"), 20, seed=1)

    again, other = (weekdays(hourly.astype(np.float32), ("a", "b"), 20, seed) for seed in (1, 2))
    by_slot = series.values.reshape(20, 288, 2)
    assert np.array_equal(series.values, again.values)
    assert not np.array_equal(series.values, other.values)
    assert by_slot[:, 6::12].mean(axis=0) == pytest.approx(hourly, abs=3.5 * NOISE_MPH / 20**0.5)
    assert (by_slot - by_slot.mean(axis=0)).std() == pytest.approx(NOISE_MPH, rel=0.15)
    assert len(series.segments()) == 5  # twenty weekdays from a Tuesday on: four weekends between them
    assert len(choose_protocol(series).train) == 16 * 265


def test_the_real_network_is_connected(shared_data: Path) -> None:
    series, graph = network(shared_data / "pems-typical-weekday.npz", days=3)

    parts, _ = connected_components(graph.adjacency.dense())
    assert (len(graph.adjacency), parts, graph.adjacency.directed) == (STATIONS, 1, False)
    assert series.sensor_ids == graph.sensor_ids
    assert len(set(series.sensor_ids)) == STATIONS
    assert 3 < series.values.mean() < 80
