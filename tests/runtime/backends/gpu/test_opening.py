"""What a GPU backend says when something of it is missing, in the library and at the command line."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from runtime.backends.base import GPU_BACKENDS, open_backend
from runtime.backends.gpu import opening
from runtime.backends.gpu.driver import Device, find_device
from stunet_deploy.errors import BackendError, BundleError, ConfigError
from tests.paths import ROOT

GPU = Device(0, "a GPU", "8.7", "12.6", 8 * 10**9)

without_gpu = pytest.mark.skipif(find_device() is not None, reason="this machine has a GPU")


@pytest.fixture
def tensorrt(monkeypatch):
    """Install a module tensorrt that nobody must call yet."""
    module = ModuleType("tensorrt")
    module.__version__ = "10.3.0"
    monkeypatch.setitem(sys.modules, "tensorrt", module)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_library_names_what_installs_it(example, monkeypatch, backend):
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_lean"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match=r"no Python module tensorrt.*pip install"):
        open_backend(example.bundle, backend)


def test_missing_cuda_python_is_named(example, tensorrt, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("cuda.bindings")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendError, match=r"cuda\.bindings cannot be imported.*pip install"):
        open_backend(example.bundle, "tensorrt")


@without_gpu
def test_a_missing_driver_is_named_before_tensorrt_is_touched(example, tensorrt):
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("cuda-python is not installed")
    with pytest.raises(BackendError, match="driver"):
        open_backend(example.bundle, "tensorrt")


def test_a_missing_engine_names_the_command_that_builds_it(example, tensorrt, monkeypatch):
    monkeypatch.setattr(opening, "require_driver", lambda: GPU)
    with pytest.raises(BackendError, match=r"no engine.*8\.7.*batch 12.*stunet build"):
        open_backend(example.bundle, "tensorrt", batch=12)


@pytest.mark.parametrize("backend", GPU_BACKENDS)
def test_a_precision_that_is_not_there_comes_before_everything_else(example, backend):
    with pytest.raises(BundleError, match="precision fp16, which this bundle was not exported with"):
        open_backend(example.bundle, backend, precision="fp16")
    with pytest.raises(ConfigError, match="precision 'half'"):
        open_backend(example.bundle, backend, precision="half")


def test_what_was_opened_is_closed_when_the_next_thing_fails(example, monkeypatch):
    closed = []
    device = SimpleNamespace(stream=1, close=lambda: closed.append("device"))

    class Program:
        def __init__(self, *arguments, **options):
            pass

        def close(self):
            closed.append("program")

    def refuse(*arguments):
        raise BackendError("a capture that failed", "a capture", "look")

    monkeypatch.setattr(opening, "import_gpu_onnxruntime", lambda provider, precision: None)
    monkeypatch.setattr(opening, "require_driver", lambda: GPU)
    monkeypatch.setattr(opening, "import_cuda", lambda: None)
    monkeypatch.setattr(opening, "CudaDevice", lambda: device)
    monkeypatch.setattr(opening, "OnnxRuntimeProgram", Program)
    monkeypatch.setattr(opening, "DeviceBackend", refuse)
    with pytest.raises(BackendError, match="a capture that failed"):
        open_backend(example.bundle, "onnxruntime-cuda")
    assert closed == ["program", "device"]


@without_gpu
@pytest.mark.parametrize("backend", GPU_BACKENDS)
@pytest.mark.parametrize("verb", ["verify", "run"])
def test_at_the_command_line_it_is_three_clauses_and_exit_code_2(example, backend, verb):
    replay = ["--replay", str(example.bundle.path / "golden.npz")] if verb == "run" else []
    done = subprocess.run(
        [sys.executable, "-m", "stunet_deploy", verb, str(example.bundle.path), "--backend", backend, *replay],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr  # a segmentation fault would be -11
    clauses = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert clauses == ["error", "expected", "to do"], done.stderr
    assert done.stdout == ""
