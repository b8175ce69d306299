"""TensorRT and ONNX Runtime's providers as programs: what they are told, and what they may answer."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export.engine_compiler import describe_layers
from runtime.backends.base import open_backend
from runtime.backends.gpu import onnxruntime_program
from runtime.backends.gpu.backend import DeviceBackend
from runtime.backends.gpu.engines import Engine, EngineKey, StoredEngine
from runtime.backends.gpu.flavor import Flavor
from runtime.backends.gpu.onnxruntime_program import (
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    OnnxRuntimeProgram,
    import_gpu_onnxruntime,
)
from runtime.backends.gpu.tensorrt_program import TensorRTProgram
from runtime.backends.onnxruntime.session import CPU_PROVIDER, import_onnxruntime, open_session
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import BackendError, BundleError
from stunet_deploy.testing import sample_inputs


def equal_to_the_cpu(backend, bundle, steps=20):
    inputs = sample_inputs(bundle.manifest.contract, np.random.default_rng(0), backend.batch, steps)
    cpu = open_backend(bundle, batch=backend.batch)
    for t in range(steps):
        one = {name: array[:, t] for name, array in inputs.items()}
        np.testing.assert_array_equal(backend.step(one)["forecast"], cpu.step(one)["forecast"])


class TensorRT:
    """The part of TensorRT's Python interface that a program uses; its engine is a step on the host device."""

    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")

    class ILogger:
        Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    def __init__(self, device, program, contract):
        self.device, self.program, self.contract = device, program, contract
        self.refuse = set()
        self.said = {}
        self.logger = None

    def Runtime(self, logger):  # noqa: N802
        outer = self
        self.logger = logger = self.logger or logger  # TensorRT keeps the first of a process

        class Runtime:
            def deserialize_cuda_engine(self, plan):
                logger.log(outer.ILogger.Severity.WARNING, "not worth a word")
                if "deserialize" in outer.refuse:
                    logger.log(outer.ILogger.Severity.ERROR, "the plan is of another world")
                    return None
                return outer.engine()

        return Runtime()

    def engine(self):
        tensors = {**self.program.shapes, **self.said}
        names = list(tensors)

        class Dtype(SimpleNamespace):
            pass

        return SimpleNamespace(
            num_io_tensors=len(names),
            get_tensor_name=lambda index: names[index],
            get_tensor_mode=lambda name: "out" if name in self.contract.output_names else "in",
            get_tensor_dtype=lambda name: Dtype(name={"float32": "FLOAT"}.get(str(tensors[name][1]), "HALF")),
            get_tensor_shape=lambda name: (-1, *tensors[name][0][1:]),
            create_execution_context=lambda: None if "context" in self.refuse else self.context(),
        )

    def context(self):
        addresses = {}
        shaped = set()

        def set_input_shape(name, shape):
            shaped.add(name)
            return "shape" not in self.refuse and shape == self.program.shapes[name][0]

        def set_tensor_address(name, address):
            addresses[name] = address
            return "address" not in self.refuse

        def execute_async_v3(stream):
            assert shaped == set(self.contract.input_names)
            self.program.stream = stream
            self.program.bind(dict(addresses))()
            return "execute" not in self.refuse

        return SimpleNamespace(
            set_input_shape=set_input_shape, set_tensor_address=set_tensor_address, execute_async_v3=execute_async_v3
        )


@pytest.fixture
def tensorrt(example, host):
    """Return a function that opens a backend on an engine, and the TensorRT that it gets."""
    device = host.Device()
    program = host.Program(device, example.bundle, 2)
    trt = TensorRT(device, program, example.bundle.manifest.contract)
    key = EngineKey("tensorrt", "10.3.0", ("8.7",), "linux", "aarch64", "fp32", (1, 1, 64))

    def open_engine(contract: StepContract = example.bundle.manifest.contract):
        stored = StoredEngine(Path("step.engine"), key, {})
        flavor = Flavor("tensorrt", trt, "10.3.0")
        engine = TensorRTProgram(flavor, Engine(stored, b"plan"), contract, 2, device.stream)
        return DeviceBackend("tensorrt", contract, 2, device, engine)

    return SimpleNamespace(open=open_engine, trt=trt, device=device)


def test_an_engine_is_executed_at_the_addresses_of_every_phase(tensorrt, example):
    backend = tensorrt.open()
    equal_to_the_cpu(backend, example.bundle)
    assert tensorrt.device.counts["captures"] == example.bundle.manifest.contract.slots
    backend.close()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("deserialize", r"10\.3\.0 cannot load step\.engine \(the plan is of another world\)"),
        ("context", "makes no execution context"),
        ("shape", "refuses values of batch 2"),
        ("address", "refuses an address of"),
        ("execute", "did not enqueue a step"),
    ],
)
def test_whatever_tensorrt_refuses_is_an_error(tensorrt, step, message):
    tensorrt.trt.refuse.add(step)
    with pytest.raises(BackendError, match=message):
        tensorrt.open()


def test_running_and_building_have_one_log_since_tensorrt_keeps_the_first(tensorrt):
    tensorrt.open()
    tensorrt.trt.refuse.add("deserialize")
    with pytest.raises(BackendError, match="the plan is of another world"):
        describe_layers(Flavor("tensorrt", tensorrt.trt, "10.3.0"), b"plan")


@pytest.mark.parametrize(
    "said",
    [
        {"values": ((2, 5, 3), np.dtype("float32"))},
        {"forecast": ((2, 3, 5, 1), np.dtype("float16"))},
        {"state.layer9.hidden": ((2, 5, 2), np.dtype("float32"))},
    ],
)
def test_an_engine_with_other_tensors_than_the_contract_is_refused(tensorrt, said):
    tensorrt.trt.said = said
    with pytest.raises(BundleError, match=f"{next(iter(said))}.*as in the contract"):
        tensorrt.open()


class OnStream:
    """ONNX Runtime on the CPU where a program asked for a GPU: its runs wait their turn on the host device."""

    def __init__(self, session):
        self._session = session

    def io_binding(self):
        binding = self._session.io_binding()

        def bind(method):
            def call(name, device, index, dtype, shape, address):
                assert (device, index) == ("cuda", 0)
                method(name, "cpu", index, np.dtype(dtype), shape, address)

            return call

        return SimpleNamespace(real=binding, bind_input=bind(binding.bind_input), bind_output=bind(binding.bind_output))

    def run_with_iobinding(self, binding, options):
        assert options.get_run_config_entry("gpu_graph_id") == "-1"
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        self._session.run_with_iobinding(binding.real, options)


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("tf32", "1"), ("fp16", "0")])
def test_a_provider_is_bound_to_the_addresses_of_every_phase(example, host, monkeypatch, precision, tf32):
    asked = {}

    def on_cpu(ort, graph, contract, *, batch, provider, provider_options, extra):
        asked.update(provider=provider, **provider_options)
        return OnStream(open_session(ort, graph, contract, batch=batch))

    monkeypatch.setattr(onnxruntime_program, "open_session", on_cpu)
    contract = example.bundle.manifest.contract
    device = host.Device()
    program = OnnxRuntimeProgram(
        import_onnxruntime(),
        CUDA_PROVIDER,
        example.bundle.graph(),
        contract,
        precision=precision,
        batch=2,
        stream=device.stream,
    )
    shapes = host.Program(device, example.bundle, 2)
    bind = program.bind

    def on_stream(addresses):
        step = bind(addresses)
        reads, writes = (
            tuple(shapes.span(name, addresses[name]) for name in names)
            for names in (contract.input_names, contract.output_names)
        )
        work = host.Work("step", reads, writes, lambda: step, lambda: 2 * device.steps + 1)
        return lambda: device.put(work, device.stream)

    program.bind = on_stream
    equal_to_the_cpu(DeviceBackend("onnxruntime-cuda", contract, 2, device, program), example.bundle)
    assert asked == {
        "provider": CUDA_PROVIDER,
        "device_id": "0",
        "user_compute_stream": str(device.stream),
        "use_tf32": tf32,
    }
    assert device.counts["captures"] == 0


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_onnxruntime_does_not_fall_back_in_silence(example):
    ort = import_onnxruntime()
    if CUDA_PROVIDER in ort.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    with pytest.raises(BackendError, match=r"CPUExecutionProvider|cannot load .* on CUDAExecutionProvider"):
        open_session(
            ort, example.bundle.graph(), example.bundle.manifest.contract, batch=1, provider=CUDA_PROVIDER, extra="gpu"
        )


def test_a_provider_that_did_not_start_is_an_error(example):
    """When a provider's library cannot be loaded, ONNX Runtime opens the CPU alone and says so in its log."""
    ort = import_onnxruntime()
    session = SimpleNamespace(get_providers=lambda: [CPU_PROVIDER])
    fake = SimpleNamespace(
        SessionOptions=ort.SessionOptions,
        ExecutionMode=ort.ExecutionMode,
        InferenceSession=lambda path, options, providers: session,
        __version__="1.31.1",
    )
    with pytest.raises(BackendError, match=r"opened the providers \['CPUExecutionProvider'\].*stunet-deploy\[gpu\]"):
        open_session(
            fake, example.bundle.graph(), example.bundle.manifest.contract, batch=1, provider=CUDA_PROVIDER, extra="gpu"
        )


def test_the_wheel_of_the_cpu_is_named_with_what_replaces_it():
    if CUDA_PROVIDER in import_onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    with pytest.raises(BackendError, match=r"CUDAExecutionProvider.*pip uninstall -y onnxruntime.*\[gpu\]"):
        import_gpu_onnxruntime(CUDA_PROVIDER, "fp32")


def test_the_tensorrt_provider_does_not_pass_tf32_off_as_fp32(monkeypatch):
    wheel = SimpleNamespace(get_available_providers=lambda: [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER])
    monkeypatch.setattr(onnxruntime_program, "import_onnxruntime", lambda extra: wheel)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    with pytest.raises(BackendError, match=r"NVIDIA_TF32_OVERRIDE=0.*--precision tf32"):
        import_gpu_onnxruntime(TENSORRT_PROVIDER, "fp32")
    assert import_gpu_onnxruntime(TENSORRT_PROVIDER, "tf32") is wheel
    assert import_gpu_onnxruntime(CUDA_PROVIDER, "fp32") is wheel
    monkeypatch.setitem(os.environ, "NVIDIA_TF32_OVERRIDE", "0")
    assert import_gpu_onnxruntime(TENSORRT_PROVIDER, "fp32") is wheel
