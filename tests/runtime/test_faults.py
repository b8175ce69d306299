"""The fault suite in short: ``make faults`` runs it in full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).resolve().parents[2] / "benchmarks" / "faults.py"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on this system")
def test_a_process_killed_at_random_instants_loses_and_doubles_nothing(example, tmp_path):
    arguments = ["--kills", "12", "--flips", "30", "--intervals", "60", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(SUITE), "--bundle", str(example.bundle.path), *arguments],
        cwd=SUITE.parent.parent,
        env=os.environ | {"PYTHONPATH": str(SUITE.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *killed, flipped = json.loads((tmp_path / "reliability.json").read_text())["rows"]
    assert [row["failures"] for row in killed] == [[]] * 4
    assert sum(row["times"] for row in killed) >= 12
    assert (flipped["times"], flipped["failures"]) == (30, [])
    assert "| kill -9, window, readings |" in (tmp_path / "reliability.md").read_text()
