"""The demo, whole, with less training: every file it promises, and a report that needs nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

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
    assert page.count("<svg") >= 6
    loaded = re.findall(r"""(?:\bsrc|<link[^>]*\bhref|xlink:href)=["']([^"']+)|url\(([^)]+)""", page)
    assert all((link or url).strip("\"'").startswith(("#", "data:")) for link, url in loaded)
