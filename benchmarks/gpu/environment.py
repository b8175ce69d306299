"""What a measurement on a GPU depends on: the GPU and its state, driver and libraries."""

from __future__ import annotations

import subprocess
from importlib import import_module
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
