"""Emulated tf32: its rounding against the bits, and every network under it."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.precision.emulate import emulate_tf32, round_tf32
from export.step_graph import check_step
from runtime.backends.onnxruntime.session import open_cpu_session
from stunet_deploy.testing import sample_inputs

from ..conftest import NETWORKS


def bits_rounded(array: np.ndarray) -> np.ndarray:
    """Round to 10 bits after the leading one, half to even, on the bits of float32."""
    bits = array.view(np.uint32).astype(np.uint64)
    kept = bits >> 13
    rest, half = bits & 0x1FFF, 0x1000
    kept += (rest > half) | ((rest == half) & (kept & 1 == 1))
    return (kept << 13).astype(np.uint32).view(np.float32)


@settings(max_examples=300)
@given(st.floats(2.0**-100, 2.0**100, width=32), st.booleans())
def test_numbers_are_rounded_as_their_bits_are(number, negative):
    array = np.array([-number if negative else number], np.float32)

    np.testing.assert_array_equal(round_tf32(array), bits_rounded(array))
    np.testing.assert_array_equal(round_tf32(round_tf32(array)), round_tf32(array))


def test_a_product_rounds_its_operands_and_not_its_result():
    rng = np.random.default_rng(4)
    weight, x = rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(2, 4, 6)).astype(np.float32)
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [tensor("x", onnx.TensorProto.FLOAT, ["batch", 4, 6])],
        [tensor("y", onnx.TensorProto.FLOAT, ["batch", 4, 5])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    step = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)

    session = open_cpu_session(emulate_tf32(step).SerializeToString())
    found = session.run(None, {"x": x})[0]

    np.testing.assert_allclose(found, bits_rounded(x) @ bits_rounded(weight), rtol=1e-6, atol=1e-6)
    assert np.abs(found - x @ weight).max() > 1e-5


@pytest.mark.parametrize(
    "name", ["two scales", *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name != "two scales")]
)
def test_every_network_runs_and_is_near_its_float32_step(export, name):
    exported = export(name)
    contract = exported.checkpoint.model.contract
    emulated = emulate_tf32(exported.proto)
    check_step(emulated, contract)
    inputs = sample_inputs(contract, np.random.default_rng(5), 2, 1)
    feed = {key: array[:, 0] for key, array in inputs.items()}
    feed |= {tap.name: np.full(tap.state.with_batch(2), 0.3, np.float32) for tap in contract.taps}

    found, exact = (
        open_cpu_session(proto.SerializeToString()).run(None, feed)[0] for proto in (emulated, exported.proto)
    )

    assert 0 < np.abs(found - exact).max() < 0.5
