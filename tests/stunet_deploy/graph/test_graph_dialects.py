"""One graph, written as programs and people write it: read equal, or refused with the reason."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest

from stunet_deploy.data_files import read_data_file
from stunet_deploy.errors import DataError
from stunet_deploy.graph.edge_lists import edge_columns, value_column
from stunet_deploy.graph.files import read_graph
from stunet_deploy.graph.tables import is_graph_header

EDGES = "from,to,distance\n11,12,300.5\n12,13,420.5\n13,11,1800.0\n"
PLACES = "sensor_id,latitude,longitude\n11,52.5163,13.3777\n12,52.5186,13.3899\n13,52.5200,13.4050\n"
MATRIX = ",11,12,13\n11,0,0.5,0\n12,0.25,0,0\n13,0,0.75,0\n"
KINDS = {"edges": EDGES, "positions": PLACES, "matrix": MATRIX}


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("graph.csv", content)
    return buffer.getvalue()


WRITTEN = {
    "plain": str.encode,
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "lines of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "zip": lambda text: zipped(text.encode()),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "bars": lambda text: text.replace(",", "|").encode(),
    "decimal commas": lambda text: text.replace(",", ";").replace(".", ",").encode(),
    "blanks": lambda text: text.replace(",", " , ").encode(),
    "blank lines": lambda text: text.replace("\n", "\n\n").encode(),
    "quotes": lambda text: "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()
    ).encode(),
    "ids as numbers": lambda text: text.replace("11,", "11.0,").replace("12,", "12.0,").replace("13,", "13.0,")
    .replace("13\n", "13.0\n").replace("\n13.0,52", "\n13.0,52").encode(),
    "capitals": lambda text: text.upper().encode(),
}  # fmt: skip


@pytest.mark.parametrize("wanted", [None, ("13", "11", "12"), ("12",)])
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_is_the_same_however_it_is_written(tmp_path, kind, written, wanted):
    (tmp_path / "plain.csv").write_text(KINDS[kind])
    (tmp_path / "graph.csv").write_bytes(WRITTEN[written](KINDS[kind]))
    expected, found = (read_graph(tmp_path / name, wanted) for name in ("plain.csv", "graph.csv"))
    assert found.sensor_ids == expected.sensor_ids
    assert np.array_equal(found.adjacency.dense(), expected.adjacency.dense())
    assert found.made_from == expected.made_from


@pytest.mark.parametrize("written", [form for form in WRITTEN if form != "ids as numbers"])
@pytest.mark.parametrize("kind", ["edges", "positions"])
def test_a_graph_alone_is_recognised_however_it_is_written(tmp_path, kind, written):
    (tmp_path / "graph.csv").write_bytes(WRITTEN[written](KINDS[kind]))
    assert read_data_file(tmp_path / "graph.csv").kind == "graph"


@pytest.mark.parametrize(
    "header",
    [
        "From,To,Distance", "source,target,cost", "Source_ID,Target_ID,Length (m)", "src,dst,dist", "u,v,length",
        "node1,node2,dist", "sensor_a,sensor_b,metres", "from_station,to_station,distance_m",
        "origin_id,destination_id,cost",
        "start node,end node,distance", "FROM-NODE,TO-NODE,DIST", "i,j,distance", "from_node_id,to_node_id,length",
        "node_id1,node_id2,distance",
    ],
)  # fmt: skip
def test_names_of_an_edge_list(tmp_path, header):
    (tmp_path / "plain.csv").write_text(EDGES)
    (tmp_path / "graph.csv").write_text(EDGES.replace("from,to,distance", header))
    expected, found = (read_graph(tmp_path / name) for name in ("plain.csv", "graph.csv"))
    assert np.array_equal(found.adjacency.dense(), expected.adjacency.dense())


@pytest.mark.parametrize(
    "header", ["station,lat,lon", "Station ID,LAT,LNG", "id,Latitude,Longitude", "detector,lat,long", "node_id,lat,lon"]
)
def test_names_of_positions(tmp_path, header):
    (tmp_path / "plain.csv").write_text(PLACES)
    (tmp_path / "graph.csv").write_text(PLACES.replace("sensor_id,latitude,longitude", header))
    expected, found = (read_graph(tmp_path / name) for name in ("plain.csv", "graph.csv"))
    assert found.sensor_ids == expected.sensor_ids
    assert np.array_equal(found.adjacency.dense(), expected.adjacency.dense())


def test_a_recording_on_segments_is_no_graph():
    assert not is_graph_header(["timestamp", "segment_id", "start", "end", "length", "speed"])
    assert not is_graph_header(["timestamp", "sensor_id", "lat", "lon", "speed"])
    assert is_graph_header(["start", "end", "length"])


def test_names_that_say_nothing_are_none():
    assert edge_columns(["a", "b", "c"]) is None
    assert value_column(["from", "to", "colour"]) is None
    assert value_column(["from", "distance", "weight"]) == (2, False)


@pytest.mark.parametrize("name", ["", "index", "Unnamed: 0", "rel_id"])
def test_row_numbers_beside_an_edge_list(tmp_path, name):
    (tmp_path / "plain.csv").write_text(EDGES)
    header, *lines = EDGES.splitlines()
    numbered = [f"{name},{header}", *(f"{number},{line}" for number, line in enumerate(lines))]
    (tmp_path / "graph.csv").write_text("\n".join(numbered))
    expected, found = (read_graph(tmp_path / name) for name in ("plain.csv", "graph.csv"))
    assert np.array_equal(found.adjacency.dense(), expected.adjacency.dense())


@pytest.mark.parametrize(
    ("text", "sensor_ids"),
    [
        (",a,b,c,d\n0,0,1,0,0\n1,0,0,1,0\n2,0,0,0,1\n3,0.5,0,0,0\n", ("a", "b", "c", "d")),
        ("index,a,b,c,d\n1,0,1,0,0\n2,0,0,1,0\n3,0,0,0,1\n4,0.5,0,0,0\n", ("a", "b", "c", "d")),
        ("0,0,1,0,0\n1,0,0,1,0\n2,0,0,0,1\n3,0.5,0,0,0\n", None),
        (",0,1,2,3\n0,0,1,0,0\n1,0,0,1,0\n2,0,0,0,1\n3,0.5,0,0,0\n", ("0", "1", "2", "3")),
    ],
)
def test_row_numbers_beside_a_matrix(tmp_path, text, sensor_ids):
    (tmp_path / "graph.csv").write_text(text)
    expected = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.5, 0, 0, 0]]
    graph = read_graph(tmp_path / "graph.csv")
    assert graph.sensor_ids == sensor_ids
    assert graph.adjacency.dense().tolist() == expected
    if sensor_ids != ("a", "b", "c", "d"):  # numbers alone are no names
        graph = read_graph(tmp_path / "graph.csv", ("n", "e", "s", "w"))
        assert graph.adjacency.dense().tolist() == expected
        assert "taken to be in the recording's order" in graph.source


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (("400001.0", "400017.0"), ("400001", "400017")),
        (("400001", "400017"), ("400001.0", "400017.0")),
        (("north gate", "south gate"), ("north gate", "south gate")),
        (("007", "7"), ("007", "7")),
        (("7.0", "7"), ("7", "7.0")),
    ],
)
@pytest.mark.parametrize("kind", ["edges", "positions", "matrix", "npz"])
def test_ids_of_the_graph_and_of_the_recording(tmp_path, ids, wanted, kind):
    one, other = ids
    path = tmp_path / "graph"
    if kind == "npz":
        np.savez(tmp_path / "graph.npz", adjacency=[[0, 1.0], [0.5, 0]], sensor_ids=list(ids))
        path = tmp_path / "graph.npz"
    else:
        path.write_text(
            {
                "edges": f"from,to,weight\n{one},{other},1\n{other},{one},0.5\n",
                "positions": f"id,lat,lon\n{one},52.1,13.1\n{other},52.2,13.2\n",
                "matrix": f"{one},{other}\n0,1\n0.5,0\n",
            }[kind]
        )
    graph = read_graph(path, wanted)
    assert graph.sensor_ids == wanted
    if kind != "positions":
        forward = graph.adjacency.dense()[0, 1]
        assert forward == (0.5 if ids == wanted[::-1] else 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from;to;distance\na;b;1.200,5\n", "'1.200,5'; expected a finite number of at least 0"),
        ("from;to;distance\na;b;1.200\nb;c;300\n", "'1.200'"),  # thousands or a decimal point
        ("from;to;weight\na;b;-0,5\n", "'-0,5'"),
        ("from,to,weight\na,b,\n", "line 2, column 3: ''"),
        ("from,to,weight\na,b,nan\n", "'nan'; expected a finite number of at least 0"),
        ("from,to,distance\na,b,inf\n", "'inf'"),
        ("from,to,distance\n,b,3\n", "line 2: an edge from ''"),
        ("from,to,distance\na,b,3\nc,,3\n", "line 3: 3 from c to no sensor"),
        ("from,to,distance\na,,\nb,,\n", "2 sensors and no edge"),
        ("0,11,12,300.5\n1,12,13,420.5\n2,13,11,1800.0\n", "3 rows and 4 columns"),  # which is the value?
        ("# FromNodeId\tToNodeId\n0\t1\n1\t2\n", "add a column weight"),  # of the shape of a matrix
        ("from,to,distance,distance\na,b,300,1\n", "'distance' more than once"),
        ("lat,lon\n52.1,13.1\n52.2,13.2\n", "add a column sensor_id"),
        ("id,lat,lon\n", "a header and no positions"),
        ("a b 300\nb c 200\n", "2 rows and 1 columns"),
        ('{"nodes": 3}', "1 rows and 1 columns"),
        ("source,target\na,b\nc,d\ne,f\n", "add a column weight"),
        ("station,lat,lon\na,52.1,13\nb,,13\n", "line 3, column 2: ''"),
        ("station,lat,lon\na,52.1,13\nb,5820000,390000\n", "latitude 5.82e[+]06 of sensor b.*no metres"),
        ("station,lat,lon\na,52.1,13\nb,120.5,30.1\n", "latitude 120.5 of sensor b; .*; exchange latitude"),
        ("station,lat,lon\na,,\nb,0,0\nc,52,13\n", "2 of 3 sensors without a position"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    (tmp_path / "graph.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_graph(tmp_path / "graph.csv")


@pytest.mark.parametrize("kind", ["edges", "positions", "matrix", "npz", "pickle"])
def test_sensors_that_the_recording_lacks_are_told(tmp_path, kind):
    path = tmp_path / ("graph.npz" if kind == "npz" else "adj_mx.pkl" if kind == "pickle" else "graph.csv")
    ids, weights = ["11", "12", "13"], np.eye(3, k=1)
    if kind == "npz":
        np.savez(path, adjacency=weights, sensor_ids=ids)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps([ids, {sensor: place for place, sensor in enumerate(ids)}, weights]))
    else:
        path.write_text(KINDS[kind])
    assert "1 sensor(s) that the recording lacks left out" in read_graph(path, ("13", "11")).source


def test_names_of_sensors_are_no_names_of_columns(tmp_path):
    names = "abcdefghijklmnopqrstuvwxyz"  # u and v, or i and j, may be the ends of an edge
    rows = [",".join(row) for row in np.eye(26, k=1, dtype=int).astype(str)]
    (tmp_path / "graph.csv").write_text("\n".join([",".join(names), *rows]))
    assert read_graph(tmp_path / "graph.csv").sensor_ids == tuple(names)


@pytest.mark.parametrize("corner", ["", ","])
def test_a_small_matrix_of_numbered_sensors_is_no_edge_list(tmp_path, corner):
    names = ["sensor_1", "sensor_2", "sensor_3"]
    rows = ["0,0.5,0", "0.5,0,0.2", "0,0.2,0"]
    body = [f"{name},{row}" if corner else row for name, row in zip(names, rows, strict=True)]
    path = tmp_path / "graph.csv"
    path.write_text("\n".join([corner + ",".join(names), *body, ""]))
    graph = read_graph(path)
    assert graph.sensor_ids == tuple(names)
    assert np.count_nonzero(graph.adjacency.dense()) == 4


def test_a_text_of_very_many_edges_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("stunet_deploy.graph.cells.MOST_LINES", 4)
    path = tmp_path / "graph.csv"
    lines = ["from,to,weight", "a,b,1", "b,c,1", "c,a,1"]
    path.write_text("\n".join(lines))
    assert len(read_graph(path).adjacency.weight) == 3
    path.write_text("\n".join([*lines, "a,c,1"]))
    with pytest.raises(DataError, match=r"more than 4 lines of text.*npz"):
        read_graph(path)
