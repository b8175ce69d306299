"""The fp16 and bf16 graphs: oracles in numpy, islands, ranges, and the contract of every network."""

import json

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.precision.emulate import emulate_half
from export.precision.half import HALVES, half_graph
from export.precision.islands import MOVES
from export.step_graph import check_step
from runtime.backends.onnxruntime.session import open_cpu_session
from stunet_deploy.contract import NEXT_STATE, read_taps
from stunet_deploy.testing import verify_step_contract

TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
HALF_TYPES = {HALVES[precision][0].value for precision in HALVES}


def run(proto: onnx.ModelProto, **feed: np.ndarray) -> list[np.ndarray]:
    return open_cpu_session(proto.SerializeToString()).run(None, feed)


def convolution(basis: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """Return [x, T x] W + b as a graph."""
    node, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("MatMul", ["basis", "x"], ["far"], name="propagate"),
            node("Concat", ["x", "far"], ["both"], name="join", axis=-1),
            node("MatMul", ["both", "layer.weight"], ["product"], name="project"),
            node("Add", ["product", "layer.bias"], ["y"], name="add"),
        ],
        "convolution",
        [tensor("x", onnx.TensorProto.FLOAT, ["batch", basis.shape[0], weight.shape[0] // 2])],
        [tensor("y", onnx.TensorProto.FLOAT, ["batch", basis.shape[0], weight.shape[1]])],
        [
            onnx.numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in (("basis", basis), ("layer.weight", weight), ("layer.bias", bias))
        ],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def types_of(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every value."""
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.output, *inferred.value_info)}
    return values | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    return np.asarray(array, np.float32).astype(TYPES[precision]).astype(np.float32)


@pytest.mark.parametrize("precision", HALVES)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e-4, 1.0, 30.0]))
def test_products_round_their_operands_and_their_result_and_nothing_else_is_rounded(precision, seed, size):
    rng = np.random.default_rng(seed)
    basis, weight, bias = rng.normal(size=(5, 5)), rng.normal(size=(6, 4)), rng.normal(size=4).astype(np.float32)
    x = rng.normal(0, size, (2, 5, 3)).astype(np.float32)

    found = run(emulate_half(half_graph(convolution(basis, weight, bias), precision), precision), x=x)[0]

    near = rounded(x, precision)
    far = rounded(rounded(basis, precision) @ near, precision)
    product = rounded(np.concatenate([near, far], axis=-1) @ rounded(weight, precision), precision)
    # A sum in another order may fall on the other side of a rounding.
    ulp = 2.0 ** (-10 if precision == "fp16" else -7)
    np.testing.assert_allclose(found, product + bias, rtol=1e-6, atol=4 * ulp * np.abs(product).max())
    assert (found == product + bias).mean() > 0.6


@pytest.mark.parametrize("precision", HALVES)
def test_a_value_is_cast_once_however_many_products_read_it(precision):
    graph = half_graph(convolution(np.eye(3), np.ones((4, 2)), np.zeros(2)), precision)
    operations = [node.op_type for node in graph.graph.node]

    clips = ["Clip"] if precision == "fp16" else []
    assert operations == [*clips, "Cast", "MatMul", "Concat", "MatMul", "Cast", "Add"]


@pytest.mark.parametrize("value", [1e30, -3e38, 65504.0, 7e4])
def test_no_finite_operand_makes_an_infinity(value):
    graph = emulate_half(half_graph(convolution(np.full((3, 3), 0.5), np.ones((4, 2)), np.zeros(2)), "fp16"), "fp16")

    found = run(graph, x=np.full((1, 3, 2), value, np.float32))[0]

    assert np.isfinite(found).all()
    assert (np.sign(found) == np.sign(value)).all()


def test_a_product_that_could_overflow_for_ordinary_operands_stays_in_float32():
    heavy = convolution(np.eye(3), np.full((4, 2), 1e4), np.zeros(2))

    types = types_of(half_graph(heavy, "fp16"))
    assert types["layer.weight"] == types["product"] == onnx.TensorProto.FLOAT
    assert types["far"] == onnx.TensorProto.FLOAT16
    assert types_of(half_graph(heavy, "bf16"))["layer.weight"] == onnx.TensorProto.BFLOAT16


@pytest.mark.parametrize("precision", HALVES)
def test_every_network_keeps_its_contract(export, name, precision):
    exported = export(name)
    contract = exported.checkpoint.model.contract

    graph = half_graph(exported.proto, precision)

    check_step(graph, contract)
    assert {entry.key: json.loads(entry.value) for entry in graph.metadata_props} == {
        "stunet.model": "stunet",
        "stunet.precision": precision,
    }
    emulated = emulate_half(graph, precision)
    check_step(emulated, contract)
    session = open_cpu_session(emulated.SerializeToString())

    def step(inputs, lines):
        arrays = session.run(None, inputs | dict(read_taps(contract, lines)))
        found = dict(zip(contract.output_names, arrays, strict=True))
        outputs = {spec.name: found[spec.name] for spec in contract.outputs}
        return outputs, {state.name: found[NEXT_STATE + state.name] for state in contract.states}

    # Rows may round differently where a kernel sums them in another order.
    tolerance = 0.02 if precision == "fp16" else 0.2
    verify_step_contract(contract, step, np.random.default_rng(2), exact=False, tolerance=tolerance)


@pytest.mark.parametrize("precision", HALVES)
def test_only_products_and_what_moves_their_operands_are_in_half_precision(export, name, precision):
    graph = half_graph(export(name).proto, precision)
    types = types_of(graph)
    producers = {output: node for node in graph.graph.node for output in node.output}

    half = {node.op_type for node in graph.graph.node if types[node.output[0]] in HALF_TYPES}
    single = [node for node in graph.graph.node if node.op_type == "MatMul" and types[node.output[0]] not in HALF_TYPES]
    assert "MatMul" in half <= {"MatMul", "Cast", *MOVES}
    assert not single
    for node in graph.graph.node:
        before = producers.get(node.input[0]) if node.op_type == "Cast" else None
        back = before is not None and before.op_type == "Cast" and types[before.input[0]] in HALF_TYPES
        assert not back, f"{node.name} casts back what {before.name} has cast"
    weights = [tensor for tensor in graph.graph.initializer if tensor.data_type in HALF_TYPES]
    assert any(tensor.name.endswith("gate_weight") for tensor in weights)


@pytest.mark.parametrize("precision", HALVES)
def test_the_same_step_gives_the_same_bytes(export, precision):
    proto = export("ST-UNet").proto
    before = proto.SerializeToString(deterministic=True)
    first, second = (half_graph(proto, precision).SerializeToString(deterministic=True) for _ in range(2))

    assert first == second
    assert proto.SerializeToString(deterministic=True) == before


def test_bf16_is_coarser_than_fp16_and_both_are_close(export, name):
    exported = export(name)
    contract = exported.checkpoint.model.contract
    rng = np.random.default_rng(3)
    feed = {spec.name: np.ones(spec.with_batch(2), np.float32) for spec in contract.inputs}
    feed["values"] = rng.uniform(20, 70, feed["values"].shape).astype(np.float32)
    feed |= {tap.name: rng.uniform(-1, 1, tap.state.with_batch(2)).astype(np.float32) for tap in contract.taps}
    exact = run(exported.proto, **feed)[0]

    errors = {}
    for precision in HALVES:
        graph = emulate_half(half_graph(exported.proto, precision), precision)
        errors[precision] = float(np.abs(run(graph, **feed)[0] - exact).mean())
    assert 0 < errors["fp16"] < errors["bf16"] < 1
