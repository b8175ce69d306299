"""The ONNX Runtime backend: preallocated slots, one I/O binding per phase, nothing allocated in a step."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from runtime.backends.buffers import write_inputs, zero_buffers
from runtime.backends.onnxruntime.session import import_onnxruntime, open_session, run_options
from runtime.backends.slots import HostSlots, bound_slots
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import BackendError
from stunet_deploy.precisions import FLOAT32, check_precision

#: What ONNX Runtime computes on a CPU. It has no bf16 products there, and nothing that rounds as tf32 does.
CPU_PRECISIONS = (FLOAT32, "fp16", "int8")


class OnnxRuntimeBackend(HostSlots):
    """One step of a bundle on the CPU through ONNX Runtime; see :class:`runtime.backends.base.Backend`.

    Inputs, outputs and slots lie at fixed addresses in host memory and are bound once for each phase of the slot
    rule, so a step is one call. A slot is never bound as input and output of the same step: ONNX Runtime then
    computes wrong values (onnxruntime#32243).

    Raises:
        BackendError: if ONNX Runtime is missing, installed twice, cannot compute the precision on a CPU, or refuses the
            graph or the provider.
        BundleError: if the precision was not exported, or the graph's inputs or outputs are not those of the contract.
    """

    name = "onnxruntime"
    degraded = None

    def __init__(self, bundle: Bundle, *, precision: str = FLOAT32, batch: int = 1, threads: int = 1) -> None:
        check_precision(precision)
        if precision not in CPU_PRECISIONS:
            raise BackendError(
                f"precision {precision} on a CPU, where ONNX Runtime does not compute it",
                f"one of {', '.join(CPU_PRECISIONS)}, or a GPU",
                f"use '--precision {FLOAT32}', or on a GPU '--backend tensorrt'",
            )
        super().__init__(bundle.manifest.contract, batch)
        ort = import_onnxruntime()
        self._session = open_session(ort, bundle.cpu_graph(precision), self.contract, batch=batch, threads=threads)
        self._run_options = run_options(ort)
        self._inputs = zero_buffers(self.contract.inputs, batch)
        self._outputs = zero_buffers(self.contract.outputs, batch)
        self._bindings = [self._bind(ort, phase) for phase in range(self.contract.slots)]

    def _bind(self, ort: ModuleType, phase: int) -> Any:
        """Return the I/O binding of one phase. On the CPU an OrtValue shares the memory of its array."""
        binding = self._session.io_binding()

        def value(array: NDArray[Any]) -> Any:
            return ort.OrtValue.ortvalue_from_numpy(array)

        for name, array in self._inputs.items():
            binding.bind_ortvalue_input(name, value(array))
        for name, array in self._outputs.items():
            binding.bind_ortvalue_output(name, value(array))
        reads, writes = bound_slots(self.contract, phase)
        for name, (state, slot) in reads.items():
            binding.bind_ortvalue_input(name, value(self.arrays[state][slot]))
        for name, (state, slot) in writes.items():
            binding.bind_ortvalue_output(name, value(self.arrays[state][slot]))
        return binding

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run one interval; the outputs [batch, ...] are overwritten by the next step.

        Raises:
            StreamError: if an input is missing, unknown or of another shape; the state is unchanged.
            BackendError: if ONNX Runtime fails.
        """
        write_inputs(self._inputs, inputs)
        try:
            self._session.run_with_iobinding(self._bindings[self.phase], self._run_options)
        except Exception as error:  # ONNX Runtime has an exception class per status code and no common base
            raise BackendError(
                f"ONNX Runtime failed in a step ({error})",
                "a step that runs",
                "run 'stunet verify' on the bundle",
            ) from error
        self.advance()
        return self._outputs

    def close(self) -> None:
        """Drop the session and its bindings; the backend must not be used afterwards."""
        self._bindings.clear()
        self._session = None
