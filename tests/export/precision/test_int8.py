"""The int8 graph and its calibration: oracles in numpy, which products it takes, the contract of every network."""

import json

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from export.precision.calibrate import calibrate, exposed_steps
from export.precision.int8 import LEVELS, int8_graph
from export.step_graph import check_step
from runtime.backends.onnxruntime.session import open_cpu_session
from runtime.golden_replay import recorded_inputs
from stunet_deploy.contract import NEXT_STATE, StateSpec, StepContract, TensorSpec, read_taps
from stunet_deploy.precisions import STEP
from stunet_deploy.testing import verify_step_contract

from ..engine_proof import ranges_of


def run(proto: onnx.ModelProto, **feed: np.ndarray) -> list[np.ndarray]:
    return open_cpu_session(proto.SerializeToString()).run(None, feed)


def product(weight: np.ndarray) -> onnx.ModelProto:
    """Return a step that multiplies its state by weights."""
    node, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("MatMul", ["state.x", "layer.weight"], ["y"], name="project")],
        "product",
        [tensor("state.x", onnx.TensorProto.FLOAT, ["batch", 4, weight.shape[0]])],
        [tensor("y", onnx.TensorProto.FLOAT, ["batch", 4, weight.shape[1]])],
        [onnx.numpy_helper.from_array(weight.astype(np.float32), "layer.weight")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def levels(array: np.ndarray, scale: np.ndarray | np.float32) -> np.ndarray:
    return np.clip(np.rint(array.astype(np.float32) / scale), -LEVELS - 1, LEVELS)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
    share=st.sampled_from([0.5, 1.0, 3.0]),
    width=st.integers(1, 40),
)
def test_a_product_is_that_of_its_levels(seed, size, share, width):
    rng = np.random.default_rng(seed)
    weight, x = rng.normal(size=(width, 5)), rng.normal(0, size, (2, 4, width)).astype(np.float32)
    weight[:, 2] = 0
    largest = share * float(np.abs(x).max())

    found = run(int8_graph(product(weight), {"state.x": largest}), **{"state.x": x})[0]

    scale = np.float32(largest / LEVELS)
    columns = np.abs(weight.astype(np.float32)).max(axis=0) / LEVELS
    columns = np.where(columns > 0, columns, 1).astype(np.float32)
    expected = (levels(x, scale) @ levels(weight, columns)) * scale * columns
    # One level more or less of one operand, where a quotient lies on the border of two.
    level = scale * np.abs(weight).max() + 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=2 * level, rtol=1e-5)
    assert np.isclose(found, expected, rtol=1e-4, atol=1e-5 * size).mean() > 0.7
    assert (found[..., 2] == 0).all()


def test_an_activation_that_never_was_anything_but_zero_has_a_scale():
    graph = int8_graph(product(np.ones((3, 2))), {"state.x": 0.0})

    assert (run(graph, **{"state.x": np.zeros((1, 4, 3), np.float32)})[0] == 0).all()


def test_zero_points_are_zero_and_weights_are_int8(export, name):
    graph = quantised(export(name))
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}

    used = [node for node in graph.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert used
    for node in used:
        assert stored[node.input[2]].dtype == np.int8
        assert not stored[node.input[2]].any()
        assert (stored[node.input[1]] > 0).all()
    assert any(key.endswith("gate_weight.int8") for key in stored)
    assert not any(key.endswith("gate_weight") for key in stored)


def quantised(exported) -> onnx.ModelProto:
    return int8_graph(exported.proto, ranges_of(exported.proto, exported.checkpoint.model.contract))


def test_every_network_keeps_its_contract(export, name):
    exported = export(name)
    contract, graph = exported.checkpoint.model.contract, quantised(exported)

    check_step(graph, contract)
    assert json.loads({entry.key: entry.value for entry in graph.metadata_props}["stunet.precision"]) == "int8"
    session = open_cpu_session(graph.SerializeToString())

    def step(inputs, lines):
        arrays = session.run(None, inputs | dict(read_taps(contract, lines)))
        found = dict(zip(contract.output_names, arrays, strict=True))
        outputs = {spec.name: found[spec.name] for spec in contract.outputs}
        return outputs, {state.name: found[NEXT_STATE + state.name] for state in contract.states}

    # Round-off in float32 moves a number by a whole level here and there.
    verify_step_contract(contract, step, np.random.default_rng(2), exact=False, tolerance=2.0)


def test_products_that_take_readings_and_propagation_stay_in_float32(export, name):
    graph = quantised(export(name)).graph
    constants = {tensor.name for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}

    inputs = set()
    for node in graph.node:
        if node.op_type == "MatMul":
            dequantised = [producers[v].op_type == "DequantizeLinear" for v in node.input if v in producers]
            if node.input[0] in constants:
                assert not any(dequantised), node.name
            inputs |= {v for v in node.input if v.endswith("contracting.0.cell.input_weight")}
    assert "encoder.contracting.0.cell.input_weight" in inputs


def test_the_same_step_gives_the_same_bytes(export):
    exported = export("two scales")
    ranges = ranges_of(exported.proto, exported.checkpoint.model.contract)

    first, second = (int8_graph(exported.proto, ranges).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_calibration_finds_the_largest_number_of_every_value(make, exported_bundle):
    reference = make().reference
    manifest = exported_bundle.manifest
    step = onnx.load(exported_bundle.path / STEP)
    names = ["values", "state.departed", "next_state.departed"]

    def recording():
        return recorded_inputs(manifest, reference.timestamps, reference.values, reference.observed)

    found = calibrate(step, manifest.contract, recording(), names)

    assert found["values"] == np.abs(reference.values).max()
    steps = list(exposed_steps(step, manifest.contract, recording(), names[2:]))
    assert len(steps) == len(reference.timestamps)
    for name in names[2:]:
        assert found[name] == np.abs([values[name] for values in steps]).max()
    # What a step reads is what the one before wrote: a part, half, of the departure of a reading from a sensor's mean.
    most = np.abs((np.array([0, 90]) - 45) / 12).max() + np.abs(make().model.sensor_mean.numpy()).max()
    assert 0 < found["state.departed"] <= found["next_state.departed"] <= most / 2


def test_calibration_carries_the_state():
    """A state of delay 2 that grows by one at every step."""
    spec = ("batch", "cell"), (None, 1)
    contract = StepContract(
        inputs=(TensorSpec("values", *spec),),
        outputs=(TensorSpec("forecast", *spec),),
        states=(StateSpec("count", *spec, delay=2),),
    )
    node, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("Add", ["state.count", "values"], ["next_state.count"]), node("Neg", ["state.count"], ["forecast"])],
        "count",
        [tensor(key, onnx.TensorProto.FLOAT, ["batch", 1]) for key in contract.input_names],
        [tensor(key, onnx.TensorProto.FLOAT, ["batch", 1]) for key in contract.output_names],
    )
    step = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)

    ones = [{"values": np.ones((1, 1), np.float32)}] * 7
    assert calibrate(step, contract, ones, ["next_state.count", "forecast"]) == {"next_state.count": 4, "forecast": 3}
