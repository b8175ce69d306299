"""Which column of a table of one's own is the time, which the sensor, which a reading, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.data_files import read_data_file
from stunet_deploy.errors import DataError
from stunet_deploy.series.series import read_series
from stunet_deploy.series.times import parse_time, parse_times

T0 = 1_330_560_000
LONG = [(time, sensor) for time in ("2012-03-01T00:00", "2012-03-01T00:05") for sensor in ("7", "8")]


class Table(NamedTuple):
    """A text table, and what it holds."""

    content: str
    sensors: tuple[str, ...]
    features: tuple[str, ...] = ("speed",)
    note: str = ""


def long(header: str, *columns: Any, rows: int = 4) -> str:
    """Return a table of long form; a column is a function of the number of the row and its time and sensor."""
    lines = [",".join(str(column(row, *LONG[row])) for column in columns) for row in range(rows)]
    return "\n".join([header, *lines, ""])


def time(row: int, when: str, sensor: str) -> str:
    return when


def who(row: int, when: str, sensor: str) -> str:
    return sensor


def number(row: int, when: str, sensor: str) -> str:
    return str(row)


def speed(row: int, when: str, sensor: str) -> str:
    return str(60.5 + row * row)


def day(*header: str, extra: str = "") -> str:
    """Return two sensors over 30 intervals in long form, with more cells in every row."""
    rows = [
        f"{parse_time('2012-03-01') + 300 * interval},{sensor},{60 + (7 * interval) % 11}{extra}"
        for interval in range(30)
        for sensor in (7, 8)
    ]
    return "\n".join([",".join(header), *rows, ""])


TABLES = {
    "row numbers without a name": Table(
        long(",timestamp,sensor_id,speed", number, time, who, speed), ("7", "8"), note="column 1 left out: it numbers"
    ),
    "row numbers as pandas reads them back": Table(
        long("timestamp,sensor_id,speed,Unnamed: 0", time, who, speed, number), ("7", "8"), note="numbers the rows"
    ),
    "row numbers of a wide table": Table(
        ",time,7,8\n0,2012-03-01T00:00,60,61\n1,2012-03-01T00:05,62,63\n", ("7", "8"), note="numbers the rows"
    ),
    "index of times without a name": Table(",7,8\n2012-03-01,60,61\n2012-03-02,62,63\n", ("7", "8")),
    "upper case": Table(long("Timestamp,Sensor_ID,Speed", time, who, speed), ("7", "8"), ("Speed",)),
    "stations": Table(long("datetime,station,speed", time, who, speed), ("7", "8")),
    "detectors last": Table(long("speed,date,Detector ID", speed, time, who), ("7", "8")),
    "sensor_id before other names": Table(
        long("time,site,sensor_id,speed", time, number, who, speed), ("7", "8"), ("site", "speed")
    ),
    "numbers that a database gives its rows": Table(
        long("id,time,station,speed", number, time, who, speed), ("7", "8"), note="column id left out: it numbers"
    ),
    "a wide table with a sensor called Link": Table(
        "time,North,Link\n2012-03-01,60.5,61.5\n2012-03-02,62.5,63.5\n", ("North", "Link")
    ),
    "ids that were numbers once": Table(
        "time,sensor,speed\n2012-03-01,7.0,60\n2012-03-01,8,61\n2012-03-02,7,62\n2012-03-02,8.0,63\n", ("7", "8")
    ),
    "commas in names and numbers": Table(
        "time;Main St, north;Main St, south\n2012-03-01;60,5;61,5\n2012-03-02;62,5;63,5\n",
        ("Main St, north", "Main St, south"),
    ),
    "quotes after a blank": Table('time, "7", "8"\n2012-03-01, 60, 61\n2012-03-02, 62, 63\n', ("7", "8")),
    "ids like dates": Table(
        "timestamp,sensor_id,speed\n2012-03-01,20120305,60\n2012-03-02,20120305,62\n", ("20120305",)
    ),
    "timestamp before other times": Table(
        long("received,timestamp,sensor,speed", time, time, who, speed), ("7", "8"), note="'received' left out"
    ),
    "nothing beside the numbers": Table("time;7;8;\n2012-03-01;60,5;61;\n2012-03-02;62;63,25;\n", ("7", "8")),
    "names in quotes of a program": Table('time,\'7\',"=""8"""\n2012-03-01,60,61\n2012-03-02,62,63\n', ("7", "8")),
    "ids in quotes of a program": Table(
        'time,sensor,speed\n2012-03-01,"=""007""",60\n2012-03-02,\'007\',62\n', ("007",)
    ),
    "lines that end in a return alone": Table("time,7,8\r2012-03-01,60,61\r2012-03-02,62,63\r", ("7", "8")),
    "the calendar beside a wide table": Table(
        "time,Hour,weekday,7,8\n2012-03-01,0,Thu,60,61\n2012-03-02,0,Fri,62,63\n",
        ("7", "8"),
        note="column Hour left out",
    ),
    "holidays beside a wide table": Table(
        "time,holiday,7,8\n2012-03-01,0,60,61\n2012-03-02,1,62,63\n",
        ("7", "8"),
        note="holiday left out: it is no sensor",
    ),
    "the calendar in a long table": Table(
        long("time,station,speed,day_of_week", time, who, speed, lambda *_: "4"),
        ("7", "8"),
        note="the time says so, too",
    ),
    "a blank line first": Table("\n\ntime,7,8\n2012-03-01,60,61\n2012-03-02,62,63\n", ("7", "8")),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_column_has_its_role(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    path = tmp_path / "own.csv"
    path.write_bytes(table.content.encode())

    series = read_series(path)

    assert (series.sensor_ids, series.features) == (table.sensors, table.features)
    assert table.note in series.source
    assert ("left out" in series.source) == bool(table.note)
    assert series.observed.all()
    assert 59 < series.values[..., -1].min() < series.values[..., -1].max() < 80
    assert read_data_file(path).kind == "recording"


@pytest.mark.parametrize("time", ["timestamp", "recorded", "von"])
def test_places_and_times_in_every_row_are_a_recording_to_every_verb(time: str, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = [f"{when},{who},52.{who},13.{who},{60 + number}" for number, (when, who) in enumerate(LONG)]
    path.write_text("\n".join([f"{time},sensor,latitude,longitude,speed", *rows]))
    found = read_data_file(path)
    assert found.kind == "recording"
    assert found.series is not None
    np.testing.assert_array_equal(found.series.values, read_series(path).values)
    assert found.series.latitude == pytest.approx((52.7, 52.8))


@pytest.mark.parametrize("cell", ["3", ""])
def test_what_never_changes_is_told_and_stays(cell: str, tmp_path: Path) -> None:
    """A model that reads it meets a recording in which nothing happened."""
    path = tmp_path / "own.csv"
    path.write_text(day("time", "sensor", "speed", "lanes", extra=f",{cell}"))

    series = read_series(path)

    assert series.features == ("speed", "lanes")
    assert "lanes never changes at a sensor" in series.source
    assert "speed never" not in series.source


def test_positions_in_every_row_are_those_of_the_sensors(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    place = {"7": "52.5,13.4", "8": "52.6,13.5"}
    rows = [f"{time},{sensor},{60 + number},{place[sensor]}" for number, (time, sensor) in enumerate(LONG)]
    path.write_text("\n".join(["time,sensor,speed,Latitude,lng", *rows]))

    found = read_data_file(path)

    assert found.kind == "recording"
    assert found.series is not None
    assert found.series.features == ("speed",)
    np.testing.assert_allclose(found.series.latitude or (), (52.5, 52.6), rtol=1e-6)
    np.testing.assert_allclose(found.series.longitude or (), (13.4, 13.5), rtol=1e-6)


@given(
    turns=st.lists(st.integers(0, 9), min_size=2, max_size=6, unique=True),
    interval=st.sampled_from([60, 300, 3600]),
    start=st.integers(0, 59),
    shift=st.integers(0, 10**6),
)
def test_sensors_that_are_read_in_turn_are_of_one_interval(
    turns: list[int], interval: int, start: int, shift: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each at its own second, which may lie before or after the full interval."""
    path = tmp_path_factory.getbasetemp() / "turns.csv"
    offsets = {f"s{turn}": turn * interval // 10 // 2 for turn in turns}
    rows = [
        f"{T0 + shift + start + offset + interval * row},{sensor},{row * row + offset}"
        for row in range(5)
        for sensor, offset in offsets.items()
    ]
    path.write_text("\n".join(["time,sensor,flow", *rows]))

    series = read_series(path)

    assert series.interval_s == interval
    assert series.timestamps.tolist() == [
        T0 + shift + start + min(offsets.values()) + interval * row for row in range(5)
    ]
    assert series.observed.all()
    for node, sensor in enumerate(series.sensor_ids):
        assert series.values[:, node, 0].tolist() == [row * row + offsets[sensor] for row in range(5)]
    assert "sensors are read in turn" in series.source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2017010122", "2017-01-01T22:00"),
        ("20250304", "2025-03-04"),
        ("20250304T0510", "2025-03-04T05:10"),
        ("202503040510", "2025-03-04T05:10"),
        ("20250304051030", "2025-03-04T05:10:30"),
        ("2025-03-04T05:10:30+0100", "2025-03-04T04:10:30"),
        ("20250304T051030-08", "2025-03-04T13:10:30"),
        ("1741065000", "2025-03-04T05:10"),
        ("1741065000.0", "2025-03-04T05:10"),
        ("1741065000000", "2025-03-04T05:10"),
        ("1741065000000000", "2025-03-04T05:10"),
        ("1741065000123456789", "2025-03-04T05:10"),
    ],
)
def test_one_parser_reads_the_times_of_files_and_options(text: str, expected: str) -> None:
    assert parse_time(text) == parse_time(f"{expected}Z")


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "12",
        "19691231",
        "20251399",
        "2025030424",
        "2503030005",
        "030320250005",
        "42000",
        "1e30",
        "nan",
        "-1741065000",
    ],
)
def test_a_number_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="as a time"):
        parse_time(text)


def test_hours_from_1_to_24_are_no_seconds_of_the_year_2034() -> None:
    with pytest.raises(DataError, match=r"'2025030424' as a time \(row 2\)"):
        parse_times(["2025030423", "2025030424"], "own.csv")


def test_a_column_without_a_name_must_stay_empty(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = [f"{T0 + 300 * row},60,61," for row in range(80)]
    path.write_text("\n".join(["time,7,8,", *rows, f"{T0 + 300 * 80},60,61,9"]))

    with pytest.raises(DataError, match=r"'9' in column 4, which has no name \(line 82\)"):
        read_series(path)


def test_repeated_times_of_a_wide_table_ask_for_the_sensor(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(long("time,where,speed", time, who, speed))

    with pytest.raises(DataError, match="call the column that says which one sensor_id"):
        read_series(path)


class TestParquet:
    """The same of columns with types, as pandas writes them."""

    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def read(self, tmp_path: Path, **columns: Any) -> Any:
        path = tmp_path / "own.parquet"
        self.parquet.write_table(self.pyarrow.table(columns), path)
        return read_series(path)

    def times(self, count: int = 2, each: int = 1) -> Any:
        seconds = [T0 + 300 * (row // each) for row in range(count)]
        return self.pyarrow.array(seconds, self.pyarrow.timestamp("s"))

    def test_an_index_of_row_numbers_is_left_out(self, tmp_path: Path) -> None:
        series = self.read(
            tmp_path, sensor=[7, 8, 7, 8], time=self.times(4, 2), speed=[1.0, 2.0, 3.0, 5.0], index=[0, 1, 2, 3]
        )
        assert (series.sensor_ids, series.features) == (("7", "8"), ("speed",))
        assert "column index left out: it numbers the rows" in series.source

    def test_the_index_of_a_part_of_a_frame_is_none_of_its_sensors(self, tmp_path: Path) -> None:
        series = self.read(tmp_path, a=[1.0, 2.0], time=self.times(), __index_level_0__=[3, 17])
        assert series.sensor_ids == ("a",)

    def test_an_index_of_times_without_a_name_is_the_time(self, tmp_path: Path) -> None:
        series = self.read(tmp_path, a=[1.0, 2.0], b=[3.0, 4.0], __index_level_0__=self.times())
        assert (series.sensor_ids, series.interval_s) == (("a", "b"), 300)

    def test_numbers_as_text_and_missing_ones_are_read(self, tmp_path: Path) -> None:
        series = self.read(tmp_path, time=self.times(), a=["1.5", "NA"], b=["2", "3"])
        assert series.observed[..., 0].tolist() == [[True, True], [False, True]]
        assert series.values[..., 0].tolist() == [[1.5, 2.0], [0.0, 3.0]]

    def test_categories_and_dates_are_read(self, tmp_path: Path) -> None:
        sensors = self.pyarrow.array(["a", "b", "a", "b"]).dictionary_encode()
        dates = self.pyarrow.array([15_400, 15_400, 15_401, 15_401], self.pyarrow.date32())
        series = self.read(tmp_path, Station=sensors, date=dates, flow=[1, 2, None, 4])
        assert (series.sensor_ids, series.features, series.interval_s) == (("a", "b"), ("flow",), 86_400)
        assert series.observed[..., 0].tolist() == [[True, True], [False, True]]

    def test_two_levels_of_columns_are_refused(self, tmp_path: Path) -> None:
        columns = {"('S0', 'flow')": [1.0, 2.0], "('S0', 'speed')": [1.0, 2.0], "time": self.times()}
        with pytest.raises(DataError, match=r"columns have two levels.*sensor_id"):
            self.read(tmp_path, **columns)

    def test_words_and_lists_are_refused(self, tmp_path: Path) -> None:
        for cells in (["wet", "dry"], [[1], [2]]):
            with pytest.raises(DataError, match="in column 'road'"):
                self.read(tmp_path, time=self.times(), speed=[1.0, 2.0], road=cells)
