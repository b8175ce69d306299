"""Backends, each of which runs one step of a bundle and owns the memory of its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from runtime.backends.onnxruntime.cpu import OnnxRuntimeBackend
from stunet_deploy.bundle import Bundle
from stunet_deploy.contract import Lines, StepContract
from stunet_deploy.errors import BackendError, ConfigError
from stunet_deploy.precisions import FLOAT32

ONNXRUNTIME = "onnxruntime"
#: Backends of an NVIDIA GPU in this machine.
GPU_BACKENDS = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt", "tensorrt-rtx")
#: Every backend name that commands and calls accept; a model on a Triton server is named by its address.
BACKENDS = (ONNXRUNTIME, *GPU_BACKENDS)
TRITON = "triton://"


class Backend(Protocol):
    """One step of one bundle on one device, with ``batch`` independent rows of state. Not for use from two threads."""

    @property
    def name(self) -> str:
        """Name by which :func:`open_backend` opens it."""

    @property
    def degraded(self) -> str | None:
        """Why forecasts of this backend are marked as degraded; None while it runs as it was asked to."""

    @property
    def batch(self) -> int:
        """Number of rows that step together."""

    @property
    def contract(self) -> StepContract:
        """Inputs, outputs and state of the step."""

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run one interval; the outputs [batch, ...] are overwritten by the next step.

        Raises:
            StreamError: if an input is missing, unknown or of another shape; the state is unchanged.
            BackendError: if the device fails.
        """

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Zero every slot of every state entry, for all batch rows or for some."""

    def read_lines(self) -> Lines:
        """Return a copy of the state by age: [delay, batch, ...] per entry, oldest first."""

    def write_lines(self, lines: Lines) -> None:
        """Replace the state by lines that :meth:`read_lines` returned, here or on another backend."""

    def close(self) -> None:
        """Give the device's memory back; the backend must not be used afterwards."""


def open_backend(
    bundle: Bundle,
    backend: str = ONNXRUNTIME,
    *,
    precision: str = FLOAT32,
    batch: int = 1,
    threads: int = 1,
    fallback: bool = False,
) -> Backend:
    """Open a bundle's step on a device.

    Args:
        bundle: what to run.
        backend: one of :data:`BACKENDS` or ``triton://host:port/model``.
        precision: one of :data:`stunet_deploy.precisions.PRECISIONS` that the bundle was exported with.
        batch: number of independent rows.
        threads: CPU threads of one step; one is best for small graphs on a controller.
        fallback: whether the float32 step on the CPU takes over when a GPU fails while it runs; see
            :class:`runtime.backends.fallback.FallbackBackend`.

    Raises:
        BackendError: if the backend is unknown, not built in, not installed, or lacks its driver, GPU or engine.
        BundleError: if the precision was not exported, or the graph or engine does not fit the bundle's contract.
        ConfigError: if ``precision`` is unknown, or ``batch`` or ``threads`` is below one.
    """
    for name, value in (("batch", batch), ("threads", threads)):
        if value < 1:
            raise ConfigError(f"{name} = {value}", "at least 1", f"choose another {name}")
    if backend == ONNXRUNTIME:
        return OnnxRuntimeBackend(bundle, precision=precision, batch=batch, threads=threads)
    if backend in GPU_BACKENDS:
        # Imported here so that a CPU's users do not load it.
        from runtime.backends.gpu.opening import open_gpu_backend

        device = open_gpu_backend(bundle, backend, precision=precision, batch=batch)
        if not fallback:
            return device
        from runtime.backends.fallback import FallbackBackend

        return FallbackBackend(device, lambda: OnnxRuntimeBackend(bundle, batch=batch, threads=threads))
    if backend.startswith(TRITON):
        raise BackendError(f"backend {backend!r} is not built in yet", ONNXRUNTIME, f"use '--backend {ONNXRUNTIME}'")
    known = ", ".join((*BACKENDS, TRITON + "host:port/model"))
    raise BackendError(f"unknown backend {backend!r}", f"one of {known}", "choose one of these")
