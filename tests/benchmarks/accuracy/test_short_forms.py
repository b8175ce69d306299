"""The benchmarks of accuracy run whole in their short forms; the real figures are left to the real weeks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.precisions import FLOAT32, PRECISIONS

pytestmark = pytest.mark.slow
Run = Callable[..., tuple[Any, str]]


def test_one_week_is_trained_scored_exported_verified_and_streamed(run_benchmark: Run) -> None:
    options = ("--set", "metr-la", "--model", "stunet")
    result, page = run_benchmark("accuracy.one_week", *options, page="one_week_metr-la")

    found = result["stunet"]
    assert found["train"]["epochs"] >= 1
    assert found["verify"]["max_abs_error"] <= found["verify"]["tolerance"]
    scored = {(entry["model"], entry["protocol"]) for entry in found["evaluate"]["results"]}
    assert {("stunet", "window"), ("stunet", "stream"), ("persistence", "stream")} <= scored
    assert all(f"| {model} | {protocol} |" in page for model, protocol in scored if protocol == "stream")


def test_an_ablation_has_every_row_and_repeats_no_run(run_benchmark: Run) -> None:
    result, page = run_benchmark("accuracy.ablation")
    again, _ = run_benchmark("accuracy.ablation")

    rows = [run["row"] for run in result["runs"]]
    assert rows == ["ST-UNet, preset default", "without the graph and the U (preset small)"]
    assert again["runs"] == result["runs"]
    assert all(f"| {row} |" in page for row in rows)
    assert page.count(" % |") == 1  # of the second row against the first


def test_presets_stand_beside_the_baselines_and_no_run_is_repeated(run_benchmark: Run) -> None:
    result, page = run_benchmark("accuracy.five_sets")
    again, _ = run_benchmark("accuracy.five_sets")

    assert [run["preset"] for run in result["runs"]] == ["default", "small"]
    assert again["runs"] == result["runs"]
    rows = ("ST-UNet, preset default", "ST-UNet, preset small", "time_of_day_average", "damped_departure")
    assert all(f"| {row} |" in page for row in rows)


def test_models_to_compare_with_are_fitted_scored_and_timed_once(run_benchmark: Run) -> None:
    first, _ = run_benchmark("accuracy.baselines", "--model", "ridge", "fnn")
    result, page = run_benchmark("accuracy.baselines", "--model", "trees", "fnn")

    assert [run["model"] for run in result["runs"]] == ["ridge", "fnn", "trees"]
    assert result["runs"][:2] == first["runs"]
    assert all(len(run["results"]) == 3 and len(run["forecast_us"]) == 2 for run in result["runs"])
    assert all(f"| {row} |" in page for row in ("ridge regression", "FNN", "boosted trees"))


def test_a_transfer_has_every_way_to_begin(run_benchmark: Run) -> None:
    result, page = run_benchmark("accuracy.transfer")

    ways = ["of METR-LA, as they are", "persistence", "of METR-LA, trained on", "random at first"]
    assert [row["weights"] for row in result["rows"]] == ways
    assert all(len(row["results"]) == 3 for row in result["rows"])
    assert all(f"| {way} |" in page for way in ways)


def test_a_start_is_compared_with_random_weights_and_no_run_is_repeated(run_benchmark: Run, tmp_path: Path) -> None:
    result, page = run_benchmark("accuracy.start", "--jobs", "1")
    (start,) = (tmp_path / "starts").iterdir()
    again, _ = run_benchmark("accuracy.start", "--jobs", "1")

    assert [(len(run["on"]), run["minutes"]) for run in result["runs"]] == [(2, 0), (2, 0.02), (0, 0.02), (0, 0.03)]
    assert again["runs"] == result["runs"]
    assert [one.name for one in (tmp_path / "starts").iterdir()] == [start.name]
    assert Checkpoint.load(start).training["beside"][0]["sensors"] == 6
    rows = ("0.05 minutes on part-6, part-12 | 0 ", "random | 0.02 ", "random | 0.03 ", "*damped_departure*")
    assert all(f"| {row}|" in page or f"| {row} |" in page for row in rows)


def test_every_precision_has_its_row(run_benchmark: Run) -> None:
    result, page = run_benchmark("accuracy.precision")

    assert result["parity"].keys() == result["accuracy"].keys() == set(PRECISIONS)
    assert result["cpu_time_over_fp32"][FLOAT32] == 1
    assert all(f"| {precision} |" in page for precision in PRECISIONS)
