"""A folder or an archive of several files is one recording, whatever the order in which they lie."""

from __future__ import annotations

import gzip
import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.cli.train import find_graph
from stunet_deploy.data_files import read_data_file
from stunet_deploy.errors import DataError
from stunet_deploy.series.series import Series, read_series
from tests.stunet_deploy.series.layouts.field_files import PLACES, write_libcity, write_meta, write_pems

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def wide(day: int, sensors: str = "AB", first: int = 0, rows: int = 288, sign: int = 1, minutes: int = 5) -> str:
    """A day in March of sensors in columns; a reading is told by day, row and sensor."""
    lines = [",".join(["time", *sensors])]
    for row in range(first, first + rows):
        numbers = [f"{sign * (1000 * day + row + ord(sensor) / 256)}" for sensor in sensors]
        lines.append(f"2025-03-{day:02d}T{row * minutes // 60:02d}:{row * minutes % 60:02d},{','.join(numbers)}")
    return "\n".join([*lines, ""])


def zipped(path: Path, folder: Path, within: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{within}{file.name}")
        archive.writestr("__MACOSX/._a.csv", b"\0")
    return path


def same(one: Series, other: Series) -> None:
    assert one.site == other.site
    for name in ("values", "observed", "timestamps"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("names", list(itertools.permutations(("a.csv", "b.csv", "c.csv"))))
def test_days_are_put_in_order_whatever_their_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = tmp_path / "days"
    folder.mkdir()
    for day, name in enumerate(names, 3):
        (folder / name).write_text(wide(day))
    (tmp_path / "whole.csv").write_text(wide(3) + "".join(wide(day).partition("\n")[2] for day in (4, 5)))

    series = read_series(folder, timezone="Europe/Berlin")

    same(series, read_series(tmp_path / "whole.csv", timezone="Europe/Berlin"))
    assert series.source.startswith(f"days (3 files, {names[0]} to {names[2]}: CSV, one column per sensor)")
    assert series.segments() == [slice(0, 3 * 288)]
    same(read_series(zipped(tmp_path / "flat.zip", folder), timezone="Europe/Berlin"), series)
    same(read_series(zipped(tmp_path / "nested.zip", folder, "top/"), timezone="Europe/Berlin"), series)
    assert read_data_file(folder, timezone="Europe/Berlin").kind == "recording"


def test_every_kind_of_file_may_lie_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(wide(3))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(wide(4).encode()))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("c.csv", wide(5))
    times = pyarrow.array([f"2025-03-06T00:{minute:02d}" for minute in range(0, 60, 5)])
    parquet.write_table(pyarrow.table({"time": times, "A": [1.5] * 12, "B": [2.5] * 12}), tmp_path / "d.parquet")

    series = read_series(tmp_path)

    assert len(series.timestamps) == 3 * 288 + 12
    assert series.observed.all()
    assert series.values[-1, :, 0].tolist() == [1.5, 2.5]


def test_sensors_that_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(wide(3, "BA"))
    (tmp_path / "b.csv").write_text(wide(4, "CB"))

    series = read_series(tmp_path)

    assert series.sensor_ids == ("B", "A", "C")
    assert series.observed[:288].all(axis=(0, 2)).tolist() == [True, True, False]
    assert series.observed[288:].all(axis=(0, 2)).tolist() == [True, False, True]
    assert "1 sensor(s) not yet in a.csv, such as C" in series.source
    assert "1 sensor(s) no longer in b.csv, such as A" in series.source


def test_readings_that_stand_alike_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(wide(3).replace("3287.2578125", ""))
    (tmp_path / "b.csv").write_text(wide(3, first=280, rows=8).replace("3286.2578125", ""))
    (tmp_path / "c.csv").write_text(wide(4))
    (tmp_path / "copy of c.csv").write_text(wide(4))

    series = read_series(tmp_path)

    assert series.observed.all()
    assert f"{2 * 8 - 2 + 2 * 288} readings stand alike in two files" in series.source


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(wide(3))
    for name in (".DS_Store", "README.txt", "map.png", "adj.npy"):
        (tmp_path / name).write_bytes(b"\0\1")
    (tmp_path / "roads.csv").write_text("from,to,distance\nA,B,5\n")
    (tmp_path / "places.csv").write_text("id,lat,lon\nA,5,6\n")
    (tmp_path / "2024").mkdir()

    assert "not read as such: .DS_Store, 2024/, README.txt, adj.npy, map.png, places.csv, roads.csv" in (
        read_series(tmp_path).source
    )
    (tmp_path / "notes.txt").write_text("what we did in March\n")
    with pytest.raises(DataError, match=r"notes.txt with a single column.*if it is no recording, move it elsewhere"):
        read_series(tmp_path)


def test_a_recording_with_positions_is_no_list_of_them(tmp_path: Path) -> None:
    rows = [f"2025-03-03 00:{minute:02d},{sensor},50.5,8.5,60" for minute in range(0, 60, 5) for sensor in "AB"]
    (tmp_path / "a.csv").write_text("\n".join(["Zeitpunkt,sensor_id,lat,lon,speed", *rows]))
    (tmp_path / "b.csv").write_text("\n".join(["Zeitpunkt,sensor_id,lat,lon,speed", *rows]).replace("-03 ", "-04 "))

    series = read_series(tmp_path)

    assert series.latitude == (50.5, 50.5)
    assert int(series.observed.sum()) == 2 * len(rows)


def test_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "2024").mkdir()
    (tmp_path / "2025").mkdir()
    with pytest.raises(DataError, match=r"without a recording \(2024/, 2025/\).*give the folder in which they lie"):
        read_series(tmp_path)


LONG = "timestamp,sensor_id,flow\n" + "".join(f"2025-03-04T00:{row:02d},A,{row}\n" for row in range(0, 60, 5))
DIFFERENT: dict[str, tuple[str, str]] = {
    "another reading": (
        wide(3, first=280, rows=8, sign=-1),
        "a.csv and b.csv: speed of sensor A at 2025-03-03T23:20:00",
    ),
    "features": (LONG, "a.csv and b.csv: the features speed and flow"),
    "interval": (wide(4, rows=24, minutes=10), "a.csv and b.csv: intervals of 300 and 600 s"),
    "offset": ("time,A,B\n2025-03-04T00:02,1,2\n2025-03-04T00:07,1,2\n", "a.csv and b.csv: times that are no whole"),
    "zone": (LONG.replace("flow", "speed").replace(",A", "Z,A"), "a.csv and b.csv: UTC or wall-clock times"),
    "order": ("time,A,B\n2025-03-04T00:05,1,2\n2025-03-04T00:00,1,2\n", "b.csv: 2025-03-04T00:05:00 is followed by"),
    "positions": ("time,0,1\n2025-03-05T00:00,1,2\n2025-03-05T00:05,1,2\n", "sensors that are known by their position"),
    "damage": (wide(4) + "2025-03-05\n", "b.csv: 1 cells in line 290"),
}


def test_files_that_are_named_by_two_quantities_are_refused(tmp_path: Path) -> None:
    (tmp_path / "speed_monday.csv").write_text(wide(3))
    (tmp_path / "volume_tuesday.csv").write_text(wide(4))
    with pytest.raises(DataError, match="names that say speed and volume"):
        read_series(tmp_path)


@pytest.mark.parametrize("case", DIFFERENT)
def test_files_that_are_not_one_recording_are_refused(tmp_path: Path, case: str) -> None:
    content, came = DIFFERENT[case]
    (tmp_path / "a.csv").write_text(wide(3))
    (tmp_path / "b.csv").write_text(content)

    with pytest.raises(DataError) as refused:
        read_series(tmp_path)

    assert came in refused.value.came


@pytest.mark.parametrize("pack", [lambda path: path, lambda path: zipped(path.with_suffix(".zip"), path)])
def test_days_of_pems_with_their_list_of_stations(tmp_path: Path, pack: Callable[[Path], Path]) -> None:
    folder = tmp_path / "pems"
    folder.mkdir()
    for day in ("2018-01-30", "2018-01-31", "2018-02-01"):
        write_pems(
            folder,
            day,
            give=lambda station, slot, full=day[-1] != "1": ("100" if full or slot else "0", "9", ".1", "60"),
        )
    write_meta(folder, "2018-01-15")

    series = read_series(pack(folder))

    assert series.values.shape == (3 * 288, 3, 3)
    assert series.segments() == [slice(0, 3 * 288)]
    assert series.timezone == "America/Los_Angeles"
    assert series.latitude == tuple(north for north, _ in PLACES.values())
    assert "positions of d04_text_meta_2018_01_15.txt;" in series.source
    assert "estimated by PeMS (less than 50 % observed) read as missing (in 2 of 3 files)" in series.source
    assert "nearest" in find_graph(None, folder, series).source


def test_a_folder_or_an_archive_of_libcity_brings_its_graph(tmp_path: Path) -> None:
    folder = tmp_path / "METR_LA"
    folder.mkdir()
    path = write_libcity(folder)
    alone = read_series(path)
    for data in (folder, zipped(tmp_path / "METR_LA.zip", folder, "METR_LA/")):
        series = read_series(data)
        same(series, alone)
        assert find_graph(None, data, series).made_from == "distances"
        assert read_data_file(data).kind == "recording with graph"
    (folder / "other.rel").write_text((folder / "METR_LA.rel").read_text())
    with pytest.raises(DataError, match="choose it with --graph"):
        find_graph(None, folder, alone)
