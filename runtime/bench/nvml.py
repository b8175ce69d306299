"""Facts about the first GPU from NVIDIA's management library, which comes with the driver, through nvidia-ml-py."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


class Gpu:
    """The first GPU; open it with :func:`open_gpu`. A fact that the device does not report is None."""

    def __init__(self, nvml: ModuleType, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    @property
    def name(self) -> str | None:
        """Name of the GPU."""
        name: str | None = self._ask(self._nvml.nvmlDeviceGetName, self._handle)
        return name

    @property
    def driver(self) -> str | None:
        """Version of the driver."""
        version: str | None = self._ask(self._nvml.nvmlSystemGetDriverVersion)
        return version

    def millijoules(self) -> int | None:
        """Return the energy that the GPU has taken since the driver was loaded."""
        energy: int | None = self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
        return energy

    def used_mb(self) -> float | None:
        """Return the memory that is in use on the GPU, by any process, in MB of 10^6 bytes."""
        memory = self._ask(self._nvml.nvmlDeviceGetMemoryInfo, self._handle)
        return None if memory is None else int(memory.used) / 1e6

    def state(self) -> dict[str, Any]:
        """Return clocks in MHz, temperature in °C and power in W."""
        nvml, handle = self._nvml, self._handle
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        return {
            "clock_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            "temperature_c": self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power / 1000,
        }

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._nvml.NVMLError:
            return None


def open_gpu() -> Gpu | None:
    """Return the first GPU, or None without nvidia-ml-py, the driver's library or a GPU."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        return None
