"""The cost of a step graph, counted instead of timed: operations, values made, bytes moved, by node and in all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

#: Operators that multiply matrices: the only ones with more operations than values.
PRODUCTS = frozenset({"MatMul", "Gemm"})
#: Operators that only rename what lies in memory.
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
#: Operators that copy values and compute none.
_COPIES = frozenset({"Cast", "Concat", "Expand", "Gather", "Slice", "Split", "Transpose", "Where"})


@dataclass(frozen=True)
class NodeCost:
    """The cost of one node for one stream.

    Attributes:
        name, operator: as in the graph.
        shapes: of what it reads, then of what it writes, as text.
        multiplications: of a matrix product; 0 for other operators.
        operations: floating-point operations: two for a multiplication of a product and its sum, one for every value
            that another operator computes, none for copies.
        bytes: read and written, constants included; 0 for views. A gather reads what it writes.
    """

    name: str
    operator: str
    shapes: str
    multiplications: int
    operations: int
    bytes: int


@dataclass(frozen=True)
class GraphCost:
    """The cost of one step of one stream.

    Attributes:
        multiplications: of all matrix products.
        values: that all operators write: what element-wise operations, gathers and sums grow with.
        constant_bytes: of weights and tables.
        nodes: the cost of each node, in the order of the graph.
    """

    multiplications: int
    values: int
    constant_bytes: int
    nodes: tuple[NodeCost, ...]

    @property
    def operations(self) -> int:
        """Floating-point operations of all nodes."""
        return sum(node.operations for node in self.nodes)

    @property
    def bytes(self) -> int:
        """Bytes that all nodes read and write."""
        return sum(node.bytes for node in self.nodes)


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    item_bytes: int

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.item_bytes


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
    tensors = {value.name: _tensor(value) for value in (*inferred.input, *inferred.output, *inferred.value_info)}
    tensors |= {
        constant.name: _Tensor(tuple(constant.dims), _item_bytes(constant.data_type))
        for constant in inferred.initializer
    }
    nodes = tuple(_node_cost(node, tensors) for node in inferred.node)
    return GraphCost(
        multiplications=sum(node.multiplications for node in nodes),
        values=sum(math.prod(tensors[name].shape) for node in inferred.node for name in node.output if name),
        constant_bytes=sum(onnx.numpy_helper.to_array(constant).nbytes for constant in inferred.initializer),
        nodes=nodes,
    )


def _node_cost(node: onnx.NodeProto, tensors: dict[str, _Tensor]) -> NodeCost:
    read = [tensors[name] for name in node.input if name]
    written = [tensors[name] for name in node.output if name]
    made = sum(math.prod(tensor.shape) for tensor in written)
    multiplications = operations = 0
    if node.op_type in PRODUCTS:
        multiplications = made * read[0].shape[-1]
        operations = 2 * multiplications
    elif node.op_type not in _VIEWS | _COPIES:
        operations = made
    moved = 0
    if node.op_type not in _VIEWS:
        out = sum(tensor.bytes for tensor in written)
        moved = out + (out if node.op_type == "Gather" else sum(tensor.bytes for tensor in read))
    shapes = " ".join(_text(tensor) for tensor in read) + " → " + " ".join(_text(tensor) for tensor in written)
    return NodeCost(node.name, node.op_type, shapes, multiplications, operations, moved)


def _tensor(value: onnx.ValueInfoProto) -> _Tensor:
    dims = value.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        raise ValueError(f"{value.name} of unknown shape")
    return _Tensor(tuple(dim.dim_value for dim in dims), _item_bytes(value.type.tensor_type.elem_type))


def _item_bytes(element: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(element).itemsize)


def _text(tensor: _Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
