"""The graphs of fp16 and bf16: matrix products in half precision between islands of float32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir

from export.precision.graphs import add_constant, close_graph, constant, insert, open_graph
from export.precision.islands import half_region

#: ONNX type and numpy type of each half precision, and half of its largest power of two: room for roundings.
HALVES: dict[str, tuple[ir.DataType, type, float]] = {
    "fp16": (ir.DataType.FLOAT16, np.float16, 2.0**14),
    "bf16": (ir.DataType.BFLOAT16, ml_dtypes.bfloat16, 2.0**126),
}


def half_graph(step: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Return a step graph whose matrix products compute in half precision.

    Weights and bases of these products are stored in the half type. Every value is cast once on its way into them and
    once on its way out. A cast into fp16 saturates, so that no finite reading or state makes an infinity (and then,
    times zero, a NaN) of it; bf16 has the range of float32.

    Args:
        step: the float32 step.
        precision: ``fp16`` or ``bf16``.
    """
    single = ir.DataType.FLOAT
    half, numpy_type, largest = HALVES[precision]
    model = open_graph(step)
    region = half_region(model.graph, largest)
    cast: dict[ir.Value, ir.Value] = {}

    def enter(value: ir.Value, reader: ir.Node) -> ir.Value:
        """Return a float32 value in half precision, cast before its first reader."""
        if value in cast:
            return cast[value]
        name, array = f"{value.name}.{precision}", constant(value)
        if array is not None:
            cast[value] = add_constant(model, name, array.astype(numpy_type))
            return cast[value]
        source = value
        if precision == "fp16":
            limit = np.float32(region.bound[value])
            low = add_constant(model, f"{name}.low", np.asarray(-limit))
            high = add_constant(model, f"{name}.high", np.asarray(limit))
            bounded = f"{name}.bounded"
            source = insert(model, "Clip", [value, low, high], bounded, single, before=reader)
        cast[value] = insert(model, "Cast", [source], name, half, before=reader, to=half.value)
        return cast[value]

    for node in list(model.graph):
        if node not in region.nodes:
            continue
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == single:
                node.replace_input_with(index, enter(value, node))
        for value in node.outputs:
            value.dtype = half
            outside = [use for use in value.uses() if use.node not in region.nodes]
            if outside:
                back = insert(model, "Cast", [value], f"{value.name}.fp32", single, after=node, to=single.value)
                for use in outside:
                    use.node.replace_input_with(use.idx, back)
    _keep_names(model, cast)
    return close_graph(model, precision)


def _keep_names(model: ir.Model, cast: dict[ir.Value, ir.Value]) -> None:
    """Give a weight's half-precision copy the weight's name, where the float32 one is no longer read."""
    for value, copy in cast.items():
        if copy.is_initializer() and not value.uses() and value.name is not None:
            del model.graph.initializers[value.name]
            copy.name = value.name
