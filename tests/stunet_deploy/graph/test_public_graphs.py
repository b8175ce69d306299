"""The public graph files as their authors distribute them."""

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.graph.kernel import STGCN_SIGMA_METRES, STGCN_THRESHOLD, kernel_adjacency
from tests.paths import DATA

LAYOUTS = DATA / "layouts"
needs_data = pytest.mark.skipif(not LAYOUTS.is_dir(), reason="the public graph files are not at hand (STUNET_DATA)")


@needs_data
def test_metr_la_in_all_its_layouts():
    with np.load(DATA / "metr-la.npz") as archive:
        ids = archive["sensor_ids"].tolist()
        expected = archive["adjacency"].astype(np.float64) * (1 - np.eye(207))
        latitude = archive["latitude"]
    pickled = read_graph(LAYOUTS / "adj_mx.pkl")
    assert pickled.sensor_ids == tuple(ids)
    assert np.array_equal(pickled.adjacency.dense(), expected)
    assert pickled.source == "adj_mx.pkl: weight matrix of 207 sensors; 1 without a neighbour"
    own = read_graph(DATA / "metr-la.npz", ids[::-1])
    assert np.array_equal(own.adjacency.dense(), expected[::-1, ::-1])
    bare = read_graph(LAYOUTS / "los_adj.csv", ids)
    np.testing.assert_allclose(bare.adjacency.dense(), np.maximum(expected, expected.T), atol=1e-9)
    located = read_graph(LAYOUTS / "graph_sensor_locations.csv", ids)
    np.testing.assert_allclose(located.latitude, latitude, atol=1e-9)
    assert (np.count_nonzero(located.adjacency.dense(), axis=1) >= 1).mean() > 0.99


@needs_data
def test_pems_bay_distances_give_the_published_adjacency():
    published = read_graph(LAYOUTS / "adj_mx_bay.pkl")
    made = read_graph(LAYOUTS / "distances_bay_2017.csv", published.sensor_ids)
    np.testing.assert_allclose(made.adjacency.dense(), published.adjacency.dense(), atol=2e-7)
    assert read_graph(LAYOUTS / "graph_sensor_locations_bay.csv", published.sensor_ids).latitude.shape == (325,)
    assert read_graph(DATA / "pems-bay-graph.npz").sensor_ids == published.sensor_ids


@needs_data
def test_pemsd7_distances_give_the_published_adjacency():
    with np.load(DATA / "pemsd7-m.npz") as archive:
        ids, published = archive["sensor_ids"].tolist(), archive["adjacency"]
        distances = archive["distances"].astype(np.float64)
    graph = read_graph(LAYOUTS / "PeMSD7_W_228.csv", ids)
    np.testing.assert_allclose(graph.adjacency.dense(), published, atol=1e-7)
    assert "distance matrix of 228 sensors in metres, STGCN kernel" in graph.source
    again = kernel_adjacency(distances, sigma=STGCN_SIGMA_METRES, threshold=STGCN_THRESHOLD)
    np.testing.assert_allclose(graph.adjacency.dense(), again, atol=1e-7)
    assert read_graph(LAYOUTS / "PeMSD7_M_Station_Info.csv", ids).sensor_ids == tuple(ids)


@needs_data
@pytest.mark.parametrize(("name", "nodes", "edges"), [("04", 307, 340), ("07", 883, 866), ("08", 170, 295)])
def test_pems_edge_lists_by_position(name, nodes, edges):
    path = LAYOUTS / f"PEMS{name}.csv"
    series = [f"s{index}" for index in range(nodes)]
    graph = read_graph(path, series)
    kept = np.count_nonzero(graph.adjacency.dense())
    assert graph.source.startswith(f"PEMS{name}.csv: {edges} edges listed, {kept} kept, between {nodes} sensors with")
    assert graph.sensor_ids == tuple(series)
    assert np.array_equal(graph.adjacency.dense(), read_graph(path).adjacency.dense())
    assert kept == graph.cut.listed  # neighbours all
    assert not graph.adjacency.isolated.any()


@needs_data
@pytest.mark.parametrize(("name", "nodes"), [("04", 307), ("07", 883), ("08", 170)])
@pytest.mark.parametrize("sensors", [169, 207, 228, 306, 325, 900])
def test_pems_edge_lists_are_refused_for_another_network(name, nodes, sensors):
    for ids in ([f"s{index}" for index in range(sensors)], [str(index) for index in range(sensors)]):
        with pytest.raises(DataError, match=f"PEMS{name}.csv: .*a network of {nodes} sensors"):
            read_graph(LAYOUTS / f"PEMS{name}.csv", ids)


@needs_data
def test_neighbours_of_aarhus_stay_and_the_near_ones_have_dcrnns_weights():
    graph = read_graph(DATA / "aarhus-graph.csv")
    assert (graph.cut.listed, graph.cut.kept, graph.cut.raised) == (1208, 1208, 379)
    assert not graph.adjacency.isolated.any()
    distances = np.full((449, 449), np.inf)
    place = {sensor: index for index, sensor in enumerate(graph.sensor_ids)}
    for line in (DATA / "aarhus-graph.csv").read_text().split()[1:]:
        start, end, distance = line.split(",")
        distances[place[start], place[end]] = float(distance)
    published = kernel_adjacency(distances)
    weights = graph.adjacency.dense()
    assert np.array_equal(weights[published > 0], published[published > 0])
    assert (weights[np.isfinite(distances) & (published == 0)] == 0.1).all()


@needs_data
def test_pems03_edge_list_by_id():
    ids = (LAYOUTS / "PEMS03.txt").read_text().split()
    graph = read_graph(LAYOUTS / "PEMS03.csv", ids)
    assert graph.sensor_ids == tuple(ids)
    source, target = ids.index("317842"), ids.index("318711")  # the first line of the file
    assert graph.adjacency.dense()[source, target] > 0
    assert graph.adjacency.dense()[target, source] == 0


@needs_data
@pytest.mark.parametrize("name", ["PeMSD7_V_228.csv", "los_speed.csv", "metr-la.h5", "PEMS03.txt", "biwi_eth.txt"])
def test_files_that_are_no_graph(name):
    with pytest.raises(DataError, match="expected adj_mx"):
        read_graph(LAYOUTS / name)
