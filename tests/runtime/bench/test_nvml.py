from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

QUESTIONS = """
import json
from runtime.bench.machine import Energy
from runtime.bench.nvml import open_gpu

gpu = open_gpu()
if gpu is None:
    print("null")
else:
    energy = Energy(gpu)
    with energy:
        pass
    print(json.dumps([gpu.name, gpu.driver, gpu.used_mb(), gpu.state(), energy.gpu_joules]))
"""


def ask(folder: Path) -> object:
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", QUESTIONS]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


@pytest.mark.needs_system_package("gcc")
def test_what_the_library_says_is_read_with_its_own_types(tmp_path: Path) -> None:
    source, library = Path(__file__).with_name("nvml.c"), tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)

    state = {"clock_mhz": 1800, "memory_clock_mhz": 9000, "temperature_c": 41, "power_w": None}
    assert ask(tmp_path) == ["Example GPU", "570.1", 1000.0, state, 0.5]


def test_a_library_that_is_none_is_no_gpu(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"not a library")

    assert ask(tmp_path) is None
