"""The shape that an operator is said to make is the one that ONNX Runtime makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from runtime.backends.onnxruntime.session import open_cpu_session
from stunet_deploy.onnx_graph.cost import check_cost
from stunet_deploy.onnx_graph.model import read_model
from stunet_deploy.onnx_graph.operators import OPERATORS
from stunet_deploy.onnx_graph.wire import MalformedError

DRAWS = 12
ELEMENTS = ("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min")
ELEMENTS = (*ELEMENTS, "Mul", "Or", "Pow", "Sub", "Sum")
LOGICAL = ("And", "Not", "Or")


class Drawn(NamedTuple):
    """Inputs of a node, those that are constants by name, its attributes and the number of its outputs."""

    inputs: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray] = {}
    attributes: Mapping[str, Any] = {}
    outputs: int = 1


Draw = Callable[[np.random.Generator], Drawn]


def shape_of(rng: np.random.Generator, least: int = 1, most: int = 4) -> tuple[int, ...]:
    return tuple(rng.integers(1, 5, rng.integers(least, most + 1)).tolist())


def floats(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


def one(rng: np.random.Generator) -> Drawn:
    return Drawn({"x": floats(shape_of(rng, 0))})


def fitting(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Return arrays that broadcast against one another, and sometimes do not."""
    shape, found = shape_of(rng), []
    for _ in range(count):
        kept = [length if rng.random() < 0.7 else 1 for length in shape]
        if rng.random() < 0.1:
            kept[0] = 7
        found.append(floats(tuple(kept[rng.integers(len(kept)) :])))
    return found


def elements(count: int) -> Draw:
    return lambda rng: Drawn(dict(zip("xyz", fitting(rng, count), strict=False)))


def where(rng: np.random.Generator) -> Drawn:
    c, x, y = fitting(rng, 3)
    return Drawn({"c": c > 0, "x": x, "y": y})


def product(rng: np.random.Generator) -> Drawn:
    left, right = (array.shape for array in fitting(rng, 2))
    k = int(rng.integers(1, 4))
    return Drawn({"x": floats((*left, 3, k)), "y": floats((*right, k if rng.random() < 0.9 else 9, 2))})


def concat(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    axis = int(rng.integers(-len(shape), len(shape)))
    others = [list(shape) for _ in range(3)]
    for other in others:
        other[axis] = int(rng.integers(1, 4))
    return Drawn({name: floats(tuple(other)) for name, other in zip("xyz", others, strict=True)}, {}, {"axis": axis})


def split(rng: np.random.Generator) -> Drawn:
    shape, parts = shape_of(rng), int(rng.integers(2, 4))
    axis = int(rng.integers(-len(shape), len(shape)))
    x = {"x": floats(shape)}
    if rng.random() < 0.5:
        return Drawn(x, {}, {"axis": axis, "num_outputs": parts}, parts)
    sizes = rng.multinomial(shape[axis], [1 / parts] * parts)
    return Drawn(x, {"sizes": sizes.astype(np.int64)}, {"axis": axis}, parts)


def sliced(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    axes = rng.permutation(len(shape))[: rng.integers(1, len(shape) + 1)]
    ends = rng.integers(-9, 9, (2, len(axes)))
    given = {"starts": ends[0], "ends": ends[1], "axes": axes, "steps": rng.choice([-2, -1, 1, 2, 3], len(axes))}
    return Drawn({"x": floats(shape)}, {name: numbers.astype(np.int64) for name, numbers in given.items()})


def gather(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    axis = int(rng.integers(-len(shape), len(shape)))
    places = rng.integers(0, shape[axis], shape_of(rng, 0, 2))
    return Drawn({"x": floats(shape)}, {"places": np.asarray(places, np.int64)}, {"axis": axis})


def gather_elements(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    axis = int(rng.integers(len(shape)))
    fewer = [int(rng.integers(1, length + 1)) for length in shape]
    fewer[axis] = int(rng.integers(1, 7))
    return Drawn({"x": floats(shape)}, {"places": np.zeros(fewer, np.int64)}, {"axis": axis})


def gather_nd(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng, 2)
    batch = int(rng.integers(0, len(shape)))
    last = int(rng.integers(1, len(shape) - batch + 1))
    places = np.zeros((*shape[:batch], *shape_of(rng, 0, 2), last), np.int64)
    return Drawn({"x": floats(shape)}, {"places": places}, {"batch_dims": batch})


def scatter(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    fewer = tuple(int(rng.integers(1, length + 1)) for length in shape)
    inputs = {"x": floats(shape), "places": np.zeros(fewer, np.int64), "updates": floats(fewer)}
    return Drawn(inputs, {}, {"axis": int(rng.integers(len(shape))), "reduction": "add"})


def reduce(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    axes = rng.permutation(len(shape))[: rng.integers(1, len(shape) + 1)] - len(shape) * int(rng.integers(2))
    return Drawn({"x": floats(shape)}, {"axes": axes.astype(np.int64)}, {"keepdims": int(rng.integers(2))})


def reshape(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    wanted = rng.permutation(shape)
    wanted[rng.integers(len(wanted))] = rng.choice([-1, 0, 2])
    return Drawn({"x": floats(shape)}, {"shape": wanted.astype(np.int64)}, {"allowzero": int(rng.integers(2))})


def expand(rng: np.random.Generator) -> Drawn:
    x, y = fitting(rng, 2)
    return Drawn({"x": x}, {"shape": np.array(y.shape, np.int64)})


def filled(rng: np.random.Generator) -> Drawn:
    value = numpy_helper.from_array(np.zeros(1, np.float32))
    return Drawn({}, {"shape": np.array(shape_of(rng), np.int64)}, {"value": value})


def transpose(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    return Drawn({"x": floats(shape)}, {}, {"perm": rng.permutation(len(shape)).tolist()} if rng.random() < 0.8 else {})


def unsqueeze(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    return Drawn({"x": floats(shape)}, {"axes": rng.permutation(len(shape) + 2)[:2].astype(np.int64) - 1})


def squeeze(rng: np.random.Generator) -> Drawn:
    shape = list(shape_of(rng, 2))
    axis = int(rng.integers(len(shape)))
    shape[axis] = 1
    return Drawn({"x": floats(tuple(shape))}, {"axes": np.array([axis - len(shape)], np.int64)})


def shape(rng: np.random.Generator) -> Drawn:
    start, end = rng.integers(-5, 6, 2).tolist()
    return Drawn({"x": floats(shape_of(rng))}, {}, {"start": start} | ({"end": end} if rng.random() < 0.5 else {}))


def norm(rng: np.random.Generator) -> Drawn:
    shape = shape_of(rng)
    return Drawn({"x": floats(shape), "scale": floats(shape[-1:]), "bias": floats(shape[-1:])}, {}, {"axis": -1})


def clip(rng: np.random.Generator) -> Drawn:
    return Drawn({"x": floats(shape_of(rng))}, {"low": np.float32(0), "high": np.float32(1)})


def quantised(kind: type) -> Draw:
    def draw(rng: np.random.Generator) -> Drawn:
        scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
        return Drawn({"x": floats(shape_of(rng)).astype(kind)}, {"scale": scale, "zero": zero})

    return draw


CASES: dict[str, Draw] = {
    **{name: one for name in OPERATORS if OPERATORS[name] == OPERATORS["Abs"]},
    **{name: elements(2) for name in ELEMENTS},
    **{name: reduce for name in OPERATORS if name.startswith("Reduce")},
    "Cast": lambda rng: one(rng)._replace(attributes={"to": 7}),
    "Clip": clip,
    "Concat": concat,
    "ConstantOfShape": filled,
    "DequantizeLinear": quantised(np.int8),
    "Expand": expand,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "LayerNormalization": norm,
    "MatMul": product,
    "QuantizeLinear": quantised(np.float32),
    "Reshape": reshape,
    "ScatterElements": scatter,
    "Shape": shape,
    "Slice": sliced,
    "Softmax": lambda rng: Drawn({"x": floats(shape_of(rng))}, {}, {"axis": -1}),
    "Split": split,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
}


def model_of(operator: str, drawn: Drawn, shapes: list[tuple[int, ...]] | None) -> bytes:
    """Return a model of one node; of its outputs nothing is said where their shapes are not given."""
    inputs = {name: array > 0 if operator in LOGICAL else array for name, array in drawn.inputs.items()}
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    outputs = [f"made{number}" for number in range(drawn.outputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, [*inputs, *drawn.constants], outputs, **drawn.attributes)],
        "one",
        [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in inputs.items()],
        [
            helper.make_tensor_value_info(name, 1, shapes[number]) if shapes else onnx.ValueInfoProto(name=name)
            for number, name in enumerate(outputs)
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in drawn.constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def test_every_operator_has_a_case() -> None:
    assert CASES.keys() == OPERATORS.keys()


@pytest.mark.parametrize("operator", CASES)
def test_shapes_are_those_that_onnxruntime_makes(operator: str) -> None:
    rng, compared = np.random.default_rng(7), 0
    for _ in range(DRAWS):
        drawn = CASES[operator](rng)
        feed = {name: array > 0 if operator in LOGICAL else array for name, array in drawn.inputs.items()}
        try:
            made = [array.shape for array in open_cpu_session(model_of(operator, drawn, None)).run(None, feed)]
        except Exception:  # what ONNX Runtime refuses we may pass: a size is all that is asked
            continue
        check_cost(read_model(model_of(operator, drawn, made)), 1)
        wrong = [(*made[0], 1), *made[1:]]
        with pytest.raises(MalformedError, match="which is called"):
            check_cost(read_model(model_of(operator, drawn, wrong)), 1)
        compared += 1

    assert compared > DRAWS // 3
