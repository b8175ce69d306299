"""The runtime's device, slots, phases and graphs on a GPU with nothing but CUDA: a step that is a handful of copies.

The step writes its input to every state entry and copies each tap to an output of its own, so the output of a tap of
age a is the input of a intervals ago: known exactly, without any inference engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from runtime.backends.gpu.backend import DeviceBackend
from runtime.backends.gpu.cuda import CudaDevice, import_cuda
from runtime.backends.gpu.driver import require_driver
from stunet_deploy.contract import NEXT_STATE, StateSpec, StepContract, TensorSpec
from stunet_deploy.errors import BackendError

TAPS = ((1,), (2,), (4, 3, 2, 1), (8, 5))
ROW = ("batch", "node")
NODES = 207


class CopyProgram:
    """See :class:`runtime.backends.gpu.device.Program`."""

    capturable = True

    def __init__(self, contract: StepContract, batch: int, stream: int) -> None:
        self._contract = contract
        self._size = 4 * batch * NODES
        self._stream = stream
        self._cuda: Any = import_cuda()

    def bind(self, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Return what puts the copies on the stream."""
        written = [(addresses[NEXT_STATE + state.name], addresses["values"]) for state in self._contract.states]
        read = [(addresses[f"of {tap.name}"], addresses[tap.name]) for tap in self._contract.taps]
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice

        def step() -> None:
            for target, source in (*read, *written):
                (status,) = self._cuda.cudaMemcpyAsync(target, source, self._size, kind, self._stream)
                if status:
                    raise BackendError(f"CUDA answers cudaMemcpyAsync with {status.name}", "a copy", "see nvidia-smi")

        return step

    def close(self) -> None:
        """Nothing to give back."""


def copy_contract() -> StepContract:
    """Return the contract of the copying step: delays 1, 2, 4 and 8."""
    states = tuple(StateSpec(f"line{i}", ROW, (None, NODES), delay=ages[0], taps=ages) for i, ages in enumerate(TAPS))
    inputs = (TensorSpec("values", ROW, (None, NODES)),)
    taps = StepContract(inputs, (), states).taps
    return StepContract(inputs, tuple(TensorSpec(f"of {tap.name}", ROW, (None, NODES)) for tap in taps), states)


def delay_lines(steps: int, batch: int = 3) -> dict[str, Any]:
    """Run the copying step on the GPU with resets of rows and moves of lines; count what came out wrong.

    Raises:
        BackendError: if there is no GPU, or it fails.
    """
    require_driver()
    contract = copy_contract()
    device = CudaDevice()
    backend = DeviceBackend("copies", contract, batch, device, CopyProgram(contract, batch, device.stream))
    rng = np.random.default_rng(0)
    past: list[np.ndarray] = [np.zeros((batch, NODES), np.float32)] * contract.slots
    wrong = 0
    for step in range(steps):
        values = rng.random((batch, NODES), np.float32)
        outputs = backend.step({"values": values})
        wrong += sum(not np.array_equal(outputs[f"of {tap.name}"], past[-tap.age]) for tap in contract.taps)
        past = [*past[1:], values]
        if step % 7 == 3:
            row = int(rng.integers(batch))
            backend.reset([row])
            past = [np.where(np.arange(batch)[:, None] == row, np.float32(0), one) for one in past]
        if step % 31 == 5:
            lines = backend.read_lines()
            wrong += sum(not np.array_equal(line[-1], past[-1]) for line in lines.values())
            backend.reset()
            backend.step({"values": values})
            backend.write_lines(lines)
    backend.close()
    if wrong:
        raise BackendError(f"{wrong} wrong tensors in {steps} steps", "none", "run the checks on the host device")
    return {"steps": steps, "batch": batch, "phases": contract.slots, "wrong": wrong}
