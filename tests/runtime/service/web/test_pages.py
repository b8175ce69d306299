"""The endpoints of a running service."""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from runtime.service.config import read_config
from runtime.stream import Stream
from stunet_deploy.cli import main
from stunet_deploy.errors import ConfigError
from stunet_deploy.series.times import format_time
from tests.paths import ROOT

STDIN, STDOUT = 'kind = "stdin"', 'kind = "stdout"'
PAGE = "[http]\nport = 0"


def test_the_forecast_is_the_line_of_every_sink(serving, get):
    running = serving()
    line = running.out.getvalue().splitlines()[-1]

    for path in ("/forecast", "/forecast?stream=ring"):
        assert get(running, path) == (200, "application/json", line.encode() + b"\n")


def test_without_a_forecast_the_answer_says_so(serving, get, read):
    running = serving(0)

    for path in ("/forecast", "/api/values"):
        status, kind, body = get(running, path)
        assert (status, kind) == (503, "application/json")
        assert "yet" in json.loads(body)["error"]
    assert read(running, "/api/streams")["streams"][0]["issued_s"] is None
    assert read(running, "/api/sensor?sensor=s0")["issued_s"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/forecast?stream=nobody",
        "/api/network?stream=nobody",
        "/api/values?stream=",
        "/api/sensor?stream=ring&sensor=nobody",
        "/api/sensor",
        "/page.html",
        "/../page.html",
        "/..%2f..%2fpyproject.toml",
        "/%2e%2e/site.py",
        "//etc/passwd",
        "/api",
        "/api/streams/",
    ],
)
def test_what_is_not_there_is_not_found(serving, path):
    running = serving(1)
    connection = http.client.HTTPConnection(running.service.url.split("/")[2], timeout=30)
    connection.request("GET", path)  # as it is; urllib would tidy it up
    answer = connection.getresponse()

    assert answer.status == 404
    assert json.loads(answer.read()).keys() == {"error", "expected"}
    connection.close()


def test_several_streams_are_lines(write_config, recording, start, tmp_path, get, read):
    config = write_config(f'kind = "replay"\npath = "{recording.name}"\nspeed = 1', [STDOUT], top=PAGE)
    text = config.read_text()
    second = text[text.index("[[stream]]") :].replace('name = "ring"', 'name = "other"')
    config.write_text(text + second.replace('state = "state"', 'state = "other"'))
    running = start(config)
    running.wait_for(lambda status: len(running.out.getvalue().splitlines()) == 2)

    status, kind, body = get(running, "/forecast")
    assert (status, kind) == (200, "application/x-ndjson")
    assert [json.loads(line)["stream"] for line in body.splitlines()] == ["ring", "other"]
    assert json.loads(get(running, "/forecast?stream=other")[2])["stream"] == "other"
    assert read(running, "/api/values")["bundle_id"] == read(running, "/api/network?stream=other")["bundle_id"]


def test_the_first_delivery_is_logged_once(serving, caplog):
    caplog.set_level(logging.INFO, "stunet")
    serving(3)

    assert caplog.messages.count("the first delivery has come") == 1


def test_the_page_gets_what_was_observed_and_forecast(serving, readings, expected, read):
    running = serving()
    values, observed, timestamps = readings
    network = read(running, "/api/network")
    assert network["sensors"] == ["s0", "s1", "s2", "s3", "s4"]
    assert (network["latitude"], network["edges"], network["horizons_min"]) == (None, None, [5, 10, 15])
    (speed,) = network["targets"]
    assert speed == {"name": "speed", "unit": "mph", "decimals": 1, "low": 0, "high": 80, "mean": 50, "std": 10}

    last = read(running, "/api/values")
    assert last["issued_at"] == list(expected)[-1] == format_time(last["issued_s"])
    np.testing.assert_allclose(last["forecast"]["speed"], expected[last["issued_at"]][..., 0], atol=0.0501)
    seen = np.where(observed, values, np.nan)[..., 0]
    np.testing.assert_allclose(np.array(last["observed"]["speed"], float), seen[-1], atol=0.0501)

    for node, sensor in enumerate(network["sensors"]):
        found = read(running, f"/api/sensor?stream=ring&sensor={sensor}")
        assert found["issued_s"] == timestamps.tolist()
        np.testing.assert_allclose(np.array(found["observed"]["speed"], float), seen[:, node], atol=0.0501)
        forecasts = np.stack(list(expected.values()))[:, :, node, 0]
        np.testing.assert_allclose(found["forecast"]["speed"], forecasts, atol=0.0501)


def test_the_overview_says_how_the_stream_is(serving, read, noon):
    running = serving(2)
    running.now[0] = noon - 38 * 300
    said = read(running, "/api/streams")["streams"]
    (ring,) = said

    assert ring["problems"] == []
    assert ring["reasons"] == ["warming up: 2 of 4 intervals seen"]
    assert (ring["stream"], ring["live"], ring["durable"], ring["waiting_limit"]) == ("ring", True, True, 256)
    assert ring["counters"]["forecasts"] == ring["counters"]["delivered"] == 2
    assert ring["delivered_age_s"] >= 0
    assert (ring["source"], ring["warnings"]) == ("stdin", [])
    assert ring["drift"]["intervals"] == 1
    assert ring["counters"]["undelivered"] == {"stdout": 0}
    assert 0 < ring["step_ms"]["median"] <= ring["step_ms"]["p99"]
    assert ring["drift"]["mae"].keys() == {"speed"}


def test_an_address_of_a_sink_is_not_told(write_config, recording, start, get):
    secret = "http://127.0.0.1:9/in?token=secret"
    running = start(
        write_config(
            f'kind = "replay"\npath = "{recording.name}"\nspeed = 1',
            [f'kind = "http"\nurl = "{secret}"', STDOUT],
            top=PAGE,
        )
    )

    for path in ("/api/streams", "/metrics"):
        body = get(running, path)[2].decode()
        assert "secret" not in body
        assert "http" in body


def test_a_new_bundle_takes_over_under_the_page(serving, build_example, pipe, lines, get, read, noon):
    running = serving(30)
    before = read(running, "/api/sensor?sensor=s1")
    bundle = build_example((2, 1), (3,)).bundle
    old = next(line for line in running.config.read_text().splitlines() if line.startswith("bundle"))
    running.config.write_text(running.config.read_text().replace(old, f'bundle = "{bundle.path}"'))
    running.service.reload()
    running.wait_for(lambda status: status.manifest.bundle_id == bundle.manifest.bundle_id)
    pipe.write("".join(f"{line}\n" for line in lines[30:]))
    pipe.flush()
    running.wait_for(lambda status: status.last.issued_s == noon - 300)

    assert read(running, "/api/network")["bundle_id"] == bundle.manifest.bundle_id
    assert json.loads(get(running, "/forecast")[2])["bundle_id"] == bundle.manifest.bundle_id
    after = read(running, "/api/sensor?sensor=s1")
    assert len(after["issued_s"]) == 40
    assert after["forecast"]["speed"][:30] == before["forecast"]["speed"]  # what was forecast then


def test_a_restarted_stream_shows_its_last_interval_at_once(serving, lines, expected, start, read, metrics, noon):
    first = serving(25)
    first.finish()
    second = start(first.config, clock=lambda: noon)
    second.wait_for(lambda status: status.last is not None and status.history.last is not None)

    assert read(second, "/api/values")["issued_at"] == list(expected)[24]
    assert metrics(second)["stunet_step_seconds_count"] == {(("stream", "ring"),): 0}  # of another process


def test_the_endpoint_ends_with_the_service(serving):
    running = serving(1)
    url = running.service.url
    running.finish()

    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(url, timeout=10)


def test_clients_do_not_delay_a_stream(write_config, pipe, lines, start, expected, get, noon):
    running = start(write_config(STDIN, [STDOUT], top=PAGE), clock=lambda: noon)
    host, port = running.service.url.split("/")[2].split(":")
    done, answers = threading.Event(), []

    def ask():
        while not done.is_set():
            for path in ("/api/streams", "/metrics", "/api/sensor?sensor=s0", "/"):
                answers.append(get(running, path)[0])

    silent = [http.client.HTTPConnection(host, int(port)) for _ in range(5)]
    for connection in silent:
        connection.connect()
    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        for line in lines:
            pipe.write(line + "\n")
            pipe.flush()
            time.sleep(0.005)
        running.wait_for(lambda status: status.counters["service"]["forecasts"] == 40)
    finally:
        done.set()
        for client in clients:
            client.join()
        for connection in silent:
            connection.close()

    assert set(answers) == {200}
    made = [json.loads(line) for line in running.out.getvalue().splitlines()]
    assert [line["issued_at"] for line in made] == list(expected)
    for line in made:
        found = np.array(line["values"]["speed"], np.float32)
        np.testing.assert_array_equal(found, expected[line["issued_at"]][..., 0])


def test_a_taken_port_ends_the_command_with_three_clauses(serving, capsys, tmp_path):
    running = serving(1)
    port = running.service.url.rstrip("/").rpartition(":")[2]
    other = tmp_path / "other.toml"
    other.write_text(running.config.read_text().replace("port = 0", f"port = {port}").replace('"state"', '"elsewhere"'))

    for arguments in (["--dry-run"], []):
        assert main(["run", "--config", str(other), *arguments]) == 2
        said = capsys.readouterr().err
        assert f"error:    http: 127.0.0.1:{port}" in said
        assert "to do:    correct host or port under [http]" in said
    shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("[http]", r"no http\.port"),
        ("[http]\nport = 70000", "port = 70000"),
        ("[http]\nport = -1", "port = -1"),
        ('[http]\nport = "80"', r"http\.port = '80'"),
        ('[http]\nport = 80\nhost = " "', "host = ' '"),
        ("[http]\nport = 80\npath = 1", r"http\.path"),
    ],
)
def test_a_mistake_in_the_table_is_refused_by_its_name(write_config, table, named):
    config = write_config(STDIN, [STDOUT], top=table)

    with pytest.raises(ConfigError, match=named):
        read_config(config)


def test_the_page_may_talk_to_nobody_else(serving):
    running = serving(1)
    with urllib.request.urlopen(running.service.url, timeout=30) as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()

    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy
    assert [url for url in re.findall(r"https?://[^\"'\s<]+", page) if url != "http://www.w3.org/2000/svg"] == []
    assert not re.search(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](?!data:)""", page)
    assert not re.search(r"\son[a-z]+=|innerHTML|document\.write|\seval\(", page)


def test_a_plain_stream_has_its_last_readings(example, readings):
    values, observed, timestamps = readings
    stream = Stream.open(example.bundle)
    assert stream.last_readings is None
    stream.push(values[0], int(timestamps[0]), observed[0])

    np.testing.assert_array_equal(stream.last_readings.observed, observed[0])
    stream.close()


def test_every_field_that_the_page_gets_is_documented(serving, read):
    running = serving(3)
    document = (ROOT / "docs" / "reference" / "endpoints.md").read_text()
    table = document[document.index("## JSON for the status page") :]

    said = read(running, "/api/streams")
    answers = {
        "streams": said | said["streams"][0] | said["streams"][0]["drift"] | said["streams"][0]["step_ms"],
        "network": (found := read(running, "/api/network")) | found["targets"][0],
        **{name: read(running, f"/api/{name}?sensor=s0") for name in ("values", "sensor", "accuracy")},
    }
    for name, answer in answers.items():
        (paragraph,) = re.findall(rf"^- `/api/{name}\b.*?(?=^- |\Z)", table, re.M | re.S)
        assert set(answer) <= set(re.findall(r'"(\w+)"', paragraph)), name


def test_without_a_page_nothing_listens_and_no_history_is_kept(write_config, recording, start):
    running = start(write_config(f'kind = "replay"\npath = "{recording.name}"', [STDOUT]))
    status = running.finish(stop=False)

    assert running.service.url is None
    assert len(status.history.rows()) == 1
