"""What every test runs under: shapes checked, repeatable examples, one thread, and named reasons to skip."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

# Set before anything imports torch or numpy, and inherited by subprocesses: the test workers fill the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Only modules imported from here on are checked; the hook must come before the first test module.
install_import_hook(["stunet_deploy.models", "training"], "beartype.beartype")

hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")


def has_gpu() -> bool:
    """Whether the NVIDIA driver is there and finds a device; asked without any framework."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return driver.cuInit(0) == 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that lacks its GPU or system package; with STUNET_NO_SKIP=1 a missing package fails it."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip("no NVIDIA GPU")
    for marker in item.iter_markers("needs_system_package"):
        (command,) = marker.args
        if shutil.which(command) is None:
            reason = f"the command {command} is not installed"
            if os.environ.get("STUNET_NO_SKIP") == "1":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: STUNET_DATA, or shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("STUNET_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no folder of real data sets: set STUNET_DATA to one")
    return folder
