"""The benchmarks of latency and throughput run whole, in small; what they time is left to the machine they are for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--data", "stunet_deploy/data/freeway.npz", "--hidden", "4", "--rounds", "3")


def run(name: str, out: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Run a benchmark as its page says; return the JSON and the page that it wrote."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", *SMALL, "--out", str(out), *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (out / f"{name}.md").read_text(encoding="utf-8")
    assert page.strip() in done.stdout
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8")), page


def test_throughput_compares_groups_and_processes(tmp_path: Path) -> None:
    found, page = run("throughput", tmp_path, "--streams", "3", "1", "--cores", "2", "--seconds", "0.2")

    assert [row["streams"] for row in found["batched"]] == [1, 3]
    assert all(row["difference"] <= found["tolerance"] for row in found["batched"])
    assert all(len(row["samples_us"]) == row["push"]["count"] == 3 for row in found["batched"])
    spread = {(row["processes"], row["threads"]) for row in found["processes"]}
    assert spread == {(1, 1), (1, 2), (2, 1)}
    assert all(row["push"]["count"] >= 5 * row["processes"] for row in found["processes"])
    assert "| 3 |" in page
