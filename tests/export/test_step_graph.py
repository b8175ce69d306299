"""The step graph, held to the contract and to the torch step, on ONNX Runtime."""

import json
import os
import re
import socket
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from export.step_graph import FORBIDDEN, OPSET, check_step, export_step
from runtime.backends.onnxruntime.cpu import OnnxRuntimeBackend
from runtime.backends.onnxruntime.session import open_cpu_session
from stunet_deploy.bundle import Bundle
from stunet_deploy.contract import NEXT_STATE, STATE, advance, read_taps
from stunet_deploy.errors import BundleError
from stunet_deploy.files import sha256
from stunet_deploy.models.forecaster import StepInputs, unroll
from stunet_deploy.precisions import STEP
from stunet_deploy.testing import sample_inputs, verify_stateful_step, verify_step_contract


def step_of(exported):
    """Return the graph as a pure step."""
    session, contract = open_cpu_session(exported.data), exported.checkpoint.model.contract

    def step(inputs, lines):
        arrays = session.run(None, inputs | dict(read_taps(contract, lines)))
        found = dict(zip(contract.output_names, arrays, strict=True))
        outputs = {spec.name: found[spec.name] for spec in contract.outputs}
        return outputs, {state.name: found[NEXT_STATE + state.name] for state in contract.states}

    return step


def test_the_graph_keeps_the_step_contract(export, name):
    exported = export(name)
    verify_step_contract(exported.checkpoint.model.contract, step_of(exported), np.random.default_rng(2), exact=False)


def test_the_runtime_keeps_the_step_contract_on_it(export, exported_bundle, name, tmp_path):
    exported = export(name)
    (tmp_path / STEP).write_bytes(exported.data)
    files = {STEP: sha256(exported.data)}
    manifest = replace(exported_bundle.manifest, contract=exported.checkpoint.model.contract, files=files)
    bundle = Bundle(tmp_path, manifest)

    verify_stateful_step(
        lambda batch: OnnxRuntimeBackend(bundle, batch=batch, threads=1), np.random.default_rng(3), exact=False
    )


@pytest.mark.parametrize("batch", [1, 5])
def test_the_graph_forecasts_as_the_torch_step_for_any_batch(export, name, batch):
    exported = export(name)
    model, step = exported.checkpoint.model, step_of(exported)
    contract = model.contract
    inputs = sample_inputs(contract, np.random.default_rng(4), batch, 3 * contract.slots)
    with torch.inference_mode():
        sequence = StepInputs(*(torch.from_numpy(inputs[spec.name]) for spec in contract.inputs))
        expected, final = unroll(model, sequence, model.initial_lines(batch))

    lines = contract.initial_lines(batch)
    for t in range(expected.shape[1]):
        outputs, state = step({key: array[:, t] for key, array in inputs.items()}, lines)
        np.testing.assert_allclose(outputs["forecast"], expected[:, t], rtol=1e-5, atol=2e-4)
        lines = advance(lines, state)

    assert expected.std() > 1
    for entry, line in lines.items():
        np.testing.assert_allclose(line, final[entry], rtol=1e-5, atol=1e-5)


def test_names_order_and_shapes_are_the_contracts(export, name):
    exported = export(name)
    contract, session = exported.checkpoint.model.contract, open_cpu_session(exported.data)

    assert [node.name for node in session.get_inputs()] == list(contract.input_names)
    assert [node.name for node in session.get_outputs()] == list(contract.output_names)
    specs = {spec.name: spec for spec in (*contract.inputs, *contract.outputs)}
    specs |= {tap.name: tap.state for tap in contract.taps}
    specs |= {NEXT_STATE + state.name: state for state in contract.states}
    for node in (*session.get_inputs(), *session.get_outputs()):
        assert node.type == "tensor(float)"
        assert node.shape == ["batch", *specs[node.name].shape[1:]], node.name


def test_states_pair_by_name(export, name):
    inputs, outputs = ([value.name for value in values] for values in io_of(export(name).proto))

    read = {entry.removeprefix(STATE).split(".age")[0] for entry in inputs if entry.startswith(STATE)}
    written = {entry.removeprefix(NEXT_STATE) for entry in outputs if entry.startswith(NEXT_STATE)}

    assert read
    assert read == written


def io_of(proto):
    return proto.graph.input, proto.graph.output


def test_the_graph_has_no_control_flow_and_one_operator_set(export, name):
    proto = export(name).proto

    assert {node.op_type for node in proto.graph.node}.isdisjoint(FORBIDDEN)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    assert not proto.functions
    assert all(node.domain == "" for node in proto.graph.node)
    assert {"MatMul", "Sigmoid", "Tanh"} <= {node.op_type for node in proto.graph.node}


def test_nothing_of_the_exporting_machine_is_in_it(export, exported_bundle, name, pytestconfig):
    for data in (export(name).data, exported_bundle.read(STEP)):
        assert not re.search(rb"/(?:home|root|usr|tmp|work|Users)/|site-packages|\.py\b|Traceback|stack_trace", data)
        for private in (socket.gethostname(), os.getcwd(), str(pytestconfig.rootpath)):
            assert private.encode() not in data
    proto = export(name).proto
    nothing = [proto.doc_string, proto.graph.doc_string, *(node.doc_string for node in proto.graph.node)]
    assert set(nothing) == {""}
    assert not any(node.metadata_props for node in proto.graph.node)


def test_weights_have_the_checkpoints_names_and_numbers(export, name):
    exported = export(name)
    weights = exported.checkpoint.model.state_dict()
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in exported.proto.graph.initializer}

    named = stored.keys() & weights.keys()

    # Taken apart: narrow outputs, inputs of coarser graphs, matrices per rank, rows of tables. Not always kept: usual.
    # Put together: what is the same at every interval.
    apart = r"usual|profile\.table|decoder\.head\.weight|.*(expanding\.\d\.cell\.input_weight|unpools\.\d\..*)"
    apart += r"|static|scale|decoder\.perceptron\.(static_weight|own_bias)"
    assert not [entry for entry in weights.keys() - named if not re.fullmatch(apart, entry)]
    for entry in named:
        np.testing.assert_array_equal(stored[entry], weights[entry])
    assert not [entry for entry in stored if entry.startswith("model.")]


def test_the_time_is_an_input_even_where_no_channel_uses_it(export):
    exported = export("GCGRU")
    step, contract = step_of(exported), exported.checkpoint.model.contract
    inputs = {key: array[:, 0] for key, array in sample_inputs(contract, np.random.default_rng(5), 2, 1).items()}

    early, _ = step(inputs | {"time_of_week": np.zeros((2, 1), np.float32)}, contract.initial_lines(2))
    late, _ = step(inputs | {"time_of_week": np.full((2, 1), 5e5, np.float32)}, contract.initial_lines(2))

    assert "time_of_week" in contract.input_names
    np.testing.assert_array_equal(early["forecast"], late["forecast"])


def test_a_lone_file_explains_itself(exported_bundle):
    manifest = exported_bundle.manifest
    properties = {entry.key: json.loads(entry.value) for entry in onnx.load(exported_bundle.path / STEP).metadata_props}

    assert properties == {key: json.loads(value) for key, value in manifest.essentials().items()}
    assert properties["stunet.sensor_ids"] == [f"s{node}" for node in range(7)]
    assert properties["stunet.contract"] == manifest.contract.to_json()
    assert (properties["stunet.interval_s"], properties["stunet.stamp"]) == (300, "end")


def altered(exported, change) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(exported.proto)
    change(proto)
    return proto


def rename_input(proto):
    proto.graph.input[0].name = "readings"
    for node in proto.graph.node:
        node.input[:] = ["readings" if entry == "values" else entry for entry in node.input]


def swap_inputs(proto):
    first, second = proto.graph.input[0].name, proto.graph.input[1].name
    proto.graph.input[0].name, proto.graph.input[1].name = second, first


def fix_batch(proto):
    proto.graph.input[2].type.tensor_type.shape.dim[0].dim_value = 3


def add_branch(proto):
    then = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["values"], ["same"])],
        "then",
        [],
        [onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, None)],
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    proto.graph.node.append(onnx.helper.make_node("If", ["yes"], ["chosen"], then_branch=then, else_branch=then))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_input, "names"),
        (swap_inputs, "names"),
        (fix_batch, "time_of_week of shape"),
        (add_branch, "a step graph with If"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(export, change, message):
    exported = export("GCGRU")
    check_step(exported.proto, exported.checkpoint.model.contract)

    with pytest.raises(BundleError, match=message):
        check_step(altered(exported, change), exported.checkpoint.model.contract)


def test_a_graph_of_another_network_is_refused(export):
    with pytest.raises(BundleError, match="contract"):
        check_step(export("GCGRU").proto, export("T-UNet").checkpoint.model.contract)


def test_an_export_repeats_itself_and_leaves_the_model_as_it_was(export, make):
    model = make("GCGRU").model

    proto = export_step(model, {"stunet.model": '"stunet"'})

    assert proto.SerializeToString(deterministic=True) == export("GCGRU").data
    before = make("GCGRU").model.state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert not model.training
