"""ONNX Runtime itself: imported, opened on one provider without a silent fallback, compared with the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from stunet_deploy.contract import StepContract, TensorSpec
from stunet_deploy.errors import BackendError, BundleError
from stunet_deploy.onnx_graph.step_graph import StepGraph

CPU_PROVIDER = "CPUExecutionProvider"
#: Distributions that bring the module onnxruntime.
WHEELS = ("onnxruntime", "onnxruntime-gpu")


def import_onnxruntime(extra: str = "cpu") -> ModuleType:
    """Return the module, of which one wheel is installed; ``extra`` of this package brings it.

    Raises:
        BackendError: if it is missing, cannot be imported, or two wheels own it.
    """
    # Of two wheels that own one module each has overwritten some of the other's files.
    found = [name for name in WHEELS if any(metadata.distributions(name=name))]
    if len(found) > 1:
        raise BackendError(
            f"both {' and '.join(found)} are installed",
            "one of them: both own the module onnxruntime",
            f"pip uninstall -y {' '.join(found)}, then pip install 'stunet-deploy[cpu]' (or [gpu])",
        )
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise BackendError(
            f"onnxruntime cannot be imported ({error})",
            "ONNX Runtime",
            f"install it with: pip install 'stunet-deploy[{extra}]'",
        ) from error


def open_session(
    ort: ModuleType,
    graph: StepGraph,
    contract: StepContract,
    *,
    batch: int,
    threads: int = 1,
    provider: str = CPU_PROVIDER,
    provider_options: Mapping[str, str] | None = None,
    extra: str = "cpu",
) -> Any:
    """Open a step graph on one provider and check that it is the contract's, and that it runs where it was asked to.

    Args:
        ort: what :func:`import_onnxruntime` returned.
        graph: the step, which is looked at before ONNX Runtime sees it.
        contract: what it must be.
        batch: number of rows.
        threads: CPU threads of one step.
        provider: the one execution provider; every node runs on it or the session is refused.
        provider_options: of that provider.
        extra: the extra of this package that brings a wheel with it.

    Raises:
        BackendError: if the graph or the provider is refused, or ONNX Runtime opened another provider.
        BundleError: if the graph is no step, or its inputs or outputs are not those of the contract.
    """
    model = graph.for_batch(batch)
    options = session_options(ort, threads=threads, provider=provider)
    # With the batch known, shapes are constants: nothing is left to compute about them, and memory can be planned. A
    # plan makes a step of one row 2 % faster; that of a window's rows is no faster and takes 20 MB more.
    options.add_free_dimension_override_by_name("batch", batch)
    options.enable_mem_pattern = provider == CPU_PROVIDER and batch == 1
    try:
        session = ort.InferenceSession(model, options, providers=[(provider, dict(provider_options or {}))])
    except Exception as error:  # ONNX Runtime has an exception class per status code and no common base
        raise BackendError(
            f"ONNX Runtime {ort.__version__} cannot load {graph.path} on {provider} ({error})",
            "a graph that it supports",
            f"install a newer one with: pip install -U 'stunet-deploy[{extra}]', or export the model again",
        ) from error
    # ONNX Runtime lists the CPU behind every other provider, and opens it alone when the other one fails to start.
    opened = session.get_providers()
    if opened[:1] != [provider] or not set(opened) <= {provider, CPU_PROVIDER}:
        raise BackendError(
            f"ONNX Runtime opened the providers {opened}",
            f"{provider}, which was asked for",
            f"see why it did not start in ONNX Runtime's log; install it with: pip install 'stunet-deploy[{extra}]'",
        )
    _check_graph(session, contract, batch, graph.path)
    return session


def session_options(ort: ModuleType, *, threads: int = 1, provider: str = CPU_PROVIDER) -> Any:
    """Return the options that every session shares, whatever its graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # A spinning pool burns whole cores between intervals.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    if provider == CPU_PROVIDER:
        # Its int8 kernels add pairs of products in 16 bits on processors without VNNI, and saturate there. Without
        # them the quantised operands are multiplied in float32, as the graph says.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    else:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def open_cpu_session(graph: bytes, *, threads: int = 1) -> Any:
    """Open any graph on the CPU, with the options of a backend's session and for any batch.

    Args:
        graph: the serialised ONNX model.
        threads: CPU threads of one run.
    """
    ort = import_onnxruntime()
    return ort.InferenceSession(graph, session_options(ort, threads=threads), providers=[CPU_PROVIDER])


def run_options(ort: ModuleType, entries: Mapping[str, str] | None = None) -> Any:
    """Return the options of a run that captures no graph of its own."""
    options = ort.RunOptions()
    # Without this entry every run raises and swallows a missing-key exception: 49 instead of 12 microseconds.
    options.add_run_config_entry("gpu_graph_id", "-1")
    for key, value in (entries or {}).items():
        options.add_run_config_entry(key, value)
    return options


def _check_graph(session: Any, contract: StepContract, batch: int, path: Path) -> None:
    """Compare names, dtypes and shapes of the graph with the contract."""
    for kind, specs, nodes in (
        ("input", contract.step_inputs, session.get_inputs()),
        ("output", contract.step_outputs, session.get_outputs()),
    ):
        expected = {spec.name: (_onnx_type(spec), spec.with_batch(batch)) for spec in specs}
        found = {node.name: (node.type, _with_batch(node.shape, batch)) for node in nodes}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise BundleError(
                    f"{path}: {kind} {name!r} is {found.get(name, 'absent')}",
                    f"{expected.get(name, 'no such tensor')} as in the contract",
                    "export the model again",
                )


def _onnx_type(spec: TensorSpec) -> str:
    return {"float32": "tensor(float)", "float64": "tensor(double)"}.get(spec.dtype, f"tensor({spec.dtype})")


def _with_batch(shape: Sequence[Any], batch: int) -> tuple[Any, ...]:
    """Put the batch size in place of a symbolic first axis; other symbolic axes stay, and so differ."""
    if shape and not isinstance(shape[0], int):
        return (batch, *shape[1:])
    return tuple(shape)
