"""Step graphs as they are rewritten: opened with types, closed as a file that explains itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common
from numpy.typing import NDArray

#: The matrix product: what a precision changes. The steps have no other kind.
PRODUCT = "MatMul"
#: Where a graph's metadata names its precision.
PRECISION_KEY = "stunet.precision"


def open_graph(proto: onnx.ModelProto) -> ir.Model:
    """Return a copy of a step graph with the type of every value."""
    model = ir.from_proto(proto)
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
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    model.graph.register_initializer(value)
    return value


def insert(
    model: ir.Model,
    op_type: str,
    inputs: Sequence[ir.Value],
    output: str,
    dtype: ir.DataType,
    *,
    before: ir.Node | None = None,
    after: ir.Node | None = None,
    **attributes: int,
) -> ir.Value:
    """Insert a node before or after another and return its output, which has the shape of the first input."""
    node = ir.node(op_type, list(inputs), attributes, name=f"{output}_{op_type}")
    value = node.outputs[0]
    value.name, value.dtype, value.shape = output, dtype, inputs[0].shape
    if before is not None:
        model.graph.insert_before(before, node)
    elif after is not None:
        model.graph.insert_after(after, node)
    return value
