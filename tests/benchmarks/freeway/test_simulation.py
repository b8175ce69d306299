"""The simulated data set, from two hours of the same network the shipped file is made with."""

import builtins
import json

import numpy as np
import pytest

from benchmarks.freeway.__main__ import START, pack, write
from benchmarks.freeway.detectors import INTERVAL
from benchmarks.freeway.network import crossing_freeways
from benchmarks.freeway.simulation import simulate_day
from stunet_deploy.errors import ConfigError

UNTIL = 2 * 3600


@pytest.fixture(scope="module")
def network():
    return crossing_freeways()


@pytest.fixture(scope="module")
def day(network):
    pytest.importorskip("uxsim", reason="makes the data set; comes with extra [simulate]")
    return simulate_day(network, 0, seed=3, until=UNTIL)


def test_night_traffic_flows_freely(network, day):
    free = np.array([3.6 * link.speed for link in network.sensors])
    assert day.speed.shape == day.vehicles.shape == (UNTIL // INTERVAL, len(network.sensors))
    np.testing.assert_array_equal(np.isnan(day.speed), day.vehicles == 0)
    assert np.nanmax(day.speed / free) <= 1.0 + 1e-9
    assert np.nanmedian(day.speed / free) > 0.98
    assert day.vehicles.sum() > 0


def test_equal_seeds_give_equal_traffic(network, day):
    again = simulate_day(network, 0, seed=3, until=UNTIL)
    np.testing.assert_array_equal(day.speed, again.speed)
    np.testing.assert_array_equal(day.vehicles, again.vehicles)
    other = simulate_day(network, 0, seed=4, until=UNTIL)
    assert not np.array_equal(day.vehicles, other.vehicles)


def test_the_file_has_the_declared_layout(network, day, tmp_path):
    arrays = pack(network, [day], seed=3)
    write(arrays, tmp_path / "small.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]
    with np.load(tmp_path / "small.npz", allow_pickle=False) as data:
        assert set(data.files) == set(arrays)
        assert data["values"].shape == data["observed"].shape == (UNTIL // INTERVAL, len(network.sensors), 2)
        assert data["timestamps"][0] == START
        assert (np.diff(data["timestamps"]) == INTERVAL).all()
        assert json.loads(str(data["meta"]))["seed"] == 3


def test_equal_arrays_give_equal_bytes(network, day, tmp_path):
    for name in ("one.npz", "two.npz"):
        write(pack(network, [day], seed=3), tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_without_the_simulator_the_error_names_the_extra(network, monkeypatch):
    real_import = builtins.__import__

    def without_uxsim(name, *args, **kwargs):
        if name == "uxsim":
            raise ModuleNotFoundError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_uxsim)
    with pytest.raises(ConfigError, match=r"stunet-deploy\[simulate\]"):
        simulate_day(network, 0, seed=0, until=INTERVAL)
