"""Step graphs as they are rewritten: opened with types and folded constants, closed as a file that explains itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common
import onnxscript.optimizer
from numpy.typing import NDArray

#: Matrix products, the nodes that a precision changes.
PRODUCTS = frozenset({"MatMul", "Gemm"})
#: Where a graph's metadata names its precision.
PRECISION_KEY = "stunet.precision"
_ANY_SIZE = 2**40


def open_graph(proto: onnx.ModelProto) -> ir.Model:
    """Return a copy of a step graph with the type of every value, and with constants of constants computed."""
    model = ir.from_proto(proto)
    onnxscript.optimizer.fold_constants(
        model, should_fold=lambda node: True, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE
    )
    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
    onnx_ir.passes.common.ShapeInferencePass()(model)
    return model


def close_graph(model: ir.Model, precision: str) -> onnx.ModelProto:
    """Return a rewritten graph with the metadata it came with and its precision."""
    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
    model.metadata_props[PRECISION_KEY] = json.dumps(precision)
    proto = ir.to_proto(model)
    onnx.helper.set_model_props(proto, dict(sorted(model.metadata_props.items())))
    return proto


def constant(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the array of an initialiser, or None for what is computed."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def add_constant(model: ir.Model, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add an initialiser under a name that no value has yet."""
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.dtype, value.shape = value.const_value.dtype, ir.Shape(array.shape)  # type: ignore[union-attr]
    model.graph.register_initializer(value)
    return value


def insert_before(
    model: ir.Model,
    place: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value],
    output: str,
    dtype: ir.DataType,
    attributes: dict[str, int] | None = None,
) -> ir.Value:
    """Insert a node with one output before another; it takes its name from its output."""
    return _new(model, op_type, inputs, output, dtype, attributes, before=place)


def insert_after(
    model: ir.Model,
    place: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value],
    output: str,
    dtype: ir.DataType,
    attributes: dict[str, int] | None = None,
) -> ir.Value:
    """Insert a node with one output after another; it takes its name from its output."""
    return _new(model, op_type, inputs, output, dtype, attributes, after=place)


def _new(
    model: ir.Model,
    op_type: str,
    inputs: Sequence[ir.Value],
    output: str,
    dtype: ir.DataType,
    attributes: dict[str, int] | None,
    *,
    before: ir.Node | None = None,
    after: ir.Node | None = None,
) -> ir.Value:
    node = ir.node(op_type, list(inputs), attributes or {}, name=f"{output}_{op_type}")
    value = node.outputs[0]
    value.name, value.dtype, value.shape = output, dtype, inputs[0].shape
    if before is not None:
        model.graph.insert_before(before, node)
    elif after is not None:
        model.graph.insert_after(after, node)
    return value


def replace_input(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    """Let a node read ``new`` wherever it read ``old``."""
    for index, value in enumerate(node.inputs):
        if value is old:
            node.replace_input_with(index, new)
