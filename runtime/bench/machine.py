"""The machine while it is measured: how it is set, what state it is in, and the energy it takes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from runtime.bench.nvml import Gpu
from runtime.timing import environment, installed_version, read_system_file

#: Distributions whose versions a measurement may depend on, beside those that every one does.
ENGINES = ("tensorrt", "tensorrt-rtx", "tensorrt-lean", "cuda-bindings", "openvino")
_CPU = "sys/devices/system/cpu"


def measured_environment(gpu: Gpu | None, root: Path = Path("/")) -> dict[str, Any]:
    """Return machine, versions and settings: what does not change while it is measured.

    Args:
        gpu: the GPU, if a backend uses it.
        root: of the file system that the kernel's files are read from.
    """
    return environment() | {
        "versions": {name: version for name in ENGINES if (version := installed_version(name)) is not None},
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "governors": sorted(
            {text for path in root.glob(f"{_CPU}/cpu*/cpufreq/scaling_governor") if (text := read_system_file(path))}
        ),
        "energy_preference": read_system_file(root / _CPU / "cpu0/cpufreq/energy_performance_preference"),
        "boost": read_system_file(root / _CPU / "cpufreq/boost"),
        "platform_profile": read_system_file(root / "sys/firmware/acpi/platform_profile"),
        "power_mode": _jetson_power_mode(),
        "gpu": None if gpu is None else gpu.name,
        "driver": None if gpu is None else gpu.driver,
    }


def machine_state(gpu: Gpu | None, root: Path = Path("/")) -> dict[str, Any]:
    """Return what changes while it is measured: load, clocks in MHz, temperatures in °C, how often it was throttled."""
    temperatures = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        number = _number(zone / "temp")
        if number is not None:
            temperatures[f"{read_system_file(zone / 'type') or zone.name}"] = number / 1000
    throttled = [_number(path) for path in root.glob(f"{_CPU}/cpu*/thermal_throttle/core_throttle_count")]
    return {
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "clocks_mhz": _clocks(root),
        "temperatures_c": temperatures,
        "throttled": sum(int(count) for count in throttled if count is not None) if throttled else None,
        "gpu": None if gpu is None else gpu.state(),
    }


class Energy:
    """Energy that processor packages and a GPU take while blocks run, from their own counters, where they have any.

    The processor's is RAPL (/sys/class/powercap), which most systems let only root read. A counter counts everything
    that runs on its package or GPU, not this process alone.

    Attributes:
        cpu_joules, gpu_joules: sum over the blocks so far; None where there is no counter.
    """

    def __init__(self, gpu: Gpu | None, root: Path = Path("/")) -> None:
        zones = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
        # intel-rapl:0 is a package; intel-rapl:0:0 a part of it, which the package counts too.
        self._zones = [zone for zone in zones if zone.name.count(":") == 1 and _number(zone / "energy_uj") is not None]
        self._gpu = gpu if gpu is not None and gpu.millijoules() is not None else None
        self.cpu_joules: float | None = 0.0 if self._zones else None
        self.gpu_joules: float | None = 0.0 if self._gpu is not None else None

    def __enter__(self) -> Energy:
        self._before = self._read()
        return self

    def __exit__(self, *error: object) -> None:
        packages, gpu = self._read()
        before, gpu_before = self._before
        if self.cpu_joules is not None:
            for zone, first, last in zip(self._zones, before, packages, strict=True):
                # The counter starts anew when it is full.
                full = _number(zone / "max_energy_range_uj") or 0.0
                self.cpu_joules += (last - first if last >= first else last - first + full) / 1e6
        if self.gpu_joules is not None:
            self.gpu_joules += (gpu - gpu_before) / 1000

    def _read(self) -> tuple[list[float], int]:
        packages = [_number(zone / "energy_uj") or 0.0 for zone in self._zones]
        return packages, 0 if self._gpu is None else self._gpu.millijoules() or 0


def _clocks(root: Path) -> list[int]:
    """Return the clock of every core in MHz, as the frequency driver or else /proc/cpuinfo says it."""
    found = [_number(path) for path in sorted(root.glob(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    if found:
        return [round(kilohertz / 1000) for kilohertz in found if kilohertz is not None]
    lines = (read_system_file(root / "proc/cpuinfo") or "").splitlines()
    return [round(float(line.partition(":")[2])) for line in lines if line.startswith("cpu MHz")]


def _jetson_power_mode() -> str | None:
    """Return the power mode that a Jetson is set to; None elsewhere."""
    try:
        done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return " ".join(done.stdout.split()) or None


def _number(path: Path) -> float | None:
    try:
        return float(read_system_file(path) or "")
    except ValueError:
        return None
