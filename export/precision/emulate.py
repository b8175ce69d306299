"""Emulation: a precision's roundings in a float32 graph, for processors that have no kernels of that precision."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from export.precision.graphs import PRODUCTS, add_constant, close_graph, constant, insert_after, insert_before, open_graph

_HALVES = {ir.DataType.FLOAT16: np.float16, ir.DataType.BFLOAT16: ml_dtypes.bfloat16}
#: tf32 keeps 10 bits after the leading one, 13 fewer than float32.
_SPLITTER = np.float32(2**13 + 1)


def emulate_half(graph: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Return an fp16 or bf16 graph computed in float32, with a rounding wherever that graph rounds.

    Operands and results of the products are rounded by a cast to the half type and back; sums within a product are
    in float32, as tensor cores have them. ONNX Runtime's CPU runs this faithfully. The fp16 graph itself it runs with
    the casts around its float32 kernels taken out, so that nothing but the weights would be rounded.

    Args:
        graph: what :func:`export.precision.half.half_graph` returned.
        precision: of that graph.
    """
    model = ir.from_proto(graph)
    for value in list(model.graph.initializers.values()):
        array = constant(value)
        if value.dtype in _HALVES and array is not None:
            value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
            value.dtype = ir.DataType.FLOAT
    for node in list(model.graph):
        for value in node.outputs:
            half = value.dtype
            if half is None or half not in _HALVES:
                continue
            uses = list(value.uses())
            last, source = node, value
            if node.op_type != "Cast":
                value.dtype = ir.DataType.FLOAT
                if node.op_type not in PRODUCTS:
                    continue  # moves rounded numbers
                name = f"{value.name}.rounded"
                source = insert_after(model, node, "Cast", [value], name, half, {"to": half.value})
                last = _producer(source)
            to = {"to": ir.DataType.FLOAT.value}
            back = insert_after(model, last, "Cast", [source], f"{value.name}.back", ir.DataType.FLOAT, to)
            for use in uses:
                use.node.replace_input_with(use.idx, back)
    return close_graph(model, precision)


def emulate_tf32(step: onnx.ModelProto) -> onnx.ModelProto:
    """Return the float32 step with the operands of its products rounded to tf32, 10 bits after the leading one.

    Splitting (Dekker 1971): with c = (2¹³ + 1) x in float32, c − (c − x) is x rounded to that many bits.
    """
    model = open_graph(step)
    rounded: dict[ir.Value, ir.Value] = {}

    def round_operand(value: ir.Value, reader: ir.Node) -> ir.Value:
        if value not in rounded:
            array, name = constant(value), f"{value.name}.tf32"
            if array is not None:
                rounded[value] = add_constant(model, name, round_tf32(array.astype(np.float32)))
            else:
                kind = ir.DataType.FLOAT
                large = insert_before(model, reader, "Mul", [value, splitter], f"{name}.large", kind)
                rest = insert_before(model, reader, "Sub", [large, value], f"{name}.rest", kind)
                rounded[value] = insert_before(model, reader, "Sub", [large, rest], name, kind)
        return rounded[value]

    splitter = add_constant(model, "tf32.splitter", np.asarray(_SPLITTER))
    for node in list(model.graph):
        if node.op_type in PRODUCTS:
            for index, value in enumerate(node.inputs[:2]):
                if value is not None:
                    node.replace_input_with(index, round_operand(value, node))
    return close_graph(model, "tf32")


def round_tf32(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return numbers rounded to tf32, as the graph of :func:`emulate_tf32` rounds them."""
    large = array * _SPLITTER
    result: NDArray[np.float32] = large - (large - array)
    return result


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node
