"""The table of missing data is made whole, in small; how much missing data costs is left to the real recording."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SENSORS, INTERVALS = 6, 432


def write_cut(path: Path) -> None:
    """Write a day and a half of six sensors of the shipped data."""
    with np.load(ROOT / "stunet_deploy" / "data" / "freeway.npz", allow_pickle=False) as whole:
        arrays = dict(whole)
    for key in ("values", "observed"):
        arrays[key] = arrays[key][-INTERVALS:, :SENSORS]
    for key in ("sensor_ids", "latitude", "longitude"):
        arrays[key] = arrays[key][:SENSORS]
    arrays["timestamps"] = arrays["timestamps"][-INTERVALS:]
    arrays["adjacency"] = arrays["adjacency"][:SENSORS, :SENSORS]
    np.savez(path, **arrays)


def make(folder: Path) -> str:
    """Run the benchmark on the cut; return what it printed."""
    options = ("--data", "cut.npz", "--epochs", "1", "--seeds", "1", "--channels", "2", "--fills", "last")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "missing_data.py"), *options, "--out", "."],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_loss_is_scored_every_forecast_checked_and_no_run_repeated(tmp_path: Path) -> None:
    write_cut(tmp_path / "cut.npz")

    first = make(tmp_path)
    found = json.loads((tmp_path / "missing_data.json").read_text(encoding="utf-8"))
    again = make(tmp_path)

    page = (tmp_path / "missing_data.md").read_text(encoding="utf-8")
    assert page.strip() in first
    assert json.loads((tmp_path / "missing_data.json").read_text(encoding="utf-8")) == found
    assert first.count(": trained") == 3
    assert again.count(": trained") == 0
    losses = [("nothing", 0.0), *((loss, share) for loss in ("readings", "sensors") for share in (0.1, 0.3, 0.5))]
    for run in found["runs"]:
        assert [(one["loss"], one["hidden"]) for one in run["results"][::3]] == losses
        assert len({one["count"] for one in run["results"] if one["horizon_minutes"] == 15}) == 1
        # Seven streams, a forecast of twelve intervals at each issue time of the test span.
        assert run["forecasts"] == 7 * 12 * SENSORS * 82
        assert run["not_finite"] == run["outside"] == 0
        assert f"| {run['fill']} | {run['hidden']} |" in page
    maes = {(one["model"], one["loss"], one["hidden"]): one["mae"] for one in found["baselines"]}
    assert maes["persistence", "sensors", 0.5] > maes["persistence", "nothing", 0.0]
    assert maes["time_of_day_average", "sensors", 0.5] == maes["time_of_day_average", "nothing", 0.0]
    assert "| *persistence* |" in page
