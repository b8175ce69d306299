"""The table of missing data is made whole, in small; how much missing data costs is left to the real recording."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

SENSORS, INTERVALS = 6, 432
LOSSES = ("readings", "sensors for hours", "sensors for days")


def test_every_loss_is_scored_every_forecast_checked_and_no_run_repeated(
    cut_freeway: Callable[[int, int], Path], run_benchmark: Callable[..., str], tmp_path: Path
) -> None:
    data = cut_freeway(SENSORS, INTERVALS)
    options = ("--data", data, "--epochs", 1, "--seeds", 1, "--channels", 2, "--fills", "forecast")
    options += ("--hidden", "readings, sensors")

    first = run_benchmark("accuracy.missing_data", *options)
    found = json.loads((tmp_path / "missing_data.json").read_text(encoding="utf-8"))
    again = run_benchmark("accuracy.missing_data", *options)

    page = (tmp_path / "missing_data.md").read_text(encoding="utf-8")
    assert page.strip() in first
    assert json.loads((tmp_path / "missing_data.json").read_text(encoding="utf-8")) == found
    assert first.count(": trained") == 1
    assert again.count(": trained") == 0
    losses = [("nothing", 0.0), *((loss, share) for loss in LOSSES for share in (0.1, 0.3, 0.5))]
    assert {run["fill"] for run in found["runs"]} == {"forecast", "last"}
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
