"""Graphs as pickles and arrays, and how they are fitted to the sensors of a recording."""

import io
import pickle

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.graph.files import read_graph

WEIGHTS = np.array([[1, 0.5, 0], [0.25, 1, 0], [0, 0.75, 1]], dtype=np.float32)
OFF_DIAGONAL = [[0, 0.5, 0], [0.25, 0, 0], [0, 0.75, 0]]
IDS = ["11", "12", "13"]


def write(folder, text, name="graph.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def python_2_pickle():
    """[ids, index, 2 x 2 matrix] as Python 2 writes it with protocol 0; bytes above 127 need latin1."""
    raw = "".join(f"\\x{byte:02x}" for byte in np.array([[1, 0.5], [0, 1]], dtype="<f4").tobytes())
    return (
        "(lp0\n(lp1\nS'11'\np2\naS'12'\np3\naa(dp4\ng3\nI1\nsg2\nI0\nsa"
        "cnumpy.core.multiarray\n_reconstruct\np5\n(cnumpy\nndarray\np6\n(I0\ntp7\nS'b'\np8\ntp9\nRp10\n"
        "(I1\n(I2\nI2\ntp11\ncnumpy\ndtype\np12\n(S'f4'\np13\nI0\nI1\ntp14\nRp15\n(I3\nS'<'\np16\nNNNI-1\nI-1\nI0\n"
        f"tp17\nbI00\nS'{raw}'\np18\ntp19\nba."
    ).encode("ascii")


def test_python_2_pickle(tmp_path):
    graph = read_graph(write(tmp_path, python_2_pickle(), "adj_mx.pkl"))
    assert graph.sensor_ids == ("11", "12")
    assert graph.adjacency.dense().tolist() == [[0, 0.5], [0, 0]]
    assert graph.source == "adj_mx.pkl: weight matrix of 2 sensors"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_python_3_pickle_of_any_protocol_and_any_name(tmp_path, protocol):
    index = {sensor: position for position, sensor in enumerate(IDS)}
    content = pickle.dumps([IDS, index, WEIGHTS], protocol=protocol)
    graph = read_graph(write(tmp_path, content, "graph.bin"))
    assert graph.sensor_ids == tuple(IDS)
    assert graph.adjacency.dense().tolist() == OFF_DIAGONAL


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_pickle(tmp_path, share):
    content = python_2_pickle()
    with pytest.raises(DataError, match=r"adj_mx.pkl.*undamaged pickle"):
        read_graph(write(tmp_path, content[: int(share * len(content))], "adj_mx.pkl"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"adjacency": WEIGHTS}, "a pickle of dict"),
        ([IDS, WEIGHTS], "a pickle of list"),
        ([IDS, {"11": 1, "12": 0, "13": 2}, WEIGHTS], "index disagrees"),
        ([IDS[:2], {"11": 0, "12": 1}, WEIGHTS], "2 sensor ids for a matrix of 3"),
        ([IDS, {"11": 0, "12": 1, "13": 2}, np.array([["a"]], dtype=object)], "matrix of object"),
    ],
)
def test_pickle_of_something_else(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_graph(write(tmp_path, pickle.dumps(content), "adj_mx.pkl"))


def test_npy(tmp_path):
    np.save(tmp_path / "graph.npy", WEIGHTS)
    graph = read_graph(tmp_path / "graph.npy")
    assert graph.adjacency.dense().tolist() == OFF_DIAGONAL
    assert graph.adjacency.dense().dtype == np.float64
    assert graph.sensor_ids is None


def test_npz_with_coordinates(tmp_path):
    latitude = np.array([34.0, 34.1, 34.2])
    np.savez(
        tmp_path / "g.npz",
        adjacency=WEIGHTS,
        sensor_ids=IDS,
        latitude=latitude,
        longitude=-latitude,
        x=latitude,
    )
    graph = read_graph(tmp_path / "g.npz", ["13", "11"])
    assert graph.sensor_ids == ("13", "11")
    assert graph.latitude.tolist() == [34.2, 34.0]
    assert graph.longitude.tolist() == [-34.2, -34.0]
    assert graph.adjacency.dense().tolist() == [[0, 0], [0, 0]]


def npy_bytes(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy_bytes(WEIGHTS)[:-5], "undamaged .npy"),
        (npy_bytes(np.array([[{}]], dtype=object), allow_pickle=True), "undamaged .npy of numbers"),
        (npy_bytes(WEIGHTS[:2]), r"shape \[2, 3\]"),
        (npy_bytes(np.array([["a"]])), "a matrix of <U1"),
        (npy_bytes(np.array([[0, -1.0], [1, 0]])), r"graph\[0, 1\] is -1"),
        (npy_bytes(np.array([[0, np.nan], [1, 0]])), r"graph\[0, 1\] is nan"),
        (npz_bytes(adjacency=WEIGHTS, sensor_ids=IDS)[:-40], "undamaged .npz"),
        (npz_bytes(adjacency=np.array([[{}]], dtype=object), sensor_ids=IDS), "undamaged .npz of numbers"),
        (npz_bytes(speed=WEIGHTS), "with speed; expected arrays adjacency and sensor_ids"),
        (npz_bytes(adjacency=WEIGHTS, sensor_ids=IDS[:2]), "2 sensor ids for a matrix of 3"),
        (npz_bytes(adjacency=WEIGHTS, sensor_ids=["1", "2", "1"]), "sensor 1 twice"),
        (npz_bytes(adjacency=WEIGHTS, sensor_ids=IDS, latitude=[1.0]), r"latitude of shape \[1\]"),
    ],
)
def test_bad_array_files(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_graph(write(tmp_path, content, "graph"))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_graph(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="expected adj_mx"):
        read_graph(tmp_path)


def test_sensors_that_do_not_fit_the_series(tmp_path):
    named = write(tmp_path, "a,b,c\n0,1,1\n1,0,1\n1,1,0\n", "named.csv")
    with pytest.raises(DataError, match=r"6 of 7 sensors are not in the graph \(n, o, p, q, r, \.\.\.\)"):
        read_graph(named, ["a", *"nopqrs"])
    with pytest.raises(DataError, match="the series: sensor a twice"):
        read_graph(named, ["a", "b", "a"])
    unnamed = write(tmp_path, "0,1\n1,0\n", "unnamed.csv")
    graph = read_graph(unnamed, ["a", "b"])
    assert graph.sensor_ids == ("a", "b")
    assert graph.source == "unnamed.csv: weight matrix of 2 sensors, taken to be in the recording's order"
    with pytest.raises(DataError, match="a matrix of 2 sensors; expected one of 3"):
        read_graph(unnamed, ["a", "b", "c"])
