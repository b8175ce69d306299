from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bench.measure import bench, cold_start
from runtime.bench.plan import Case, Plan
from runtime.bench.summary import (
    advised_threads,
    check_count,
    missed,
    read_measurement,
    samples_of,
    table,
    trace_of,
)
from runtime.bench.trtexec import export_times
from stunet_deploy.errors import BackendError, ConfigError, DataError

PLAN = Plan(count=120, rate=2000.0, warm_up=5, idle_s=0.0, idle_repeats=2, cold_starts=1, deadline_us=1e9)


@pytest.fixture(scope="module")
def measured(shared_example: Any) -> dict[str, Any]:
    """A short measurement with two numbers of threads, as it comes back from its file."""
    found = bench(shared_example.bundle, [Case(), Case(threads=2)], PLAN)
    return json.loads(json.dumps(found, allow_nan=False))


def test_a_measurement_has_every_case_with_both_loops(measured: dict[str, Any]) -> None:
    assert [(run["backend"], run["precision"], run["threads"]) for run in measured["runs"]] == [
        ("onnxruntime", "fp32", 1),
        ("onnxruntime", "fp32", 2),
    ]
    for run in measured["runs"]:
        for loop in ("closed_loop", "open_loop"):
            found, latency = run[loop], trace_of(run, loop).latency
            assert found["n"] == len(latency.nanoseconds) == PLAN.count
            assert (found["p50_us"], found["p90_us"]) == (latency.percentile(50), latency.percentile(90))
            assert (found["p99_us"], found["p999_us"], found["jitter_us"]) == (None, None, None)
            assert found["max_us"] == latency.nanoseconds.max() / 1000
            assert found["deadline_misses"] == 0
        assert run["open_loop"]["rate"] == PLAN.rate
        assert len(run["samples"]["first_after_idle_us"]) == PLAN.idle_repeats


def test_the_fastest_case_is_the_answer(measured: dict[str, Any]) -> None:
    medians = [run["closed_loop"]["p50_us"] for run in measured["runs"]]
    best = measured["runs"][int(np.argmin(medians))]

    assert {key: measured[key] for key in best if key != "samples"} == {k: v for k, v in best.items() if k != "samples"}
    assert "samples" not in measured


def test_the_session_that_was_timed_is_held_to_the_reference(measured: dict[str, Any], shared_example: Any) -> None:
    manifest = shared_example.bundle.manifest
    for run in measured["runs"]:
        assert run["parity"]["passed"]
        assert 0 < run["parity"]["max_abs_error"] <= run["parity"]["tolerance"] == manifest.tolerance[0]
        assert run["artifact"] == {"file": "step.onnx", "sha256": manifest.files["step.onnx"]}


def test_moments_of_the_open_loop_follow_the_rate(measured: dict[str, Any]) -> None:
    trace = trace_of(measured["runs"][0], "open_loop")
    per_turn = np.diff(trace.due).reshape(-1)

    # Ten turns, each with a schedule of its own.
    assert np.count_nonzero(per_turn == round(1e9 / PLAN.rate)) == PLAN.count - 10
    assert (trace.begin >= trace.due).all()
    assert (trace.end > trace.begin).all()


def test_a_cold_start_is_split_and_needs_no_torch(measured: dict[str, Any], shared_example: Any) -> None:
    found = cold_start(shared_example.bundle.path, Case())

    parts = ("interpreter_ms", "import_ms", "load_ms", "context_ms", "first_step_ms")
    assert found["total_ms"] == pytest.approx(sum(found[part] for part in parts))
    assert all(found[part] > 0 for part in parts[1:])
    assert found["torch_imported"] is False
    assert measured["cold_start_ms"] == measured["cold_start"]["total_ms"]
    assert measured["rss_mb"] == measured["cold_start"]["rss_mb"]


def test_a_fresh_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no such folder"):
        cold_start(tmp_path / "absent", Case())


def test_a_measurement_is_read_again_from_its_file(measured: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(measured), encoding="utf-8")

    assert read_measurement(path) == measured
    assert {loop for _, loop in samples_of(measured)} == {"closed_loop", "open_loop"}
    path.write_text('{"runs": [{}]}', encoding="utf-8")
    with pytest.raises(DataError, match="no measurement"):
        read_measurement(path)


def test_the_table_has_a_row_for_every_case_and_loop(measured: dict[str, Any]) -> None:
    lines = table(measured).splitlines()

    assert [re.split(r"  +", line)[1] for line in lines[1:5]] == ["closed", "open", "closed", "open"]
    assert f"{measured['runs'][0]['closed_loop']['p50_us']:.1f}" in lines[1]


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ({1: (90, 110), 2: (80, 95), 4: (85, 99)}, {"onnxruntime fp32": 1}),
        ({4: (50, 55), 2: (54, 60), 1: (56, 70)}, {"onnxruntime fp32": 2}),
        ({2: (80, 95)}, {}),
        ({1: None, 2: (80, 95)}, {}),
    ],
)
def test_the_fewest_threads_that_are_not_slower_are_advised(
    medians: dict[int, tuple[float, float] | None], expected: dict[str, int]
) -> None:
    runs = [
        {
            "backend": "onnxruntime",
            "precision": "fp32",
            "threads": threads,
            "open_loop": {"intervals_us": {"p50": median}},
        }
        for threads, median in medians.items()
    ]
    assert advised_threads(runs) == expected


def test_the_table_ends_with_the_advice(measured: dict[str, Any]) -> None:
    (threads,) = measured["advised_threads"].values()
    assert f"onnxruntime fp32: run it with --threads {threads}" in table(measured).splitlines()


def test_a_deadline_is_judged_where_the_percentile_is_known(measured: dict[str, Any]) -> None:
    assert missed(measured, "max") == []
    strict = measured | {"plan": measured["plan"] | {"deadline_us": 1e-3}}
    assert len(missed(strict, "p90")) == 4
    check_count("p99", 1000)
    check_count("max", 10)
    with pytest.raises(ConfigError, match="--count 10000"):
        check_count("p999", 9999)


def test_the_trace_has_the_names_of_trtexec_and_of_its_tracer(measured: dict[str, Any]) -> None:
    records = json.loads(export_times(measured))

    written = {"startEnqMs", "endEnqMs", "startH2dMs", "endH2dMs", "startComputeMs", "endComputeMs", "startD2hMs"}
    written |= {"endD2hMs", "h2dMs", "computeMs", "d2hMs", "latencyMs"}
    read = {"startInMs", "endInMs", "startOutMs", "endOutMs", "inMs", "outMs", "endToEndMs"}
    assert len(records) == PLAN.count
    assert all(record.keys() == written | read for record in records)
    best = min(measured["runs"], key=lambda run: run["closed_loop"]["p50_us"])
    latency = trace_of(best, "closed_loop").latency.nanoseconds
    for record, nanoseconds in zip(records, latency, strict=True):
        assert record["latencyMs"] == pytest.approx(nanoseconds / 1e6, abs=2e-6)
        assert record["h2dMs"] + record["computeMs"] + record["d2hMs"] == pytest.approx(record["latencyMs"], abs=2e-6)
        assert record["startH2dMs"] <= record["endH2dMs"] == record["startComputeMs"] <= record["endComputeMs"]


def test_what_a_plan_leaves_open_follows_from_how_slow_a_forecast_is() -> None:
    fast, slow, given = Plan().settled(1000), Plan().settled(2e6), Plan(count=50, rate=3.0).settled(2e6)

    assert (fast.count, fast.rate) == (2000, 100.0)
    assert (slow.count, slow.rate) == (20, 0.25)
    assert (given.count, given.rate) == (50, 3.0)
    assert Plan().settled(100_000).count == 300


def test_plans_and_cases_that_measure_nothing_are_refused(shared_example: Any) -> None:
    for options in ({"count": 9}, {"rate": 0.0}, {"deadline_us": 0.0}):
        with pytest.raises(ConfigError, match="forecasts at"):
            Plan(**options)
    for cases in ([], [Case(), Case()]):
        with pytest.raises(ConfigError, match="each once"):
            bench(shared_example.bundle, cases, PLAN)
