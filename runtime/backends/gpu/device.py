"""The two parts of a step on a GPU: a device with one stream, and a program that puts one step on it.

Both are protocols, so that the bookkeeping of slots, phases and graphs (:mod:`runtime.backends.gpu.backend`) runs
unchanged on CUDA and on memory that checks every access. Addresses are integers; all work is asynchronous, in the
order in which it was put on the device's one stream, until :meth:`Device.wait` or :meth:`Device.synchronize` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Every tensor begins at a multiple of this many bytes, as TensorRT asks and cudaMalloc gives.
ALIGNMENT = 256


def aligned(size: int) -> int:
    """Return the next multiple of :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Device(Protocol):
    """One GPU with one stream of its own. Every method raises BackendError with the name of the device's error."""

    @property
    def stream(self) -> int:
        """Handle of the stream, for libraries that put their own work on it; never the default stream."""

    def allocate(self, size: int) -> int:
        """Return the address of device memory, aligned; its content is undefined. Freed by :meth:`close`."""

    def host_buffer(self, size: int) -> NDArray[np.uint8]:
        """Return zeros in page-locked host memory, which the GPU reads and writes by itself."""

    def copy_in(self, address: int, array: NDArray[Any]) -> None:
        """Put a copy of a contiguous host array to the device on the stream."""

    def copy_out(self, array: NDArray[Any], address: int) -> None:
        """Put a copy from the device to a contiguous host array on the stream."""

    def zero(self, address: int, pitch: int, width: int, height: int) -> None:
        """Put the zeroing of ``height`` runs of ``width`` bytes, ``pitch`` bytes apart, on the stream."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` puts on the stream, without running it, as a graph; return the call that launches it.

        The graph keeps the addresses it was recorded with. ``work`` must have run once before, outside a capture.
        """

    def record(self) -> None:
        """Put the device's one event on the stream, behind everything put there so far."""

    def wait(self) -> None:
        """Wait until the stream has passed the event."""

    def synchronize(self) -> None:
        """Wait until the stream is empty."""

    def close(self) -> None:
        """Give graphs, memory, event and stream back; the device must not be used afterwards."""


class Program(Protocol):
    """One step of a bundle as something that can be put on a device's stream."""

    @property
    def capturable(self) -> bool:
        """Whether a step may be captured in a graph."""

    def bind(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Return the call that puts one step on the stream, which reads and writes these addresses.

        Args:
            addresses: of every tensor of the contract by its name: inputs, outputs, taps, next states.
        """

    def close(self) -> None:
        """Give the program's memory back; the program must not be used afterwards."""
