"""All checks on a GPU run where there is none: every section runs or says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rehearsal")
    # A process of its own, as on the machine it is for.
    command = [sys.executable, "-m", "benchmarks.gpu.check", "--device", "host", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Checks on a GPU: rehearsal without one")
    return out


def test_what_needs_no_gpu_ran_and_is_right(rehearsal: Path) -> None:
    result = json.loads((rehearsal / "gpu_check.json").read_text(encoding="utf-8"))
    for name in ("way: onnxruntime", "way: torch graph"):
        way = result[name]
        assert way["parity"]["within"], way["parity"]
        assert way["state"]["reset"] == way["state"]["restored"] == 0
        assert way["latency"]["closed"]["count"] > 0
        assert way["latency"]["open"]["count"] > 0
        assert {"eager step", "eager window"} <= way["faster_than"].keys()
    assert result["eager"]["window"]["closed"]["median_us"] > 0
    assert [row["sensors"] for row in result["cost"]] == [20, 40]
    assert all("graph_us" in row for row in result["cost"])


def test_what_did_not_run_says_why(rehearsal: Path) -> None:
    result = json.loads((rehearsal / "gpu_check.json").read_text(encoding="utf-8"))
    text = (rehearsal / "gpu_check.md").read_text(encoding="utf-8")
    ways = [name for name in result if name.startswith("way: ")]
    assert {"way: tensorrt fp32", "way: tensorrt-rtx fp32", "way: onnxruntime-cuda fp32"} <= set(ways)
    for name in ways:
        assert "open_ms" in result[name] or result[name]["not_run"]
        assert name.removeprefix("way: ") in text
