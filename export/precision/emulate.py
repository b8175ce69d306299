"""Emulation: a precision's roundings in a float32 graph, for processors that have no kernels of that precision."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from export.precision.graphs import PRODUCT, add_constant, close_graph, constant, insert, open_graph

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
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
    single, model = ir.DataType.FLOAT, ir.from_proto(graph)
    for value in list(model.graph.initializers.values()):
        array = constant(value)
        if value.dtype in _HALVES and array is not None:
            value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
            value.dtype = single
    for node in list(model.graph):
        for value in node.outputs:
            half, uses = value.dtype, list(value.uses())
            if half is None or half not in _HALVES:
                continue
            if node.op_type == "Cast":
                rounded, last = value, node
            else:
                value.dtype = single
                if node.op_type != PRODUCT:
                    continue  # it moves numbers that are rounded already
                rounded = insert(model, "Cast", [value], f"{value.name}.rounded", half, after=node, to=half.value)
                last = rounded.producer() or node
            back = insert(model, "Cast", [rounded], f"{value.name}.back", single, after=last, to=single.value)
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
                single = ir.DataType.FLOAT
                large = insert(model, "Mul", [value, splitter], f"{name}.large", single, before=reader)
                rest = insert(model, "Sub", [large, value], f"{name}.rest", single, before=reader)
                rounded[value] = insert(model, "Sub", [large, rest], name, single, before=reader)
        return rounded[value]

    splitter = add_constant(model, "tf32.splitter", np.asarray(_SPLITTER))
    for node in list(model.graph):
        if node.op_type == PRODUCT:
            for index, value in enumerate(node.inputs):
                if value is not None:
                    node.replace_input_with(index, round_operand(value, node))
    return close_graph(model, "tf32")


def round_tf32(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return numbers rounded to tf32, as the graph of :func:`emulate_tf32` rounds them."""
    large = array * _SPLITTER
    result: NDArray[np.float32] = large - (large - array)
    return result
