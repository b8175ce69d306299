"""The graph of int8: static quantisation of the products with weights, by QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from export.precision.graphs import PRODUCT, add_constant, close_graph, constant, insert, open_graph
from stunet_deploy.contract import STATE

#: Symmetric: 0 is 0, and the zero point is 0.
LEVELS = 127


def calibrated_values(step: onnx.ModelProto) -> list[str]:
    """Return the names of the values whose range :func:`int8_graph` must know."""
    model = open_graph(step)
    operands = [node.inputs[0] for node in quantised_products(model.graph)]
    return list(dict.fromkeys(str(value.name) for value in operands if value is not None))


def int8_graph(step: onnx.ModelProto, ranges: Mapping[str, float]) -> onnx.ModelProto:
    """Return a step graph whose products with weights take int8 operands.

    An activation has one scale, weights have one for each output channel; both are symmetric with zero point 0, as
    TensorRT wants them. The result of a product, and everything else, is float32.

    Args:
        step: the float32 step.
        ranges: for every name of :func:`calibrated_values` the size that becomes ±127; what is larger saturates.
    """
    model = open_graph(step)
    ready: dict[ir.Value, ir.Value] = {}
    for node in quantised_products(model.graph):
        for index, value in enumerate(node.inputs):
            if value is not None and value not in ready:
                array = constant(value)
                ready[value] = (
                    _quantised_activation(model, node, value, ranges[str(value.name)])
                    if array is None
                    else _quantised_weights(model, node, value, array)
                )
            if value is not None:
                node.replace_input_with(index, ready[value])
    return close_graph(model, "int8")


def quantised_products(graph: ir.Graph) -> list[ir.Node]:
    """Return the products that int8 computes: those with a weight matrix, but for those that take readings.

    Propagation over the graph multiplies by a basis from the left and stays in float32. So do products whose operand
    is made of readings or time without weights: a scale for all of a network's readings is too coarse for one sensor's.
    """
    return [
        node
        for node in graph
        if _has_weights(node) and node.inputs[0] is not None and not _made_of_readings(node.inputs[0])
    ]


def _has_weights(node: ir.Node) -> bool:
    if node.op_type != PRODUCT:
        return False
    weights = constant(node.inputs[1])
    return weights is not None and weights.ndim == 2


def _made_of_readings(value: ir.Value) -> bool:
    """Return whether an input that is no state comes to a value without passing a product with weights."""
    seen, ahead = {value}, [value]
    while ahead:
        current = ahead.pop()
        if current.is_graph_input() and not str(current.name).startswith(STATE):
            return True
        producer = current.producer()
        if producer is None or _has_weights(producer):
            continue
        before = [source for source in producer.inputs if source is not None and source not in seen]
        seen.update(before)
        ahead += before
    return False


def _quantised_activation(model: ir.Model, reader: ir.Node, value: ir.Value, largest: float) -> ir.Value:
    scale = add_constant(model, f"{value.name}.scale", _scale(np.float64(largest)))
    zero = add_constant(model, f"{value.name}.zero", np.asarray(0, np.int8))
    name = f"{value.name}.int8"
    rounded = insert(model, "QuantizeLinear", [value, scale, zero], name, ir.DataType.INT8, before=reader)
    inputs, name = [rounded, scale, zero], f"{value.name}.rounded"
    return insert(model, "DequantizeLinear", inputs, name, ir.DataType.FLOAT, before=reader)


def _quantised_weights(model: ir.Model, reader: ir.Node, value: ir.Value, array: NDArray[np.generic]) -> ir.Value:
    weights = array.astype(np.float64)
    scale = _scale(np.abs(weights).max(axis=0))
    levels = np.clip(np.rint(weights / scale), -LEVELS, LEVELS).astype(np.int8)
    inputs = [
        add_constant(model, f"{value.name}.int8", levels),
        add_constant(model, f"{value.name}.scale", scale),
        add_constant(model, f"{value.name}.zero", np.zeros(scale.shape, np.int8)),
    ]
    name = f"{value.name}.rounded"
    return insert(model, "DequantizeLinear", inputs, name, ir.DataType.FLOAT, before=reader, axis=1)


def _scale(largest: NDArray[np.float64] | np.float64) -> NDArray[np.float32]:
    """Return the size of one level; where there is nothing but zeros any will do, but 0 would divide by it."""
    scale = np.maximum(np.asarray(largest) / LEVELS, np.finfo(np.float32).tiny)
    return np.where(np.asarray(largest) > 0, scale, 1.0).astype(np.float32)
