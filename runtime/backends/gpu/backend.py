"""The GPU backend: state that never leaves the device, one captured graph per phase, one wait an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.buffers import write_inputs
from runtime.backends.gpu.device import Device, Program, aligned
from runtime.backends.slots import bound_slots, check_lines, line_slots, next_phase
from stunet_deploy.contract import Lines, StateSpec, StepContract, TensorSpec


class DeviceBackend:
    """One step of a bundle on a device; see :class:`runtime.backends.base.Backend`.

    All memory is taken here and no address ever changes. For each phase of the slot rule the work of one interval,
    copies included, is recorded once as a graph::

        page-locked inputs ──▶ device inputs ─┐
                                 slots t − a ─┴▶ step ─┬▶ slot t
                                                       └▶ device outputs ──▶ page-locked outputs, event

    so that an interval is: write the inputs, launch the phase's graph, wait for the event. A program that cannot be
    captured is put on the stream anew each time, with the same addresses. Recording runs the steps once, so every slot
    is zeroed behind it.

    Args:
        name: by which :func:`runtime.backends.base.open_backend` opens it.
        contract: of the step.
        batch: number of rows that step together.
        device: owned by the backend from here on.
        program: the step; owned by the backend from here on.
    """

    degraded = None

    def __init__(self, name: str, contract: StepContract, batch: int, device: Device, program: Program) -> None:
        self.name = name
        self.contract = contract
        self.batch = batch
        self._device = device
        self._program = program
        self._phase = 0
        self._inputs = _Block(contract.inputs, batch, device)
        self._outputs = _Block(contract.outputs, batch, device)
        self._slots = {state.name: _Slots(state, contract.slots, batch, device) for state in contract.states}
        work = [self._bind(phase) for phase in range(contract.slots)]
        self.reset()
        if program.capturable:
            for once in work:  # libraries load, choose and allocate at their first step, which a capture forbids
                once()
                device.synchronize()
            work = [device.capture(once) for once in work]
            self.reset()
        device.synchronize()
        self._launch = work

    def _bind(self, phase: int) -> Callable[[], None]:
        """Return the call that puts an interval of this phase on the stream, copies included."""
        reads, writes = bound_slots(self.contract, phase)
        bound = {name: self._slots[state].address(slot) for name, (state, slot) in (reads | writes).items()}
        step = self._program.bind(self._inputs.addresses | self._outputs.addresses | bound)
        device, inputs, outputs = self._device, self._inputs, self._outputs

        def work() -> None:
            device.copy_in(inputs.address, inputs.host)
            step()
            device.copy_out(outputs.host, outputs.address)

        return work

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run one interval; the outputs [batch, ...] are overwritten by the next step.

        Raises:
            StreamError: if an input is missing, unknown or of another shape; the state is unchanged.
            BackendError: if the device fails; the state is lost.
        """
        write_inputs(self._inputs.arrays, inputs)
        self._launch[self._phase]()
        self._device.record()
        self._device.wait()
        self._phase = next_phase(self._phase, self.contract.slots)
        return self._outputs.arrays

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Zero every slot of every state entry, for all batch rows or for some; the next step comes behind it.

        Raises:
            BackendError: if the device fails.
        """
        if rows is None:
            self._phase = 0
        for slots in self._slots.values():
            slots.zero(rows)

    def read_lines(self) -> Lines:
        """Return a copy of the state by age: [delay, batch, ...] per entry, oldest first.

        Raises:
            BackendError: if the device fails.
        """
        lines = self.contract.initial_lines(self.batch)
        for name, age, slot in self._line_slots():
            self._device.copy_out(lines[name][age], self._slots[name].address(slot))
        self._device.synchronize()
        return lines

    def write_lines(self, lines: Lines) -> None:
        """Replace the state, at its addresses, by lines that :meth:`read_lines` returned, here or on another backend.

        Raises:
            StreamError: if an entry is missing or unknown, or has another shape; the state is unchanged.
            BackendError: if the device fails.
        """
        check_lines(self.contract, self.batch, lines)
        whole = {s.name: np.ascontiguousarray(lines[s.name], s.dtype) for s in self.contract.states}
        for name, age, slot in self._line_slots():
            self._device.copy_in(self._slots[name].address(slot), whole[name][age])
        self._device.synchronize()

    def _line_slots(self) -> list[tuple[str, int, int]]:
        """Return (state entry, place in its line, slot) of everything that the next interval may read."""
        return [
            (state.name, place, slot)
            for state in self.contract.states
            for place, slot in enumerate(line_slots(self._phase, state.delay, self.contract.slots))
        ]

    def close(self) -> None:
        """Give the device's memory back; the backend must not be used afterwards."""
        self._launch = []
        self._program.close()
        self._device.close()


class _Block:
    """Inputs or outputs behind one another on device and host, so that one copy moves all of them.

    Attributes:
        address: of the block on the device.
        addresses: of each tensor on the device.
        host: the block in page-locked memory, as bytes.
        arrays: each tensor [batch, ...] in it.
    """

    def __init__(self, specs: Sequence[TensorSpec], batch: int, device: Device) -> None:
        sizes = [batch * spec.row_bytes() for spec in specs]
        *offsets, end = accumulate(map(aligned, sizes), initial=0)
        total = max(1, end)
        self.host = device.host_buffer(total)
        self.address = device.allocate(total)
        device.zero(self.address, total, total, 1)  # what lies between two tensors is copied with them
        self.addresses = {spec.name: self.address + offset for spec, offset in zip(specs, offsets, strict=True)}
        self.arrays = {
            spec.name: self.host[offset : offset + size].view(spec.dtype).reshape(spec.with_batch(batch))
            for spec, size, offset in zip(specs, sizes, offsets, strict=True)
        }


class _Slots:
    """All slots of one state entry on the device: [slot, batch, ...], each slot aligned."""

    def __init__(self, state: StateSpec, slots: int, batch: int, device: Device) -> None:
        self._device = device
        self._count = slots
        self._row = state.row_bytes()
        self._pitch = aligned(batch * self._row)
        self._base = device.allocate(slots * self._pitch)

    def address(self, slot: int) -> int:
        """Return where a slot begins."""
        return self._base + slot * self._pitch

    def zero(self, rows: Sequence[int] | None) -> None:
        """Zero all rows, or some, in every slot."""
        if rows is None:
            self._device.zero(self._base, self._pitch, self._pitch, self._count)
        else:
            for row in rows:
                self._device.zero(self._base + row * self._row, self._pitch, self._row, self._count)
