"""Files of the PeMS Data Clearinghouse, as its description and public code say they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from stunet_deploy.data_files import read_data_file
from stunet_deploy.errors import DataError
from stunet_deploy.graph.files import read_graph
from stunet_deploy.series.series import read_series
from stunet_deploy.series.times import parse_time
from tests.stunet_deploy.series.layouts.field_files import PLACES, STATIONS, reading, write_meta, write_pems

ZONE = "America/Los_Angeles"


def test_a_day_of_stations(tmp_path: Path) -> None:
    path = write_pems(tmp_path, "2018-01-08")

    series = read_series(path)

    assert series.sensor_ids == STATIONS
    assert (series.features, series.units) == (("flow", "occupancy", "speed"), ("veh/5 min", "share", "mph"))
    assert (series.timezone, series.interval_s, series.stamp) == (ZONE, 300, "start")
    assert (len(series.timestamps), series.timestamps[0]) == (288, parse_time("2018-01-08T08:00Z"))
    assert series.observed.all()
    told = [[[float(cell) for cell in reading(station, slot)[1:]] for station in STATIONS] for slot in range(288)]
    np.testing.assert_allclose(series.values, told, rtol=1e-6)
    assert (series.latitude, series.longitude) == (None, None)
    assert read_data_file(path).kind == "recording"


def test_another_zone_may_be_given(tmp_path: Path) -> None:
    path = write_pems(tmp_path, "2018-01-08")
    assert read_series(path, timezone="UTC").timestamps[0] == parse_time("2018-01-08T00:00Z")


def test_packed_it_reads_alike(tmp_path: Path) -> None:
    path = write_pems(tmp_path, "2018-01-08")
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_series(packed).values, read_series(path).values)


@pytest.mark.parametrize(
    ("observed", "is_read"), [("0", False), ("49", False), ("50", True), ("75", True), ("", False)]
)
def test_what_pems_estimated_is_unobserved(tmp_path: Path, observed: str, is_read: bool) -> None:
    path = write_pems(
        tmp_path, "2018-01-08", give=lambda station, slot: ((observed, *reading(station, slot)[1:])
                                                            if slot == 5 else reading(station, slot))
    )  # fmt: skip

    series = read_series(path)

    assert (series.observed[5] == is_read).all()
    assert np.delete(series.observed, 5, axis=0).all()
    assert ("estimated by PeMS" in series.source) is not is_read


def test_a_ramp_counts_and_has_no_speed_and_a_silent_station_stays(tmp_path: Path) -> None:
    def give(station: str, slot: int) -> tuple[str, str, str, str]:
        if station == STATIONS[1]:
            return "100", "7", "", ""
        return ("0", "", "", "") if station == STATIONS[2] else reading(station, slot)

    series = read_series(write_pems(tmp_path, "2018-01-08", give=give))

    assert series.observed.all(axis=0).tolist() == [[True] * 3, [True, False, False], [False] * 3]
    assert "1 of 3 sensors without a single reading" in series.source


def test_a_month_by_the_hour(tmp_path: Path) -> None:
    series = read_series(write_pems(tmp_path, "2018-01-01", minutes=60, days=31))

    assert (series.interval_s, series.units[0], len(series.timestamps)) == (3600, "veh/h", 31 * 24)


def test_days_on_which_clocks_change(tmp_path: Path) -> None:
    def spring(station: str, slot: int) -> tuple[str, str, str, str]:
        return ("0", "9", ".1", "60") if 24 <= slot < 36 else reading(station, slot)

    assert len(read_series(write_pems(tmp_path, "2018-03-11", give=spring)).timestamps) == 23 * 12
    autumn = read_series(write_pems(tmp_path, "2018-11-04"))
    assert len(autumn.timestamps) == 25 * 12
    assert int((~autumn.observed.any(axis=(1, 2))).sum()) == 12


def test_positions_of_the_list_beside_it(tmp_path: Path) -> None:
    path = write_pems(tmp_path, "2018-01-08")
    write_meta(tmp_path, "2017-01-01", PLACES | {"400001": (37.0, -121.0)})
    meta = write_meta(tmp_path, "2018-01-01")

    series = read_series(path)

    assert series.latitude is not None
    assert series.longitude is not None
    assert dict(zip(series.sensor_ids, zip(series.latitude, series.longitude, strict=True), strict=True)) == PLACES
    assert "positions of d04_text_meta_2017_01_01.txt, d04_text_meta_2018_01_01.txt" in series.source
    graph = read_graph(meta, series.sensor_ids)
    assert (graph.made_from, graph.sensor_ids) == ("positions", STATIONS)
    assert graph.latitude is not None
    assert graph.latitude.tolist() == list(series.latitude)
    only_placed = write_meta(tmp_path, "2019-01-01")
    only_placed.write_text("\n".join(only_placed.read_text().splitlines()[:-1]))
    assert read_data_file(only_placed).kind == "graph"


def test_a_station_without_a_position_is_named(tmp_path: Path) -> None:
    path = write_pems(tmp_path, "2018-01-08")
    places = dict(PLACES)
    del places["401817"]
    meta = write_meta(tmp_path, "2018-01-01", places)

    series = read_series(path)

    assert series.latitude is None
    assert "1 sensor(s) have none in d04_text_meta_2018_01_01.txt, such as 401817" in series.source
    with pytest.raises(DataError, match=r"1 of 3 sensors are not in the graph \(401817\)"):
        read_graph(meta, series.sensor_ids)


STATION = "01/08/2018 00:00:00,400001,4,101,N,ML,.4,80,100,40,.05,65.2\n01/08/2018 00:05:00,400001,4,101,N,ML,.4,80,100"
OTHERS = {
    "raw": ("01/08/2018 00:00:13,400001,5,.04,66\n", "a file of PeMS with 5 columns", "Station 5-Minute or"),
    "census": ("01/08/2018 00:00:00,400001,4,101,N,85,1,2,3,4,5,6,7\n", "a file of PeMS with 13 columns", "Station"),
    "day": (
        "01/08/2018 00:00:00,400001,4,101,N,ML,.4,80,100,40,.1,0,0,0\n"
        "01/09/2018 00:00:00,400001,4,101,N,ML,.4,80,100,41,.2,0,0,0\n",
        "rows every 86400 s",
        "Station 5-Minute or",
    ),
    "cut off": (STATION + "\n", "9 cells in line 2", "copy the file again"),
    "a word": (STATION + ",x,.05,65\n", "'x' as total flow (line 2)", "copy the file again"),
    "a wrong time": (
        STATION.replace("00:05", "24:05") + ",4,.05,65\n",
        "24:05:00' as time (line 2)",
        "correct the cell",
    ),
    "per cent": (STATION + ",4,5.5,65\n", "5.5 as average occupancy of station 400001", "gives it out"),
    "observed": (STATION.replace("80,100,", "80,101,") + ",4,.05,65\n", "101 as percentage observed", "gives it out"),
    "twice": (STATION.replace("00:05", "00:00") + ",4,.05,65\n", "'400001' more than once at 2018-01-08", "drop"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_files_and_faults_are_refused(tmp_path: Path, case: str) -> None:
    content, came, action = OTHERS[case]
    path = tmp_path / "d04_text_station_5min_2018_01_08.txt"
    path.write_text(content)

    with pytest.raises(DataError) as refused:
        read_series(path)

    assert came in refused.value.came
    assert action in refused.value.action
