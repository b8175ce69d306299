"""The table of comparison models; the models have tests of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.baselines import identify, is_present, picture, report, run, single_forecasts
from benchmarks.accuracy.five_sets import Recording
from benchmarks.harness.store import Store
from benchmarks.harness.weeks import small_recording
from benchmarks.peers.models import MODELS
from benchmarks.peers.task import Task
from stunet_deploy.graph.files import read_graph
from training.baselines import Baseline
from training.protocols import protocol_a


def small(folder: Path) -> Recording:
    path = small_recording(folder / "small.npz")
    return Recording("small", "A small one", path, path, "Europe/Berlin")


def test_a_run_has_its_identity_its_scores_and_its_times(tmp_path: Path) -> None:
    recording = small(tmp_path)

    found = run(recording, "damped-departure", 0, 2.5, 4)

    assert identify(recording, "damped-departure", 0, 2.5).items() <= found.items()
    assert [score["horizon_minutes"] for score in found["results"]] == [15, 30, 60]
    assert len(found["forecast_us"]) == 4
    assert found["environment"]["lightgbm"]


def test_a_preset_is_scored_beside_the_others_and_timed_as_it_is_deployed(tmp_path: Path) -> None:
    found = run(small(tmp_path), "small", 0, 0.02, 3)

    assert [score["horizon_minutes"] for score in found["results"]] == [15, 30, 60]
    assert all(score["mae"] < 20 for score in found["results"])
    assert len(found["forecast_us"]) == 3
    assert min(found["forecast_us"]) > 0


def test_a_run_of_a_preset_with_other_settings_is_not_that_of_now(tmp_path: Path) -> None:
    recording, store = small(tmp_path), Store(tmp_path / "baselines.json")
    now = identify(recording, "small", 0, 2.5)
    earlier = now | {"config": {**now["config"], "model": {**now["config"]["model"], "head": 1}}}
    store.add(now, earlier, identify(recording, "ridge", 0, 2.5))

    kept = [is_present(store, one, [recording]) for one in store.runs]

    assert kept == [True, False, True]


def test_forecasts_are_timed_one_by_one_over_the_test_span(tmp_path: Path) -> None:
    recording, asked = small(tmp_path), []
    series = recording.series()
    task = Task(series, protocol_a(series), series.features[0], read_graph(recording.graph))
    noted = Baseline("noted", lambda issue: asked.append(issue) or np.zeros((1, 12, 6, 1), np.float32))

    times = single_forecasts(noted, task, 3)

    assert len(times) == 3
    assert [len(issue) for issue in asked] == [1] * 4
    assert (asked[0][0], asked[-1][0]) == (task.split.test[0], task.split.test[-1])


def test_the_page_has_a_row_for_each_model_with_the_minutes_that_were_asked_for() -> None:
    def entry(model: str, seed: int, minutes: float, mae: float) -> dict[str, Any]:
        scores = [{"horizon_minutes": at, "mae": mae + at / 10} for at in (15, 30)]
        run = {"set": "small", "model": model, "seed": seed, "minutes": minutes, "cpu_seconds": 9.6}
        where = {"cpu": "a processor", "cores": 2, "commit": "0" * 40}
        return run | {"forecast_us": [1000.0, 3000.0], "environment": where, "results": scores}

    runs = [entry("ridge", 0, 2, 1), entry("stid", 0, 2, 1), entry("stid", 1, 2, 3), entry("var", 0, 9, 1)]

    result = {"command": "a command", "minutes": 2, "sets": {"small": "A small one"}, "runs": runs}
    page, chart = report(result), picture(result)

    assert "## A small one" in page
    assert "| model | MAE at 15 / 30 minutes | seeds |" in page
    assert f"| {MODELS['ridge'].title} | 2.50 / 4.00 | 1 | 10 | 2,000 |" in page
    assert "| STID | 3.50 ±1.41 / 5.00 ±1.41 | 2 | 10 | 2,000 |" in page
    assert "VAR" not in page
    assert all(f">{text}</text>" in chart for text in (MODELS["ridge"].title, "A small one"))
    assert ">STID</text>" in chart
    assert ">VAR</text>" not in chart
    assert chart == picture(result)
