"""Calibration: how large the numbers inside a step become on the model's reference stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from runtime.backends.onnxruntime.session import open_cpu_session
from stunet_deploy.contract import NEXT_STATE, StepContract, advance, read_taps

Inputs = Mapping[str, NDArray[np.float32]]


def calibrate(
    step: onnx.ModelProto, contract: StepContract, inputs: Iterable[Inputs], names: Sequence[str]
) -> dict[str, float]:
    """Return the largest absolute number that each named value of a step takes over a recording.

    Args:
        step, contract, inputs, names: see :func:`exposed_steps`.
    """
    largest = dict.fromkeys(names, 0.0)
    for found in exposed_steps(step, contract, inputs, names):
        for name, array in found.items():
            largest[name] = max(largest[name], float(np.abs(array).max(initial=0.0)))
    return largest


def exposed_steps(
    step: onnx.ModelProto, contract: StepContract, inputs: Iterable[Inputs], names: Sequence[str]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield values of a step graph by name at every interval of a recording, state carried from zero.

    Args:
        step: a graph that ONNX Runtime runs on the CPU.
        contract: of the step.
        inputs: [1, ...] of every interval by name.
        names: of inputs, states or values inside the graph.
    """
    session = open_exposed(step, names)
    outputs = [value.name for value in session.get_outputs()]
    lines = contract.initial_lines(1)
    for given in inputs:
        values = {**given, **dict(read_taps(contract, lines))}
        values |= dict(zip(outputs, session.run(outputs, values), strict=True))
        lines = advance(lines, {state.name: values[NEXT_STATE + state.name] for state in contract.states})
        yield {name: values[name] for name in names}


def open_exposed(graph: onnx.ModelProto, names: Iterable[str]) -> Any:
    """Open a graph on the CPU with values inside it, by name, among its outputs."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(graph)
    known = {value.name for value in (*graph.graph.input, *graph.graph.output)}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in known)
    return open_cpu_session(exposed.SerializeToString())
