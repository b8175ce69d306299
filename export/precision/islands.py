"""Islands: which nodes of a step may compute in half precision, and which stay in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.precision.graphs import PRODUCT, constant

#: Nodes that move numbers, or choose the largest: they commute with rounding, so they may stand on either side of it.
MOVES = frozenset(
    {"Concat", "Expand", "Gather", "Identity", "ReduceMax", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
    | {"Unsqueeze", "Flatten"}
)
#: A product is left in float32 if operands up to this size could make it overflow. What multiplies weights here are
#: normalised readings, activations and normalised layers, all of them well below it.
LARGEST_OPERAND = 64.0


@dataclass(frozen=True)
class Region:
    """The half-precision part of a graph; all else is an island of float32.

    Attributes:
        nodes: what computes in half precision.
        bound: for each of their operands and results the size up to which nothing that follows from it within the
            region overflows; casts into the region saturate there.
    """

    nodes: frozenset[ir.Node]
    bound: Mapping[ir.Value, float]


def half_region(graph: ir.Graph, largest: float) -> Region:
    """Choose the matrix products with a constant operand, and what only moves numbers on their way into one.

    Limits, normalisation, activations, layer norms, sums and the update of a state are islands by that, and so are all
    inputs, outputs and states.

    Args:
        graph: with the type of every value.
        largest: a number that the half-precision type holds, with room above it for roundings.
    """
    nodes: set[ir.Node] = set()
    bound: dict[ir.Value, float] = {}
    for node in reversed(list(graph)):
        if any(value.is_graph_output() for value in node.outputs):
            continue
        limits = [bound.get(value, largest) for value in node.outputs]
        if node.op_type == PRODUCT:
            growth = _growth(node)
            operand = min(limits[0] / growth, largest) if growth else limits[0]
            chosen = growth is not None and operand >= LARGEST_OPERAND
        else:
            floats = all(value.dtype == ir.DataType.FLOAT for value in node.outputs)
            read = [use.node in nodes for value in node.outputs for use in value.uses()]
            chosen = node.op_type in MOVES and floats and bool(read) and all(read)
            operand = min(limits)
        if not chosen:
            continue
        nodes.add(node)
        for value, limit in zip(node.outputs, limits, strict=True):
            bound[value] = limit
        for read_value in node.inputs:
            if read_value is not None and read_value.dtype == ir.DataType.FLOAT:
                bound[read_value] = min(bound.get(read_value, largest), operand)
    return Region(frozenset(nodes), bound)


def _growth(product: ir.Node) -> float | None:
    """Return how many times its operand a product's result may be; None if both operands are computed.

    That is the largest sum of absolute weights that one number of the result takes.
    """
    left, right = constant(product.inputs[0]), constant(product.inputs[1])
    if right is not None:
        return float(np.abs(right.astype(np.float64)).sum(axis=-2).max(initial=0.0))
    if left is not None:
        return float(np.abs(left.astype(np.float64)).sum(axis=-1).max(initial=0.0))
    return None
