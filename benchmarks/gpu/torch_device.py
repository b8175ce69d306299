"""The model in PyTorch where the runtime has an engine: through slots, phases and graphs, and eager beside it.

``TorchProgram`` is a step of the model at given addresses; it runs on CUDA through the runtime's own ``CudaDevice`` and
on ``TorchDevice``, which does the same with PyTorch alone, on a GPU or, to rehearse, in host memory.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stunet_deploy.contract import NEXT_STATE, StepContract
from stunet_deploy.models.forecaster import StepInputs
from stunet_deploy.models.stunet.model import STUNet

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Inputs = Mapping[str, NDArray[Any]]


def tensor_at(address: int, shape: tuple[int, ...], dtype: str, device: torch.device) -> torch.Tensor:
    """Return a tensor that shows memory somebody else owns; nothing is copied."""
    kind = np.dtype(dtype)
    if device.type == "cuda":
        described = {"shape": shape, "typestr": kind.str, "data": (address, False), "version": 3}
        tensor = torch.as_tensor(SimpleNamespace(__cuda_array_interface__=described), device=device)
        if tensor.data_ptr() != address:
            raise RuntimeError("PyTorch copied memory that it was to show")
        return tensor
    size = int(np.prod(shape)) * kind.itemsize
    memory = (ctypes.c_uint8 * size).from_address(address)
    return torch.from_numpy(np.frombuffer(memoryview(memory), kind).reshape(shape))


class TorchDevice:
    """See :class:`runtime.backends.gpu.device.Device`; on the CPU everything is done at once and a graph is a call."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"
        self._memory: list[torch.Tensor] = []
        self._stream = torch.cuda.Stream() if self._cuda else None
        self._event = torch.cuda.Event() if self._cuda else None

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return 0 if self._stream is None else int(self._stream.cuda_stream)

    def allocate(self, size: int) -> int:
        """Return the address of memory, aligned."""
        memory = torch.empty(size + 256, dtype=torch.uint8, device=self.device)
        self._memory.append(memory)
        return -(-memory.data_ptr() // 256) * 256

    def host_buffer(self, size: int) -> NDArray[np.uint8]:
        """Return zeros in host memory, page-locked where there is a GPU."""
        array: NDArray[np.uint8] = torch.zeros(size, dtype=torch.uint8, pin_memory=self._cuda).numpy()
        return array

    def copy_in(self, address: int, array: NDArray[Any]) -> None:
        """Put a copy to the device on the stream."""
        with self._on_stream():
            self._bytes(address, array.nbytes).copy_(_host(array), non_blocking=True)

    def copy_out(self, array: NDArray[Any], address: int) -> None:
        """Put a copy to the host on the stream."""
        with self._on_stream():
            _host(array).copy_(self._bytes(address, array.nbytes), non_blocking=True)

    def zero(self, address: int, pitch: int, width: int, height: int) -> None:
        """Put the zeroing of runs of bytes on the stream."""
        with self._on_stream():
            for row in range(height):
                self._bytes(address + row * pitch, width).zero_()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work as a graph and return what launches it."""
        if not self._cuda:
            return work
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            work()

        def launch() -> None:
            with self._on_stream():
                graph.replay()

        return launch

    def record(self) -> None:
        """Put the event on the stream."""
        if self._event is not None:
            self._event.record(self._stream)

    def wait(self) -> None:
        """Wait for the event."""
        if self._event is not None:
            self._event.synchronize()

    def synchronize(self) -> None:
        """Wait until the stream is empty."""
        if self._stream is not None:
            self._stream.synchronize()

    def close(self) -> None:
        """Give the memory back."""
        self.synchronize()
        self._memory.clear()

    def _on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _bytes(self, address: int, size: int) -> torch.Tensor:
        return tensor_at(address, (size,), "uint8", self.device)


def _host(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(array.reshape(-1).view(np.uint8))


class TorchProgram:
    """See :class:`runtime.backends.gpu.device.Program`: the model's own step, its results copied to the addresses.

    Args:
        model: on the device.
        batch: number of rows.
        device: where the addresses lie.
        stream: handle of the stream, on a GPU.
        pooled: keep what the step allocates in a pool of its own. Graphs that PyTorch captures have one; those that
            CUDA captures do not, and PyTorch might give their memory to somebody else.
    """

    capturable = True

    def __init__(self, model: STUNet, batch: int, device: torch.device, stream: int, *, pooled: bool = False) -> None:
        self._model = model
        self._batch = batch
        self._device = device
        self._stream = torch.cuda.ExternalStream(stream) if device.type == "cuda" else None
        self._pool = torch.cuda.MemPool() if pooled else None

    def bind(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Return what puts one step on the stream that reads and writes these addresses."""
        contract: StepContract = self._model.contract

        def at(name: str, spec: Any) -> torch.Tensor:
            return tensor_at(addresses[name], spec.with_batch(self._batch), spec.dtype, self._device)

        inputs = StepInputs(**{spec.name: at(spec.name, spec) for spec in contract.inputs})
        state = {tap.name: at(tap.name, tap.state) for tap in contract.taps}
        outputs = {spec.name: at(spec.name, spec) for spec in contract.outputs}
        written = {spec.name: at(NEXT_STATE + spec.name, spec) for spec in contract.states}

        def step() -> None:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                if self._stream is not None:
                    stack.enter_context(torch.cuda.stream(self._stream))
                if self._pool is not None:
                    stack.enter_context(torch.cuda.use_mem_pool(self._pool))
                found, next_state = self._model.step(inputs, state)
                for name, tensor in found._asdict().items():
                    outputs[name].copy_(tensor)
                for name, tensor in next_state.items():
                    written[name].copy_(tensor)

        return step

    def close(self) -> None:
        """Drop the pool."""
        self._pool = None


class EagerStep:
    """The model's step in PyTorch as one would write it: state on the device, inputs and forecast on the host."""

    def __init__(self, model: STUNet, device: torch.device) -> None:
        self._model = model
        self._device = device
        lines = model.initial_lines(1)
        self._lines = {name: deque(line.unbind(0), maxlen=len(line)) for name, line in lines.items()}

    @torch.inference_mode()
    def step(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the forecast [horizon, node, target] after one interval."""
        on_device = {name: torch.from_numpy(array).to(self._device) for name, array in inputs.items()}
        state = {tap.name: self._lines[tap.state.name][-tap.age] for tap in self._model.contract.taps}
        outputs, next_state = self._model.step(StepInputs(**on_device), state)
        for name, tensor in next_state.items():
            self._lines[name].append(tensor)
        forecast: NDArray[np.float32] = outputs.forecast[0].cpu().numpy()
        return forecast


class EagerWindow:
    """The forecast from the last intervals computed anew, in PyTorch: what one has without a streamed step."""

    def __init__(self, model: STUNet, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._rows: deque[Inputs] = deque(maxlen=model.config.window)
        self._last = torch.tensor([model.config.window - 1], device=device)
        self._zeros = model.initial_lines(1)

    @torch.inference_mode()
    def step(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the forecast [horizon, node, target] from the last window; its rows are the first while it fills."""
        self._rows.append(inputs)
        while len(self._rows) < self._model.config.window:
            self._rows.append(inputs)
        stacked = {
            name: torch.from_numpy(np.stack([row[name] for row in self._rows], axis=1)).to(self._device)
            for name in inputs
        }
        forecast, _ = self._model(StepInputs(**stacked), self._zeros, issued=self._last)
        result: NDArray[np.float32] = forecast[0, 0].cpu().numpy()
        return result
