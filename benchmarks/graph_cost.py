"""What a step graph costs, counted instead of timed: multiplications, values made, bytes of constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

#: Value names to shapes.
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class GraphCost:
    """The cost of one step of one stream.

    Attributes:
        multiplications: of all matrix products.
        values: that all operators write: what element-wise operations, gathers and sums grow with.
        constant_bytes: of weights and tables.
    """

    multiplications: int
    values: int
    constant_bytes: int


def graph_cost(proto: onnx.ModelProto) -> GraphCost:
    """Count what a step graph costs at batch 1.

    Raises:
        ValueError: if the shape of a value is not known.
    """
    single = onnx.ModelProto()
    single.CopyFrom(proto)
    for value in (*single.graph.input, *single.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    del single.graph.value_info[:]  # written for any batch
    inferred = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    shapes: Shapes = {value.name: _shape(value) for value in (*inferred.input, *inferred.output, *inferred.value_info)}
    shapes |= {constant.name: tuple(constant.dims) for constant in inferred.initializer}
    multiplications = values = 0
    for node in inferred.node:
        sizes = [math.prod(shapes[name]) for name in node.output if name]
        values += sum(sizes)
        if node.op_type in ("MatMul", "Gemm"):
            multiplications += sizes[0] * shapes[node.input[0]][-1]
    constant_bytes = sum(onnx.numpy_helper.to_array(constant).nbytes for constant in inferred.initializer)
    return GraphCost(multiplications, values, constant_bytes)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        raise ValueError(f"{value.name} of unknown shape")
    return tuple(dim.dim_value for dim in dims)
