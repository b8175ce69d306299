import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.adjacency import STGCN_SIGMA_METRES, STGCN_THRESHOLD, kernel_adjacency
from stunet_deploy.errors import DataError
from stunet_deploy.graph_files import read_graph

DATA = Path(os.environ.get("STUNET_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
LAYOUTS = DATA / "layouts"
needs_data = pytest.mark.skipif(not LAYOUTS.is_dir(), reason="the public graph files are not at hand (STUNET_DATA)")

WEIGHTS = np.array([[1, 0.5, 0], [0.25, 1, 0], [0, 0.75, 1]], dtype=np.float32)
OFF_DIAGONAL = [[0, 0.5, 0], [0.25, 0, 0], [0, 0.75, 0]]
IDS = ["11", "12", "13"]


def write(folder, text, name="graph.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- matrices ---


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
    assert graph.adjacency.tolist() == [[0, 0.5], [0, 0]]
    assert graph.source == "adj_mx.pkl: weight matrix of 2 sensors"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_python_3_pickle_of_any_protocol_and_any_name(tmp_path, protocol):
    index = {sensor: position for position, sensor in enumerate(IDS)}
    content = pickle.dumps([IDS, index, WEIGHTS], protocol=protocol)
    graph = read_graph(write(tmp_path, content, "graph.bin"))
    assert graph.sensor_ids == tuple(IDS)
    assert graph.adjacency.tolist() == OFF_DIAGONAL


class RunsCommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class RunsEval(RunsCommand):
    def __reduce__(self):
        return eval, (self.command,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("payload", "name"), [(RunsCommand, r"(posix|nt)\.system"), (RunsEval, r"(builtins|__builtin__)\.eval")]
)
def test_pickle_that_runs_code_is_refused_unrun(tmp_path, protocol, payload, name):
    proof = tmp_path / "proof"
    command = f"touch {proof}" if payload is RunsCommand else f"open({str(proof)!r}, 'w').close()"
    content = pickle.dumps([IDS, {}, payload(command)], protocol=protocol)
    pickle.loads(content)
    assert proof.exists()  # the payload works where nothing stops it
    proof.unlink()
    with pytest.raises(DataError, match=name):
        read_graph(write(tmp_path, content, "adj_mx.pkl"))
    assert not proof.exists()


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


@pytest.mark.parametrize(
    ("text", "sensor_ids"),
    [
        ("1,0.5,0\n0.25,1,0\n0,0.75,1\n", None),
        ("\ufeff1, 0.5, 0\r\n0.25, 1, 0\r\n\r\n0, 0.75, 1\r\n", None),
        ("11,12,13\n1,0.5,0\n0.25,1,0\n0,0.75,1\n", ("11", "12", "13")),
        ("A,B,C\n1,0.5,0\n0.25,1,0\n0,0.75,1\n", ("A", "B", "C")),
        (",11,12,13\n11,1,0.5,0\n12,0.25,1,0\n13,0,0.75,1\n", ("11", "12", "13")),
    ],
)
def test_square_csv(tmp_path, text, sensor_ids):
    graph = read_graph(write(tmp_path, text))
    assert graph.sensor_ids == sensor_ids
    assert graph.adjacency.tolist() == OFF_DIAGONAL
    assert graph.latitude is None


@pytest.mark.parametrize("nodes", [1, 2, 4])
@pytest.mark.parametrize("layout", ["bare", "header", "header and index"])
def test_square_csv_of_any_size(tmp_path, nodes, layout):
    matrix = np.random.default_rng(nodes).random((nodes, nodes))
    np.fill_diagonal(matrix, 0)
    ids = [str(100 + index) for index in range(nodes)]
    rows = [[repr(float(value)) for value in row] for row in matrix]
    if layout != "bare":
        rows = [ids, *rows]
    if layout == "header and index":
        rows = [[head, *row] for head, row in zip(["", *ids], rows, strict=True)]
    graph = read_graph(write(tmp_path, "\n".join(",".join(row) for row in rows)))
    assert graph.sensor_ids == (None if layout == "bare" else tuple(ids))
    assert np.array_equal(graph.adjacency, matrix)


def test_matrix_of_metres_gets_the_stgcn_kernel(tmp_path):
    text = "0,1000,3000,9000\n1000,0,2000,8000\n3000,2000,0,6000\n9000,8000,6000,0\n"
    graph = read_graph(write(tmp_path, text))
    assert graph.adjacency[0, 1] == pytest.approx(np.exp(-0.01 / 0.1), rel=1e-12)
    assert graph.adjacency[0, 2] == 0
    assert "metres, STGCN kernel" in graph.source
    assert graph.source.endswith("; 1 without a neighbour")


def test_large_weights_with_a_diagonal_are_weights(tmp_path):
    graph = read_graph(write(tmp_path, "9,5\n4,9\n"))
    assert graph.adjacency.tolist() == [[0, 5], [4, 0]]
    assert "weight matrix" in graph.source


def test_npy(tmp_path):
    np.save(tmp_path / "graph.npy", WEIGHTS)
    graph = read_graph(tmp_path / "graph.npy")
    assert graph.adjacency.tolist() == OFF_DIAGONAL
    assert graph.adjacency.dtype == np.float64
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
    assert graph.adjacency.tolist() == [[0, 0], [0, 0]]


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


# --- edge lists ---


@pytest.mark.parametrize(
    "text",
    [
        "from,to,weight\n12,9,0.5\n9,100,2\n",
        "To,Weight,From,lane\n9,0.5,12,x\n100,2,9,y\n",
    ],
)
def test_edge_list_with_weights(tmp_path, text):
    graph = read_graph(write(tmp_path, text))
    assert graph.sensor_ids == ("9", "12", "100")  # numbers sort as numbers
    assert graph.adjacency.tolist() == [[0, 0, 2], [0.5, 0, 0], [0, 0, 0]]
    assert graph.source == "graph.csv: 2 edges between 3 sensors with weights"


@pytest.mark.parametrize("header", ["from,to,distance\n", "from,to,cost\n", ""])
def test_edge_list_with_distances_gets_the_dcrnn_kernel(tmp_path, header):
    graph = read_graph(write(tmp_path, f"{header}a,a,0\na,b,300\nb,c,100\n"))
    spread = np.std([0, 300, 100])
    expected = np.zeros((3, 3))
    expected[1, 2] = np.exp(-((100 / spread) ** 2))
    np.testing.assert_allclose(graph.adjacency, expected, rtol=1e-14)  # exp(-(300 / 125)^2) is below 0.1
    assert "distances, DCRNN kernel" in graph.source


def test_edge_list_with_a_header_is_not_judged_by_its_values(tmp_path):
    short = read_graph(write(tmp_path, "from,to,distance\na,b,0.5\nb,c,0.9\nc,d,0.1\n"))
    assert "DCRNN kernel" in short.source
    without = read_graph(write(tmp_path, "a,b,0.5\nb,c,0.9\nc,d,0.1\n"))
    assert "with weights" in without.source
    assert without.adjacency[1, 2] == 0.9


def test_order_of_lines_does_not_matter(tmp_path):
    rng = np.random.default_rng(3)
    lines = [f"{i},{j},{rng.integers(1, 900)}" for i in range(20) for j in rng.integers(0, 20, 4)]
    first = read_graph(write(tmp_path, "\n".join(lines)))
    rng.shuffle(lines)
    second = read_graph(write(tmp_path, "\n".join(lines)))
    assert first.sensor_ids == second.sensor_ids
    assert first.adjacency.tobytes() == second.adjacency.tobytes()


def test_edges_are_brought_into_the_order_of_the_series(tmp_path):
    path = write(tmp_path, "from,to,weight\na,b,0.5\nb,c,0.25\nc,d,1\n")
    graph = read_graph(path, ["c", "b", "a"])
    assert graph.sensor_ids == ("c", "b", "a")
    assert graph.adjacency.tolist() == [[0, 0, 0], [0.25, 0, 0], [0, 0.5, 0]]
    assert read_graph(path, ["d"]).adjacency.tolist() == [[0]]


def test_positions_stand_for_ids_when_no_id_matches(tmp_path):
    path = write(tmp_path, "from,to,cost\n0,1,300\n1,0,200\n1,3,100\n")
    graph = read_graph(path, ["n", "e", "w", "s"])
    assert graph.sensor_ids == ("n", "e", "w", "s")
    joined = {tuple(pair) for pair in np.argwhere(graph.adjacency).tolist()}
    assert (1, 3) in joined
    assert joined <= {(0, 1), (1, 0), (1, 3)}
    with pytest.raises(DataError, match="a network of 4 sensors; expected sensor ids, or positions up to 2"):
        read_graph(path, ["n", "e", "w"])
    with pytest.raises(DataError, match="a network of 4 sensors; expected sensor ids, or positions up to 4"):
        read_graph(path, ["n", "e", "w", "s", "x"])  # all positions exist, and yet it is another network's
    with pytest.raises(DataError, match="a network of 4 sensors"):
        read_graph(path, ["0", "1", "2"])  # so do sensors that are named by their position
    assert read_graph(path, ["0", "1", "2", "3"]).sensor_ids == ("0", "1", "2", "3")
    with pytest.raises(DataError, match=r"2 of 4 sensors are not in the graph \(2, 4\)"):
        read_graph(path, ["1", "2", "3", "4"])  # some ids match, so they are no positions


# --- coordinates ---


@pytest.mark.parametrize(
    "text",
    [
        "sensor_id,latitude,longitude\n11,34.15,-118.31\n12,34.11,-118.23\n13,34.12,-118.22\n",
        "index,sensor_id,latitude,longitude\n0,11,34.15,-118.31\n1,12,34.11,-118.23\n2,13,34.12,-118.22\n",
        ",ID,Fwy,Lat,Lng\n0,11,5,34.15,-118.31\n1,12,5,34.11,-118.23\n2,13,5,34.12,-118.22\n",
        "11,34.15,-118.31\n12,34.11,-118.23\n13,34.12,-118.22\n",
    ],
)
def test_coordinates(tmp_path, text):
    graph = read_graph(write(tmp_path, text))
    assert graph.sensor_ids == ("11", "12", "13")
    assert graph.latitude.tolist() == [34.15, 34.11, 34.12]
    assert graph.longitude.tolist() == [-118.31, -118.23, -118.22]
    assert graph.adjacency[1, 2] == graph.adjacency[2, 1] > 0.8
    assert "positions of 3 sensors" in graph.source


def test_only_sensors_of_the_series_are_neighbours(tmp_path):
    near = "".join(f"x{index},34.0,-118.000{index}\n" for index in range(9))
    path = write(tmp_path, f"sensor_id,latitude,longitude\n{near}far,34.5,-118.0\n")
    graph = read_graph(path, ["far", "x0"])
    assert graph.latitude.tolist() == [34.5, 34.0]
    assert graph.adjacency[0, 1] == pytest.approx(np.exp(-1), rel=1e-12)  # their distance is the only one


# --- what is refused ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "graph.csv is empty"),
        (" \n\n", "graph.csv is empty"),
        ("<!DOCTYPE html>\n<html>", "HTML"),
        (b"\x89HDF\r\n\x1a\n\xff", "binary file of unknown kind"),
        ("0,1,2\n1,0,2\n1,2\n", "line 3: 2 columns; expected 3, as line 1 has"),
        ("0,1\nx,0\n", "graph.csv, line 2, column 1: 'x'"),
        ("\n11,12\n0,1\n\n1,\n", "graph.csv, line 5, column 2: ''"),
        ("0,-1\n1,0\n", "line 1, column 2: '-1'; expected a finite number of at least 0"),
        ("0,nan\n1,0\n", "line 1, column 2: 'nan'"),
        ("0,inf\n1,0\n", "line 1, column 2: 'inf'"),
        ("from,to,weight\na,b,0.5\nb,c,-2\n", "line 3, column 3: '-2'"),
        ("from,to,weight\na,b,0.5\nb,c,much\n", "line 3, column 3: 'much'"),
        ("from,to,weight\n", "a header and no edges"),
        ("from,to,colour\na,b,red\n", "beginning with from,to,colour"),
        ("from,to\na,b\nb,c\nc,d\n", "beginning with from,to"),
        ("sensor_id,latitude,longitude\n1,34.1,-118\n1,34.2,-118\n", "sensor 1 twice"),
        ("sensor_id,latitude,longitude\n1,-118.2,34.1\n", "latitude -118.2 of sensor 0"),
        ("sensor_id,latitude,longitude\n1,34.1,\n", "line 2, column 3: ''; expected a finite number;"),
        (",a,b,c\na,0,1,1\nc,1,0,1\nb,1,1,0\n", "rows name other sensors"),
        ("60,61,62,63\n60,61,62,64\n", "2 rows and 4 columns"),
    ],
)
def test_bad_text(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_graph(write(tmp_path, text))


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
    assert read_graph(unnamed, ["a", "b"]).sensor_ids == ("a", "b")
    with pytest.raises(DataError, match="a matrix of 2 sensors; expected one of 3"):
        read_graph(unnamed, ["a", "b", "c"])


# --- the public files as their authors distribute them ---


@needs_data
def test_metr_la_in_all_its_layouts():
    with np.load(DATA / "metr-la.npz") as archive:
        ids = archive["sensor_ids"].tolist()
        expected = archive["adjacency"].astype(np.float64) * (1 - np.eye(207))
        latitude = archive["latitude"]
    pickled = read_graph(LAYOUTS / "adj_mx.pkl")
    assert pickled.sensor_ids == tuple(ids)
    assert np.array_equal(pickled.adjacency, expected)
    assert pickled.source == "adj_mx.pkl: weight matrix of 207 sensors; 1 without a neighbour"
    own = read_graph(DATA / "metr-la.npz", ids[::-1])
    assert np.array_equal(own.adjacency, expected[::-1, ::-1])
    bare = read_graph(LAYOUTS / "los_adj.csv", ids)
    np.testing.assert_allclose(bare.adjacency, np.maximum(expected, expected.T), atol=1e-9)
    located = read_graph(LAYOUTS / "graph_sensor_locations.csv", ids)
    np.testing.assert_allclose(located.latitude, latitude, atol=1e-9)
    assert (np.count_nonzero(located.adjacency, axis=1) >= 1).mean() > 0.99


@needs_data
def test_pems_bay_distances_give_the_published_adjacency():
    published = read_graph(LAYOUTS / "adj_mx_bay.pkl")
    made = read_graph(LAYOUTS / "distances_bay_2017.csv", published.sensor_ids)
    np.testing.assert_allclose(made.adjacency, published.adjacency, atol=2e-7)
    assert read_graph(LAYOUTS / "graph_sensor_locations_bay.csv", published.sensor_ids).latitude.shape == (325,)
    assert read_graph(DATA / "pems-bay-graph.npz").sensor_ids == published.sensor_ids


@needs_data
def test_pemsd7_distances_give_the_published_adjacency():
    with np.load(DATA / "pemsd7-m.npz") as archive:
        ids, published = archive["sensor_ids"].tolist(), archive["adjacency"]
        distances = archive["distances"].astype(np.float64)
    graph = read_graph(LAYOUTS / "PeMSD7_W_228.csv", ids)
    np.testing.assert_allclose(graph.adjacency, published, atol=1e-7)
    assert "distance matrix of 228 sensors in metres, STGCN kernel" in graph.source
    again = kernel_adjacency(distances, sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD)
    np.testing.assert_allclose(graph.adjacency, again, atol=1e-7)
    assert read_graph(LAYOUTS / "PeMSD7_M_Station_Info.csv", ids).sensor_ids == tuple(ids)


@needs_data
@pytest.mark.parametrize(("name", "nodes", "edges"), [("04", 307, 340), ("07", 883, 866), ("08", 170, 295)])
def test_pems_edge_lists_by_position(name, nodes, edges):
    path = LAYOUTS / f"PEMS{name}.csv"
    series = [f"s{index}" for index in range(nodes)]
    graph = read_graph(path, series)
    assert graph.source.startswith(f"PEMS{name}.csv: {edges} edges between {nodes} sensors with distances")
    assert graph.sensor_ids == tuple(series)
    assert np.array_equal(graph.adjacency, read_graph(path).adjacency)
    assert 0 < np.count_nonzero(graph.adjacency) <= edges


@needs_data
@pytest.mark.parametrize(("name", "nodes"), [("04", 307), ("07", 883), ("08", 170)])
@pytest.mark.parametrize("sensors", [169, 207, 228, 306, 325, 900])
def test_pems_edge_lists_are_refused_for_another_network(name, nodes, sensors):
    for ids in ([f"s{index}" for index in range(sensors)], [str(index) for index in range(sensors)]):
        with pytest.raises(DataError, match=f"PEMS{name}.csv: .*a network of {nodes} sensors"):
            read_graph(LAYOUTS / f"PEMS{name}.csv", ids)


@needs_data
def test_pems03_edge_list_by_id():
    ids = (LAYOUTS / "PEMS03.txt").read_text().split()
    graph = read_graph(LAYOUTS / "PEMS03.csv", ids)
    assert graph.sensor_ids == tuple(ids)
    source, target = ids.index("317842"), ids.index("318711")  # the first line of the file
    assert graph.adjacency[source, target] > 0
    assert graph.adjacency[target, source] == 0


@needs_data
@pytest.mark.parametrize("name", ["PeMSD7_V_228.csv", "los_speed.csv", "metr-la.h5", "PEMS03.txt", "biwi_eth.txt"])
def test_files_that_are_no_graph(name):
    with pytest.raises(DataError, match="expected adj_mx"):
        read_graph(LAYOUTS / name)
