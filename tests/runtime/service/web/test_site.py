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
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.counters import REFUSALS
from runtime.service.config import MqttSourceConfig, read_config
from runtime.service.deliveries import RECENT, Deliveries, Recent
from runtime.service.web import health, views
from runtime.service.web.history import Row
from runtime.stream import Stream
from stunet_deploy.cli import main
from stunet_deploy.errors import ConfigError
from stunet_deploy.series import format_time

STDIN, STDOUT = 'kind = "stdin"', 'kind = "stdout"'
PAGE = "[http]\nport = 0"
NOON = 1_330_588_800 + 40 * 300.0  # the end of the readings


def get(running, path):
    """Return status, media type and body of an answer."""
    try:
        with urllib.request.urlopen(running.service.url + path.lstrip("/"), timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def read(running, path):
    """Return the JSON of a good answer."""
    status, kind, body = get(running, path)
    assert (status, kind) == (200, "application/json"), body
    return json.loads(body)


@pytest.fixture
def serving(write_config, pipe, lines, start):
    """Return a function that starts a service with a page and lets it forecast from some lines, at noon."""
    now = [NOON]

    def serve(count=40, **options):
        config = write_config(STDIN, [STDOUT], top=PAGE, **options)
        running = start(config, clock=lambda: now[0], reread=lambda: read_config(config))
        running.config, running.now = config, now
        pipe.write("".join(f"{line}\n" for line in lines[:count]))
        pipe.flush()
        running.wait_for(lambda status: status.counters["service"]["forecasts"] == count)
        return running

    return serve


def test_the_forecast_is_the_line_of_every_sink(serving):
    running = serving()
    line = running.out.getvalue().splitlines()[-1]

    for path in ("/forecast", "/forecast?stream=ring"):
        assert get(running, path) == (200, "application/json", line.encode() + b"\n")


def test_without_a_forecast_the_answer_says_so(serving):
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


def test_several_streams_are_lines(write_config, recording, start, tmp_path):
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


def test_health_fails_when_forecasts_are_stale_and_says_why(serving):
    running = serving(39)
    ring = read(running, "/healthz")["streams"]["ring"]
    assert ring == {"ok": True, "problems": [], "warnings": [], "issued_at": "2012-03-01T11:10:00Z", "age_s": 300.0}

    running.now[0] += 600  # three intervals since the end of the last
    assert get(running, "/healthz")[0] == 200
    running.now[0] += 1
    status, _, body = get(running, "/healthz")
    assert status == 503
    assert json.loads(body)["streams"]["ring"]["problems"] == ["no forecast for 15 min 1 s (stale after 15 min)"]
    running.now[0] -= 86_400
    assert "ahead of the clock" in get(running, "/healthz")[2].decode()


def test_health_fails_when_the_disk_does(serving, monkeypatch):
    running = serving(1)
    durable = running.service.workers[0].serving.durable
    monkeypatch.setattr(durable, "_trouble", "the journal cannot be written (No space left on device)")

    status, _, body = get(running, "/healthz")
    assert status == 503
    assert "No space left" in body.decode()
    assert metrics(running)["stunet_durable"] == {(("stream", "ring"),): 0}


def test_health_knows_each_trouble(serving):
    running = serving(1)
    good = replace(running.service.statuses()[0], age_s=100.0)
    fresh = replace(good, last=None, age_s=None)

    def found(status, **changes):
        return health.problems(replace(status, **changes))

    assert health.problems(good) == []
    assert found(fresh, running_s=899.0) == []
    assert found(fresh, running_s=901.0) == ["no forecast since the start 15 min 1 s ago (stale after 15 min)"]
    silent = {"service": good.counters["service"] | {"delivered": 0}}
    assert found(fresh, running_s=901.0, counters=silent)[0].endswith("; 0 messages have come from standard input")
    from_broker = replace(good.config, source=MqttSourceConfig("mqtt", ("detectors/+", "loops/#")))
    assert found(good, age_s=901.0, counters=silent, config=from_broker) == [
        "no forecast for 15 min 1 s (stale after 15 min); 0 messages have come from detectors/+, loops/#"
    ]
    assert found(fresh, running_s=901.0, live=False) == []
    assert found(good, age_s=1e9, live=False) == []  # a replay may be slow, and of any time
    assert found(good, age_s=200_000.0) == ["no forecast for 2 d 7 h (stale after 15 min)"]
    assert found(good, silent_s=61.0) == ["no sign of life for 61 s"]
    assert found(good, silent_s=61.0, ended=True) == []


def test_the_first_delivery_is_logged_once(serving, caplog):
    caplog.set_level(logging.INFO, "stunet")
    serving(3)

    assert caplog.messages.count("the first delivery has come") == 1


def test_warnings_leave_a_stream_well(serving):
    running = serving(1)
    good = running.service.statuses()[0]
    assert health.warnings(good) == health.warnings(replace(good, connected=True)) == []
    away = replace(good, connected=False)
    assert health.warnings(away)[0].startswith("no connection to the MQTT broker")
    assert health.warnings(replace(away, ended=True)) == []
    report = health.report([replace(away, age_s=100.0)])
    assert (report["ok"], report["streams"]["ring"]["warnings"]) == (True, health.warnings(away))


def test_a_tenth_may_be_refused_and_more_is_said_with_its_reason(serving):
    good = serving(1).service.statuses()[0]
    assert health.REASONS.keys() == set(REFUSALS)
    deliveries = Deliveries()
    assert deliveries.read() == Recent(0, Counter(), None)
    for refused in (*["late"] * 9, "ahead", *[None] * 90):
        deliveries.add(refused)
    some = replace(good, deliveries=deliveries)
    assert health.warnings(some) == []
    deliveries.add("ahead")
    assert health.warnings(some) == [
        "11 of the last 101 messages were refused, 9 of them: older than what has been forecast from"
    ]
    for _ in range(RECENT):
        deliveries.add("message")
    assert health.warnings(some)[0].startswith("1,000 of the last 1,000 messages were refused: no JSON")
    for _ in range(RECENT):
        deliveries.add(None)
    assert health.warnings(some) == []  # it has been mended


def test_the_grace_of_an_assembler_counts_before_a_stream_is_stale(serving):
    running = serving(0, extra="[stream.assembler]\ngrace_s = 90")
    (status,) = running.service.statuses()

    assert health.stale_after_s(status) == 3 * 300 + 90


def metrics(running):
    """Return the samples of /metrics: values by labels by name, as Prometheus' own parser reads them."""
    status, kind, body = get(running, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.documentation
        for sample in family.samples:
            assert sample.name not in found or tuple(sorted(sample.labels.items())) not in found[sample.name]
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_metrics_are_what_the_stream_has_met(serving, pipe):
    running = serving()
    pipe.write('rubbish\n{"timestamp": "2012-03-01T07:00:00Z", "values": {}}\nmore rubbish\n')
    pipe.flush()
    running.wait_for(lambda status: status.counters["service"]["delivered"] == 43)
    running.now[0] += 100
    (status,) = running.service.statuses()
    found = metrics(running)
    ring = (("stream", "ring"),)

    assert found["stunet_forecasts_total"] == {ring: 40}
    assert found["stunet_deliveries_total"] == {ring: 43}
    assert 0 <= found["stunet_delivery_age_seconds"][ring] < 60
    assert "stunet_mqtt_connected" not in found  # it uses no broker
    refused = {dict(labels)["reason"]: count for labels, count in found["stunet_readings_refused_total"].items()}
    assert {reason: count for reason, count in refused.items() if count} == {"message": 2, "late": 1}
    assert found["stunet_forecast_age_seconds"] == {ring: 100}
    assert found["stunet_forecast_issued_timestamp_seconds"] == {ring: NOON - 300}
    assert found["stunet_observed_ratio"] == {ring: status.last.observed_share}
    assert found["stunet_degraded"] == found["stunet_waiting"] == {ring: 0}
    assert found["stunet_healthy"] == found["stunet_durable"] == {ring: 1}
    assert found["stunet_step_seconds_count"] == {ring: 40}
    buckets = [count for _, count in sorted(found["stunet_step_seconds_bucket"].items(), key=bound_of)]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 40
    assert 0 < found["stunet_step_seconds_sum"][ring] < 60
    (info,) = found["stunet_bundle_info"]
    assert {"backend": "onnxruntime", "model": "example", "precision": "fp32", "mode": "carry"}.items() <= dict(
        info
    ).items()
    assert found["stunet_build_info"]
    assert found["process_resident_memory_bytes"][()] > 1e6


def bound_of(item):
    return float(dict(item[0])["le"])


def test_metrics_of_the_drift_watch_are_those_of_its_report(serving):
    running = serving()
    (status,) = running.service.statuses()
    found = metrics(running)

    assert status.drift.scored > 0
    for name, errors in [
        ("stunet_forecast_mae", status.drift.mae),
        ("stunet_persistence_mae", status.drift.persistence_mae),
    ]:
        by_minutes = {float(dict(labels)["horizon_min"]): value for labels, value in found[name].items()}
        assert by_minutes == pytest.approx(dict(zip([5.0, 10.0, 15.0], errors[:, 0], strict=True)))
    assert list(found["stunet_drift_alarm"].values()) == [status.drift.alarm]
    assert list(found["stunet_drift_scored_total"].values()) == [status.drift.scored]


def test_metric_names_are_as_prometheus_wants_them(serving):
    text = get(serving(1), "/metrics")[2].decode()

    for family in text_string_to_metric_families(text):
        if not family.name.startswith("stunet_"):
            continue
        assert re.fullmatch(r"stunet_[a-z_]+", family.name)
        assert family.type in ("counter", "gauge", "histogram")
        assert (family.type == "counter") == any(sample.name.endswith("_total") for sample in family.samples)
        assert not re.search(r"_(ms|us|minutes|percent|milliseconds)\b", family.name)  # base units only


def test_the_page_gets_what_was_observed_and_forecast(serving, readings, expected):
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


def test_the_overview_says_how_the_stream_is(serving):
    running = serving(2)
    running.now[0] = NOON - 38 * 300
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


def test_an_address_of_a_sink_is_not_told(write_config, recording, start):
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


def test_a_new_bundle_takes_over_under_the_page(serving, build_example, pipe, lines):
    running = serving(30)
    before = read(running, "/api/sensor?sensor=s1")
    bundle = build_example((2, 1), (3,)).bundle
    old = next(line for line in running.config.read_text().splitlines() if line.startswith("bundle"))
    running.config.write_text(running.config.read_text().replace(old, f'bundle = "{bundle.path}"'))
    running.service.reload()
    running.wait_for(lambda status: status.bundle_id == bundle.manifest.bundle_id)
    pipe.write("".join(f"{line}\n" for line in lines[30:]))
    pipe.flush()
    running.wait_for(lambda status: status.last.issued_s == NOON - 300)

    assert read(running, "/api/network")["bundle_id"] == bundle.manifest.bundle_id
    assert json.loads(get(running, "/forecast")[2])["bundle_id"] == bundle.manifest.bundle_id
    after = read(running, "/api/sensor?sensor=s1")
    assert len(after["issued_s"]) == 40
    assert after["forecast"]["speed"][:30] == before["forecast"]["speed"]  # what was forecast then


def test_a_restarted_stream_shows_its_last_interval_at_once(serving, lines, expected, start):
    first = serving(25)
    first.finish()
    second = start(first.config, clock=lambda: NOON)
    second.wait_for(lambda status: status.last is not None and status.history.last is not None)

    assert read(second, "/api/values")["issued_at"] == list(expected)[24]
    assert metrics(second)["stunet_step_seconds_count"] == {(("stream", "ring"),): 0}  # of another process


def test_the_endpoint_ends_with_the_service(serving):
    running = serving(1)
    url = running.service.url
    running.finish()

    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(url, timeout=10)


def test_clients_do_not_delay_a_stream(write_config, pipe, lines, start, expected):
    running = start(write_config(STDIN, [STDOUT], top=PAGE), clock=lambda: NOON)
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


@pytest.mark.parametrize(
    ("limits", "decimals"), [((0, 84), 1), ((0, 3000), 0), ((-1, 1), 2), ((0, 0.5), 3), ((0, 0), 3), ((-120, 20), 0)]
)
def test_numbers_are_shown_with_three_digits(example, limits, decimals):
    manifest = replace(example.bundle.manifest, limits=(limits, (-1, 1)))

    assert views.decimals_of(manifest, "speed") == decimals
    assert views.decimals_of(manifest, "no feature") == 3


def test_values_are_json_whatever_they_are(example):
    manifest = replace(example.bundle.manifest, targets=("speed", 'of "two"\n'), target_units=("mph", ""))
    observed = np.array([[np.nan, 1e-9], [1.0, -0.0], [2.25, 3], [4, 5], [6, 79.96]], np.float32)
    forecast = np.arange(30, dtype=np.float32).reshape(3, 5, 2) / 7

    found = json.loads(b"".join(views.values(Row(600, observed, forecast), manifest)))

    assert found["observed"] == {"speed": [None, 1.0, 2.2, 4.0, 6.0], 'of "two"\n': [0.0, 0.0, 3.0, 5.0, 79.96]}
    np.testing.assert_allclose(found["forecast"]['of "two"\n'], forecast[..., 1], atol=5.01e-4)


def test_edges_are_drawn_where_the_manifest_has_them(example):
    described = {
        "edges": [
            {"source": "s0", "target": "s1"},
            {"source": "s1", "target": "s0"},
            {"source": "s3", "target": "s3"},
            {"source": "s4", "target": "s2"},
            {"source": "s4", "target": "a ramp"},
        ]
    }
    manifest = replace(example.bundle.manifest, config={"st_graph": json.dumps(described)})

    assert views.edges(manifest) == [(0, 1), (2, 4)]
    assert views.edges(example.bundle.manifest) is None


def test_a_plain_stream_has_its_last_readings(example, readings):
    values, observed, timestamps = readings
    stream = Stream.open(example.bundle)
    assert stream.last_readings is None
    stream.push(values[0], int(timestamps[0]), observed[0])

    np.testing.assert_array_equal(stream.last_readings.observed, observed[0])
    stream.close()


def test_every_metric_is_documented_and_every_documented_one_is_there(serving):
    families = text_string_to_metric_families(get(serving(1), "/metrics")[2].decode())
    served = {family.name + "_total" * (family.type == "counter") for family in families}
    document = (Path(__file__).resolve().parents[4] / "docs" / "operations.md").read_text()
    table = document[document.index("### Metrics") : document.index("### What the page asks for")]

    assert set(re.findall(r"^\| (`.*?`) \|", table, re.M)) != set()
    rows = [row for row in table.splitlines() if row.startswith("| `stunet_")]
    documented = {name for row in rows for name in re.findall(r"`(stunet_\w+)`", row.split(" | ")[0])}
    assert documented == {name for name in served if name.startswith("stunet_")}
    assert set(re.findall(r"stunet_\w+", table)) - documented == set()  # in the alerts


def test_every_field_that_the_page_gets_is_documented(serving):
    running = serving(3)
    document = (Path(__file__).resolve().parents[4] / "docs" / "operations.md").read_text()
    table = document[document.index("### What the page asks for") : document.index("## Messages")]

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
