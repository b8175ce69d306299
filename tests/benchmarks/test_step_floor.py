"""The benchmark of a step against its floor: its harness, not the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_writes_its_page(tmp_path: Path) -> None:
    options = ["--sensors", "30", "--hidden", "4", "--rounds", "2"]
    done = subprocess.run(
        [sys.executable, "benchmarks/step_floor.py", *options, "--out", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "step_floor.json").read_text(encoding="utf-8"))
    (model,) = result["models"]
    assert (result["graph"]["sensors"], model["hidden"]) == (30, 4)
    assert 0 < result["largest_difference"] < 1e-3
    assert model["operations"]["step"] < model["operations"]["literal"]
    assert model["fastest_us"].keys() == {"step", "push", "literal", "shared"}
    assert model["times_the_step"]["step"] == 1
    assert result["ceiling"]["operations_per_s"] > 0
    assert "| 4 | literal |" in (tmp_path / "step_floor.md").read_text(encoding="utf-8")
