"""Every damaged or mistaken data file has an error of its own, which names the file and says what to do."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from stunet_deploy.errors import DataError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series

h5py = pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

IDS = ["11", "12", "13"]
NEAR = np.array([[1, 0.5, 0], [0.25, 1, 0], [0, 0.75, 1]])
T0 = 1_330_560_000
ZONE = "America/Los_Angeles"


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def own(**changes: object) -> bytes:
    content: dict[str, object] = {
        "values": np.full((2, 2, 1), 500, np.int16),
        "scale": np.array([0.1]),
        "observed": np.ones((2, 2, 1), bool),
        "timestamps": np.array([T0, T0 + 300]),
        "sensor_ids": np.array(["a", "b"]),
        "features": np.array(["speed"]),
        "units": np.array(["km/h"]),
        "timezone": np.array("UTC"),
        "interval_s": np.array(300),
    }
    return npz(**(content | changes))


def frame(
    kind: str = "datetime64", items: tuple[bytes, ...] = (b"11", b"12"), keys: tuple[str, ...] = ("df",)
) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for key in keys:
            group = file.create_group(key)
            group["axis0"], group["block0_items"] = np.array([b"11", b"12"]), np.array(items)
            group["axis1"] = (T0 + 300 * np.arange(3)) * 10**9
            group["axis1"].attrs["kind"] = np.bytes_(kind)
            group["block0_values"] = np.full((3, len(items)), 60.0)
    return buffer.getvalue()


def csv(*rows: str, header: str = "time,11,12") -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def days(sensors: int, rows: int, header: str = "") -> bytes:
    return (header + ",".join(["60.5"] * sensors) + "\n").encode() * rows


HOUR = [f"2012-03-11T{hour:02}:{minute:02},60,61" for hour in (1, 2, 3) for minute in range(0, 60, 5)]
OFF_GRID = [f"2012-03-01T00:{minute:02},60,61" for minute in (0, 5, 10, 15, 22, 25)]
LINE_OF_16 = "\n".join([",".join(["71.5"] * 16)] * 40).encode()


class Case(NamedTuple):
    """A file and what its error says."""

    name: str
    content: bytes
    came: str
    """Pattern of what came, beside the name of the file."""
    action: str
    """Pattern of what to do."""
    zone: str | None = None
    beside: tuple[str, bytes] | None = None
    """Another file in the same folder."""
    wanted: list[str] | None = None
    """Sensors of the recording that a graph is for."""


RECORDINGS: dict[str, Case] = {
    "empty file": Case("speeds.csv", b"", "empty file", "export"),
    "header alone": Case("speeds.csv", csv(), "without readings", "export"),
    "web page instead of data": Case("speeds.csv", b"<!DOCTYPE html>\n<p>Sign in</p>", "web page", "raw link"),
    "git lfs pointer": Case(
        "metr-la.h5", b"version https://git-lfs.github.com/spec/v1\noid 0\n", "Git LFS", "git lfs pull"
    ),
    "gzip": Case("speeds.csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "damaged or locked", "copy it again"),
    "pickle of readings": Case("speeds.pkl", pickle.dumps({"df": 1}), "pickle", "another format"),
    "matrix without times": Case("speeds.npy", npy(np.zeros((3, 2))), "npy array without times", "time column"),
    "half a UTF-16 text": Case("speeds.csv", "time,11\n2012-03-01T00:00,60".encode("utf-16")[:-1], "no UTF-8", "UTF-8"),
    "one column": Case("speeds.csv", b"speed\n60.5\n61\n", "single column", "as CSV"),
    "points between thousands": Case(
        "flows.csv", b"time;11\n2012-03-01T00:00;60,5\n2012-03-01T00:05;1.060,5\n", "'1.060,5'", "correct the cell"
    ),
    "thousands like decimals": Case(
        "flows.csv", b"time;11\n2012-03-01T00:00;980\n2012-03-01T00:05;1.005\n", "'1.005'", "correct the cell"
    ),
    "thousands that come late": Case(
        "flows.csv",
        b"time\tx1\n" + b"".join(b"%d\t%d\n" % (T0 + 300 * row, row) for row in range(80)) + b"1330590000\t1,005\n",
        "line 82, column 'x1': '1,005'",
        "correct the cell",
    ),
    "first line of epoch seconds": Case(
        "speeds.csv", csv("1330560300,60,61", header="1330560000,NA,61"), "'1330560000' in the first line", "a header"
    ),
    "a quote that is not closed": Case(
        "speeds.csv", b'time,11,12\n2012-03-01,"60,61\n2012-03-02,62,63\n', "opened in line 2", "quotes of that line"
    ),
    "times across": Case(
        "speeds.csv", b"sensor,2012-03-01,2012-03-02,2012-03-03\n11,60,61,62\n", "times across", "turn the table"
    ),
    "a number that may be of the row": Case(
        "speeds.csv",
        csv("5,2012-03-01T00:00,60", "7,2012-03-01T00:05,60", header="record_id,time,speed"),
        "'record_id', which may number",
        "rename it",
    ),
    "header of a long table": Case("speeds.csv", csv(header="timestamp,sensor_id,speed"), "no rows", "export"),
    "sensors read at changing seconds": Case(
        "speeds.csv",
        csv(
            *(f"{T0 + 300 * row + (7 * row + 3 * node) % 5},{node},{row}" for row in range(9) for node in (1, 2, 3)),
            header="time,sensor,flow",
        ),
        "every 300 s at changing seconds|every 30. s at changing seconds",
        "round the times",
    ),
    "remark in the first line": Case(
        "speeds.csv", csv(header="# exported, by hand\ntime,7"), "is a remark", "delete the"
    ),
    "named but no times": Case(
        "speeds.csv",
        csv("7,03.03.2012 00:05,60", header="sensor_id,timestamp,speed"),
        r"'03.03.2012 00:05' as a time \(line 2\)",
        "convert the time column",
    ),
    "sensor missing": Case(
        "speeds.csv",
        csv("2012-03-01T00:00,7,60", "2012-03-01T00:00,NULL,60", header="time,sensor,speed"),
        r"'NULL' for a sensor \(line 3\)",
        "drop the row",
    ),
    "first line of readings": Case(
        "speeds.csv", csv("2012-03-01T00:05,60,61", header="2012-03-01T00:00,60,61"), "in the first line", "a header"
    ),
    "numbers of the rows for sensors": Case(
        "speeds.csv",
        csv("1,2012-03-01T00:00,60", "2,2012-03-01T00:05,60", "3,2012-03-01T00:10,60", header="id,time,speed"),
        "3 sensors in as many rows",
        "take it out",
    ),
    "two times": Case(
        "speeds.csv",
        csv("2012-03-01T00:00,2012-03-01T00:01,7,60", header="date,time,sensor,speed"),
        "'date' and 'time'",
        "rename it to timestamp",
    ),
    "two sensors": Case(
        "speeds.csv",
        csv("2012-03-01T00:00,1,7,6", header="time,segment,link,flow"),
        "'segment' and 'link'",
        "sensor_id",
    ),
    "date and time of day apart": Case(
        "speeds.csv", csv("2012-03-01,00:05,7,60", header="date,time,sensor,speed"), "'date' and 'time'", "join them"
    ),
    "sensors that move": Case(
        "speeds.csv",
        csv("2012-03-01T00:00,7,60,52.1,13.4", "2012-03-01T00:05,7,60,52.2,13.4", header="time,sensor,speed,lat,lon"),
        "lat of sensor '7'",
        "with --graph",
    ),
    "a column of words": Case(
        "speeds.csv", csv("2012-03-01T00:00,7,60,dry", header="time,sensor,speed,road"), "'dry'", "take the column out"
    ),
    "JSON": Case("speeds.json", b'{"time": [1], "a": [2]}\n', "is JSON", "as CSV"),
    "archive of two tables": Case(
        "speeds.zip",
        zipped(a=b"time,1\n2012-03-01,4\n2012-03-02,5\n", b=b"time,1\n2012-03-01,4\n2012-03-02,6\n"),
        "a and b: speed of sensor 1 at 2012-03-02T00:00:00 is 5 and 6",
        "take one of the files away",
    ),
    "Excel": Case("speeds.xlsx", zipped(**{"xl/workbook.xml": b"<workbook/>"}), "Excel", "save the sheet"),
    "headerless table": Case("speeds.csv", b"1330560000,60,61\n1330560300,60,61\n", "numbers alone", "header"),
    "line cut off": Case("speeds.csv", csv("2012-03-01T00:00,60,61", "2012-03-01T00:05,6"), "2 cells in line 3", "cut"),
    "words for readings": Case("speeds.csv", csv("2012-03-01T00:00,up,down"), "'up'", "call it sensor_id"),
    "no reading at all": Case(
        "speeds.csv", csv("2012-03-01T00:00,,", "2012-03-01T00:05,,"), "single reading", "export"
    ),
    "one row": Case("speeds.csv", csv("2012-03-01T00:00,60,61"), r"1 row\(s\)", "longer recording"),
    "american dates": Case(
        "speeds.csv", csv("03/01/2012 00:00,60,61"), r"'03/01/2012 00:00' as a time \(line 2\)", "time column"
    ),
    "row numbers for times": Case("speeds.csv", csv("0,60,61", "1,60,61"), "'0' as a time", "row numbers"),
    "times going back": Case(
        "speeds.csv",
        csv("2012-03-01T00:05,60,61", "2012-03-01T00:00,60,61"),
        r"followed by .* \(line 3\)",
        "sort the rows",
    ),
    "time twice": Case(
        "speeds.csv",
        csv("2012-03-01T00:05,60,61", "2012-03-01T00:05,60,61"),
        r"occurs twice \(line 3\)",
        "repeated row",
    ),
    "offsets in some times": Case(
        "speeds.csv", csv("2012-03-01T00:00,60,61", "2012-03-01T00:05Z,60,61"), "and then", "one form"
    ),
    "clocks set forward": Case("speeds.csv", csv(*HOUR), "02:55:00 is followed by.*03:00:00", "--timezone UTC", ZONE),
    "unknown time zone": Case("speeds.csv", csv(*HOUR), "time zone 'Mars/Base'", "correct the name", "Mars/Base"),
    "times off the grid": Case("speeds.csv", csv(*OFF_GRID), "00:15:00Z and then", "round the times"),
    "sensor twice": Case(
        "speeds.csv",
        csv("2012-03-01T00:00,1,2", "2012-03-01T00:05,1,2", header="time,11,11"),
        "'11' more than",
        "rename",
    ),
    "sensor without a name": Case(
        "speeds.csv", csv("2012-03-01T00:00,1,2", "2012-03-01T00:05,1,2", header="time,11,"), "without an id", "name or"
    ),
    "long form, reading twice": Case(
        "counts.csv",
        csv("2012-03-01T00:00,11,2", "2012-03-01T00:00,11,3", header="timestamp,sensor_id,flow"),
        "more than once at",
        "repeated rows",
    ),
    "long form without times": Case(
        "counts.csv", csv("11,2", header="sensor_id,flow"), "columns sensor_id", "name the"
    ),
    "readings in the place of a header": Case("los_speed.csv", days(3, 4), "60.5 in its first line", "with its header"),
    "PeMSD7 that lost its first row": Case("PeMSD7_V_2.csv", days(2, 287), "287 rows", "loses the first row"),
    "PeMSD7 with a header": Case(
        "PeMSD7_V_3.csv", days(3, 288, "0,1,2\n"), "header of column numbers", "without a header"
    ),
    "PeMSD7 with an index": Case("PeMSD7_V_2.csv", days(3, 288), "3 columns", "row numbers"),
    "PEMS0x under another name": Case(
        "data.npz", npz(data=np.zeros((3, 2, 1))), "holds no times", "give the file that"
    ),
    "PEMS0x without sensors": Case("PEMS04.npz", npz(data=np.zeros((3, 2))), "float64 \\(3, 2\\)", "as its authors"),
    "PEMS03.txt of another network": Case(
        "PEMS03.npz",
        npz(data=np.ones((3, 2, 1))),
        "3 sensor ids beside",
        "take PEMS03.txt",
        beside=("PEMS03.txt", b"1\n2\n3\n"),
    ),
    "npz of something else": Case("digits.npz", npz(images=np.zeros(3)), "with the keys images", "convert"),
    "npz of Python objects": Case(
        "own.npz", own(sensor_ids=np.array(["a", None], object)), "damaged npz", "make it again"
    ),
    "npz whose shapes disagree": Case("own.npz", own(scale=np.ones(3)), r"scale \(3,\)", "make the file again"),
    "npz cut off": Case("own.npz", own()[:-60], "damaged npz.*zip", "size or checksum"),
    "HDF5 cut off": Case("metr-la.h5", frame()[:900], "damaged or foreign HDF5", "copy it again"),
    "HDF5 with two frames": Case("metr-la.h5", frame(keys=("a", "b")), r"2 pandas frame\(s\)", "frame alone"),
    "HDF5 without times": Case("metr-la.h5", frame(kind="integer"), "index of kind 'integer'", "as CSV"),
    "HDF5 of mixed columns": Case("metr-la.h5", frame(items=(b"11",)), "several types", "as CSV"),
    "Parquet cut off": Case("speeds.parquet", b"PAR1" + bytes(40), "damaged Parquet", "copy it again"),
}

GRAPHS: dict[str, Case] = {
    "empty graph": Case("roads.csv", b"", "is empty", "copy the file"),
    "web page instead of a graph": Case(
        "adj_mx.pkl.html", b"<html><p>404</p></html>", "HTML", "download the file itself"
    ),
    "readings for a graph": Case("speeds.csv", LINE_OF_16, "40 rows and 16 columns", "comma-separated"),
    "graph of unknown kind": Case("graph.bin", b"\x89HDF\r\n\x1a\n\xff", "binary file", "give one of these"),
    "edges cut off": Case("roads.csv", b"from,to,weight\n11,12,1\n12,1", "line 3: 2 columns", "complete the line"),
    "header and no edges": Case("roads.csv", b"from,to,weight\n", "no edges", "copy the file"),
    "negative weight": Case(
        "roads.csv", b"from,to,weight\n11,12,-1\n12,13,1\n", "line 2, column 3: '-1'", "correct the cell"
    ),
    "negative weight in a matrix": Case("graph.npy", npy(NEAR - 0.1), r"\[0, 2\] is -0.1", "use 0"),
    "NaN in a matrix": Case("graph.npy", npy(np.where(NEAR == 0.5, np.nan, NEAR)), r"\[0, 1\] is nan", "use 0"),
    "matrix that is not square": Case("graph.npy", npy(NEAR[:2]), r"shape \[2, 3\]", "one row per sensor"),
    "matrix of words": Case("graph.npy", npy(np.full((2, 2), "near")), "matrix of <U4", "float32"),
    "distances as weights": Case(
        "roads.csv", b"from,to,weight\n11,12,850\n12,13,1200\n", "weight of 1200", "from,to,distance"
    ),
    "distances as a sparse matrix": Case(
        "graph.npy", npy(np.diag([850.0] * 5, 1)), "weight of 850", "full matrix of metres"
    ),
    "weights as distances": Case(
        "roads.csv",
        b"from,to,distance\n11,11,1\n11,12,0.4\n12,13,0.2\n",
        "distance of 1 from sensor 11 to itself",
        "weight",
    ),
    "distances in kilometres": Case(
        "graph.npy", npy(np.abs(np.subtract.outer(np.arange(9.0), np.arange(9.0)))), "distances up to 8", "by 1000"
    ),
    "positions of no sensor": Case(
        "places.csv", b"sensor_id,latitude,longitude\n", "a header and no positions", "copy the file again"
    ),
    "latitude and longitude exchanged": Case(
        "places.csv", b"sensor_id,latitude,longitude\n11,-118.3,34.1\n", "latitude -118.3", "exchange"
    ),
    "place twice": Case("places.csv", b"id,lat,lng\n11,34.1,-118\n11,34.2,-118\n", "sensor 11 twice", "take one"),
    "place without a number": Case("places.csv", b"id,lat,lng\n11,34.1,\n", "line 2, column 3: ''", "correct the cell"),
    "rows in another order than columns": Case(
        "graph.csv", b",11,12,13\n11,0,1,1\n13,1,0,1\n12,1,1,0\n", "rows name other sensors", "make it again"
    ),
    "matrix of another network": Case(
        "graph.npy", npy(NEAR), "a matrix of 3 sensors", "same sensors", wanted=["a", "b"]
    ),
    "sensors of another network": Case(
        "roads.csv",
        b"from,to,weight\n21,22,1\n22,23,1\n",
        r"3 of 3 sensors are not in the graph \(11, 12, 13\)",
        "recording's own network",
        wanted=IDS,
    ),
    "a sensor that the graph lacks": Case(
        "roads.csv", b"from,to,weight\n11,12,1\n", r"1 of 3 sensors are not in the graph \(13\)", "add them", wanted=IDS
    ),
    "positions of another network": Case(
        "PEMS08.csv", b"from,to,cost\n0,1,300\n1,0,200\n", "a network of 2 sensors", "graph of this network", wanted=IDS
    ),
    "ids for a recording without ids": Case(
        "PEMS03.csv", b"from,to,distance\n317842,318711,0.8\n", "such as 317842", "PEMS03.txt", wanted=["0", "1"]
    ),
    "recording that names a sensor twice": Case(
        "graph.npy", npy(NEAR), "11 twice", "take one", wanted=["11", "11", "13"]
    ),
    "npz without a graph": Case("own.npz", npz(speed=NEAR), "with speed", "add them"),
    "graph npz cut off": Case("graph.npz", npz(adjacency=NEAR, sensor_ids=IDS)[:-50], "zip", "copy the file again"),
    "graph npz with too few ids": Case(
        "graph.npz", npz(adjacency=NEAR, sensor_ids=IDS[:2]), "2 sensor ids for a matrix of 3", "make the file again"
    ),
    "pickle of something else": Case("adj_mx.pkl", pickle.dumps({"adj": NEAR}), "pickle of dict", "as DCRNN writes it"),
    "pickle cut off": Case("adj_mx.pkl", pickle.dumps([IDS, {}, NEAR])[:60], "adj_mx.pkl: ", "copy the file again"),
    "pickle whose index disagrees": Case(
        "adj_mx.pkl", pickle.dumps([IDS, {"11": 1, "12": 0, "13": 2}, NEAR]), "index disagrees", "make the file again"
    ),
    "pickle that runs a command": Case(
        "adj_mx.pkl", pickle.dumps([IDS, {}, os.system]), r"asks for (posix|nt)\.system", "do not trust"
    ),
    "LargeST metadata of another area": Case(
        "sd_rn_adj.npy",
        npy(NEAR),
        "2 sensor ids for a matrix of 3",
        "make the file again",
        beside=("sd_meta.csv", b"ID,Lat,Lng\n11,34.1,-118\n12,34.2,-118\n"),
    ),
    "LargeST metadata without places": Case(
        "sd_rn_adj.npy",
        npy(NEAR),
        "with the columns ID, Fwy",
        "where the graph comes from",
        beside=("sd_meta.csv", b"ID,Fwy\n11,I5\n12,I5\n13,I5\n"),
    ),
}


def refused(case: Case, folder: Path, read: Callable[[Path, Case], object]) -> DataError:
    path = folder / case.name
    path.write_bytes(case.content)
    if case.beside is not None:
        (folder / case.beside[0]).write_bytes(case.beside[1])
    with pytest.raises(DataError) as caught:
        read(path, case)
    assert type(caught.value) is DataError
    return caught.value


def read_recording(path: Path, case: Case) -> object:
    return read_series(path, timezone=case.zone)


def read_network(path: Path, case: Case) -> object:
    return read_graph(path, case.wanted)


ALL = {name: (case, read_recording) for name, case in RECORDINGS.items()}
ALL |= {name: (case, read_network) for name, case in GRAPHS.items()}


@pytest.mark.parametrize("kind", ALL)
def test_it_is_refused_with_its_reason_and_a_remedy(kind: str, tmp_path: Path) -> None:
    case, read = ALL[kind]

    error = refused(case, tmp_path, read)

    assert re.search(case.came, error.came, re.S), error
    assert re.search(case.action, error.action), error
    assert error.expected
    named = [Path(case.name).stem, *([] if case.beside is None else [case.beside[0]])]
    # A sensor, a zone or a cell can be the thing that is wrong; otherwise the message names the file.
    thing = re.search(r"sensor|time zone|latitude|'03/01", error.came)
    assert thing or any(name in error.came for name in named), error


def test_no_two_kinds_share_a_message(tmp_path: Path) -> None:
    assert len(ALL) == len(RECORDINGS) + len(GRAPHS) >= 30
    same: dict[str, list[str]] = {}
    for number, (kind, (case, read)) in enumerate(ALL.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        error = refused(case, folder, read)
        # Apart from names and numbers: another line or another sensor does not make it another message.
        said = re.sub(r"[\w.-]+\.(csv|npy|npz|h5|pkl|txt|parquet|bin|html)\b|\d+", "#", str(error))
        same.setdefault(said, []).append(kind)
    repeated = sorted(kinds for kinds in same.values() if len(kinds) > 1)
    assert repeated == []
