"""What a step takes is known before it runs: how many numbers it makes, and its work.

A step that is a few kilobytes long can ask for terabytes: shapes that broadcast against one another, products of long
columns with long rows, a concatenation of a value with itself, again and again. So shapes are followed through the
whole graph, and their sum is held against what the bundle itself holds. A small step may be as wasteful as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stunet_deploy.errors import shown
from stunet_deploy.onnx_graph.model import MOST_SIZES, Claim, Model, Node, Shape
from stunet_deploy.onnx_graph.operators import Operand, made_shapes, shape_of
from stunet_deploy.onnx_graph.wire import MalformedError

#: Numbers that the nodes of any step may make, all together, and how many for each number that it holds.
#: A decoder that takes 100 steps for a forecast of 900 sensors makes some 2,000.
FREE_MADE, MADE_HELD = 1 << 26, 1 << 11
#: The same of the numbers that they read, write and multiply; and what takes a row longer than any interval.
FREE_WORK, WORK_HELD, MOST_WORK = 1 << 31, 1 << 16, 1 << 40


@dataclass(frozen=True)
class Cost:
    """What a step of one or more rows takes.

    Attributes:
        held: numbers in its constants, inputs and outputs.
        made: numbers that its nodes make.
        work: numbers that its nodes read, write and multiply.
    """

    held: int
    made: int
    work: int


def check_cost(model: Model, batch: int) -> Cost:
    """Return what a step takes, after checking that it is in proportion and that what it claims of shapes is true.

    Args:
        model: the step.
        batch: rows that step together.

    Raises:
        MalformedError: a node or a claim is wrong, sizes do not follow from constants, or the step takes too much.
    """
    cost = _cost(model, batch)
    if cost.made > max(FREE_MADE, MADE_HELD * cost.held):
        raise MalformedError(f"a step that makes {cost.made:,} numbers, and holds {cost.held:,}")
    if cost.work > max(FREE_WORK, min(MOST_WORK * batch, WORK_HELD * cost.held)):
        raise MalformedError(f"a step that reads, writes and multiplies {cost.work:,} numbers, and holds {cost.held:,}")
    return cost


def _cost(model: Model, batch: int) -> Cost:
    values = {name: Operand(tensor.shape, tensor.numbers) for name, tensor in model.constants.items()}
    values |= {claim.name: Operand(_given(claim, batch)) for claim in model.inputs}
    held = sum(math.prod(value.shape) for value in values.values())
    made = work = 0
    for node in model.nodes:
        operands = [values[name] if name else None for name in node.inputs]
        try:
            shapes = made_shapes(node, operands)
        except MalformedError as error:
            raise MalformedError(f"{node}: {error}") from error
        # At once: squared again and again, a size would soon have more digits than a computer can hold.
        if any(math.prod(max(1, length) for length in shape) > MOST_WORK for shape in shapes):
            raise MalformedError(f"{node}: more than {MOST_WORK:,} numbers")
        numbers = _numbers(node, values)
        values |= {name: Operand(shape, numbers) for name, shape in zip(node.outputs, shapes, strict=True)}
        written = sum(map(math.prod, shapes))
        made += written
        work += written + sum(math.prod(operand.shape) for operand in operands if operand is not None)
        if node.operator == "MatMul":
            work += written * values[node.inputs[0]].shape[-1]
    for claim in (*model.outputs, *model.claims):
        shape, said = values[claim.name].shape, claim.at(batch)
        if len(said) != len(shape) or any(one not in (None, other) for one, other in zip(said, shape, strict=True)):
            raise MalformedError(f"value {shown(claim.name)} of shape {shape}, which is called {said}")
    return Cost(held + sum(math.prod(values[claim.name].shape) for claim in model.outputs), made, work)


def _given(claim: Claim, batch: int) -> Shape:
    """Return the shape of an input, of which every axis must be said."""
    shape = tuple(length for length in claim.at(batch) if length is not None and length > 0)
    if len(shape) < len(claim.shape):
        raise MalformedError(f"input {shown(claim.name)} of shape {shown(claim.shape)}")
    return shape


def _numbers(node: Node, values: Mapping[str, Operand]) -> tuple[int, ...] | None:
    """Return the numbers that a node makes, where they are a list of sizes."""
    operands = [values[name] for name in node.inputs if name]
    if node.operator == "Shape":
        return shape_of(node, operands[0].shape)
    if node.operator == "Concat" and all(len(operand.shape) == 1 for operand in operands):
        lists = [operand.numbers for operand in operands if operand.numbers is not None]
        if len(lists) == len(operands) and sum(map(len, lists)) <= MOST_SIZES:
            return tuple(number for numbers in lists for number in numbers)
    return None
