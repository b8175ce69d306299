from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.base import open_backend
from stunet_deploy.bundle import Bundle
from stunet_deploy.contract import StepContract, TensorSpec
from stunet_deploy.errors import BackendError, BundleError, ConfigError, StreamError
from stunet_deploy.files import sha256
from stunet_deploy.manifest import Manifest
from stunet_deploy.precisions import STEP
from stunet_deploy.series.wall_clock import time_of_week
from stunet_deploy.testing import verify_stateful_step

ZONE = "America/Los_Angeles"


def step_inputs(values, observed, timestamps, t, rows=1):
    one = {
        "values": values[t],
        "observed": observed[t].astype(np.float32),
        "time_of_week": time_of_week(timestamps[t : t + 1], ZONE),
    }
    return {name: np.repeat(array[None], rows, axis=0) for name, array in one.items()}


def run(backend, readings, intervals):
    return np.stack([backend.step(step_inputs(*readings, t))["forecast"][0].copy() for t in intervals])


@st.composite
def tap_sets(draw):
    ages = st.sets(st.integers(1, 5), min_size=1, max_size=4)
    return tuple(tuple(sorted(draw(ages), reverse=True)) for _ in range(draw(st.integers(1, 3))))


@settings(max_examples=15)
@given(taps=tap_sets())
def test_steps_equal_the_recurrence_for_any_delays_and_taps(build_example, readings, taps):
    example = build_example(*taps)
    backend = open_backend(example.bundle)
    found = run(backend, readings, range(40))
    np.testing.assert_allclose(found, example.forecast(*readings), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("taps", [((1,),), ((1,), (2,), (4, 3, 2, 1)), ((5, 2),)])
def test_backend_keeps_the_step_contract(build_example, taps):
    bundle = build_example(*taps).bundle
    verify_stateful_step(lambda batch: open_backend(bundle, batch=batch), np.random.default_rng(0))


def test_reset_equals_fresh(example, readings):
    backend = open_backend(example.bundle)
    fresh = run(backend, readings, range(12))
    run(backend, readings, range(12, 15))
    backend.reset()
    np.testing.assert_array_equal(run(backend, readings, range(12)), fresh)


def test_lines_continue_on_a_backend_of_another_phase(example, readings):
    source, target = open_backend(example.bundle), open_backend(example.bundle)
    run(source, readings, range(10))
    run(target, readings, range(4))
    target.write_lines(source.read_lines())
    np.testing.assert_array_equal(run(target, readings, range(10, 30)), run(source, readings, range(10, 30)))


def test_rows_are_independent_and_reset_alone(example, readings):
    backend = open_backend(example.bundle, batch=3)
    alone = open_backend(example.bundle)
    for t in range(20):
        inputs = step_inputs(*readings, t, rows=3)
        inputs["values"][2] = np.float32(1e30)
        if t == 8:
            backend.reset([1])
        found = backend.step(inputs)["forecast"].copy()
        np.testing.assert_array_equal(found[0], alone.step(step_inputs(*readings, t))["forecast"][0])
    since_reset = example.forecast(*(array[8:20] for array in readings))
    np.testing.assert_allclose(found[1], since_reset[-1], rtol=1e-5, atol=1e-5)


def test_outputs_lie_at_fixed_addresses(example, readings):
    backend = open_backend(example.bundle)
    addresses = {
        backend.step(step_inputs(*readings, t))["forecast"].ctypes.data for t in range(backend.contract.slots + 1)
    }
    assert len(addresses) == 1


def test_input_errors_leave_the_state_unchanged(example, readings):
    backend = open_backend(example.bundle)
    backend.step(step_inputs(*readings, 0))
    before = backend.read_lines()
    inputs = step_inputs(*readings, 1)
    with pytest.raises(StreamError, match="step inputs"):
        backend.step({"values": inputs["values"]})
    with pytest.raises(StreamError, match="'observed' of shape"):
        backend.step(inputs | {"observed": inputs["observed"][:, :2]})
    for name, line in backend.read_lines().items():
        np.testing.assert_array_equal(line, before[name])


def test_a_triton_server_is_not_built_in_yet(example):
    with pytest.raises(BackendError, match="not built in yet"):
        open_backend(example.bundle, "triton://localhost:8001/stunet")


def test_unknown_backend_lists_the_known_ones(example):
    with pytest.raises(BackendError, match=r"onnxruntime-cuda.*tensorrt-rtx.*triton://"):
        open_backend(example.bundle, "onnxrt")


@pytest.mark.parametrize("option", ["batch", "threads"])
def test_options_below_one_are_refused(example, option):
    with pytest.raises(ConfigError, match=option):
        open_backend(example.bundle, **{option: 0})


def test_missing_onnxruntime_names_the_command_that_installs_it(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'stunet-deploy\[cpu\]'"):
        open_backend(example.bundle)


def test_two_wheels_of_one_module_are_named_with_what_to_uninstall(example, monkeypatch, tmp_path):
    for name in ("onnxruntime", "onnxruntime-gpu"):
        folder = tmp_path / f"{name.replace('-', '_')}-1.31.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        open_backend(example.bundle)


def test_graph_that_differs_from_the_contract_is_refused(example):
    manifest = example.bundle.manifest
    inputs = (*manifest.contract.inputs[:2], TensorSpec("time_of_week", ("batch", "two"), (None, 2)))
    wide = StepContract(inputs, manifest.contract.outputs, manifest.contract.states)
    with pytest.raises(BundleError, match="input 'time_of_week' is"):
        open_backend(Bundle(example.bundle.path, Manifest(**{**vars(manifest), "contract": wide})))
    fewer = StepContract(manifest.contract.inputs, manifest.contract.outputs, manifest.contract.states[:2])
    with pytest.raises(BundleError, match="no such tensor"):
        open_backend(Bundle(example.bundle.path, Manifest(**{**vars(manifest), "contract": fewer})))


def test_damaged_graph_is_refused(build_example):
    bundle = build_example((1,)).bundle

    def given(graph: bytes) -> Bundle:
        (bundle.path / STEP).write_bytes(graph)
        return replace(bundle, manifest=replace(bundle.manifest, files={STEP: sha256(graph)}))

    model = onnx.load(bundle.path / STEP)
    with pytest.raises(BundleError, match="which no engine is given"):
        open_backend(given(b"no graph"))
    with pytest.raises(BundleError, match="was altered"):
        open_backend(bundle)
    model.graph.initializer[0].data_type = onnx.TensorProto.INT32  # which is as long as a float32
    with pytest.raises(BackendError, match="cannot load"):
        open_backend(given(model.SerializeToString()))
