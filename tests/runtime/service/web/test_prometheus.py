"""What Prometheus reads of a running service."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.paths import ROOT


def test_metrics_are_what_the_stream_has_met(serving, pipe, metrics, noon):
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
    assert found["stunet_forecast_issued_timestamp_seconds"] == {ring: noon - 300}
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


def test_metrics_of_the_drift_watch_are_those_of_its_report(serving, metrics):
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


def test_metric_names_are_as_prometheus_wants_them(serving, get):
    text = get(serving(1), "/metrics")[2].decode()

    for family in text_string_to_metric_families(text):
        if not family.name.startswith("stunet_"):
            continue
        assert re.fullmatch(r"stunet_[a-z_]+", family.name)
        assert family.type in ("counter", "gauge", "histogram")
        if family.samples:
            assert (family.type == "counter") == any(sample.name.endswith("_total") for sample in family.samples)
        assert not re.search(r"_(ms|us|minutes|percent|milliseconds)\b", family.name)  # base units only


def test_every_metric_is_documented_and_every_documented_one_is_there(serving, get):
    families = text_string_to_metric_families(get(serving(1), "/metrics")[2].decode())
    served = {family.name + "_total" * (family.type == "counter") for family in families}
    document = (ROOT / "docs" / "reference" / "endpoints.md").read_text()
    table = document[document.index("## Metrics") : document.index("## JSON for the status page")]

    assert set(re.findall(r"^\| (`.*?`) \|", table, re.M)) != set()
    rows = [row for row in table.splitlines() if row.startswith("| `stunet_")]
    documented = {name for row in rows for name in re.findall(r"`(stunet_\w+)`", row.split(" | ")[0])}
    assert documented == {name for name in served if name.startswith("stunet_")}
    assert set(re.findall(r"stunet_\w+", table)) - documented == set()  # in the alerts
