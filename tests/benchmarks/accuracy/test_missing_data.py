"""The table of missing data is made whole, in small; how much missing data costs is left to the real recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SENSORS = 6
LOSSES = ("readings", "sensors for hours", "sensors for days")


def test_every_loss_is_scored_every_forecast_checked_and_no_run_repeated(
    run_benchmark: Callable[..., tuple[Any, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, page = run_benchmark("accuracy.missing_data")
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.accuracy.missing_data.TrainingRun", None)  # a run that is stored needs none
        again, _ = run_benchmark("accuracy.missing_data")

    assert again["runs"] == found["runs"]
    losses = [("nothing", 0.0), *((loss, share) for loss in LOSSES for share in (0.1, 0.3, 0.5))]
    assert {run["fill"] for run in found["runs"]} == {"usual", "forecast", "last"}
    for run in found["runs"]:
        assert [(one["loss"], one["hidden"]) for one in run["results"][::3]] == losses
        assert len({one["count"] for one in run["results"] if one["horizon_minutes"] == 15}) == 1
        # Ten streams, a forecast of twelve intervals at each issue time of the test span.
        assert run["forecasts"] == 10 * 12 * SENSORS * 82
        assert run["not_finite"] == run["outside"] == 0
        assert f"| {run['fill']} | {run['hidden']} |" in page
    maes = {(one["model"], one["loss"], one["hidden"]): one["mae"] for one in found["baselines"]}
    assert maes["persistence", "sensors for hours", 0.5] > maes["persistence", "nothing", 0.0]
    assert maes["time_of_day_average", "sensors for days", 0.5] == maes["time_of_day_average", "nothing", 0.0]
    assert "| *persistence* |" in page
