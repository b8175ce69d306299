"""Both families and persistence on small weeks under the names of the real ones, and what a run is known by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.accuracy.srnn_tasks import reproduce
from benchmarks.accuracy.srnn_traffic import TRAFFIC, TrafficConfig
from benchmarks.harness.weeks import WEEKS


def test_every_row_is_scored_at_the_same_horizons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce(TRAFFIC, None, ["--quick", "--folds", "metr-la", "--out", str(tmp_path)])

    assert "## One week of METR-LA, stream" in capsys.readouterr().out
    runs = json.loads((tmp_path / "srnn-traffic.json").read_text())["runs"]
    assert [run["model"] for run in runs] == list(TRAFFIC.models)
    for run in runs:
        for regime in ("window", "stream"):
            for error in ("MAE", "RMSE"):
                assert [*run["scores"][regime][error]] == ["15 min", "30 min", "60 min"]
                assert all(0 < number < 50 for number in run["scores"][regime][error].values())
        assert (run["parameters"] > 0) == (run["scores"].get("epochs", 0) > 0) == (run["model"] != "persistence")


@pytest.mark.parametrize("week", WEEKS)
def test_a_run_is_known_by_its_minutes_and_the_config_of_its_own_model(week: str) -> None:
    known = {model: TRAFFIC.identity(TrafficConfig(3.0, WEEKS), model, week, 0) for model in TRAFFIC.models}
    longer = {model: TRAFFIC.identity(TrafficConfig(9.0, WEEKS), model, week, 0) for model in TRAFFIC.models}

    assert [model for model in known if known[model] != longer[model]] == ["srnn", "stunet"]
    assert "edge_hidden" in known["srnn"]["config"]["model"]
    assert "scales" in known["stunet"]["config"]["model"]
    assert known["persistence"]["config"] == {}
