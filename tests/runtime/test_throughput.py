"""The benchmark of many streams runs whole, in small; what it times is left to the machine it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.paths import ROOT


def test_throughput_compares_groups_and_processes(example, tmp_path):
    options = ("--streams", "3", "1", "--rounds", "3", "--cores", "2", "--seconds", "0.2", "--out", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.throughput", "--bundle", str(example.bundle.path), *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "throughput.md").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "throughput.json").read_text(encoding="utf-8"))

    assert page.strip() in done.stdout
    assert [row["streams"] for row in found["batched"]] == [1, 3]
    assert all(row["difference"] <= found["tolerance"] for row in found["batched"])
    assert all(len(row["samples_us"]) == row["push"]["count"] == 3 for row in found["batched"])
    assert {(row["processes"], row["threads"]) for row in found["processes"]} == {(1, 1), (1, 2), (2, 1)}
    assert all(row["push"]["count"] >= 5 * row["processes"] for row in found["processes"])
    assert "| 3 |" in page
