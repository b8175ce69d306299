"""Sinks that write files: whole, once and in order, whatever becomes of the disk or the process."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from runtime.service import sinks
from runtime.service.config import CsvConfig, ParquetConfig
from runtime.service.file_sinks import COLUMNS, CsvSink, ParquetSink
from runtime.service.heartbeat import Heartbeat
from runtime.service.sinks import SinkError
from stunet_deploy.series.times import format_time

SENSORS = [f"s{node}" for node in range(5)]


def write_all(sink, forecasts):
    for forecast in forecasts:
        sink.write(forecast, Heartbeat(), patient=False)
    sink.flush(Heartbeat(), patient=False)
    sink.close()


def read_csv(folder):
    """Return the values [horizon, node] by time of issue of all files, each forecast once."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        header, *rows = csv.reader(path.read_text().splitlines())
        assert header == [*COLUMNS, *SENSORS]
        for issued, valid, minutes, target, degraded, *values in rows:
            assert (target, degraded) in {("speed", "0"), ("speed", "1")}
            key = (issued, float(minutes))
            assert key not in found
            assert valid > issued
            found[key] = np.array(values, np.float32)
    times = sorted({issued for issued, _ in found})
    return {issued: np.stack([found[issued, minutes] for minutes in (5, 10, 15)]) for issued in times}


def assert_all_there(found, forecasts):
    assert list(found) == [format_time(forecast.issued_s) for forecast in forecasts]
    for forecast in forecasts:
        np.testing.assert_array_equal(found[format_time(forecast.issued_s)], forecast.values[..., 0])


def test_csv_has_a_file_a_day_and_every_number_whole(tmp_path, forecasts):
    write_all(CsvSink(CsvConfig("csv", tmp_path / "out"), "ring"), forecasts)

    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    short = forecasts[0].bundle_id[:8]
    assert names == [f"ring-2012-03-01-{short}.csv", f"ring-2012-03-02-{short}.csv"]
    assert_all_there(read_csv(tmp_path / "out"), forecasts)


@pytest.mark.parametrize("cut", [1, 30, 100, 150])
def test_csv_cut_by_a_crash_goes_on_whole_and_nothing_is_there_twice(tmp_path, forecasts, cut):
    first, rest = forecasts[:3], forecasts[1:]
    write_all(CsvSink(CsvConfig("csv", tmp_path), "ring"), first)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut])

    write_all(CsvSink(CsvConfig("csv", tmp_path), "ring"), rest[1:])  # the last one comes again

    assert_all_there(read_csv(tmp_path), forecasts)


def test_csv_does_not_write_a_forecast_again_that_is_there(tmp_path, forecasts):
    for part in (forecasts[:3], forecasts[2:3], forecasts[2:]):
        write_all(CsvSink(CsvConfig("csv", tmp_path), "ring"), part)

    assert_all_there(read_csv(tmp_path), forecasts)


def test_parquet_has_whole_files_of_several_forecasts_each_once(tmp_path, forecasts):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_all(ParquetSink(ParquetConfig("parquet", tmp_path, 3), "ring"), forecasts[:5])
    write_all(ParquetSink(ParquetConfig("parquet", tmp_path, 3), "ring"), forecasts[4:])

    tables = [parquet.read_table(path) for path in sorted(tmp_path.iterdir())]
    assert [len(table) for table in tables] == [9, 6, 9]
    found = {}
    for table in tables:
        columns = table.to_pydict()
        values = np.stack([columns[sensor] for sensor in SENSORS], axis=-1).reshape(-1, 3, 5)
        for time, rows in zip(columns["issued_at"][::3], values, strict=True):
            assert format_time(int(time.timestamp())) not in found
            found[format_time(int(time.timestamp()))] = rows
    assert_all_there(found, forecasts)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(SinkError, match="file/out"):
        CsvSink(CsvConfig("csv", tmp_path / "file" / "out"), "ring")


@contextmanager
def limited(what, number):
    """Take the process's right to files larger than so many bytes (FSIZE), or to more descriptors (NOFILE)."""
    resource = pytest.importorskip("resource")
    kind = getattr(resource, f"RLIMIT_{what}")
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@contextmanager
def away(folder):
    """Take a folder away, as a disk that is unmounted."""
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    try:
        yield
    finally:
        elsewhere.rename(folder)


@pytest.fixture(autouse=True)
def restless(monkeypatch):
    """A sink that fails is tried again at once."""
    monkeypatch.setattr(sinks, "_REST", 0)


TROUBLE = {
    **{
        f"full but for {room} bytes": lambda folder, room=room: limited(
            "FSIZE", room + max((path.stat().st_size for path in folder.glob("*.csv")), default=0)
        )
        for room in (0, 1, 40, 300)
    },
    "gone": away,
    "no descriptor left": lambda folder: limited("NOFILE", 3),
}


def csv_sink(folder):
    return CsvSink(CsvConfig("csv", folder), "ring")


def parquet_sink(folder):
    pytest.importorskip("pyarrow")
    return ParquetSink(ParquetConfig("parquet", folder, 1), "ring")


def found_in(folder):
    """Return the values by time of issue of all files, each forecast once."""
    if any(folder.glob("*.csv")):
        return read_csv(folder)
    parquet = pytest.importorskip("pyarrow.parquet")
    found = {}
    for path in sorted(folder.iterdir()):
        columns = parquet.read_table(path).to_pydict()
        values = np.stack([columns[sensor] for sensor in SENSORS], axis=-1).reshape(-1, 3, 5)
        for time, rows in zip(columns["issued_at"][::3], values, strict=True):
            assert format_time(int(time.timestamp())) not in found
            found[format_time(int(time.timestamp()))] = rows
    return found


def write(sink, forecast):
    """Write a forecast; return the error, if there was one."""
    try:
        sink.write(forecast, Heartbeat(), patient=False)
    except SinkError as error:
        return error
    return None


@pytest.mark.parametrize("begun", [0, 2])
@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("make", [csv_sink, parquet_sink])
def test_what_a_disk_does_not_take_is_written_when_it_is_well(tmp_path, forecasts, make, trouble, begun):
    folder = tmp_path / "out"
    sink = make(folder)
    assert [write(sink, forecast) for forecast in forecasts[:begun]] == [None] * begun
    sink.close()  # else an open file is written without a descriptor more, and wherever its folder is

    with TROUBLE[trouble](folder):
        for number, forecast in enumerate(forecasts[begun:6], start=1):
            error = write(sink, forecast)
            assert error is not None
            assert (error.lost, sink.held) == (0, number)
            assert f"held in memory: {number}" in error.came
    assert [write(sink, forecast) for forecast in forecasts[6:]] == [None] * 2
    assert sink.held == 0
    sink.close()

    assert_all_there(found_in(folder), forecasts)
    assert all(path.suffix in {".csv", ".parquet"} for path in folder.iterdir())


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("make", [csv_sink, parquet_sink])
def test_a_process_that_ends_beside_a_bad_disk_says_what_is_lost_and_leaves_nothing_half(
    tmp_path, forecasts, make, trouble
):
    folder = tmp_path / "out"
    sink = make(folder)
    for forecast in forecasts[:2]:
        write(sink, forecast)
    sink.close()
    with TROUBLE[trouble](folder):
        for forecast in forecasts[2:5]:
            write(sink, forecast)
        with pytest.raises(SinkError, match="forecasts lost: 3") as lost:
            sink.flush(Heartbeat(), patient=False)
        assert (lost.value.lost, sink.held) == (3, 0)
        sink.close()
    again = make(folder)
    for forecast in forecasts[4:]:  # the last one comes again
        assert write(again, forecast) is None
    again.close()

    assert_all_there(found_in(folder), [*forecasts[:2], *forecasts[4:]])


@pytest.mark.parametrize("make", [csv_sink, parquet_sink])
def test_what_an_earlier_process_has_written_is_not_written_again_wherever_the_next_goes_on(tmp_path, forecasts, make):
    for first in (0, 5, 2, 6, 0):  # a state that was not kept lies before what has been written
        sink = make(tmp_path)
        for forecast in forecasts[first:7]:
            assert write(sink, forecast) is None
        sink.close()

    assert_all_there(found_in(tmp_path), forecasts[:7])


def test_a_forecast_cut_by_a_crash_before_midnight_is_removed_after_it(tmp_path, forecasts):
    sink = csv_sink(tmp_path)
    for forecast in forecasts[:4]:
        write(sink, forecast)
    sink.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    sink = csv_sink(tmp_path)
    for forecast in forecasts[4:]:
        write(sink, forecast)
    sink.close()

    assert_all_there(read_csv(tmp_path), [*forecasts[:3], *forecasts[4:]])


def test_forecasts_after_a_clock_that_went_back_take_the_place_of_none(tmp_path, forecasts):
    parquet = pytest.importorskip("pyarrow.parquet")
    sink = parquet_sink(tmp_path)
    for forecast in [*forecasts[:3], *forecasts[:3], forecasts[0]]:
        assert write(sink, forecast) is None

    written = [parquet.read_table(path)[COLUMNS[0]][0].as_py().timestamp() for path in tmp_path.iterdir()]
    assert sorted(written) == sorted(forecast.issued_s for forecast in [*forecasts[:3], *forecasts[:3], forecasts[0]])


@pytest.mark.parametrize("times", [["2012-03-01"], [None], [1.5]])
def test_a_parquet_file_of_somebody_else_ends_no_sink(tmp_path, forecasts, times):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_all(parquet_sink(tmp_path), forecasts[:1])
    (own,) = tmp_path.iterdir()
    parquet.write_table(arrow.table({COLUMNS[0]: times}), own)
    write_all(parquet_sink(tmp_path), forecasts[1:2])
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_crash_has_left_of_a_parquet_file_is_removed_and_nothing_else(tmp_path):
    pytest.importorskip("pyarrow")
    bundle, time = "0123abcd", "20120301T080000Z"
    own = tmp_path / f".ring-{bundle}-{time}.parquet.tmp"
    others = [tmp_path / f".ring-road-{bundle}-{time}.parquet.tmp", tmp_path / ".ring.tmp"]
    for path in (own, *others):
        path.touch()
    parquet_sink(tmp_path)

    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_forecasts_of_a_new_bundle_wait_behind_those_of_the_old(tmp_path, forecasts):
    parquet = pytest.importorskip("pyarrow.parquet")
    other = replace(forecasts[0].manifest, bundle_id="f" * 64)
    others = [replace(forecast, manifest=other) for forecast in forecasts[2:6]]
    sink = ParquetSink(ParquetConfig("parquet", tmp_path, 3), "ring")
    with limited("FSIZE", 0):
        errors = [write(sink, forecast) for forecast in [*forecasts[:2], *others]]
    assert [error is not None for error in errors] == [False, False, True, True, True, True]
    sink.flush(Heartbeat(), patient=False)

    written = [len(parquet.read_table(path)) // 3 for path in sorted(tmp_path.iterdir())]
    assert sorted(written) == [1, 2, 3]
