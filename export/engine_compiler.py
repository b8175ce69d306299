"""The calls to TensorRT that make an engine: those that 10.3 to 11 and TensorRT-RTX have in common.

The choice of target GPUs is RTX's alone and has a function of its own. A test checks every call here against the
bindings of all supported versions.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.backends.gpu.engines import EngineKey
from runtime.backends.gpu.flavor import RTX, Flavor
from runtime.backends.gpu.tensorrt_log import tensorrt_log
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BackendError, ConfigError

if TYPE_CHECKING:
    import tensorrt as trt
    import tensorrt_rtx as rtx

#: Told the phase that the builder is in and the share of it that is done.
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Compiled:
    """A compiled graph.

    Attributes:
        plan: the serialised engine.
        level: the optimisation level it was built with.
        tf32: whether float32 products may be rounded to TF32.
        timings: the timing cache after the build; None for TensorRT-RTX, which measures nothing.
        log: TensorRT's messages but for verbose ones.
    """

    plan: bytes
    level: int
    tf32: bool
    timings: bytes | None
    log: tuple[str, ...]


def compile_engine(
    flavor: Flavor,
    graph: bytes,
    contract: StepContract,
    key: EngineKey,
    *,
    level: int | None = None,
    timings: bytes = b"",
    progress: Progress = lambda phase, share: None,
) -> Compiled:
    """Compile a step graph for the devices, precision and batch of a key.

    The driver must have been asked before the full builder is used; TensorRT-RTX needs none.

    Args:
        flavor: the TensorRT of the key.
        graph: the bytes of an ONNX step.
        contract: its inputs, outputs and states.
        key: what to build for.
        level: optimisation level; default: the builder's own.
        timings: the timing cache of an earlier build, if there is one.
        progress: told what the builder does.

    Raises:
        BackendError: if TensorRT cannot read or build the graph.
        ConfigError: if the builder does not know a compute capability.
        KeyboardInterrupt: if the build was interrupted.
    """
    trt = flavor.module
    log = tensorrt_log(flavor)
    log.clear()
    try:
        builder = trt.Builder(log)
    except TypeError as error:  # the binding got a null pointer from the library
        raise _failed(key, log.errors or log.lines, "create a builder") from error
    # In a strongly typed network every tensor has the type that the graph gives it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [f"{error.node_operator()} {error.node_name()}: {error.desc()}".strip(" :") for error in errors]
        raise _failed(key, reasons, "read the graph")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if level is not None:
        config.builder_optimization_level = level
    if key.precision != "tf32":  # on by default: products with 10 bits of mantissa in an engine that is called fp32
        config.clear_flag(trt.BuilderFlag.TF32)
    if key.version_compatible:  # run by a lean runtime that is installed, not by code inside the plan
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if config.add_optimization_profile(_batch_profile(flavor, builder, contract, key)) < 0:
        raise _failed(key, log.errors or log.lines, f"take the batch profile {key.batch}")
    if flavor.name == RTX:
        _set_targets(flavor, config, key.compute_capabilities)
    else:
        known = config.create_timing_cache(timings) or config.create_timing_cache(b"")
        config.set_timing_cache(known, False)
    with _stopped_by_interrupt() as stopped:
        config.progress_monitor = _monitor(flavor, progress, stopped)
        plan = builder.build_serialized_network(network, config)
    if stopped.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise _failed(key, log.errors or log.lines, "build the engine")
    return Compiled(
        plan=bytes(plan),
        level=config.builder_optimization_level,
        tf32=config.get_flag(trt.BuilderFlag.TF32),
        timings=None if flavor.name == RTX else bytes(config.get_timing_cache().serialize()),
        log=tuple(log.lines),
    )


def describe_layers(flavor: Flavor, plan: bytes) -> Any:
    """Load an engine on the GPU that it was built for and return the description of its layers by TensorRT's inspector.

    Raises:
        BackendError: if the engine cannot be loaded.
    """
    trt = flavor.module
    log = tensorrt_log(flavor)
    log.clear()
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(
            f"{flavor.name} {flavor.version} cannot load the engine it built ({_last(log.errors or log.lines)})",
            "a TensorRT that fits driver and GPU",
            "check both with nvidia-smi and build again",
        )
    return json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def rtx_capabilities(flavor: Flavor) -> tuple[str, ...]:
    """Return the compute capabilities that this TensorRT-RTX builds for, ascending."""
    rtx = flavor.module
    numbers = sorted(int(name[2:]) for name in rtx.ComputeCapability.__members__ if name.startswith("SM"))
    return tuple(f"{number // 10}.{number % 10}" for number in numbers)


def _batch_profile(
    flavor: Flavor, builder: trt.Builder, contract: StepContract, key: EngineKey
) -> trt.IOptimizationProfile:
    """Return the range of shapes: all inputs and states share the batch axis, which alone is free."""
    trt = flavor.module
    profile = builder.create_optimization_profile()
    for spec in contract.step_inputs:
        smallest, tuned, largest = (trt.Dims([*spec.with_batch(rows)]) for rows in key.batch)
        profile.set_shape(spec.name, smallest, tuned, largest)
    return profile


def _set_targets(flavor: Flavor, config: rtx.IBuilderConfig, compute_capabilities: Sequence[str]) -> None:
    """Name the GPUs that TensorRT-RTX compiles for."""
    rtx = flavor.module
    config.num_compute_capabilities = len(compute_capabilities)
    for index, capability in enumerate(compute_capabilities):
        member = rtx.ComputeCapability.__members__["SM" + capability.replace(".", "")]
        if not config.set_compute_capability(member, index):
            raise ConfigError(
                f"compute capability {capability}", f"one that {RTX} {flavor.version} builds for", "choose another"
            )


def _failed(key: EngineKey, reasons: Iterable[str], what: str) -> BackendError:
    """Return the error of a build, with the last of the reasons that the parser or the log give."""
    return BackendError(
        f"{key.flavor} {key.version} cannot {what} in {key.precision} ({_last(reasons)})",
        "a graph, batch and GPU that it supports",
        "try another --precision, --batch or --flavor; without an engine: --backend onnxruntime",
    )


def _last(reasons: Iterable[str]) -> str:
    return "; ".join(list(reasons)[-3:]) or "no reason given"


def _monitor(flavor: Flavor, progress: Progress, stopped: threading.Event) -> Any:
    """Return the monitor to which TensorRT reports progress, and which can stop the build."""
    trt = flavor.module

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Passes phases on as shares; nested ones by their own names."""

        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Take note of a phase and its number of steps."""
            self.steps[phase_name] = num_steps
            progress(phase_name, 0.0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Pass a step on; False makes TensorRT give up."""
            progress(phase_name, min((step + 1) / max(self.steps.get(phase_name, 1), 1), 1.0))
            return not stopped.is_set()

        def phase_finish(self, phase_name: str) -> None:
            """Forget a phase."""
            self.steps.pop(phase_name, None)

    return Monitor()


@contextmanager
def _stopped_by_interrupt() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event: an exception inside TensorRT's callbacks would be lost in its log."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
