"""``stunet data inspect`` says what is in a file; every public layout at hand is one of its cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from stunet_deploy.cli import main
from tests.paths import ROOT
from tests.stunet_deploy.series.layouts.field_files import write_libcity, write_meta, write_pems

Answer = Callable[..., Any]

#: What each public file holds: kind, sensors, and intervals of a recording or edges of a graph.
LAYOUTS: dict[str, tuple[str, int, int]] = {
    "metr-la.h5": ("recording", 207, 576),
    "los_speed.csv": ("recording", 207, 2016),
    "PeMSD7_V_228.csv": ("recording", 228, 2016),
    "adj_mx.pkl": ("graph", 207, 1722 - 207),
    "adj_mx_bay.pkl": ("graph", 325, 2694 - 325),
    "los_adj.csv": ("graph", 207, 2833 - 207),
    "PeMSD7_W_228.csv": ("graph", 228, 1664),
    "distances_bay_2017.csv": ("graph", 325, 2694 - 325),
    "graph_sensor_locations.csv": ("graph", 207, 1850),
    "graph_sensor_locations_bay.csv": ("graph", 325, 2844),
    "PeMSD7_M_Station_Info.csv": ("graph", 228, 1974),
    "PEMS03.csv": ("graph", 358, 546),
    "PEMS04.csv": ("graph", 307, 340),
    "PEMS07.csv": ("graph", 883, 866),
    "PEMS08.csv": ("graph", 170, 277),
    "graph_sensor_ids.txt": ("sensor ids", 0, 0),
    "PEMS03.txt": ("sensor ids", 0, 0),
    "biwi_eth.txt": ("pedestrian tracks", 0, 0),
    "cmu/walking_1.txt": ("motion capture", 0, 0),
}
ROWS = 60


@pytest.fixture
def layouts(shared_data: Path) -> Path:
    folder = shared_data / "layouts"
    if not folder.is_dir():
        pytest.skip("no public files in their authors' layouts")
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Five hours of three sensors: one silent, one with a gap of an hour, and flows that are 0 or negative."""
    lines = ["timestamp,sensor_id,speed,flow"]
    for row in range(ROWS):
        stamp = np.datetime64("2025-03-03T06:00") + np.timedelta64(5 * row, "m")
        speed = "" if 10 <= row < 22 else 50 + row % 10
        lines += [
            f"{stamp},A,60,{0 if row % 2 else 100}",
            f"{stamp},B,{speed},{'' if speed == '' else -1}",
            f"{stamp},C,,",
        ]
    (tmp_path / "speeds.csv").write_text("\n".join(lines))
    (tmp_path / "roads.csv").write_text("from,to,distance\nA,B,400\nB,A,400\nD,B,900\n")
    (tmp_path / "more roads.csv").write_text("from,to,weight\nC,B,0.5\nB,A,1\n")
    (tmp_path / "places.csv").write_text("sensor_id,latitude,longitude\nA,34.1,-118.2\nB,34.2,-118.3\nC,34.3,-118.1\n")
    return tmp_path


# --- the public files ---


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_public_file_is_described(name: str, layouts: Path, answer: Answer) -> None:
    kind, sensors, count = LAYOUTS[name]

    found = answer("data", "inspect", layouts / name)

    assert found["kind"] == kind
    held = {"recording": "series", "graph": "graph"}.get(kind)
    for part in ("series", "graph"):
        assert (found[part] is not None) == (part == held)
    if held is not None:
        assert found[held]["sensors"] == sensors
        assert found[held]["intervals" if held == "series" else "edges"] == count
    else:
        assert found["note"]


def test_no_public_file_is_left_out(layouts: Path) -> None:
    assert {path.relative_to(layouts).as_posix() for path in layouts.rglob("*") if path.is_file()} <= set(LAYOUTS)


def test_metr_la_in_words(layouts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(layouts / "metr-la.h5"), "--graph", str(layouts / "adj_mx.pkl"), "--timezone", "America/Los_Angeles"]

    assert main(["data", "inspect", *files]) == 0

    out, err = capsys.readouterr()
    for words in (
        "207, 773869 … 769373",
        "Thu 2012-03-01 00:00 to Fri 2012-03-02 23:55 America/Los_Angeles, 576 intervals of 5 min",
        "speed mph: 1.625 to 70",
        "longest gap 26.1 h at sensor 759602 from 2012-03-01 07:05",
        "1,515, directed",
        "1 sensor(s) without a neighbour learn from themselves alone (717804)",
    ):
        assert words in out
    assert "next: stunet train --data" in err
    assert "--timezone America/Los_Angeles --out model.pt" in err


def test_tracks_and_motion_are_of_another_family(layouts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in (
        ("biwi_eth.txt", "5492 positions of 360 pedestrians in 876 frames (frame, pedestrian, x, y)"),
        ("cmu/walking_1.txt", "344 frames of 117 numbers"),
    ):
        assert main(["data", "inspect", str(layouts / name)]) == 0
        out, err = capsys.readouterr()
        assert words in out
        assert "another model family" in out
        assert err == ""


# --- what is said of a file ---


def test_a_recording_with_its_gaps(files: Path, answer: Answer) -> None:
    found = answer("data", "inspect", files / "speeds.csv", "--timezone", "Europe/Berlin")["series"]

    assert found["first"] == "2025-03-03T05:00:00Z"
    assert found["last"] == "2025-03-03T09:55:00Z"
    assert (found["intervals"], found["interval_s"], found["timezone"]) == (ROWS, 300, "Europe/Berlin")
    assert found["longest_gap"] == {
        "sensor": "B",
        "first": "2025-03-03T05:50:00Z",
        "last": "2025-03-03T06:45:00Z",
        "intervals": 12,
    }
    assert found["worst_sensors"] == [{"sensor": "C", "missing": 1.0}, {"sensor": "B", "missing": 0.2}]
    assert (found["silent"], found["unheard_intervals"], found["breaks"]) == (1, 0, 0)
    assert found["missing"] == pytest.approx((60 + 12) / 180)
    speed, flow = found["features"]
    assert (speed["name"], speed["minimum"], speed["maximum"], speed["zeros"]) == ("speed", 50, 60, 0)
    assert (flow["minimum"], flow["negative"], flow["zeros"]) == (-1, 48 / 108, 30 / 108)
    assert (speed["unchanging"], flow["unchanging"]) == (1, 1)


def test_a_graph_with_its_parts(files: Path, answer: Answer) -> None:
    roads = answer("data", "inspect", files / "roads.csv")["graph"]
    assert (roads["sensors"], roads["directed"], roads["made_from"]) == (3, True, "distances")
    assert roads["distances"] == [400, 900]

    more = answer("data", "inspect", files / "speeds.csv", "--graph", files / "more roads.csv")
    assert more["kind"] == "recording with graph"
    assert (more["graph"]["edges"], more["graph"]["components"], more["graph"]["isolated"]) == (2, 1, [])
    assert more["graph"]["weights"] == {"minimum": 0.5, "median": 0.75, "maximum": 1.0}


def test_what_looks_wrong_is_remarked(files: Path, answer: Answer) -> None:
    rng = np.random.default_rng(8)
    rows = [f"2025-03-03T{row // 12:02}:{row % 12 * 5:02}," for row in range(100)]
    normalised = [f"{stamp}{a:.3f},{b:.3f}" for stamp, (a, b) in zip(rows, rng.normal(0, 1, (100, 2)), strict=True)]
    (files / "z.csv").write_text("\n".join(["time,A,B", *normalised]))
    (files / "alone.csv").write_text("A,B,C\n0,1,0\n1,0,0\n0,0,0\n")

    remarks = [
        *answer("data", "inspect", files / "speeds.csv")["remarks"],
        *answer("data", "inspect", files / "z.csv", "--timezone", "Europe/Berlin")["remarks"],
        *answer("data", "inspect", files / "alone.csv")["remarks"],
    ]

    for words in (
        "44.4 % of the flow readings are below 0, always -1: if that stands for no data, say --no-data -1",
        "27.8 % of the flow readings are 0; these look like readings",
        "1 sensor(s) give one and the same speed",
        "hours of the day are taken from UTC",
        "speed looks normalised",
        "1 sensor(s) without a neighbour learn from themselves alone (C)",
    ):
        assert any(words in remark for remark in remarks), words


GRAPHS_TO_LOOK_AT = {
    "pairs, most of them cut": (
        "from,to,distance\nA,B,100\nB,C,900\nC,A,1000\n"
        + "".join(f"{one},{other},500\n" for one, other in permutations("ABCDEFGH", 2) if {one, other} - {*"ABC"}),
        "2 of 3 edges are too long for the kernel (sigma = 403, in the file's unit, the standard deviation of the",
    ),
    "an absurd distance": (
        "from,to,distance\nA,B,100\nB,C,300\nC,A,200\nB,A,999999\n",
        "1 distance(s) far above all others (from B to A: 999999, the others up to 300)",
    ),
    "an unknown position": (
        "id,lat,lon\nA,56.1,10.1\nB,56.2,10.2\nC,0,0\n", "no position of C (empty, or 0, 0): without neighbours",
    ),
    "two values of an edge": ("from,to,weight\nA,B,1\nB,C,1\nA,B,0.5\n", "from A to B: 1 and 0.5): the largest counts"),
    "no neighbour": ("from,to,weight\nA,B,1\nC,,\n", "1 sensor(s) without a neighbour learn from themselves alone (C)"),
    "sensors that the recording lacks": (
        "from,to,weight\nA,B,1\nB,C,1\nC,D,1\n", "1 sensor(s) that the recording lacks left out"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GRAPHS_TO_LOOK_AT)
def test_what_is_odd_in_a_graph_is_said_before_training_too(
    case: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, remark = GRAPHS_TO_LOOK_AT[case]
    (files / "odd.csv").write_text(text)
    pair = [str(files / "speeds.csv"), "--graph", str(files / "odd.csv"), "--timezone", "Europe/Berlin"]

    assert main(["data", "inspect", *pair]) == 0
    assert remark in capsys.readouterr().out
    assert main(["train", "--data", *pair, "--out", str(files / "model.pt"), "--device", "none"]) == 2
    assert remark in capsys.readouterr().err


def test_a_file_alone_names_what_it_lacks_and_the_next_command(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, lacks, command in (
        ("speeds.csv", "graph      none in this file", f"inspect {files}/speeds.csv --graph GRAPH"),
        ("roads.csv", "recording  none in this file", f"inspect RECORDING --graph {files}/roads.csv"),
        ("more roads.csv", "recording  none in this file", f"inspect RECORDING --graph '{files}/more roads.csv'"),
    ):
        assert main(["data", "inspect", str(files / name)]) == 0
        out, err = capsys.readouterr()
        assert lacks in out
        assert err == f"next: stunet data {command}\n"


def test_the_shipped_data_hold_both(answer: Answer) -> None:
    found = answer("data", "inspect", ROOT / "stunet_deploy/data/freeway.npz")

    assert found["kind"] == "recording with graph"
    assert (found["series"]["sensors"], found["graph"]["sensors"], found["graph"]["components"]) == (88, 88, 1)


# --- pictures ---


@pytest.mark.parametrize(
    "arguments",
    [
        ["speeds.csv"],
        ["roads.csv"],
        ["places.csv"],
        ["speeds.csv", "--graph", "more roads.csv"],
        ["speeds.csv", "--graph", "places.csv"],
    ],
    ids=" ".join,
)
def test_it_draws_what_there_is(
    arguments: list[str], files: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.chdir(files)

    assert answer("data", "inspect", *arguments, "--plot", "picture.png")["plot"] == "picture.png"

    picture = matplotlib.image.imread("picture.png")[..., :3]
    parts = {"speeds.csv": 2}.get(arguments[0], 1) + ("--graph" in arguments)
    assert picture.shape[1] == 780 * parts
    for part in np.split(picture, parts, axis=1):
        assert part.std() > 0.05  # no part is empty


# --- errors, and JSON in front of the action ---


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("nothing.csv", "nothing.csv"),
        (". --json", "empty.csv, an empty file"),
        ("speeds.csv --timezone Mars/Base", "Mars/Base"),
        ("speeds.csv --graph roads.csv", "1 of 3 sensors are not in the graph (C)"),
        ("roads.csv --graph speeds.csv", "roads.csv, which holds graph"),
        ("ids.txt --plot picture.png", "ids.txt, which holds sensor ids"),
        ("speeds.csv --plot picture.pdf", "picture.pdf"),
        ("speeds.csv --plot no/picture.png", "no/picture.png"),
        ("empty.csv", "empty.csv"),
        ("headerless.csv", "headerless.csv: a first line of numbers alone"),
        ("faulty.csv", "faulty.csv, line 2, column 2: '-1'"),
    ],
)
def test_an_error_of_the_user_exits_with_2(
    arguments: str, named: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    (files / "ids.txt").write_text("773869,767541,767542\n")
    (files / "empty.csv").write_text("")
    (files / "headerless.csv").write_text("60,61,62,63\n" * 9)
    (files / "faulty.csv").write_text("0,1\n2,-1\n")

    assert main(["data", "inspect", *arguments.split()]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert named in captured.err
    assert not (files / "picture.png").exists()


def test_json_may_stand_in_front_of_the_action(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--json", "inspect", str(files / "roads.csv")]) == 0

    assert json.loads(capsys.readouterr().out)["kind"] == "graph"


def test_a_folder_of_days_is_one_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pems"
    folder.mkdir()
    for day in ("2018-01-08", "2018-01-09"):
        write_pems(folder, day)
    write_meta(folder, "2018-01-01")

    assert main(["data", "inspect", str(folder)]) == 0

    said = capsys.readouterr()
    assert said.out.startswith("pems: recording\n")
    assert "Mon 2018-01-08 00:00 to Tue 2018-01-09 23:55 America/Los_Angeles, 576 intervals of 5 min" in said.out
    assert "not read as such: d04_text_meta_2018_01_01.txt" in said.out
    assert f"stunet train --data {folder} --out model.pt" in said.err


def test_the_graph_of_libcity_is_found_beside_its_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_libcity(tmp_path)

    assert main(["data", "inspect", str(path)]) == 0
    assert capsys.readouterr().out.startswith("METR_LA.dyna: recording with graph\n")
    (tmp_path / "METR_LA.rel").write_text("rel_id,type,origin_id,destination_id,a,b\n0,geo,1,2,3,4\n")
    assert main(["data", "inspect", str(path)]) == 2
    assert "weight_col in config.json" in capsys.readouterr().err
    assert main(["data", "inspect", str(path), "--graph", str(tmp_path / "METR_LA.geo")]) == 0
