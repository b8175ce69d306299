"""What is said of recordings and graphs, against counts by hand and another library."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.graph.description import components, describe_graph, explain_graph, remark_on_graph
from stunet_deploy.graph.sensor_graph import SensorGraph
from stunet_deploy.series.description import describe_series, explain_series, mean_day
from stunet_deploy.series.remarks import remark_on_series
from stunet_deploy.series.series import Series
from stunet_deploy.site import Site

MONDAY = 1_330_905_600  # 2012-03-05T00:00Z


def make_series(values: np.ndarray, observed: np.ndarray, timestamps: np.ndarray, **changes: object) -> Series:
    facts: dict[str, object] = {
        "sensor_ids": tuple("abcdefgh"[: values.shape[1]]),
        "features": ("speed",),
        "units": ("km/h",),
        "interval_s": 3600,
    }
    site = Site(**(facts | changes))  # type: ignore[arg-type]
    return Series(np.where(observed, values, 0).astype(np.float32), observed, timestamps, site)


def hourly(days: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    hours = np.arange(24 * days)
    return np.broadcast_to((hours % 24)[:, None, None], (len(hours), nodes, 1)), MONDAY + 3600 * hours


def test_the_mean_day_is_that_of_the_local_clock_and_of_observed_readings() -> None:
    values, times = hourly(3, 2)
    observed = np.ones(values.shape, bool)
    observed[5] = False  # on one day nobody knows
    observed[:, 1] &= (np.arange(72) % 24 != 7)[:, None]
    spoilt = np.where(observed, values, 1000)

    day = mean_day(make_series(spoilt, observed, times), 0, 24)
    assert day.tolist() == list(range(24))
    berlin = mean_day(make_series(spoilt, observed, times, timezone="Europe/Berlin"), 0, 24)
    assert berlin.tolist() == np.roll(np.arange(24), 1).tolist()
    silent = mean_day(make_series(values, np.zeros(values.shape, bool), times), 0, 24)
    assert np.isnan(silent).all()


def test_a_gap_ends_where_the_recording_breaks() -> None:
    values, times = hourly(4, 2)
    kept = np.r_[0:24, 48:96]  # a day is not in the recording at all
    observed = np.ones((72, 2, 1), bool)
    observed[18:30, 0] = False  # six hours on either side of the break
    observed[40:48, 1] = False

    found = describe_series(make_series(values[kept], observed, times[kept]))

    assert found["breaks"] == 1
    assert found["longest_gap"] == {
        "sensor": "b",
        "first": "2012-03-07T16:00:00Z",
        "last": "2012-03-07T23:00:00Z",
        "intervals": 8,
    }
    assert found["missing"] == pytest.approx(20 / 144)


def test_nothing_missing_and_nothing_read_are_said_so() -> None:
    values, times = hourly(1, 2)
    whole = describe_series(make_series(values + 40, np.ones(values.shape, bool), times, timezone="Europe/Berlin"))
    assert whole["longest_gap"] is None
    assert "missing    none of all readings" in explain_series(whole)
    assert [remark.text for remark in remark_on_series(whole)] == [
        "1.0 days: from 14 days on, days of the week can be told apart"
    ]

    two = np.concatenate([values, values], axis=2)
    observed = np.ones(two.shape, bool)
    observed[..., 1] = False
    half = describe_series(make_series(two, observed, times, features=("speed", "flow"), units=("km/h", "")))
    assert half["features"][1]["median"] is None
    assert any("flow (unit not in the file): not one reading" in line for line in explain_series(half))
    assert any("flow has no reading" in remark.text for remark in remark_on_series(half))


@pytest.mark.parametrize("seed", range(6))
def test_components_are_those_of_networkx(seed: int) -> None:
    rng = np.random.default_rng(seed)
    joined = rng.random((40, 40)) < 0.02 * (seed + 1) / 2

    parts = components(Adjacency.from_matrix(joined))

    expected = networkx.weakly_connected_components(networkx.from_numpy_array(joined, create_using=networkx.DiGraph))
    assert {frozenset(np.flatnonzero(parts == part).tolist()) for part in set(parts.tolist())} == set(
        map(frozenset, expected)
    )


def test_a_graph_without_edges_and_one_that_joins_everything() -> None:
    empty = describe_graph(SensorGraph(Adjacency.from_matrix(np.zeros((3, 3))), None, None, None, "graph.npy"))
    assert (empty["edges"], empty["components"], empty["weights"], empty["isolated"]) == (0, 3, None, ["0", "1", "2"])
    assert any("no ids" in line for line in explain_graph(empty))

    full = describe_graph(
        SensorGraph(Adjacency.from_matrix(np.ones((30, 30)) - np.eye(30)), None, None, None, "graph.npy")
    )
    assert (full["share_joined"], full["directed"], full["components"]) == (1, False, 1)
    assert remark_on_graph(full) == [
        "100 % of all pairs are joined: check the unit of the distances, or leave out pairs that are not near"
    ]
