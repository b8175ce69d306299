"""What NVIDIA's management library says of the first GPU; it comes with the driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

_TEMPERATURE_OF_GPU, _CLOCK_SM, _CLOCK_MEMORY = 0, 1, 2


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Gpu:
    """The first GPU through NVML; open it with :func:`open_gpu`. What the device does not know reads as None."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle

    @property
    def name(self) -> str | None:
        """Name of the GPU."""
        return self._string(lambda buffer, size: self._library.nvmlDeviceGetName(self._handle, buffer, size))

    @property
    def driver(self) -> str | None:
        """Version of the driver."""
        return self._string(self._library.nvmlSystemGetDriverVersion)

    def millijoules(self) -> int | None:
        """Return the energy that the GPU has taken since the driver was loaded."""
        return self._value(ctypes.c_ulonglong(), self._library.nvmlDeviceGetTotalEnergyConsumption)

    def used_mb(self) -> float | None:
        """Return the memory that is in use on the GPU, by any process, in MB of 10^6 bytes."""
        memory = _Memory()
        failed = self._library.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory))
        return None if failed else int(memory.used) / 1e6

    def state(self) -> dict[str, Any]:
        """Return clocks in MHz, temperature in °C and power in W."""
        library, number = self._library, ctypes.c_uint
        power = self._value(number(), library.nvmlDeviceGetPowerUsage)
        return {
            "clock_mhz": self._value(number(), library.nvmlDeviceGetClockInfo, _CLOCK_SM),
            "memory_clock_mhz": self._value(number(), library.nvmlDeviceGetClockInfo, _CLOCK_MEMORY),
            "temperature_c": self._value(number(), library.nvmlDeviceGetTemperature, _TEMPERATURE_OF_GPU),
            "power_w": None if power is None else power / 1000,
        }

    def _value(self, out: Any, function: Callable[..., int], *arguments: int) -> int | None:
        return None if function(self._handle, *arguments, ctypes.byref(out)) else int(out.value)

    def _string(self, function: Callable[..., int]) -> str | None:
        buffer = ctypes.create_string_buffer(96)
        return None if function(buffer, len(buffer)) else buffer.value.decode(errors="replace")


def open_gpu() -> Gpu | None:
    """Return the first GPU, or None without NVML or a GPU."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
        return None
    return Gpu(library, handle)
