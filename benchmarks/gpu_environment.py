"""What a measurement on a GPU depends on: the GPU and its state, driver and libraries; and the energy it took."""

from __future__ import annotations

import ctypes
import subprocess
from importlib import import_module
from types import TracebackType
from typing import Any

MODULES = ("torch", "cuda.bindings", "tensorrt", "tensorrt_rtx", "tensorrt_lean", "onnxruntime")
QUERY = (
    *("name", "driver_version", "compute_cap", "pstate", "clocks.sm", "clocks.mem"),
    *("power.draw", "power.limit", "temperature.gpu", "memory.used", "memory.total", "clocks_throttle_reasons.active"),
)


def gpu_environment() -> dict[str, Any]:
    """Return versions of the libraries, and GPU, driver, clocks, power and temperature as nvidia-smi says them."""
    versions = {}
    for name in MODULES:
        try:
            versions[name] = str(getattr(import_module(name), "__version__", "unknown"))
        except Exception as error:  # a library that cannot be imported is a finding too
            versions[name] = f"absent ({type(error).__name__})"
    try:
        command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        said: Any = dict(zip(QUERY, (word.strip() for word in done.stdout.splitlines()[0].split(",")), strict=False))
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        said = f"nvidia-smi does not answer ({type(error).__name__})"
    return {"versions": versions, "nvidia_smi": said}


class Energy:
    """Energy that the first GPU takes while a block runs, from its own counter (NVML); None where it has none."""

    def __init__(self, wanted: bool) -> None:
        self.joules: float | None = None
        self._read = _counter() if wanted else None

    def __enter__(self) -> Energy:
        self._before = None if self._read is None else self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        after = None if self._read is None else self._read()
        if self._before is not None and after is not None:
            self.joules = (after - self._before) / 1000


def _counter() -> Any:
    """Return a function that reads the counter in millijoules, or None."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle = ctypes.c_void_p()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
        return None

    def read() -> int | None:
        energy = ctypes.c_ulonglong()
        return None if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy)) else int(energy.value)

    return read
