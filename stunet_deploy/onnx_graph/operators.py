"""The operators of a step: the inputs and attributes that each may have, and the shape of what it makes.

These are the operators that the exporters write, and further arithmetic on single elements. An operator whose result
has a size that depends on readings is not among them, nor is one that runs other operators. What decides a shape
(Reshape, Expand, Slice …) must follow from constants and from shapes: then every size is known before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stunet_deploy.limits import MOST_AXES
from stunet_deploy.onnx_graph.model import Node, Shape, Tensor
from stunet_deploy.onnx_graph.wire import MalformedError


class Operand(NamedTuple):
    """An input of a node: its shape, and its numbers where it is a short list of int64 that follows from constants."""

    shape: Shape
    numbers: tuple[int, ...] | None = None

    def known(self) -> tuple[int, ...]:
        """Return the numbers.

        Raises:
            MalformedError: they are not known.
        """
        if self.numbers is None or len(self.shape) > 1:
            raise MalformedError("sizes or axes that do not follow from constants")
        return self.numbers


Rule = Callable[[Node, Sequence[Operand]], list[Shape]]


@dataclass(frozen=True)
class Operator:
    """An operator.

    Attributes:
        rule: of the shapes that it makes.
        inputs: fewest and most.
        outputs: most.
        attributes: type of each that it may have.
    """

    rule: Rule
    inputs: tuple[int, int]
    attributes: Mapping[str, type] = field(default_factory=dict)
    outputs: int = 1


def made_shapes(node: Node, operands: Sequence[Operand | None]) -> list[Shape]:
    """Return the shape of each output of a node.

    Args:
        node: to look at.
        operands: its inputs; None for one that is left out.

    Raises:
        MalformedError: no step has such a node, or its inputs do not fit one another.
    """
    operator = OPERATORS.get(node.operator)
    if operator is None:
        raise MalformedError("an operator that no step has")
    fewest, most = operator.inputs
    if not fewest <= len(operands) <= most or len(node.outputs) > operator.outputs or None in operands:
        raise MalformedError(f"{len(operands)} inputs, or some left out, and {len(node.outputs)} outputs")
    for name, value in node.attributes.items():
        if name not in operator.attributes or not isinstance(value, operator.attributes[name]):
            raise MalformedError(f"an attribute {name!r:.50} that it has not, or of another type")
    shapes = operator.rule(node, [operand for operand in operands if operand is not None])
    if len(shapes) != len(node.outputs) or any(len(shape) > MOST_AXES for shape in shapes):
        raise MalformedError(f"{len(node.outputs)} outputs, of which {len(shapes)} are made, of up to {MOST_AXES} axes")
    return shapes


def _axis(node: Node, rank: int, default: int = 0, name: str = "axis") -> int:
    return _place(node.attributes.get(name, default), rank)


def _place(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise MalformedError(f"axis {axis} of {rank}")
    return axis % rank


def _places(axes: Sequence[int], rank: int) -> set[int]:
    places = {_place(axis, rank) for axis in axes}
    if len(places) < len(axes):
        raise MalformedError("an axis twice")
    return places


def _broadcast(*shapes: Shape) -> Shape:
    made: list[int] = []
    for lengths in zip(*(((1,) * (MOST_AXES - len(shape)) + shape) for shape in shapes), strict=True):
        wide = set(lengths) - {1}
        if len(wide) > 1:
            raise MalformedError(f"shapes {shapes} that do not fit one another")
        made.append(wide.pop() if wide else 1)
    return tuple(made[MOST_AXES - max(map(len, shapes)) :])


def _elements(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    return [_broadcast(*(operand.shape for operand in operands))]


def _like_first(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    """Return the shape of the first input, which the others only scale or bound."""
    return [operands[0].shape]


def _mat_mul(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    left, right = (operand.shape for operand in operands)
    if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
        raise MalformedError(f"a product of {left} and {right}")
    return [(*_broadcast(left[:-2], right[:-2]), left[-2], right[-1])]


def _concat(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    first = operands[0].shape
    axis = _axis(node, len(first))
    others = {(*operand.shape[:axis], *operand.shape[axis + 1 :]) for operand in operands}
    if len(others) > 1 or any(len(operand.shape) != len(first) for operand in operands):
        raise MalformedError(f"shapes {[operand.shape for operand in operands]} side by side")
    return [(*first[:axis], sum(operand.shape[axis] for operand in operands), *first[axis + 1 :])]


def _split(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    shape, parts = operands[0].shape, node.attributes.get("num_outputs")
    axis = _axis(node, len(shape))
    if (parts is None) == (len(operands) == 1):
        raise MalformedError("a number of parts and their sizes, or neither")
    if parts is None:
        sizes = list(operands[1].known())
    else:
        if parts != len(node.outputs):
            raise MalformedError(f"{parts} parts for {len(node.outputs)} outputs")
        size = -(-shape[axis] // parts)
        sizes = [size] * (parts - 1) + [shape[axis] - size * (parts - 1)]
    if min(sizes, default=-1) < 0 or sum(sizes) != shape[axis]:
        raise MalformedError(f"parts {sizes} of {shape[axis]}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _slice(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    shape, (starts, ends) = list(operands[0].shape), (operand.known() for operand in operands[1:3])
    axes = operands[3].known() if len(operands) > 3 else tuple(range(len(starts)))
    steps = operands[4].known() if len(operands) > 4 else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise MalformedError("a slice of lists of several lengths, or of step 0")
    _places(axes, len(shape))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        shape[axis] = _taken(shape[axis], start, end, step)
    return [tuple(shape)]


def _taken(length: int, start: int, end: int, step: int) -> int:
    """Return how many places of an axis a slice takes; unlike Python's, one that goes down starts on the axis."""
    first, last = (0, length) if step > 0 else (-1, length - 1)
    start, end = (place + length if place < 0 else place for place in (start, end))
    return len(range(min(max(start, 0), last), min(max(end, first), last), step))


def _gather(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    (shape, _), (places, _) = operands
    axis = _axis(node, len(shape))
    return [(*shape[:axis], *places, *shape[axis + 1 :])]


def _gather_elements(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    (shape, _), (places, _) = operands
    _axis(node, len(shape))
    if len(shape) != len(places):
        raise MalformedError(f"elements of {shape} at {places}")
    return [places]


def _gather_nd(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    (shape, _), (places, _) = operands
    batch = node.attributes.get("batch_dims", 0)
    if not places or not 0 <= batch < min(len(shape), len(places)) or shape[:batch] != places[:batch]:
        raise MalformedError(f"{batch} rows of {shape} at {places}")
    if not 1 <= places[-1] <= len(shape) - batch:
        raise MalformedError(f"{shape} at places of {places[-1]} axes")
    return [(*places[:-1], *shape[batch + places[-1] :])]


def _scatter_elements(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    (shape, _), (places, _), (updates, _) = operands
    _axis(node, len(shape))
    if len(shape) != len(places) or places != updates:
        raise MalformedError(f"updates {updates} of {shape} at {places}")
    return [shape]


def _reduce(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    shape = operands[0].shape
    axes = operands[1].known() if len(operands) > 1 else ()
    if not axes:
        raise MalformedError("no axes to reduce")
    places, kept = _places(axes, len(shape)), node.attributes.get("keepdims", 1)
    return [tuple(1 if axis in places else length for axis, length in enumerate(shape) if kept or axis not in places)]


def _reshape(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    shape, wanted = operands[0].shape, list(operands[1].known())
    if not node.attributes.get("allowzero", 0):
        wanted = [shape[axis] if length == 0 and axis < len(shape) else length for axis, length in enumerate(wanted)]
    size, known = math.prod(shape), math.prod(length for length in wanted if length != -1)
    if wanted.count(-1) == 1 and known > 0 and size % known == 0:
        wanted[wanted.index(-1)] = size // known
    if min(wanted, default=0) < 0 or math.prod(wanted) != size:
        raise MalformedError(f"{shape} as {wanted}")
    return [tuple(wanted)]


def _expand(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    return [_broadcast(operands[0].shape, _sizes(operands[1]))]


def _constant_of_shape(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    value = node.attributes.get("value")
    if value is not None and math.prod(value.shape) != 1:
        raise MalformedError(f"a value of shape {value.shape}")
    return [_sizes(operands[0])]


def _sizes(operand: Operand) -> Shape:
    sizes = operand.known()
    if min(sizes, default=0) < 0 or len(sizes) > MOST_AXES:
        raise MalformedError(f"sizes {sizes}")
    return sizes


def _transpose(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    shape = operands[0].shape
    order = node.attributes.get("perm", list(range(len(shape)))[::-1])
    if sorted(order) != list(range(len(shape))):
        raise MalformedError(f"axes {order} of {shape}")
    return [tuple(shape[axis] for axis in order)]


def _unsqueeze(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    shape, axes = operands[0].shape, operands[1].known()
    rank = len(shape) + len(axes)
    places, rest = _places(axes, rank), iter(shape)
    return [tuple(1 if axis in places else next(rest) for axis in range(rank))]


def _squeeze(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    shape = operands[0].shape
    places = _places(operands[1].known(), len(shape))
    if any(shape[axis] != 1 for axis in places):
        raise MalformedError(f"{shape} without axes {sorted(places)}")
    return [tuple(length for axis, length in enumerate(shape) if axis not in places)]


def _shape(node: Node, operands: Sequence[Operand]) -> list[Shape]:
    return [(len(shape_of(node, operands[0].shape)),)]


def shape_of(node: Node, shape: Shape) -> Shape:
    """Return the numbers that a Shape node makes of a value of a shape."""
    return shape[node.attributes.get("start", 0) : node.attributes.get("end", len(shape))]


_ONE: tuple[str, ...] = (
    "Abs",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "Identity",
    "Log",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
)
_ONE += ("Sigmoid", "Sign", "Sin", "Softplus", "Sqrt", "Tanh")
_TWO = ("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Or", "Pow", "Sub")
_SEVERAL = ("Max", "Mean", "Min", "Sum")
_MANY = 1 << 10

OPERATORS: Mapping[str, Operator] = {
    **{name: Operator(_like_first, (1, 1)) for name in _ONE},
    **{name: Operator(_elements, (2, 2)) for name in _TWO},
    **{name: Operator(_elements, (1, _MANY)) for name in _SEVERAL},
    **{
        name: Operator(_reduce, (2, 2), {"keepdims": int, "noop_with_empty_axes": int})
        for name in ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
    },
    "Cast": Operator(_like_first, (1, 1), {"to": int}),
    "Clip": Operator(_like_first, (3, 3)),
    "Concat": Operator(_concat, (1, _MANY), {"axis": int}),
    "ConstantOfShape": Operator(_constant_of_shape, (1, 1), {"value": Tensor}),
    "DequantizeLinear": Operator(_like_first, (3, 3), {"axis": int}),
    "Expand": Operator(_expand, (2, 2)),
    "Gather": Operator(_gather, (2, 2), {"axis": int}),
    "GatherElements": Operator(_gather_elements, (2, 2), {"axis": int}),
    "GatherND": Operator(_gather_nd, (2, 2), {"batch_dims": int}),
    "LayerNormalization": Operator(_like_first, (2, 3), {"axis": int, "epsilon": float, "stash_type": int}),
    "MatMul": Operator(_mat_mul, (2, 2)),
    "QuantizeLinear": Operator(_like_first, (3, 3), {"axis": int}),
    "Reshape": Operator(_reshape, (2, 2), {"allowzero": int}),
    "ScatterElements": Operator(_scatter_elements, (3, 3), {"axis": int, "reduction": str}),
    "Shape": Operator(_shape, (1, 1), {"start": int, "end": int}),
    "Slice": Operator(_slice, (3, 5)),
    "Softmax": Operator(_like_first, (1, 1), {"axis": int}),
    "Split": Operator(_split, (1, 2), {"axis": int, "num_outputs": int}, outputs=_MANY),
    "Squeeze": Operator(_squeeze, (2, 2)),
    "Transpose": Operator(_transpose, (1, 1), {"perm": list}),
    "Unsqueeze": Operator(_unsqueeze, (2, 2)),
    "Where": Operator(_elements, (3, 3)),
}
