"""Graphs as text tables: square matrices, edge lists and coordinates."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stunet_deploy.errors import DataError
from stunet_deploy.graph.description import describe_graph, remark_on_graph
from stunet_deploy.graph.files import read_graph
from stunet_deploy.graph.kernel import kernel_adjacency, usual
from stunet_deploy.graph.sensor_graph import EdgeCut

OFF_DIAGONAL = [[0, 0.5, 0], [0.25, 0, 0], [0, 0.75, 0]]


def write(folder, text, name="graph.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- square matrices ---


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
    assert graph.adjacency.dense().tolist() == OFF_DIAGONAL
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
    assert np.array_equal(graph.adjacency.dense(), matrix)


def test_matrix_of_metres_gets_the_stgcn_kernel(tmp_path):
    text = "0,1000,3000,9000\n1000,0,2000,8000\n3000,2000,0,6000\n9000,8000,6000,0\n"
    graph = read_graph(write(tmp_path, text))
    assert graph.adjacency.dense()[0, 1] == pytest.approx(np.exp(-0.01 / 0.1), rel=1e-12)
    assert graph.adjacency.dense()[0, 2] == 0
    assert "metres, STGCN kernel" in graph.source
    assert graph.source.endswith("; 1 without a neighbour")


def test_large_weights_with_a_diagonal_are_weights(tmp_path):
    graph = read_graph(write(tmp_path, "9,5\n4,9\n"))
    assert graph.adjacency.dense().tolist() == [[0, 5], [4, 0]]
    assert "weight matrix" in graph.source


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
    assert graph.adjacency.dense().tolist() == [[0, 0, 2], [0.5, 0, 0], [0, 0, 0]]
    assert graph.source == "graph.csv: 2 edges between 3 sensors with weights"


@pytest.mark.parametrize("header", ["from,to,distance\n", "from,to,cost\n", ""])
def test_every_listed_neighbour_stays(tmp_path, header):
    graph = read_graph(write(tmp_path, f"{header}a,a,0\na,b,300\nb,c,100\nd,,\n" if header else "a,b,300\nb,c,100\n"))
    spread = np.std([0, 300, 100] if header else [300, 100])
    near = np.exp(-((100 / spread) ** 2))
    assert graph.adjacency.dense()[:3, :3].tolist() == [[0, 0.1, 0], [0, 0, near], [0, 0, 0]]  # exp(-9) is below 0.1
    assert "distances, DCRNN kernel, 1 at its least weight 0.1" in graph.source
    assert graph.cut == EdgeCut(2, 2, 1, 0, spread, "standard deviation")


@pytest.mark.parametrize("line", ["R0,R0,0", "R0,,", "R0,,0", "R0,nan,"])
@pytest.mark.parametrize("value", ["weight", "distance"])
def test_a_sensor_without_a_neighbour_in_an_edge_list(tmp_path, line, value):
    lines = f"from,to,{value}\na,b,0.5\nb,c,0.25\n"
    graph, without = (read_graph(write(tmp_path, text)) for text in (lines + line + "\n", lines))
    assert graph.sensor_ids == ("R0", "a", "b", "c")
    assert np.array_equal(graph.adjacency.dense()[1:, 1:], without.adjacency.dense())
    assert graph.adjacency.isolated.tolist() == [True, False, False, False]
    assert describe_graph(graph)["isolated"] == ["R0"]


def pairs_on_a_road(sensors, reach):
    """Lines of all pairs up to some distance, of sensors in a row at growing distances."""
    places = np.cumsum(np.linspace(100, 900, sensors))
    return [
        f"s{one},s{other},{abs(places[one] - places[other]):.1f}"
        for one in range(sensors)
        for other in range(sensors)
        if abs(places[one] - places[other]) <= reach
    ]


@pytest.mark.parametrize(("sensors", "reach"), [(6, 1e9), (12, 1e9), (60, 8000)])
@pytest.mark.parametrize("one_way", [False, True])
def test_a_list_of_pairs_is_cut_where_the_kernel_ends(tmp_path, sensors, reach, one_way):
    lines = pairs_on_a_road(sensors, reach)
    if one_way:
        lines = [line for line in lines if int(line.split(",")[0][1:]) <= int(line.split(",")[1][1:])]
    graph = read_graph(write(tmp_path, "from,to,distance\n" + "\n".join(lines)))
    distances = np.full((sensors, sensors), np.inf)
    place = {sensor: index for index, sensor in enumerate(graph.sensor_ids)}
    for start, end, distance in (line.split(",") for line in lines):
        distances[place[start], place[end]] = float(distance)
    assert np.array_equal(graph.adjacency.dense(), kernel_adjacency(distances))
    assert graph.cut.kept < graph.cut.listed
    if graph.cut.kept < 2 / 3 * graph.cut.listed:
        assert (
            "the standard deviation of the distances) and were dropped; list neighbours alone"
            in (remark_on_graph(describe_graph(graph))[0])
        )


@given(
    lengths=st.lists(st.floats(10, 20_000), min_size=4, max_size=60),
    absurd=st.sampled_from([999_999.0, 1e12, 12_345_678.9]),
    place=st.integers(0, 60),
)
def test_one_absurd_distance_leaves_the_other_weights(tmp_path_factory, lengths, absurd, place):
    assume(usual(np.array(lengths)).all())
    lines = [f"s{index},s{index + 1},{length!r}" for index, length in enumerate(lengths)]
    folder = tmp_path_factory.mktemp("roads")
    whole = read_graph(write(folder, "\n".join(["from,to,distance", *lines])))
    lines.insert(min(place, len(lines)), f"s0,far,{absurd!r}")
    graph = read_graph(write(folder, "\n".join(["from,to,distance", *lines])))
    others = [index for index, sensor in enumerate(graph.sensor_ids) if sensor != "far"]
    assert np.array_equal(graph.adjacency.dense()[np.ix_(others, others)], whole.adjacency.dense())
    assert graph.adjacency.dense().max(axis=0)[graph.sensor_ids.index("far")] == 0.1
    assert len(graph.adjacency.weight) == len(lines)
    assert any("far above all others (from s0 to far:" in remark for remark in remark_on_graph(describe_graph(graph)))


def test_weights_that_are_alike_are_remarked(tmp_path):
    path = write(tmp_path, "from,to,distance\na,b,300\nb,c,400\nc,d,999999\n")  # of three none is the usual
    assert remark_on_graph(describe_graph(read_graph(path))) == [
        "weights are nearly alike (median 1, up to 1), though distances are 300 to 999999: check the unit, and the "
        "longest distances"
    ]
    matrix = 0.2 * np.abs(np.subtract.outer(np.arange(9.0), np.arange(9.0)))
    matrix[0, 3] = matrix[5, 2] = 999_999  # kilometres
    np.save(tmp_path / "graph.npy", matrix * 5)
    with pytest.raises(DataError, match="distances up to 8, a network of 8 m"):
        read_graph(tmp_path / "graph.npy")


@pytest.mark.parametrize("share", [0.3, 0.45])
def test_a_matrix_with_zeros_for_pairs_that_are_not_joined_is_refused(tmp_path, share):
    rng = np.random.default_rng(0)
    matrix = rng.uniform(500, 9000, (40, 40)) * (rng.random((40, 40)) > share) * (1 - np.eye(40))
    np.save(tmp_path / "graph.npy", matrix)
    with pytest.raises(DataError, match="which between two sensors are 0; expected 0 m only where"):
        read_graph(tmp_path / "graph.npy")


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("from,to,weight\na,b,0.5\na,b,0.5\n", None),
        ("from,to,weight\na,b,0.5\na,b,0.75\n", "from a to b: 0.5 and 0.75): the largest counts"),
        ("from,to,distance\na,b,400\nb,a,300\na,b,300\n", "from a to b: 400 and 300): the shortest counts"),
    ],
)
def test_edges_listed_again(tmp_path, text, remark):
    graph = read_graph(write(tmp_path, text))
    assert [remark in note for note in graph.notes] == ([] if remark is None else [True])


def test_edge_list_with_a_header_is_not_judged_by_its_values(tmp_path):
    short = read_graph(write(tmp_path, "from,to,distance\na,b,0.5\nb,c,0.9\nc,d,0.1\n"))
    assert "DCRNN kernel" in short.source
    without = read_graph(write(tmp_path, "a,b,0.5\nb,c,0.9\nc,d,0.1\n"))
    assert "with weights" in without.source
    assert without.adjacency.dense()[1, 2] == 0.9


def test_order_of_lines_does_not_matter(tmp_path):
    rng = np.random.default_rng(3)
    lines = [f"{i},{j},{rng.integers(1, 900)}" for i in range(20) for j in rng.integers(0, 20, 4)]
    first = read_graph(write(tmp_path, "\n".join(lines)))
    rng.shuffle(lines)
    second = read_graph(write(tmp_path, "\n".join(lines)))
    assert first.sensor_ids == second.sensor_ids
    assert first.adjacency.dense().tobytes() == second.adjacency.dense().tobytes()


def test_edges_are_brought_into_the_order_of_the_series(tmp_path):
    path = write(tmp_path, "from,to,weight\na,b,0.5\nb,c,0.25\nc,d,1\n")
    graph = read_graph(path, ["c", "b", "a"])
    assert graph.sensor_ids == ("c", "b", "a")
    assert graph.adjacency.dense().tolist() == [[0, 0, 0], [0.25, 0, 0], [0, 0.5, 0]]
    assert read_graph(path, ["d"]).adjacency.dense().tolist() == [[0]]
    assert "1 sensor(s) that the recording lacks left out" in graph.source
    assert "left out" not in read_graph(path, ["d", "c", "b", "a"]).source


def test_positions_stand_for_ids_when_no_id_matches(tmp_path):
    path = write(tmp_path, "from,to,cost\n0,1,300\n1,0,200\n1,3,100\n")
    graph = read_graph(path, ["n", "e", "w", "s"])
    assert graph.sensor_ids == ("n", "e", "w", "s")
    joined = {tuple(pair) for pair in np.argwhere(graph.adjacency.dense()).tolist()}
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
    assert graph.adjacency.dense()[1, 2] == graph.adjacency.dense()[2, 1] > 0.8
    assert "positions of 3 sensors" in graph.source


def test_a_list_of_places_is_in_the_order_of_a_recording_without_ids(tmp_path):
    path = write(tmp_path, ",ID,Latitude,Longitude\n0,716939,34.1,-118.1\n1,759700,34.2,-118.2\n")
    graph = read_graph(path, ["0", "1"])
    assert graph.sensor_ids == ("0", "1")
    assert graph.latitude.tolist() == [34.1, 34.2]
    with pytest.raises(DataError, match="3 of 3 sensors are not in the graph"):
        read_graph(path, ["0", "1", "2"])


def test_only_sensors_of_the_series_are_neighbours(tmp_path):
    near = "".join(f"x{index},34.0,-118.000{index}\n" for index in range(9))
    path = write(tmp_path, f"sensor_id,latitude,longitude\n{near}far,34.5,-118.0\n")
    graph = read_graph(path, ["far", "x0"])
    assert graph.latitude.tolist() == [34.5, 34.0]
    assert graph.adjacency.dense()[0, 1] == pytest.approx(np.exp(-1), rel=1e-12)  # their distance is the only one


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
        ("sensor_id,latitude,longitude\n1,-118.2,34.1\n", "latitude -118.2 of sensor 1"),
        ("sensor_id,latitude,longitude\n1,34.1,\n", "line 2, column 3: ''; expected a finite number;"),
        (",a,b,c\na,0,1,1\nc,1,0,1\nb,1,1,0\n", "rows name other sensors"),
        ("60,61,62,63\n60,61,62,64\n", "2 rows and 4 columns"),
    ],
)
def test_bad_text(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_graph(write(tmp_path, text))
