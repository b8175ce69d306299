"""St-graphs as data: what a file says, what is refused and how, what ships, and what a sensor network becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.contract import StateSpec, StepContract
from stunet_deploy.errors import DataError
from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.st_graph.drawing import describe_st_graph, draw_st_graph
from stunet_deploy.st_graph.files import (
    SHIPPED,
    parse_st_graph,
    read_sensor_types,
    read_st_graph,
    st_graph_of_sensors,
)
from stunet_deploy.st_graph.st_graph import Edge, EdgeType, Node, STGraph

CAR = """
name = "a car"
node_types = ["driver", "road"]
edge_types = [{ name = "sees", between = ["driver", "road"] }]
nodes = [
    { name = "driver", type = "driver", slice = [0, 3] },
    { name = "left", type = "road", slice = [3, 5] },
    { name = "right", type = "road", slice = [6, 8] },
]
edges = [
    { from = "driver", to = "left", type = "sees" },
    { from = "right", to = "driver", type = "sees", weight = 0.5 },
]
"""


def test_a_file_says_nodes_edges_and_types() -> None:
    graph = parse_st_graph(CAR, "car.toml", {})

    assert graph.name == "a car"
    assert graph.node_types == ("driver", "road")
    assert graph.nodes[2] == Node("right", "road", (6, 8))
    assert graph.edges[1] == Edge("right", "driver", "sees", 0.5)
    assert (graph.width("driver"), graph.width("road"), graph.channels) == (3, 2, 8)
    assert graph.members("road") == [1, 2]
    assert [kind.name for kind in graph.edge_types_at("road")] == ["sees"]
    assert STGraph.from_json(graph.to_json()) == graph


def test_both_ends_of_an_edge_see_each_other() -> None:
    hood = parse_st_graph(CAR, "car.toml", {}).neighbourhood("sees")

    assert hood.receivers.tolist() == [0, 1, 2]
    assert hood.firsts == 1
    assert [row.tolist() for row in hood.neighbours] == [[1, 2], [0], [0]]
    assert [row.tolist() for row in hood.weights] == [[1.0, 0.5], [1.0], [0.5]]


def test_a_directed_edge_is_seen_by_the_node_it_leads_to() -> None:
    kinds = (EdgeType("down", ("s", "s"), directed=True), EdgeType("to", ("s", "r"), directed=True))
    nodes = (Node("a", "s", (0, 1)), Node("b", "s", (1, 2)), Node("c", "r", (2, 3)))
    graph = STGraph(("s", "r"), kinds, nodes, (Edge("a", "b", "down"), Edge("b", "c", "to")))

    down, to = graph.neighbourhood("down"), graph.neighbourhood("to")
    assert (down.receivers.tolist(), down.neighbours[0].tolist(), down.firsts) == ([1], [0], 1)
    assert (to.receivers.tolist(), to.neighbours[0].tolist(), to.firsts) == ([2], [1], 0)
    assert [kind.name for kind in graph.edge_types_at("s")] == ["down"]
    assert [kind.name for kind in graph.edge_types_at("r")] == ["to"]


def test_mean_weights_of_a_node_add_up_to_one() -> None:
    nodes = tuple(Node(name, "s", (n, n + 1)) for n, name in enumerate("abc"))
    edges = (Edge("a", "b", "near", 1.0), Edge("a", "c", "near", 3.0))
    graph = STGraph(("s",), (EdgeType("near", ("s", "s"), mean=True),), nodes, edges)

    assert [row.tolist() for row in graph.neighbourhood("near").weights] == [[0.25, 0.75], [1.0], [1.0]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('from = "driver"', 'from = "drivr"', "unknown node 'drivr'"),
        ('to = "left", type = "sees"', 'to = "left", type = "hears"', "undeclared type"),
        ('from = "right", to = "driver"', 'from = "right", to = "left"', "from a road to a road"),
        ('from = "right", to = "driver"', 'from = "right", to = "right"', "from a road to a road"),
        ("slice = [3, 5]", "slice = [2, 4]", "overlapping slices"),
        ("slice = [3, 5]", "slice = [3, 6]", "different widths"),
        ("slice = [3, 5]", "slice = [5, 3]", "slice"),
        ("slice = [3, 5]", "slice = [3.0, 5.0]", "slice"),
        ("slice = [3, 5]", "slice = 3", 'nodes "left".slice = 3; expected a list of 2: a whole number, a whole number'),
        ('name = "left"', 'name = "right"', "node 'right' 2 times"),
        ('"left", type = "road"', '"left", type = "street"', "undeclared type 'street'"),
        ('between = ["driver", "road"]', 'between = ["driver", "street"]', "between"),
        ('between = ["driver", "road"]', 'between = ["driver"]', "between"),
        ('node_types = ["driver", "road"]', 'node_types = ["driver", "road", "sky"]', "'sky' without a node"),
        ('node_types = ["driver", "road"]', 'node_types = ["driver", "road", "road"]', "node type 'road' 2 times"),
        ('node_types = ["driver", "road"]', 'node_types = ["driver", "the road"]', "'the road'"),
        ("weight = 0.5", "weight = -0.5", "weight -0.5"),
        ("weight = 0.5", "weight = nan", "edges 2.weight = nan; expected a number"),
        ("weight = 0.5", "heft = 0.5", "heft"),
        (
            'from = "right", to = "driver", type = "sees", weight = 0.5',
            'from = "left", to = "driver", type = "sees"',
            "twice",
        ),
        ('node_types = ["driver", "road"]', "", "no node_types; expected a list"),
        ('name = "a car"', 'name = "a car"\ncolour = "red"', "colour"),
        ('name = "a car"', 'name = "a car', "car.toml: not TOML"),
        ("nodes = [", "nodes = 3\nmore = [", "more"),
    ],
)
def test_what_does_not_fit_is_named(old: str, new: str, message: str) -> None:
    assert old in CAR
    with pytest.raises(DataError, match=message):
        parse_st_graph(CAR.replace(old, new), "car.toml", {})


def test_a_node_with_itself_is_refused() -> None:
    with pytest.raises(DataError, match="with itself"):
        STGraph(("s",), (EdgeType("e", ("s", "s")),), (Node("a", "s", (0, 1)),), (Edge("a", "a", "e"),))


def test_no_nodes_are_refused() -> None:
    with pytest.raises(DataError, match="no nodes"):
        STGraph((), (), ())


def test_a_number_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(DataError, match="nodes = 3; expected a list, each entry a table"):
        parse_st_graph('node_types = ["a"]\nnodes = 3', "x", {})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.toml"):
        read_st_graph(tmp_path / "none.toml")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_holds_together(name: str) -> None:
    graph = read_st_graph(name)

    assert all(len(graph.neighbourhood(kind.name).receivers) for kind in graph.edge_types)
    assert STGraph.from_json(graph.to_json()) == graph


def test_the_skeleton_is_that_of_the_recordings(shared_data: Path) -> None:
    with np.load(shared_data / "cmu-mocap.npz") as arrays:
        parents = arrays["parents"].tolist()
    graph = read_st_graph("skeleton-cmu")
    index = {node.name: number for number, node in enumerate(graph.nodes)}

    assert [node.slice for node in graph.nodes] == [(3 + 3 * joint, 6 + 3 * joint) for joint in range(38)]
    assert [(index[edge.source], index[edge.target]) for edge in graph.edges] == [
        (parent, joint) for joint, parent in enumerate(parents) if parent >= 0
    ]


def test_a_count_makes_nodes_on_consecutive_slices() -> None:
    graph = read_st_graph("pedestrians", {"person": 3})

    assert [(node.name, node.slice) for node in graph.nodes] == [
        ("person1", (0, 2)),
        ("person2", (2, 4)),
        ("person3", (4, 6)),
    ]
    assert {(edge.source, edge.target) for edge in graph.edges} == {
        ("person1", "person2"),
        ("person1", "person3"),
        ("person2", "person3"),
    }
    assert len(read_st_graph("pedestrians").nodes) == 24


def test_a_count_of_an_unknown_node_is_refused() -> None:
    with pytest.raises(DataError, match="'driver'"):
        parse_st_graph(CAR, "car.toml", {"driver": 2})


def test_complete_joins_directed_types_both_ways_and_pairs_of_types_once() -> None:
    text = """
    node_types = ["a", "b"]
    edge_types = [
        { name = "within", between = ["a", "a"], directed = true, complete = true },
        { name = "from", between = ["b", "a"], directed = true, complete = true },
        { name = "across", between = ["b", "a"], complete = true },
    ]
    nodes = [{ name = "x", type = "a", slice = [0, 1], count = 2 }, { name = "y", type = "b", slice = [2, 3] }]
    """
    graph = parse_st_graph(text, "", {})

    found = {kind.name: [(e.source, e.target) for e in graph.edges if e.type == kind.name] for kind in graph.edge_types}
    assert found["within"] == [("x1", "x2"), ("x2", "x1")]
    assert found["from"] == [("y", "x1"), ("y", "x2")]
    assert found["across"] == [("x1", "y"), ("x2", "y")]


def test_a_directed_network_sees_upstream_and_downstream_apart() -> None:
    weights = np.array([[0, 0.5, 0], [0, 0, 2.0], [0, 0, 0]])
    graph = st_graph_of_sensors(Adjacency.from_matrix(weights), ["a", "b", "c"], features=2)

    assert [node.slice for node in graph.nodes] == [(0, 2), (2, 4), (4, 6)]
    assert [(kind.name, kind.directed, kind.mean) for kind in graph.edge_types] == [
        ("upstream", True, True),
        ("downstream", True, True),
    ]
    upstream, downstream = graph.neighbourhood("upstream"), graph.neighbourhood("downstream")
    assert (upstream.receivers.tolist(), [row.tolist() for row in upstream.neighbours]) == ([1, 2], [[0], [1]])
    assert (downstream.receivers.tolist(), [row.tolist() for row in downstream.neighbours]) == ([0, 1], [[1], [2]])
    assert [row.tolist() for row in upstream.weights] == [[1.0], [1.0]]


def test_an_undirected_network_has_one_type_weighted_by_the_adjacency() -> None:
    weights = np.array([[0, 0.5, 1.5], [0.5, 0, 0], [1.5, 0, 0]])
    hood = st_graph_of_sensors(Adjacency.from_matrix(weights), ["a", "b", "c"], features=1).neighbourhood("near")

    assert [row.tolist() for row in hood.weights] == [[0.25, 0.75], [1.0], [1.0]]


def test_a_directed_network_may_be_taken_as_undirected() -> None:
    weights = np.array([[0, 0.5], [0.2, 0]])
    graph = st_graph_of_sensors(Adjacency.from_matrix(weights), ["a", "b"], features=1, directed=False)

    assert [(edge.source, edge.target, edge.type, edge.weight) for edge in graph.edges] == [("a", "b", "near", 0.5)]


def test_types_of_sensors_make_types_of_edges() -> None:
    weights = np.array([[0, 1.0, 0], [0, 0, 1.0], [0, 0, 0]])
    types = {"a": "ramp", "b": "freeway", "c": "freeway", "d": "unused"}
    graph = st_graph_of_sensors(Adjacency.from_matrix(weights), ["a", "b", "c"], 1, types)

    assert graph.node_types == ("freeway", "ramp")
    assert [(edge.source, edge.target, edge.type) for edge in graph.edges] == [
        ("a", "b", "upstream-ramp-freeway"),
        ("b", "a", "downstream-freeway-ramp"),
        ("b", "c", "upstream-freeway-freeway"),
        ("c", "b", "downstream-freeway-freeway"),
    ]
    undirected = st_graph_of_sensors(Adjacency.from_matrix(weights + weights.T), ["a", "b", "c"], 1, types)
    assert [kind.name for kind in undirected.edge_types] == [
        "near-freeway-freeway",
        "near-freeway-ramp",
        "near-ramp-ramp",
    ]
    assert [edge.type for edge in undirected.edges] == ["near-freeway-ramp", "near-freeway-freeway"]


@pytest.mark.parametrize(
    ("ids", "types", "message"),
    [(["a", "b"], {"a": "ramp"}, "1 sensors without a type"), (["a"], None, "of 2 sensors")],
)
def test_sensors_that_do_not_fit_are_refused(ids: list[str], types: dict[str, str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        st_graph_of_sensors(Adjacency.from_matrix(np.zeros((2, 2))), ids, 1, types)


def test_types_of_sensors_are_read_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "types.csv"
    path.write_text("sensor_id,type,lanes\na,ramp,1\nb,freeway,4\n", encoding="utf-8")

    assert read_sensor_types(path) == {"a": "ramp", "b": "freeway"}


@pytest.mark.parametrize(
    ("text", "message"), [("a,b\n1,2\n", "columns"), ("", "columns"), ("sensor_id,type\na,x\na,y\n", "twice")]
)
def test_a_table_without_its_columns_or_with_a_sensor_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "types.csv").write_text(text, encoding="utf-8")

    with pytest.raises(DataError, match=message):
        read_sensor_types(tmp_path / "types.csv")


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"types\.csv"):
        read_sensor_types(tmp_path / "types.csv")


def test_a_drawing_names_types_factors_and_states() -> None:
    graph = parse_st_graph(CAR, "car.toml", {})
    drawn = draw_st_graph(graph)

    assert drawn.splitlines()[0] == "a car: 3 nodes, 2 edges, 8 channels"
    assert "road × 2    2 channels  left, right" in drawn
    assert "sees × 2  driver – road  driver – left, right – driver" in drawn
    assert "spatial sees     shared by 2 edges, received by 3 nodes" in drawn
    assert "node road        shared by 2 nodes; receives sees" in drawn
    assert "spatial.sees       3 rows" in drawn

    state = StateSpec("spatial.sees.hidden", ("batch", "row", "hidden"), (None, 3, 500))
    assert "spatial.sees.hidden  3 × 500  6.0 kB" in draw_st_graph(graph, StepContract((), (), (state,)))


def test_a_description_counts_what_a_drawing_shows() -> None:
    described = describe_st_graph(parse_st_graph(CAR, "car.toml", {}))

    assert described["nodes"] == {"driver": ["driver"], "road": ["left", "right"]}
    assert described["edges"] == {"sees": 2}
    assert {factor["factor"]: factor["rows"] for factor in described["factors"]} == {
        "spatial sees": 3,
        "temporal driver": 1,
        "temporal road": 2,
        "node driver": 1,
        "node road": 2,
    }


def test_a_damaged_graph_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        STGraph.from_json('{"node_types": ["a"]}')
