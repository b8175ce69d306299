"""Benchmarks run whole, in small: the harness is tested, not the time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_benchmark(tmp_path: Path) -> Callable[..., str]:
    """Return what runs a benchmark with its results in the test's folder, and returns what it printed."""

    def run(script: str, *options: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{script}", *map(str, options), "--out", str(tmp_path)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def cut_freeway(tmp_path: Path) -> Callable[[int, int], Path]:
    """Return what writes the last intervals of the first sensors of the shipped data, and returns the file."""

    def cut(sensors: int, intervals: int) -> Path:
        with np.load(ROOT / "stunet_deploy" / "data" / "freeway.npz", allow_pickle=False) as whole:
            arrays = dict(whole)
        for key in ("values", "observed"):
            arrays[key] = arrays[key][-intervals:, :sensors]
        for key in ("sensor_ids", "latitude", "longitude"):
            arrays[key] = arrays[key][:sensors]
        arrays["timestamps"] = arrays["timestamps"][-intervals:]
        arrays["adjacency"] = arrays["adjacency"][:sensors, :sensors]
        np.savez(tmp_path / "cut.npz", **arrays)
        return tmp_path / "cut.npz"

    return cut
