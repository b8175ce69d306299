"""Atomic files of LibCity, as its converters write them and its loader reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.cli.train import find_graph
from stunet_deploy.data_files import read_data_file
from stunet_deploy.errors import DataError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series
from stunet_deploy.series.times import parse_time
from tests.stunet_deploy.series.layouts.field_files import write_libcity

ZONE = "America/Los_Angeles"
SENSORS = ("773869", "767541", "718045")


def test_states_with_their_places(tmp_path: Path) -> None:
    series = read_series(write_libcity(tmp_path))

    assert (series.sensor_ids, series.features, series.interval_s) == (SENSORS, ("traffic_speed",), 300)
    assert series.values[:2, :, 0].tolist() == np.float32([[60.9, 60.1, 60.5], [61.9, 61.1, 61.5]]).tolist()
    assert series.latitude == (34.15497, 34.11621, 34.13)
    assert series.longitude == (-118.31829, -118.23799, -118.25)
    assert "positions of METR_LA.geo" in series.source


def test_its_z_is_none_of_utc(tmp_path: Path) -> None:
    path = write_libcity(tmp_path)

    series = read_series(path, timezone=ZONE)

    assert series.timestamps[0] == parse_time("2012-03-01T00:00", ZONE)
    assert "the Z of LibCity's times taken off" in series.source
    path.write_text(path.read_text().replace("Z,", "+01:00,"))
    assert read_series(path, timezone=ZONE).timestamps[0] == parse_time("2012-02-29T23:00Z")


def test_the_settings_choose_the_columns(tmp_path: Path) -> None:
    path = write_libcity(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},holiday,flow", *(f"{line},1,{row}" for row, line in enumerate(lines[1:]))]))

    assert read_series(path).features == ("traffic_speed",)
    assert "columns holiday, flow left out" in read_series(path).source
    (tmp_path / "config.json").unlink()
    assert read_series(path).features == ("traffic_speed", "holiday", "flow")


@pytest.mark.parametrize(
    ("info", "came"),
    [
        ({"time_intervals": 900}, "times every 300 s, and time_intervals 900 in config.json"),
        ({"data_col": ["traffic_flow"]}, "no column traffic_flow, which config.json names"),
    ],
)
def test_settings_that_contradict_are_refused(tmp_path: Path, info: dict[str, object], came: str) -> None:
    with pytest.raises(DataError, match=came):
        read_series(write_libcity(tmp_path, **info))


@pytest.mark.parametrize(
    ("old", "new", "came"),
    [
        ("time,entity_id", "time,row_id,column_id", "states of row_id and column_id"),
        ("time,entity_id", "time,origin_id,destination_id", "states of origin_id and destination_id"),
        ("1,state", "1,trajectory", "'trajectory' as type"),
        ("T00:05:00Z,773869", "T00:65:00Z,773869", "'2012-03-01T00:65:00Z' as time (line 3)"),
        ("T00:05:00Z,773869", "T00:05:00+01:00,773869", "as time"),
        (",61.900\n", ",fast\n", "'fast' as traffic_speed"),
        (",61.900\n", "\n", "4 cells in line 3"),
        ("T00:05:00Z,773869", "T00:00:00Z,773869", "'773869' more than once"),
    ],
)
def test_other_states_and_faults_are_refused(tmp_path: Path, old: str, new: str, came: str) -> None:
    path = write_libcity(tmp_path)
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))

    with pytest.raises(DataError) as refused:
        read_series(path)

    assert came in refused.value.came


@pytest.mark.parametrize("places", ["[]", "[[1.0, 2.0], [3.0, 4.0]]"])
def test_places_without_a_point_give_no_positions(tmp_path: Path, places: str) -> None:
    path = write_libcity(tmp_path)
    rows = [f'{sensor},Point,"{places}"' for sensor in SENSORS]
    (tmp_path / "METR_LA.geo").write_text("\n".join(["geo_id,type,coordinates", *rows]))

    assert read_series(path).latitude is None
    with pytest.raises(DataError, match="places without coordinates"):
        read_graph(tmp_path / "METR_LA.geo")


def test_places_without_ids_are_refused(tmp_path: Path) -> None:
    path = write_libcity(tmp_path)
    geo = tmp_path / "METR_LA.geo"
    geo.write_text(geo.read_text().replace("geo_id", "id"))

    with pytest.raises(DataError, match=r"METR_LA.geo, beginning with id,type,coordinates"):
        read_series(path)


def test_coordinates_the_other_way_round_are_refused(tmp_path: Path) -> None:
    path = write_libcity(tmp_path)
    geo = tmp_path / "METR_LA.geo"
    geo.write_text(geo.read_text().replace("[-118.31829, 34.15497]", "[34.15497, -118.31829]"))

    with pytest.raises(DataError, match=r"METR_LA.geo: .*\[longitude, latitude\] in degrees"):
        read_series(path)


# --- relations ---


def test_relations_are_found_beside_the_states(tmp_path: Path) -> None:
    path = write_libcity(tmp_path)
    series = read_series(path)

    graph = find_graph(None, path, series)

    assert (graph.sensor_ids, graph.made_from) == (SENSORS, "distances")
    assert graph.distances == (1200.0, 2500.0)
    assert graph.latitude is not None
    assert tuple(graph.latitude) == series.latitude  # for the map
    assert set(zip(*np.nonzero(graph.adjacency.dense()), strict=True)) <= {(0, 1), (1, 0), (1, 2)}
    assert read_data_file(path).kind == "recording with graph"
    assert read_data_file(tmp_path / "METR_LA.rel").kind == "graph"
    assert read_data_file(tmp_path / "METR_LA.geo").kind == "graph"
    (tmp_path / "METR_LA.rel").unlink()
    assert "nearest" in find_graph(None, path, series).source
    assert read_graph(tmp_path / "METR_LA.geo", SENSORS[1:]).sensor_ids == SENSORS[1:]


def test_a_sensor_of_the_places_may_have_no_relation(tmp_path: Path) -> None:
    path = write_libcity(tmp_path)
    relations = tmp_path / "METR_LA.rel"
    relations.write_text("\n".join(line for line in relations.read_text().splitlines() if "718045" not in line))

    graph = find_graph(None, path, read_series(path))

    assert graph.adjacency.isolated.tolist() == [False, False, True]
    (tmp_path / "METR_LA.geo").unlink()
    with pytest.raises(DataError, match=r"1 of 3 sensors are not in the graph \(718045\)"):
        read_graph(relations, SENSORS)


def test_ids_that_are_numbers_are_no_positions(tmp_path: Path) -> None:
    (tmp_path / "x.rel").write_text("rel_id,type,origin_id,destination_id,cost\n0,geo,1,0,5\n1,geo,1,2,7\n")
    (tmp_path / "x.geo").write_text('geo_id,type,coordinates\n1,Point,"[2, 50]"\n0,Point,"[3, 51]"\n')

    assert read_graph(tmp_path / "x.rel", ("2", "1", "0")).adjacency.dense().astype(bool)[1].tolist() == [
        True,
        False,
        True,
    ]
    graph = read_graph(tmp_path / "x.geo", ("0", "1"))
    assert graph.latitude is not None
    assert graph.latitude[graph.sensor_ids.index("0")] == 51  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("columns", "info", "made_from"),
    [
        ("cost", {}, "distances"),
        ("distance", {}, "distances"),
        ("link_weight", {}, "weights"),
        ("weight", {}, "weights"),
        ("weight", {"calculate_weight_adj": True}, "distances"),
        ("weight", {"weight_col": ["weight"]}, "weights"),
        ("adj,FFR_5min", {"weight_col": "adj"}, "weights"),
        ("", {}, "weights"),
    ],
)
def test_what_a_column_of_relations_means(
    tmp_path: Path, columns: str, info: dict[str, object], made_from: str
) -> None:
    values = "".join(f",{4 + place}" for place, name in enumerate(columns.split(",")) if name)
    header = "rel_id,type,origin_id,destination_id" + (f",{columns}" if columns else "")
    (tmp_path / "x.rel").write_text(f"{header}\n0,geo,1,0{values}\n1,geo,1,2{values}\n")
    (tmp_path / "config.json").write_text(json.dumps({"info": info}))

    graph = read_graph(tmp_path / "x.rel")

    assert graph.made_from == made_from
    if made_from == "weights":
        assert graph.adjacency.weight.tolist() == ([4, 4] if columns else [1, 1])


@pytest.mark.parametrize(
    ("content", "info", "came"),
    [
        ("adj,FFR_5min\n0,geo,1,0,1,1\n", {}, "columns adj, FFR_5min"),
        ("cost\n0,geo,1,0,1\n", {"weight_col": "weight"}, "weight_col 'weight' in config.json"),
        ("FFR_5min\n0,geo,1,0,1\n", {}, "the column FFR_5min"),
        ("cost\n0,usr,1,0,1\n", {}, "line 2: '0,usr,1,0,1'"),
        ("cost\n0,geo,1,0,-1\n", {}, "line 2: '0,geo,1,0,-1'"),
        ("cost\n0,geo,1,0,\n", {}, "a header and no relations"),
        ("weight\n0,geo,1,0,2500\n1,geo,0,1,2400\n", {}, "a weight of 2500, which looks like a distance"),
    ],
)
def test_relations_of_unknown_meaning_are_refused(
    tmp_path: Path, content: str, info: dict[str, object], came: str
) -> None:
    (tmp_path / "x.rel").write_text(f"rel_id,type,origin_id,destination_id,{content}")
    (tmp_path / "config.json").write_text(json.dumps({"info": info}))

    with pytest.raises(DataError) as refused:
        read_graph(tmp_path / "x.rel")

    assert came in refused.value.came
