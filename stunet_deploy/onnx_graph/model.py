"""A step graph as it is written: its tensors, nodes and claims, each of which has one meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stunet_deploy.errors import shown
from stunet_deploy.limits import MOST_AXES
from stunet_deploy.onnx_graph.messages import ATTRIBUTE_FIELDS, KEYS, MODEL
from stunet_deploy.onnx_graph.wire import MalformedError, read_message

#: Versions of the format and of the operators, whose rules are those of :mod:`stunet_deploy.onnx_graph.operators`.
IR_VERSIONS, OPSETS = range(8, 11), range(18, 21)
#: Nodes of a step: one that is rolled out has some thousand. For twice as many ONNX Runtime may load for minutes.
MOST_NODES = 1 << 14
#: Types of elements by their numbers, and the bytes of each: float32, int8, int32, int64, bool, float16, bfloat16.
ELEMENT_BYTES = {1: 4, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 16: 2}
_INT64 = 7
#: The free axis of a step.
BATCH = "batch"
#: Numbers of a constant that says a shape, or places on axes.
MOST_SIZES = 64

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A constant.

    Attributes:
        shape: its axes.
        numbers: what it holds, where it is a short list of int64.
    """

    shape: Shape
    numbers: tuple[int, ...] | None


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        operator: its name in the one domain that there is.
        inputs: names of values; empty where an optional one is left out.
        outputs: names of values.
        attributes: by name.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.operator} of {shown(self.outputs[0])}"


@dataclass(frozen=True)
class Claim:
    """What a file says of a value: the length of each axis, :data:`BATCH`, or None where it says nothing of one."""

    name: str
    shape: tuple[int | str | None, ...]

    def at(self, batch: int) -> tuple[int | None, ...]:
        """Return the shape for a number of rows."""
        return tuple(batch if isinstance(length, str) else length for length in self.shape)


@dataclass(frozen=True)
class Model:
    """A step graph.

    Attributes:
        inputs, outputs: of the step.
        constants: by name.
        nodes: each after those whose values it reads.
        claims: of the shapes of further values.
    """

    inputs: tuple[Claim, ...]
    outputs: tuple[Claim, ...]
    constants: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    claims: tuple[Claim, ...]


def read_model(data: bytes) -> Model:
    """Read the bytes of an ONNX model that is a step graph.

    Raises:
        MalformedError: it is damaged, ambiguous, reaches outside of itself, or has what no step has.
    """
    found = read_message(MODEL, data)
    versions = [(entry.get("domain", ""), entry.get("version")) for entry in found.get("opset_import", [])]
    if found.get("ir_version") not in IR_VERSIONS or len(versions) != 1 or versions[0][1] not in OPSETS:
        raise MalformedError(f"format {found.get('ir_version')} with the operator sets {shown(versions)}")
    if versions[0][0] or "graph" not in found:
        raise MalformedError(f"a model with operators of {shown(versions[0][0])}" if versions[0][0] else "no graph")
    _check_metadata(found.get("metadata_props", []))
    graph = found["graph"]
    if len(graph.get("node", [])) > MOST_NODES:
        raise MalformedError(f"{len(graph['node']):,} nodes; a step has at most {MOST_NODES:,}")
    model = Model(
        inputs=_claims(graph.get("input", [])),
        outputs=_claims(graph.get("output", [])),
        constants=_constants(graph.get("initializer", [])),
        nodes=tuple(map(_node, graph.get("node", []))),
        claims=_claims(graph.get("value_info", [])),
    )
    _check_names(model)
    return model


def _check_metadata(entries: Sequence[Mapping[str, str]]) -> None:
    keys = [entry.get("key", "") for entry in entries]
    strange = [key for key in keys if not key.startswith(KEYS)]
    if strange or len(set(keys)) < len(keys):
        raise MalformedError(f"metadata {shown(strange[0])}" if strange else "metadata with a key twice")


def _claims(values: Sequence[Mapping[str, Any]]) -> tuple[Claim, ...]:
    return tuple(map(_claim, values))


def _claim(value: Mapping[str, Any]) -> Claim:
    name = value.get("name", "")
    tensor = value.get("type", {}).get("tensor_type", {})
    if tensor.get("elem_type") not in ELEMENT_BYTES or "shape" not in tensor:
        raise MalformedError(f"value {shown(name)} of type {tensor.get('elem_type')}, or without a shape")
    shape = tuple(dim.get("dim_value", dim.get("dim_param")) for dim in tensor["shape"].get("dim", []))
    free = {length for length in shape if isinstance(length, str)} - {BATCH}
    if free or len(shape) > MOST_AXES:
        raise MalformedError(f"value {shown(name)} of shape {shown(shape)}")
    return Claim(name, shape)


def _constants(tensors: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    constants: dict[str, Tensor] = {}
    for tensor in tensors:
        name = tensor.get("name", "")
        if name in constants:
            raise MalformedError(f"two constants {shown(name)}")
        constants[name] = _tensor(tensor, f"constant {shown(name)}")
    return constants


def _tensor(tensor: Mapping[str, Any], what: str) -> Tensor:
    shape, element, raw = tuple(tensor.get("dims", [])), tensor.get("data_type"), tensor.get("raw_data", b"")
    if element not in ELEMENT_BYTES or len(shape) > MOST_AXES or min(shape, default=0) < 0:
        raise MalformedError(f"{what} of type {element} and shape {shown(shape)}")
    if math.prod(shape) * ELEMENT_BYTES[element] != len(raw):
        raise MalformedError(f"{what} of shape {shown(shape)} and {len(raw):,} bytes")
    few = element == _INT64 and len(shape) < 2 and math.prod(shape) <= MOST_SIZES
    return Tensor(shape, tuple(np.frombuffer(raw, "<i8").tolist()) if few else None)


def _node(node: Mapping[str, Any]) -> Node:
    operator, outputs = node.get("op_type", ""), tuple(node.get("output", []))
    if node.get("domain", "") or not outputs:
        raise MalformedError(f"operator {shown(operator)} of {shown(node.get('domain'))} with {len(outputs)} outputs")
    attributes: dict[str, Any] = {}
    for attribute in node.get("attribute", []):
        name, field = attribute.get("name", ""), ATTRIBUTE_FIELDS.get(attribute.get("type"))
        present = attribute.keys() - {"name", "type"}
        if name in attributes or field is None or not present <= {field} or (not present and field != "ints"):
            raise MalformedError(f"operator {shown(operator)} with an attribute {shown(name)} that has two values")
        value = attribute.get(field, [])
        attributes[name] = _tensor(value, f"attribute {shown(name)}") if field == "t" else value
    return Node(operator, tuple(node.get("input", [])), outputs, attributes)


def _check_names(model: Model) -> None:
    """Check that every value is made once, and before it is read."""
    given = [*(claim.name for claim in model.inputs), *model.constants]
    known = set(given)
    if "" in known or len(known) < len(given):
        raise MalformedError("an input or a constant without a name, or two of one name")
    for node in model.nodes:
        for name in node.inputs:
            if name and name not in known:
                raise MalformedError(f"{node} that reads {shown(name)}, which nothing before it makes")
        for name in node.outputs:
            if not name or name in known:
                raise MalformedError(f"{node} that makes {shown(name)}, which is no name or there already")
            known.add(name)
    for claims in (model.outputs, model.claims):
        names = [claim.name for claim in claims]
        missing = [name for name in names if name not in known]
        if missing or len(set(names)) < len(names):
            raise MalformedError(f"a claim of {shown(missing[0])}, which nothing makes" if missing else "a claim twice")
