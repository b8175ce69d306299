"""The demo, whole, with less training: every file it promises, and a report that needs nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stunet_deploy.cli.report import _accuracy
from tests.paths import ROOT
from training.evaluation import Regime, Result

SMALLER = """
import sys
from stunet_deploy.cli import demo, main
from stunet_deploy.config import RunConfig, STUNetConfig, TrainingConfig

training = TrainingConfig(epochs=1, batch=32, chunk=96, threads=1)
demo.CONFIG = RunConfig(STUNetConfig(hidden=2), training, targets=("speed",))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_the_demo_leaves_a_verified_bundle_and_a_self_contained_report(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALLER, "demo", "--out", str(tmp_path / "demo"), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)

    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "model.bundle", "model.log.csv", "model.pt", "report.html",
    ]  # fmt: skip
    assert found["verification"]["passed"]
    assert {result["model"] for result in found["evaluation"]["results"]} >= {"stunet", "persistence"}
    assert found["latency"]["count"] == 4 * 288
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "Simulated traffic" in page
    assert "<th>MAE<th>WAPE<th>MAPE<th>RMSE" in page
    assert page.count("<svg") >= 6
    loaded = re.findall(r"""(?:\bsrc|<link[^>]*\bhref|xlink:href)=["']([^"']+)|url\(([^)]+)""", page)
    assert all((link or url).strip("\"'").startswith(("#", "data:")) for link, url in loaded)


def test_the_table_of_the_report_has_a_dash_where_a_percentage_says_nothing() -> None:
    def result(model: str, protocol: Regime, mape: float | None) -> Result:
        return Result(model, protocol, "flow", 30, mae=2.25, wape=12.34, mape=mape, rmse=3.456, count=9)

    table = _accuracy([result("m", "stream", 7.89), result("m", "window", 7.89), result("still", "stream", None)])

    assert "<th>m<td>stream<td>2.25<td>12.3 %<td>7.9 %<td>3.46" in table
    assert "<th>still<td>either" in table
    assert "<td>12.3 %<td>–<td>3.46" in table
