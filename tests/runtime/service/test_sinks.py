from __future__ import annotations

import csv
import http.server
import io
import json
import threading

import numpy as np
import pytest

from runtime.service.config import CsvConfig, HttpConfig, ParquetConfig
from runtime.service.file_sinks import COLUMNS, CsvSink, ParquetSink
from runtime.service.heartbeat import Heartbeat
from runtime.service.sinks import HttpSink, SinkError, StdoutSink
from runtime.stream import Stream
from stunet_deploy.series.times import format_time

SENSORS = [f"s{node}" for node in range(5)]


class Hurried(Heartbeat):
    """Does not wait between two tries."""

    def wait(self, seconds):
        return super().wait(0)


@pytest.fixture(scope="module")
def forecasts(shared_example):
    """Return 8 forecasts around midnight."""
    stream = Stream.open(shared_example.bundle)
    midnight = 1_330_646_400
    rng = np.random.default_rng(3)
    found = [stream.push(rng.uniform(0, 1, (5, 2)), midnight + 300 * t) for t in range(-4, 4)]
    stream.close()
    return found


def write_all(sink, forecasts):
    for forecast in forecasts:
        sink.write(forecast, Hurried(), patient=False)
    sink.flush(Hurried(), patient=False)
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


def test_stdout_has_forecast_lines(forecasts):
    out = io.StringIO()
    write_all(StdoutSink(out, threading.Lock()), forecasts)

    assert out.getvalue().splitlines() == [forecast.to_json_line() for forecast in forecasts]


@pytest.fixture
def server():
    """Return a server on loopback that answers with the statuses it is given, then 204, and what it was sent."""
    statuses, bodies = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(statuses.pop(0) if statuses else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/in", statuses, bodies
        running.shutdown()


def test_http_posts_every_forecast(server, forecasts):
    url, _, bodies = server
    write_all(HttpSink(HttpConfig("http", url)), forecasts[:2])

    assert bodies == [("/in", "application/json", json.loads(forecast.to_json_line())) for forecast in forecasts[:2]]


@pytest.mark.parametrize(("answers", "patient"), [([503, 500], False), ([503] * 5, True)])
def test_http_tries_again_after_a_passing_fault(server, forecasts, answers, patient):
    url, statuses, bodies = server
    statuses += answers
    HttpSink(HttpConfig("http", url)).write(forecasts[0], Hurried(), patient=patient)

    assert len(bodies) == len(answers) + 1


@pytest.mark.parametrize(("answers", "patient", "tries"), [([503] * 9, False, 3), ([404], True, 1), ([302], True, 1)])
def test_http_gives_up_in_the_end_or_when_it_would_be_the_same_again(server, forecasts, answers, patient, tries):
    url, statuses, bodies = server
    statuses += answers

    with pytest.raises(SinkError, match=str(answers[0])):
        HttpSink(HttpConfig("http", url)).write(forecasts[0], Hurried(), patient=patient)
    assert len(bodies) == tries


def test_http_without_a_server_does_not_wait_after_the_stop(forecasts):
    heartbeat = Heartbeat()
    heartbeat.stopped.set()

    with pytest.raises(SinkError, match=r"127\.0\.0\.1:9"):
        HttpSink(HttpConfig("http", "http://127.0.0.1:9/")).write(forecasts[0], heartbeat, patient=True)
