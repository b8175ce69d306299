"""CUDA through NVIDIA's cuda-python: one stream, its memory, its event, its graphs; every call's status is checked."""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import BackendError


class CudaDevice:
    """The first visible GPU, as :class:`runtime.backends.gpu.device.Device`; ask for the driver before opening one.

    Raises:
        BackendError: if cuda-python is missing, or CUDA refuses.
    """

    def __init__(self) -> None:
        self._cuda = import_cuda()
        # Errors of these calls are dropped, since after a fault CUDA answers every call with it.
        self._held = contextlib.ExitStack()
        self._call("cudaSetDevice", 0)
        # A stream that waits for the default stream would wait for all else that this process does there.
        self._stream = self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        self._held.callback(self._cuda.cudaStreamDestroy, self._stream)
        try:
            self._event = self._call("cudaEventCreateWithFlags", self._cuda.cudaEventDisableTiming)
        except BackendError:
            self.close()
            raise
        self._held.callback(self._cuda.cudaEventDestroy, self._event)

    @property
    def stream(self) -> int:
        """Handle of the stream, for libraries that put their own work on it."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        """Return the address of device memory; its content is undefined. Freed by :meth:`close`."""
        address = int(self._call("cudaMalloc", size))
        self._held.callback(self._cuda.cudaFree, address)
        return address

    def host_buffer(self, size: int) -> NDArray[np.uint8]:
        """Return zeros in page-locked host memory; freed with the last array that shows it."""
        address = int(self._call("cudaHostAlloc", size, self._cuda.cudaHostAllocDefault))
        memory = (ctypes.c_uint8 * size).from_address(address)
        weakref.finalize(memory, self._cuda.cudaFreeHost, address).atexit = False
        ctypes.memset(address, 0, size)
        return np.frombuffer(memoryview(memory), np.uint8)

    def copy_in(self, address: int, array: NDArray[Any]) -> None:
        """Put a copy of a contiguous host array to the device on the stream."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self._stream)

    def copy_out(self, array: NDArray[Any], address: int) -> None:
        """Put a copy from the device to a contiguous host array on the stream."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self._stream)

    def zero(self, address: int, pitch: int, width: int, height: int) -> None:
        """Put the zeroing of ``height`` runs of ``width`` bytes, ``pitch`` bytes apart, on the stream."""
        self._call("cudaMemset2DAsync", address, pitch, 0, width, height, self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what ``work`` puts on the stream as a graph and return the call that launches it."""
        # Thread-local: another stream of this process may allocate while this one records.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            with contextlib.suppress(BackendError):  # the first error is the one that says what happened
                self._call("cudaStreamEndCapture", self._stream)
            raise
        graph = self._call("cudaStreamEndCapture", self._stream)
        try:
            executable = self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)
        self._held.callback(self._cuda.cudaGraphExecDestroy, executable)
        self._call("cudaGraphUpload", executable, self._stream)
        launch, stream = self._cuda.cudaGraphLaunch, self._stream

        def run() -> None:
            (status,) = launch(executable, stream)
            if status:
                self._fail("cudaGraphLaunch", status)

        return run

    def record(self) -> None:
        """Put the event on the stream, behind everything put there so far."""
        self._call("cudaEventRecord", self._event, self._stream)

    def wait(self) -> None:
        """Wait until the stream has passed the event."""
        self._call("cudaEventSynchronize", self._event)

    def synchronize(self) -> None:
        """Wait until the stream is empty."""
        self._call("cudaStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give everything back, the newest first, when the stream is empty."""
        if self._stream is not None:
            self._cuda.cudaStreamSynchronize(self._stream)
        self._held.close()
        self._stream = None

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call CUDA and return its one result, or None."""
        status, *results = getattr(self._cuda, function)(*arguments)
        if status:
            self._fail(function, status)
        return results[0] if results else None

    def _fail(self, function: str, status: Any) -> None:
        name = getattr(status, "name", str(int(status)))
        if name == "cudaErrorMemoryAllocation":
            action = "free memory on the GPU, or forecast with --backend onnxruntime"
        else:
            action = "look for a fault with nvidia-smi and in the system's log, then run 'stunet verify' on the bundle"
        raise BackendError(f"CUDA answers {function} with {name}", "a GPU that works", action)


def import_cuda() -> Any:
    """Return cuda-python's bindings of the CUDA runtime.

    Raises:
        BackendError: if they are missing.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(
            f"the Python module cuda.bindings cannot be imported ({error})",
            "NVIDIA's cuda-python, which steps the model on the GPU",
            "pip install 'cuda-bindings>=12.6.1,<13' for CUDA 12, or 'cuda-bindings>=13' for CUDA 13",
        ) from error
    return runtime
