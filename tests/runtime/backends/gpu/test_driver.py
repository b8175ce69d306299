"""What the driver answers, asked of a library with the driver's name that answers as it is told to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.paths import ROOT

ASK = """
from runtime.backends.gpu.driver import find_device, require_driver
from stunet_deploy.errors import BackendError

try:
    print(require_driver())
except BackendError as error:
    print(error)
    assert find_device() is None
"""


def ask(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def driver(driver_library: Path) -> Callable[..., str]:
    """Return a function that asks a driver which is told what to answer."""

    def told(**answers: int) -> str:
        environment = {f"TOLD_{name}": str(value) for name, value in answers.items()}
        return ask(LD_LIBRARY_PATH=str(driver_library), **environment)

    return told


@pytest.mark.needs_system_package("gcc")
def test_a_driver_with_a_device_describes_it(driver: Callable[..., str]) -> None:
    assert driver().startswith(
        "Device(index=0, name='Orin', compute_capability='8.7', driver_cuda='99.0', memory_bytes=8000000000)"
    )


@pytest.mark.needs_system_package("gcc")
@pytest.mark.parametrize(
    ("answers", "came", "action"),
    [
        ({"INIT": 100}, "cuInit with CUDA_ERROR_NO_DEVICE", "CUDA_VISIBLE_DEVICES"),
        ({"INIT": 803}, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "restart after an update of the driver"),
        ({"INIT": 999}, "cuInit with CUDA_ERROR_UNKNOWN", "nvidia-smi"),
        ({"INIT": 777}, "the NVIDIA driver cannot be used ('777", "nvidia-smi"),
        ({"VERSION": 11080}, "an NVIDIA driver for CUDA 11.8", "update the driver or JetPack"),
        ({"COUNT": 0}, "GPU 0 of 0", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_driver_that_cannot_be_used_is_an_error_with_its_remedy(
    driver: Callable[..., str], answers: dict[str, int], came: str, action: str
) -> None:
    said = driver(**answers)

    assert came in said
    assert action in said


def test_an_absent_driver_is_an_error_that_names_its_library(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    (tmp_path / "libcuda.so.1").write_text("no library")  # found before one that may be installed here

    said = ask(LD_LIBRARY_PATH=str(tmp_path))

    assert "the NVIDIA driver" in said
    assert "nvidia-smi" in said or "libcuda.so.1" in said


def test_an_absent_cuda_python_is_an_error_with_the_package_to_install() -> None:
    block = "import sys; sys.modules['cuda'] = None\n"

    done = subprocess.run([sys.executable, "-c", block + ASK], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "pip install 'cuda-bindings>=12.6.1,<13' for CUDA 12" in done.stdout
