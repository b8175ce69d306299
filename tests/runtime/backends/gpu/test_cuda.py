"""CudaDevice's calls, in order and by signature: on a runtime that does in host memory what CUDA does on a GPU."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from enum import IntEnum
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.gpu import delay_lines
from runtime.backends.base import open_backend
from runtime.backends.gpu.backend import DeviceBackend
from runtime.backends.gpu.cuda import CudaDevice, import_cuda
from runtime.window import Window
from stunet_deploy.errors import BackendError
from stunet_deploy.testing import sample_inputs


class Status(IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorLaunchFailure = 719  # noqa: N815


class Runtime:
    """The part of CUDA's runtime that CudaDevice calls; work on the stream runs when the host waits for it."""

    cudaStreamNonBlocking, cudaEventDisableTiming, cudaHostAllocDefault = 1, 2, 0  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self):
        self.calls = []
        self.fail = {}
        self.held = {}
        self.queue, self.capturing = [], None

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if not callable(found) or not name.startswith("cuda"):
            return found

        def call(*arguments):
            self.calls.append((name, arguments))
            status = self.fail.get(name, Status.cudaSuccess)
            result = found(*arguments) if status == Status.cudaSuccess else None
            return (status,) if result is None and name not in RETURNS else (status, result)

        return call

    def put(self, work):
        (self.queue if self.capturing is None else self.capturing).append(work)

    def drain(self):
        assert self.capturing is None
        work, self.queue = self.queue, []
        for each in work:
            each()

    def take(self, kind, size):
        memory = ctypes.create_string_buffer(b"\xff" * size, size + 256)
        address = ctypes.addressof(memory)
        self.held[address] = (kind, size, memory)
        return address

    def lies(self, address, size, kind):
        return any(k == kind and a <= address and address + size <= a + s for a, (k, s, _) in self.held.items())

    def cudaSetDevice(self, device):  # noqa: N802
        assert device == 0

    def cudaStreamCreateWithFlags(self, flags):  # noqa: N802
        assert flags == self.cudaStreamNonBlocking
        return 11

    def cudaEventCreateWithFlags(self, flags):  # noqa: N802
        assert flags == self.cudaEventDisableTiming
        return 22

    def cudaMalloc(self, size):  # noqa: N802
        return self.take("device", size)

    def cudaHostAlloc(self, size, flags):  # noqa: N802
        return self.take("host", size)

    def cudaFree(self, address):  # noqa: N802
        assert self.held.pop(address)[0] == "device"

    def cudaFreeHost(self, address):  # noqa: N802
        assert self.held.pop(address)[0] == "host"

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):  # noqa: N802
        assert stream == 11
        assert self.lies(dst, count, "device") == (kind in (1, 3))
        assert self.lies(src, count, "device") == (kind in (2, 3))
        self.put(lambda: ctypes.memmove(dst, src, count))

    def cudaMemset2DAsync(self, address, pitch, value, width, height, stream):  # noqa: N802
        assert stream == 11
        assert width <= pitch
        assert self.lies(address, pitch * (height - 1) + width, "device")
        self.put(lambda: [ctypes.memset(address + row * pitch, value, width) for row in range(height)])

    def cudaStreamBeginCapture(self, stream, mode):  # noqa: N802
        assert (stream, mode, self.capturing) == (11, 1, None)
        self.capturing = []

    def cudaStreamEndCapture(self, stream):  # noqa: N802
        graph, self.capturing = self.capturing, None
        return tuple(graph)

    def cudaGraphInstantiate(self, graph, flags):  # noqa: N802
        return list(graph)

    def cudaGraphDestroy(self, graph):  # noqa: N802
        assert isinstance(graph, tuple)

    def cudaGraphExecDestroy(self, executable):  # noqa: N802
        assert isinstance(executable, list)

    def cudaGraphUpload(self, executable, stream):  # noqa: N802
        assert stream == 11

    def cudaGraphLaunch(self, executable, stream):  # noqa: N802
        assert (stream, self.capturing) == (11, None)
        self.queue.extend(executable)

    def cudaEventRecord(self, event, stream):  # noqa: N802
        assert (event, stream, self.capturing) == (22, 11, None)

    def cudaEventSynchronize(self, event):  # noqa: N802
        assert event == 22
        self.drain()

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        assert stream == 11
        self.drain()

    def cudaEventDestroy(self, event):  # noqa: N802
        assert event == 22

    def cudaStreamDestroy(self, stream):  # noqa: N802
        assert stream == 11


RETURNS = {
    *("cudaStreamCreateWithFlags", "cudaEventCreateWithFlags", "cudaMalloc", "cudaHostAlloc"),
    *("cudaStreamEndCapture", "cudaGraphInstantiate"),
}


@pytest.fixture
def cuda(monkeypatch):
    runtime = Runtime()
    monkeypatch.setattr("runtime.backends.gpu.cuda.import_cuda", lambda: runtime)
    return runtime


def open_on(cuda, host, bundle, batch=1):
    """Open a backend on CudaDevice; the step is ONNX Runtime at the addresses, put on the runtime's stream."""
    device = CudaDevice()

    class Addresses(host.Program):
        def run(self, addresses):
            binding = self._session.io_binding()
            for name in self._inputs:
                shape, dtype = self.shapes[name]
                binding.bind_input(name, "cpu", 0, dtype, shape, addresses[name])
            for name in self._outputs:
                shape, dtype = self.shapes[name]
                binding.bind_output(name, "cpu", 0, dtype, shape, addresses[name])
            self._session.run_with_iobinding(binding, self._options)

        def bind(self, addresses):
            return lambda: cuda.put(lambda: self.run(addresses))

    program = Addresses(device, bundle, batch)
    return DeviceBackend("cuda", bundle.manifest.contract, batch, device, program)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_cuda_device_equals_the_cpu_bit_for_bit(example, host, cuda, batch):
    contract = example.bundle.manifest.contract
    inputs = sample_inputs(contract, np.random.default_rng(0), 1, 30)
    device = Window(open_on(cuda, host, example.bundle, batch))
    cpu = Window(open_backend(example.bundle, batch=batch))
    for t in range(30):
        one = {name: array[:, t] for name, array in inputs.items()}
        np.testing.assert_array_equal(device.step(one), cpu.step(one))
        if t == 12:
            lines = {name: line[:, ::-1] for name, line in cpu.backend.read_lines().items()}
            device.backend.write_lines(lines)
            cpu.backend.write_lines(lines)
        for name, line in device.backend.read_lines().items():
            np.testing.assert_array_equal(line, cpu.backend.read_lines()[name])


def test_an_interval_is_three_calls(example, host, cuda):
    backend = open_on(cuda, host, example.bundle)
    inputs = sample_inputs(backend.contract, np.random.default_rng(0), 1, 1)
    cuda.calls.clear()
    backend.step({name: array[:, 0] for name, array in inputs.items()})
    assert [name for name, _ in cuda.calls] == ["cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"]


def test_everything_is_given_back(example, host, cuda):
    backend = open_on(cuda, host, example.bundle)
    outputs = backend._outputs.arrays
    backend.close()
    assert {kind for kind, *_ in cuda.held.values()} == {"host"}  # as long as somebody may look at them
    del backend, outputs
    gc.collect()
    assert not cuda.held
    names = [name for name, _ in cuda.calls]
    assert names.count("cudaGraphExecDestroy") == example.bundle.manifest.contract.slots
    assert names[-1] == "cudaFreeHost"
    assert {"cudaEventDestroy", "cudaStreamDestroy"} <= set(names)


def test_delay_lines_of_copies_are_what_was_put_in(cuda, monkeypatch):
    monkeypatch.setattr(delay_lines, "require_driver", lambda: None)
    monkeypatch.setattr(delay_lines, "import_cuda", lambda: cuda)
    assert delay_lines.delay_lines(steps=100) == {"steps": 100, "batch": 3, "phases": 9, "wrong": 0}
    monkeypatch.setattr("runtime.backends.slots.read_slot", lambda phase, age, slots: (phase - max(1, age - 1)) % slots)
    with pytest.raises(BackendError, match="wrong tensors in 100 steps"):
        delay_lines.delay_lines(steps=100)


@pytest.mark.parametrize("function", ["cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"])
def test_an_error_is_named_with_its_call(example, host, cuda, function):
    backend = open_on(cuda, host, example.bundle)
    cuda.fail[function] = Status.cudaErrorLaunchFailure
    inputs = sample_inputs(backend.contract, np.random.default_rng(0), 1, 1)
    with pytest.raises(BackendError, match=f"CUDA answers {function} with cudaErrorLaunchFailure"):
        backend.step({name: array[:, 0] for name, array in inputs.items()})
    cuda.fail["cudaStreamSynchronize"] = Status.cudaErrorLaunchFailure
    with pytest.raises(BackendError, match="cudaErrorLaunchFailure"):
        backend.read_lines()
    backend.close()  # whatever CUDA answers now


def test_too_little_memory_says_what_to_do(example, host, cuda):
    cuda.fail["cudaMalloc"] = Status.cudaErrorMemoryAllocation
    with pytest.raises(BackendError, match="free memory on the GPU"):
        open_on(cuda, host, example.bundle)


def test_a_failed_capture_ends_it_and_keeps_the_first_error(cuda):
    device = CudaDevice()
    device.allocate(4)

    def work():
        raise BackendError("the step was refused", "a step", "look")

    with pytest.raises(BackendError, match="the step was refused"):
        device.capture(work)
    assert cuda.capturing is None


def test_an_event_that_cannot_be_made_gives_the_stream_back(cuda):
    cuda.fail["cudaEventCreateWithFlags"] = Status.cudaErrorMemoryAllocation
    with pytest.raises(BackendError, match="cudaEventCreateWithFlags"):
        CudaDevice()
    assert cuda.calls[-1] == ("cudaStreamDestroy", (11,))


def test_every_call_exists_in_cuda_python_with_as_many_arguments():
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    real = import_cuda()
    for name in vars(Runtime):
        if not name.startswith("cuda"):
            continue
        assert hasattr(real, name), name
        ours = getattr(Runtime, name)
        if callable(ours) and not isinstance(ours, SimpleNamespace):
            signature = re.search(r"\((.*?)\)", getattr(real, name).__doc__.splitlines()[0])[1]
            arguments = [part for part in signature.split(",") if part.strip()]
            assert len(arguments) == ours.__code__.co_argcount - 1, f"{name}({signature})"
    assert real.cudaMemcpyKind.cudaMemcpyHostToDevice == 1
    assert real.cudaMemcpyKind.cudaMemcpyDeviceToHost == 2
    assert real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal == 1
    assert (real.cudaStreamNonBlocking, real.cudaEventDisableTiming, real.cudaHostAllocDefault) == (1, 2, 0)


def test_missing_cuda_python_names_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendError, match=r"cuda\.bindings cannot be imported.*pip install"):
        CudaDevice()
