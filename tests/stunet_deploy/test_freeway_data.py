"""The data set that ships with the package: layout, plausible values, honest labels."""

import json
from importlib.resources import files

import numpy as np
import pytest

PATH = files("stunet_deploy") / "data" / "freeway.npz"


@pytest.fixture(scope="module")
def data():
    with PATH.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def speed(data):
    values = data["values"][..., 0] * data["scale"][0]
    return np.where(data["observed"][..., 0], values, np.nan)


def test_it_is_small():
    assert len(PATH.read_bytes()) <= 3_000_000


def test_keys_shapes_and_types(data):
    intervals, sensors, features = data["values"].shape
    assert (intervals, features) == (28 * 288, 2)
    assert 60 <= sensors <= 100
    expected = {
        "values": ("int16", (intervals, sensors, 2)),
        "scale": ("float64", (2,)),
        "observed": ("bool", (intervals, sensors, 2)),
        "timestamps": ("int64", (intervals,)),
        "sensor_ids": ("str", (sensors,)),
        "features": ("str", (2,)),
        "units": ("str", (2,)),
        "timezone": ("str", ()),
        "interval_s": ("int64", ()),
        "latitude": ("float64", (sensors,)),
        "longitude": ("float64", (sensors,)),
        "adjacency": ("float32", (sensors, sensors)),
        "road_edges": ("int32", (len(data["road_edges"]), 2)),
        "incidents": ("int64", (len(data["incidents"]), 4)),
        "meta": ("str", ()),
    }
    found = {
        name: ("str" if array.dtype.kind == "U" else array.dtype.name, array.shape) for name, array in data.items()
    }
    assert found == expected
    assert data["features"].tolist() == ["speed", "flow"]
    assert data["units"].tolist() == ["km/h", "veh/h"]
    assert len(set(data["sensor_ids"].tolist())) == sensors


def test_time_starts_on_a_monday_and_never_jumps(data):
    assert np.datetime64(int(data["timestamps"][0]), "s") == np.datetime64("2025-03-03T00:00:00")
    assert (np.diff(data["timestamps"]) == data["interval_s"]).all()


def test_nothing_leaks_under_the_mask(data):
    assert (data["values"][~data["observed"]] == 0).all()
    lost = 1 - data["observed"].mean(axis=(0, 1))
    assert ((lost > 0.01) & (lost < 0.1)).all()


def test_speeds_and_flows_are_plausible(data, speed):
    assert np.nanmin(speed) >= 1.0
    assert np.nanmax(speed) < 180.0
    flow = data["values"][..., 1] * data["scale"][1]
    assert flow.min() == 0
    assert 4000 < flow.max() < 7500


def test_rush_hours_are_congested_and_nights_are_free(speed):
    hour = np.arange(len(speed)) % 288 / 12
    weekday = np.arange(len(speed)) // 288 % 7 < 5
    slow = speed < 60.0
    evening = slow[weekday & (hour >= 16) & (hour < 18.5)].mean()
    night = slow[(hour < 5)].mean()
    assert 0.05 < evening < 0.35
    assert night < 0.01


def test_the_graph_is_directed_and_connects_all(data):
    adjacency = data["adjacency"]
    assert (np.diag(adjacency) == 0).all()
    assert not np.array_equal(adjacency, adjacency.T)
    assert ((adjacency > 0).any(axis=0) | (adjacency > 0).any(axis=1)).all()
    assert adjacency.max() <= 1.0
    upstream, downstream = data["road_edges"].T
    assert (adjacency[upstream, downstream] > 0).all()


def test_incidents_lie_in_the_series(data):
    start, end, sensor, capacity = data["incidents"].T
    assert len(start) > 8
    assert (start >= data["timestamps"][0]).all()
    assert (end <= data["timestamps"][-1]).all()
    assert ((end - start >= 20 * 60) & (end - start <= 60 * 60)).all()
    assert ((sensor >= 0) & (sensor < data["values"].shape[1])).all()
    assert ((capacity > 0) & (capacity < 100)).all()


def test_it_says_that_it_is_simulated(data):
    meta = json.loads(str(data["meta"]))
    assert "SIMULATED" in meta["title"]
    assert meta["simulator"].startswith("UXsim")
    assert meta["licence"] == "Apache-2.0"
