"""Public layouts whose files are too large to keep: PEMS03 to 08 and LargeST, written here as their authors do."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series
from stunet_deploy.series.times import parse_time

h5py = pytest.importorskip("h5py")

ZONE = "America/Los_Angeles"
ROWS, SENSORS = 30, 5
IDS = ("1108148", "717087", "400001")


def write_pems(folder: Path, name: str, features: int, sensors: int = SENSORS) -> Path:
    """``data`` [T, N, features] float64, and nothing else."""
    data = np.random.default_rng(4).integers(0, 300, (ROWS, sensors, features)).astype(np.float64)
    np.savez_compressed(folder / name, data=data)
    return folder / name


def write_fixed(path: Path, values: np.ndarray, start: str, minutes: int = 15, key: str = "t") -> Path:
    """What pandas 1 and 2 write with ``to_hdf(path, key=key)``: nanoseconds, ids as bytes."""
    with h5py.File(path, "w") as file:
        group = file.create_group(key)
        for axis in ("axis0", "block0_items"):
            group[axis] = np.array([sensor.encode() for sensor in IDS])
            group[axis].attrs["kind"] = np.bytes_("string")
        group["axis1"] = (parse_time(start) + 60 * minutes * np.arange(len(values))) * 10**9
        group["axis1"].attrs["kind"] = np.bytes_("datetime64")
        group["block0_values"] = values
    return path


def write_table(path: Path, values: np.ndarray, start: str, minutes: int = 15, zone: bool = False) -> Path:
    """What pandas 3 writes with ``format="table"``: microseconds, ids pickled in an attribute."""
    rows = np.empty(len(values), [("index", "<i8"), ("values_block_0", "<f8", (len(IDS),))])
    rows["index"] = (parse_time(start) + 60 * minutes * np.arange(len(values))) * 10**6
    rows["values_block_0"] = values
    with h5py.File(path, "w") as file:
        table = file.create_dataset("t/table", data=rows)
        table.attrs["index_kind"] = np.bytes_("datetime64[us]")
        table.attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(list(IDS), protocol=0))
        file["t"].attrs["info"] = np.bytes_(b"(dp0\nI1\n(dp1\nVtz\np2\nVUTC\np3\nss." if zone else b"(dp0\n.")
        file["t"].create_group("_i_table/index")
    return path


# --- PEMS03, 04, 07, 08 ---


@pytest.mark.parametrize(
    ("name", "features", "start"),
    [
        ("PEMS03.npz", 1, "2018-09-01T00:00"),
        ("pems04.npz", 3, "2018-01-01T00:00"),
        ("PEMS07.npz", 1, "2017-05-01T00:00"),
        ("PeMSD8.npz", 3, "2016-07-01T00:00"),
    ],
)
def test_pems_npz_starts_on_the_day_of_its_paper(tmp_path: Path, name: str, features: int, start: str) -> None:
    path = write_pems(tmp_path, name, features)

    series = read_series(path, timezone=ZONE)

    with np.load(path) as archive:
        np.testing.assert_array_equal(series.values, archive["data"].astype(np.float32))
    assert series.observed.all()  # a flow of 0 is a reading
    assert series.features == ("flow", "occupancy", "speed")[:features]
    assert series.units == ("veh/5 min", "", "mph")[:features]
    assert (series.sensor_ids, series.interval_s) == (("0", "1", "2", "3", "4"), 300)
    assert series.timestamps[0] == parse_time(start, ZONE)
    assert f"assumed every 5 min from {start[:10]}" in series.source
    assert read_series(path).timestamps[0] == parse_time(start)


def test_pemsd7_is_not_taken_for_pems07(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which holds no times"):
        read_series(write_pems(tmp_path, "PeMSD7_228.npz", 1))


def test_pems_graph_by_position_fits_its_recording(tmp_path: Path) -> None:
    series = read_series(write_pems(tmp_path, "PEMS08.npz", 3))
    (tmp_path / "PEMS08.csv").write_bytes(b"from,to,cost\r\n0,1,310.6\r\n1,4,330.9\r\n3,2,250.0\r\n")

    graph = read_graph(tmp_path / "PEMS08.csv", series.sensor_ids)

    assert graph.sensor_ids == series.sensor_ids
    assert graph.distances == (250.0, 330.9)
    assert set(zip(*np.nonzero(graph.adjacency.dense()), strict=True)) <= {(0, 1), (1, 4), (3, 2)}


def test_pems03_takes_its_ids_from_the_list_beside_it(tmp_path: Path) -> None:
    path = write_pems(tmp_path, "PEMS03.npz", 1, sensors=3)
    (tmp_path / "PEMS03.csv").write_bytes(b"from,to,distance\r\r\n317842,318711,0.872\r\r\n318711,313344,1.3\r\r\n")
    with pytest.raises(DataError, match=r"such as 313344, .* knows its sensors by position.*PEMS03\.txt"):
        read_graph(tmp_path / "PEMS03.csv", read_series(path).sensor_ids)
    (tmp_path / "PEMS03.txt").write_text("313344\n317842\n318711\n")

    series = read_series(path)

    assert series.sensor_ids == ("313344", "317842", "318711")
    assert "sensor ids of PEMS03.txt" in series.source
    graph = read_graph(tmp_path / "PEMS03.csv", series.sensor_ids)
    assert graph.adjacency.dense()[1, 2] > 0
    assert graph.adjacency.dense()[2, 1] == 0


def test_pems03_crosses_the_end_of_summer_time(tmp_path: Path) -> None:
    rows = 91 * 288
    np.savez(tmp_path / "PEMS03.npz", data=np.ones((rows, 1, 1)))

    series = read_series(tmp_path / "PEMS03.npz", timezone=ZONE)

    assert len(series.timestamps) == rows + 12  # 2018-11-04 had 25 hours, of which the file holds 24
    assert int((~series.observed).sum()) == 12


# --- LargeST ---


@pytest.mark.parametrize("write", [write_fixed, write_table])
@pytest.mark.parametrize("name", ["sd_his_2019.h5", "anything.h5"])
def test_largest_flows(tmp_path: Path, write, name: str) -> None:
    values = np.array([[12.0, 0, 30], [13, 21, 31], [14, 22, 0]])

    series = read_series(write(tmp_path / name, values, "2019-01-01"), timezone=ZONE)

    assert (series.sensor_ids, series.features, series.units) == (IDS, ("flow",), ("veh/5 min",))
    assert (series.interval_s, series.timestamps[0]) == (900, parse_time("2019-01-01", ZONE))
    np.testing.assert_array_equal(series.observed[..., 0], values != 0)
    np.testing.assert_array_equal(series.values[..., 0], values)


def test_a_zero_in_the_raw_largest_files_is_a_reading(tmp_path: Path) -> None:
    values = np.array([[12.0, 0, np.nan], [13, 21, 31]])

    series = read_series(write_fixed(tmp_path / "ca_his_raw_2019.h5", values, "2019-01-01", minutes=5))

    np.testing.assert_array_equal(series.observed[..., 0], [[True, True, False], [True, True, True]])


def test_a_table_whose_times_have_a_zone_is_read_as_utc(tmp_path: Path) -> None:
    path = write_table(tmp_path / "own.h5", np.ones((3, 3)), "2019-01-01T08:00", zone=True)

    assert read_series(path, timezone=ZONE).timestamps[0] == parse_time("2019-01-01T08:00Z")


def test_the_hour_that_largest_fills_with_zeros_is_left_out(tmp_path: Path) -> None:
    values = np.full((20, 3), 7.0)
    values[8:12] = 0  # 2019-03-10T02:00 to 02:45, which no clock in California showed
    path = write_fixed(tmp_path / "ca_his_2019.h5", values, "2019-03-10")

    series = read_series(path, timezone=ZONE)

    assert len(series.timestamps) == 16
    assert series.observed.all()
    values[8:12] = 7
    with pytest.raises(DataError, match="the clock of America/Los_Angeles changes here"):
        read_series(write_fixed(path, values, "2019-03-10"), timezone=ZONE)


def test_the_metadata_of_largest_bring_its_matrix_into_order(tmp_path: Path) -> None:
    weights = np.array([[1, 0.5, 0], [0.25, 1, 0], [0, 0.75, 1]])
    np.save(tmp_path / "sd_rn_adj.npy", weights)
    series = read_series(write_fixed(tmp_path / "sd_his_2019.h5", np.ones((3, 3)), "2019-01-01"))
    alone = read_graph(tmp_path / "sd_rn_adj.npy", series.sensor_ids)
    assert alone.adjacency.dense().tolist() == [[0, 0.5, 0], [0.25, 0, 0], [0, 0.75, 0]]
    header = "ID,Lat,Lng,District,County,Fwy,Lanes,Type,Direction,ID2"
    places = ["400001,32.7,-117.1", "717087,32.8,-117.2", "1108148,32.9,-117.3"]
    rows = [f'{place},11,"San Diego",I5,4,Mainline,N,{row}' for row, place in enumerate(places)]
    (tmp_path / "sd_meta.csv").write_text("\n".join([header, *rows, ""]))

    graph = read_graph(tmp_path / "sd_rn_adj.npy", series.sensor_ids)

    assert graph.sensor_ids == IDS
    assert graph.adjacency.dense().tolist() == [[0, 0.75, 0], [0, 0, 0.25], [0, 0.5, 0]]
    assert graph.latitude is not None
    assert graph.latitude.tolist() == [32.9, 32.8, 32.7]
    assert read_graph(tmp_path / "sd_meta.csv", series.sensor_ids).made_from == "positions"


# --- the others ---


def test_pems_bay_has_its_frame_under_another_key(tmp_path: Path) -> None:
    path = write_fixed(tmp_path / "pems-bay.h5", np.full((3, 3), 61.0), "2017-01-01", minutes=5, key="speed")

    series = read_series(path)

    assert (series.features, series.units, series.interval_s) == (("speed",), ("mph",), 300)


def test_pemsd7_large_is_told_by_its_name(tmp_path: Path) -> None:
    rows = np.full((288, 1026), 60.0)
    np.savetxt(tmp_path / "PeMSD7_V_1026.csv", rows, delimiter=",", fmt="%.1f")
    places = np.random.default_rng(2).uniform(0, 40_000, 1026)
    distances = np.abs(np.subtract.outer(places, places))
    np.savetxt(tmp_path / "PeMSD7_W_1026.csv", distances, delimiter=",", fmt="%.3f")

    series = read_series(tmp_path / "PeMSD7_V_1026.csv", timezone=ZONE)
    graph = read_graph(tmp_path / "PeMSD7_W_1026.csv", series.sensor_ids)

    assert series.values.shape == (288, 1026, 1)
    assert (graph.made_from, graph.unit) == ("distances", "m")
    joined = graph.adjacency.dense() > 0
    reach = 10_000 * np.sqrt(0.1 * np.log(2))  # exp(-d²/σ²) = 0.5
    assert distances[joined].max() < reach < distances[~joined & (distances > 0)].min()
