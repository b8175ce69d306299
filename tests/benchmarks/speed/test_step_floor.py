"""The benchmark of a step against its floor: its harness, not the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime

from benchmarks.speed.literal_graph import unshared


def test_the_benchmark_writes_its_page(run_benchmark: Callable[..., tuple[Any, str]]) -> None:
    result, page = run_benchmark("speed.step_floor")
    (model,) = result["models"]
    assert (result["graph"]["sensors"], model["hidden"]) == (6, 4)
    assert 0 < result["largest_difference"] < 1e-3
    assert model["operations"]["step"] < model["operations"]["literal"]
    assert model["fastest_us"].keys() == {"step", "push", "literal", "shared"}
    assert model["times_the_step"]["step"] == 1
    assert result["ceiling"]["operations_per_s"] > 0
    assert "| 4 | literal |" in page


def test_the_literal_graph_shares_nothing() -> None:
    shared = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 20]>
        step (float[3, 3] basis, float[3, 2] x, float[2, 2] a, float[2, 2] b) => (float[3, 2] y) {
            once = MatMul(basis, x)
            twice = MatMul(basis, once)
            to_a = MatMul(twice, a)
            to_b = MatMul(twice, b)
            y = Add(to_a, to_b)
        }
    """)

    literal = unshared(shared)

    onnx.checker.check_model(literal, full_check=True)
    read = [name for node in literal.graph.node for name in node.input]
    products = [node for node in literal.graph.node if node.op_type == "MatMul"]
    assert len(products) == 6
    assert all(read.count(node.output[0]) == 1 for node in products)
    rng = np.random.default_rng(0)
    fed = {name: rng.random(shape, np.float32) for name, shape in
           {"basis": (3, 3), "x": (3, 2), "a": (2, 2), "b": (2, 2)}.items()}  # fmt: skip
    one, other = (
        onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, fed)[0]
        for graph in (shared, literal)
    )
    np.testing.assert_array_equal(one, other)
