"""The ONNX Runtime backend: preallocated slots, one I/O binding per phase, nothing allocated in a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.slots import HostSlots, read_slot, write_slot
from stunet_deploy.bundle import FLOAT32, Bundle, check_precision
from stunet_deploy.contract import NEXT_STATE, Lines, StepContract, TensorSpec
from stunet_deploy.errors import BackendError, BundleError, StreamError

CPU_PROVIDER = "CPUExecutionProvider"
#: What ONNX Runtime computes on a CPU. It has no bf16 products there, and nothing that rounds as tf32 does.
CPU_PRECISIONS = (FLOAT32, "fp16", "int8")
#: Distributions that bring the module onnxruntime.
WHEELS = ("onnxruntime", "onnxruntime-gpu")


class OnnxRuntimeBackend:
    """One step of a bundle on the CPU through ONNX Runtime; see :class:`runtime.backend.Backend`.

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
        _check_precision(precision)
        self.batch = batch
        self.contract: StepContract = bundle.manifest.contract
        ort = _import_onnxruntime()
        graph = bundle.graph(precision)
        self._session = _open_session(ort, graph, threads)
        _check_graph(self._session, self.contract, batch, graph)
        # Without this entry every run raises and swallows a missing-key exception: 49 instead of 12 microseconds.
        self._run_options = ort.RunOptions()
        self._run_options.add_run_config_entry("gpu_graph_id", "-1")
        self._slots = HostSlots(self.contract, batch)
        self._inputs = {spec.name: _zeros(spec, batch) for spec in self.contract.inputs}
        self._outputs = {spec.name: _zeros(spec, batch) for spec in self.contract.outputs}
        self._bindings = [self._bind(ort, phase) for phase in range(self.contract.slots)]

    def _bind(self, ort: ModuleType, phase: int) -> Any:
        """Return the I/O binding of one phase. On the CPU an OrtValue shares the memory of its array."""
        binding = self._session.io_binding()
        slots = self.contract.slots

        def value(array: NDArray[Any]) -> Any:
            return ort.OrtValue.ortvalue_from_numpy(array)

        for name, array in self._inputs.items():
            binding.bind_ortvalue_input(name, value(array))
        for tap in self.contract.taps:
            slot = self._slots.arrays[tap.state.name][read_slot(phase, tap.age, slots)]
            binding.bind_ortvalue_input(tap.name, value(slot))
        for name, array in self._outputs.items():
            binding.bind_ortvalue_output(name, value(array))
        for state in self.contract.states:
            slot = self._slots.arrays[state.name][write_slot(phase)]
            binding.bind_ortvalue_output(NEXT_STATE + state.name, value(slot))
        return binding

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run one interval; the outputs [batch, ...] are overwritten by the next step.

        Raises:
            StreamError: if an input is missing, unknown or of another shape; the state is unchanged.
            BackendError: if ONNX Runtime fails.
        """
        if inputs.keys() != self._inputs.keys():
            raise StreamError(
                f"step inputs {sorted(inputs)}", f"{sorted(self._inputs)}", "give each input of the contract"
            )
        for name, buffer in self._inputs.items():
            if inputs[name].shape != buffer.shape:
                raise StreamError(f"step input {name!r} of shape {inputs[name].shape}", f"{buffer.shape}", "reshape it")
        for name, buffer in self._inputs.items():
            buffer[...] = inputs[name]
        try:
            self._session.run_with_iobinding(self._bindings[self._slots.phase], self._run_options)
        except Exception as error:  # ONNX Runtime has an exception class per status code and no common base
            raise BackendError(
                f"ONNX Runtime failed in a step ({error})",
                "a step that runs",
                "run 'stunet verify' on the bundle",
            ) from error
        self._slots.advance()
        return self._outputs

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Zero every slot of every state entry, for all batch rows or for some."""
        self._slots.reset(rows)

    def read_lines(self) -> Lines:
        """Return a copy of the state by age: [delay, batch, ...] per entry, oldest first."""
        return self._slots.read_lines()

    def write_lines(self, lines: Lines) -> None:
        """Replace the state by lines that :meth:`read_lines` returned, here or on another backend."""
        self._slots.write_lines(lines)

    def close(self) -> None:
        """Drop the session and its bindings; the backend must not be used afterwards."""
        self._bindings.clear()
        self._session = None


def _check_precision(precision: str) -> None:
    check_precision(precision)
    if precision not in CPU_PRECISIONS:
        raise BackendError(
            f"precision {precision} on a CPU, where ONNX Runtime does not compute it",
            f"one of {', '.join(CPU_PRECISIONS)}, or a GPU",
            f"use '--precision {FLOAT32}', or on a GPU '--backend tensorrt'",
        )


def _import_onnxruntime() -> ModuleType:
    _check_one_wheel()
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise BackendError(
            f"onnxruntime cannot be imported ({error})",
            "ONNX Runtime",
            "install it with: pip install 'stunet-deploy[cpu]'",
        ) from error


def _check_one_wheel() -> None:
    """Refuse two wheels that own one module: each has overwritten some of the other's files."""
    found = [name for name in WHEELS if any(metadata.distributions(name=name))]
    if len(found) > 1:
        raise BackendError(
            f"both {' and '.join(found)} are installed",
            "one of them: both own the module onnxruntime",
            f"pip uninstall -y {' '.join(found)}, then pip install 'stunet-deploy[cpu]' (or [gpu])",
        )


def _open_session(ort: ModuleType, graph: Path, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # A spinning pool burns whole cores between intervals.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Its int8 kernels add pairs of products in 16 bits on processors without VNNI, and saturate there. Without them the
    # quantised operands are multiplied in float32, as the graph says.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Without a planned pattern the arena stays smaller (162 instead of 180 MB in window mode) at the same speed.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(graph), options, providers=[CPU_PROVIDER])
    except Exception as error:  # ONNX Runtime has an exception class per status code and no common base
        raise BackendError(
            f"ONNX Runtime {ort.__version__} cannot load {graph} ({error})",
            "a graph that it supports",
            "install a newer onnxruntime or export the model again",
        ) from error
    if session.get_providers() != [CPU_PROVIDER]:
        raise BackendError(
            f"ONNX Runtime opened the providers {session.get_providers()}",
            f"{[CPU_PROVIDER]}",
            "install it with: pip install 'stunet-deploy[cpu]'",
        )
    return session


def _check_graph(session: Any, contract: StepContract, batch: int, graph: Path) -> None:
    """Compare names, dtypes and shapes of the graph with the contract."""
    inputs = [*contract.inputs, *(_renamed(tap.state, tap.name) for tap in contract.taps)]
    outputs = [*contract.outputs, *(_renamed(state, NEXT_STATE + state.name) for state in contract.states)]
    for kind, specs, nodes in (
        ("input", inputs, session.get_inputs()),
        ("output", outputs, session.get_outputs()),
    ):
        expected = {spec.name: (_onnx_type(spec), spec.with_batch(batch)) for spec in specs}
        found = {node.name: (node.type, _with_batch(node.shape, batch)) for node in nodes}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise BundleError(
                    f"{graph}: {kind} {name!r} is {found.get(name, 'absent')}",
                    f"{expected.get(name, 'no such tensor')} as in the contract",
                    "export the model again",
                )


def _renamed(spec: TensorSpec, name: str) -> TensorSpec:
    return TensorSpec(name, spec.axes, spec.shape, spec.dtype)


def _onnx_type(spec: TensorSpec) -> str:
    return {"float32": "tensor(float)", "float64": "tensor(double)"}.get(spec.dtype, f"tensor({spec.dtype})")


def _with_batch(shape: Sequence[Any], batch: int) -> tuple[Any, ...]:
    """Put the batch size in place of a symbolic first axis; other symbolic axes stay, and so differ."""
    if shape and not isinstance(shape[0], int):
        return (batch, *shape[1:])
    return tuple(shape)


def _zeros(spec: TensorSpec, batch: int) -> NDArray[Any]:
    return np.zeros(spec.with_batch(batch), spec.dtype)
