"""A step is handed out when it is one, and means to ONNX what it means to the reader; everything else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.faults.hostile.graphs import ALTERED, altered, array, node, nodes
from stunet_deploy.errors import BundleError
from stunet_deploy.onnx_graph.model import ELEMENT_BYTES, Model, read_model
from stunet_deploy.onnx_graph.step_graph import StepGraph
from stunet_deploy.onnx_graph.wire import MalformedError
from tests.paths import ROOT

GOOD = (ROOT / "tests/promises/made_before/stunet.bundle/step.onnx").read_bytes()
MUTATIONS, CUTS = 400, 100


def handed_out(data: bytes, batch: int = 1) -> bytes:
    return StepGraph(Path("step.onnx"), data).for_batch(batch)


def seen_by_onnx(data: bytes) -> dict[str, Any]:
    """Return the structure of a model as ONNX's own reader sees it."""
    model = onnx.load_from_string(data)
    graph, shape = model.graph, lambda value: value.type.tensor_type.shape.dim
    assert {tensor.data_type for tensor in graph.initializer} <= ELEMENT_BYTES.keys()
    return {
        "claims": [
            [(value.name, tuple(dim.dim_param or _length(dim) for dim in shape(value))) for value in values]
            for values in (graph.input, graph.output, graph.value_info)
        ],
        "constants": {tensor.name: tuple(tensor.dims) for tensor in graph.initializer},
        "nodes": [
            (node.op_type, tuple(node.input), tuple(node.output), {a.name: _of(a) for a in node.attribute})
            for node in graph.node
        ],
    }


def _length(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") else None


def _of(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else list(value) if attribute.ints else value


def seen_by_us(model: Model) -> dict[str, Any]:
    return {
        "claims": [
            [(claim.name, claim.shape) for claim in claims] for claims in (model.inputs, model.outputs, model.claims)
        ],
        "constants": {name: tensor.shape for name, tensor in model.constants.items()},
        "nodes": [(node.operator, node.inputs, node.outputs, dict(node.attributes)) for node in model.nodes],
    }


def test_a_step_is_handed_out_as_it_is() -> None:
    assert handed_out(GOOD) is GOOD
    assert handed_out(GOOD, 64) is GOOD
    assert seen_by_us(read_model(GOOD)) == seen_by_onnx(GOOD)


@pytest.mark.parametrize("kind", ALTERED)
def test_what_is_none_is_refused_with_its_reason(kind: str) -> None:
    alter, reason = ALTERED[kind]

    with pytest.raises(BundleError) as refused:
        handed_out(altered(alter, GOOD))

    assert reason in refused.value.came


def test_a_byte_that_is_another_is_refused_or_means_the_same_to_onnx() -> None:
    rng, passed = np.random.default_rng(5), 0
    for place in rng.integers(0, len(GOOD), MUTATIONS):
        data = bytearray(GOOD)
        data[place] ^= int(rng.integers(1, 256))
        try:
            handed_out(bytes(data))
        except BundleError:
            continue
        passed += 1
        assert seen_by_us(read_model(bytes(data))) == seen_by_onnx(bytes(data)), place

    assert 0 < passed < MUTATIONS  # numbers of constants and names may be others


def test_every_part_of_a_step_is_refused() -> None:
    for length in np.random.default_rng(6).integers(0, len(GOOD), CUTS):
        with pytest.raises(MalformedError):
            read_model(GOOD[:length])


def test_a_list_in_one_piece_is_the_same_as_one_by_one() -> None:
    """ONNX's own reader takes both, and other writers than ours may write either."""
    packed = GOOD.replace(b"\x08\x06\x08\x06", b"\x0a\x02\x06\x06")  # the lengths of a constant of 6 x 6

    assert packed != GOOD
    assert seen_by_us(read_model(packed)) == seen_by_onnx(packed) == seen_by_onnx(GOOD)


def test_rows_that_meet_one_another_are_counted_for_the_rows_that_step() -> None:
    def meet(model: onnx.ModelProto) -> None:
        axes = [array(f"axis{axis}", [axis]) for axis in (0, 1, 2)]
        made = [node("Reshape", ("time_of_week", "flat"), "times")]
        made += [node("Unsqueeze", ("times", f"axis{axis}"), f"side{axis}") for axis in (0, 1)]
        made += [node("MatMul", ("side1", "side0"), "pairs"), node("Unsqueeze", ("pairs", "axis2"), "wide")]
        made += [node("Mul", ("wide", "side0"), "cube"), node("Concat", ("cube", "cube"), "made", axis=0)]
        nodes(*made, of=[*axes, array("flat", [-1])])(model)

    data = altered(meet, GOOD)
    assert handed_out(data, 1)
    with pytest.raises(BundleError, match="numbers, and holds"):
        handed_out(data, 1000)
