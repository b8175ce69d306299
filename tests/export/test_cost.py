"""What a graph costs, against what can be counted by hand, and the floor that follows from it."""

import math

import numpy as np
import onnx
import pytest

from export.cost import GraphCost, NodeCost, graph_cost
from export.floor import PRODUCT_SHAPES, Ceilings, ceilings_of, measure_step
from runtime.timing import Samples
from stunet_deploy.precisions import STEP


def small_graph() -> onnx.ModelProto:
    """Return [batch, 5, 3] times a constant [3, 4], with a sigmoid behind it, gathered and flattened."""
    helper = onnx.helper
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"], name="product"),
        helper.make_node("Sigmoid", ["product"], ["gate"], name="gate"),
        helper.make_node("Gather", ["gate", "index"], ["chosen"], name="chosen", axis=1),
        helper.make_node("Reshape", ["chosen", "shape"], ["y"], name="flat"),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.ones((3, 4), np.float32), "weight"),
        onnx.numpy_helper.from_array(np.array([0, 2]), "index"),
        onnx.numpy_helper.from_array(np.array([0, 8]), "shape"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 5, 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 8])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_operations_and_bytes_are_those_counted_by_hand():
    cost = graph_cost(small_graph())

    assert cost.multiplications == 5 * 3 * 4
    assert cost.values == 20 + 20 + 8 + 8
    assert cost.constant_bytes == 48 + 16 + 16
    assert {node.name: (node.operations, node.bytes) for node in cost.nodes} == {
        "product": (2 * 60, 4 * (15 + 12 + 20)),
        "gate": (20, 4 * (20 + 20)),
        "chosen": (0, 4 * (8 + 8)),
        "flat": (0, 0),
    }
    assert (cost.operations, cost.bytes) == (140, 188 + 160 + 64)
    assert cost.nodes[0].shapes == "1×5×3 3×4 → 1×5×4"


def test_the_floor_is_what_each_node_cannot_be_faster_than():
    ceilings = Ceilings(operations=1e9, shape=(1, 1, 1), bytes=1e8)
    nodes = (NodeCost("a", "MatMul", "", 500, 1000, 10), NodeCost("b", "Concat", "", 0, 0, 300))

    assert ceilings.floor_us(GraphCost(500, 0, 0, nodes)) == pytest.approx(1 + 3)


def test_ceilings_are_what_the_fastest_calls_came_to():
    names = ["product " + "×".join(map(str, shape)) for shape in PRODUCT_SHAPES]
    samples = {name: Samples(np.array([2_000_000, 4_000_000])) for name in names}
    samples[names[2]] = Samples(np.array([9_000_000, 1_000_000]))

    found = ceilings_of({**samples, "copy": Samples(np.array([10_000]))})

    assert found.shape == PRODUCT_SHAPES[2]
    assert found.operations == pytest.approx(1e8 / 1e-3, rel=0.5)
    assert found.operations % math.prod(PRODUCT_SHAPES[2]) == pytest.approx(0, abs=1)
    assert found.bytes == pytest.approx(2 * 200_000 / 1e-5)


def test_a_bundles_step_is_counted_and_timed(exported_bundle):
    found = measure_step(exported_bundle, rounds=2)

    assert found.graph == "step.onnx"
    assert found.cost == graph_cost(onnx.load(exported_bundle.path / STEP))
    assert found.floor_us > 0
    assert found.fastest_us > 0
    assert len(found.step.nanoseconds) == 2
