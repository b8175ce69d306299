"""A backend that goes on where another one fails: the last copy of its state, and the inputs since, run again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend
from stunet_deploy.contract import Lines
from stunet_deploy.errors import BackendError, ConfigError, StunetError

#: Intervals between two copies of the state. A copy delays the interval that takes it, so it comes to fewer than one in
#: a hundred and stays out of the 99th percentile; and a fault has at most these intervals to run again on the CPU.
EVERY = 128

_Inputs = dict[str, NDArray[Any]]


class FallbackBackend:
    """A device's backend until it fails, another one from then on; see :class:`runtime.backends.base.Backend`.

    Every ``every`` intervals the state is copied to the host, and what happens after it is kept: the inputs of each
    interval and the rows that were zeroed, at most ``every`` of each. When the device fails, the other backend gets the
    state, runs that log again and then the interval at fault, so no interval is lost; ``degraded`` says so from then
    on. States are float32 in every precision, so they fit the float32 step whatever the device ran.

    Args:
        device: the backend that may fail.
        open_other: opens the other one, with as many rows; called when it is needed.
        every: intervals between two copies of the state.

    Raises:
        ConfigError: if ``every`` is below one.
    """

    def __init__(self, device: Backend, open_other: Callable[[], Backend], *, every: int = EVERY) -> None:
        if every < 1:
            raise ConfigError(f"every = {every}", "at least 1", "choose how often the state is copied")
        self._backend = device
        self._open_other: Callable[[], Backend] | None = open_other
        self._every = every
        self._lines = device.read_lines()
        self._log: list[_Inputs | frozenset[int]] = []
        self._steps = 0
        self.name = device.name
        self.batch = device.batch
        self.contract = device.contract
        self.degraded = device.degraded

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run one interval; the outputs [batch, ...] are overwritten by the next step.

        Raises:
            StreamError: if an input is missing, unknown or of another shape; the state is unchanged.
            BackendError: if the device fails and the other backend cannot be opened, or fails as well.
        """
        if self._open_other is None:
            return self._backend.step(inputs)
        try:
            outputs = self._backend.step(inputs)
        except BackendError as fault:
            self._switch(fault)
            return self._backend.step(inputs)
        self._log.append({name: _one_row(array) for name, array in inputs.items()})
        self._steps += 1
        if self._steps >= self._every:
            try:
                self._keep(self._backend.read_lines())
            except BackendError as fault:
                outputs = self._switch(fault) or outputs
        return outputs

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Zero every slot of every state entry, for all batch rows or for some."""
        if self._open_other is not None:
            if rows is None:
                self._keep(self.contract.initial_lines(self.batch))
            elif self._log and isinstance(self._log[-1], frozenset):
                self._log[-1] |= frozenset(rows)
            else:
                self._log.append(frozenset(rows))
        try:
            self._backend.reset(rows)
        except BackendError as fault:
            self._switch(fault)

    def read_lines(self) -> Lines:
        """Return a copy of the state by age: [delay, batch, ...] per entry, oldest first."""
        try:
            return self._backend.read_lines()
        except BackendError as fault:
            self._switch(fault)
            return self._backend.read_lines()

    def write_lines(self, lines: Lines) -> None:
        """Replace the state by lines that :meth:`read_lines` returned, here or on another backend."""
        try:
            self._backend.write_lines(lines)
        except BackendError as fault:
            self._switch(fault)
            self._backend.write_lines(lines)
        if self._open_other is not None:
            self._keep({name: line.copy() for name, line in lines.items()})

    def close(self) -> None:
        """Give the backend's memory back; it must not be used afterwards."""
        self._backend.close()

    def _keep(self, lines: Lines) -> None:
        """Take lines as the state to start again from."""
        self._lines = lines
        self._log.clear()
        self._steps = 0

    def _switch(self, fault: BackendError) -> Mapping[str, NDArray[Any]] | None:
        """Go on with the other backend, brought to where the device was; return its last outputs.

        Raises:
            BackendError: the fault, if there is no other backend (any more).
        """
        if self._open_other is None:
            raise fault
        device = self._backend
        try:
            other = self._open_other()
            other.write_lines(self._lines)
            outputs = None
            for entry in self._log:
                if isinstance(entry, frozenset):
                    other.reset(sorted(entry))
                else:
                    outputs = other.step({name: _all_rows(array, other.batch) for name, array in entry.items()})
        except StunetError as error:  # the bundle may have been replaced in its folder
            raise BackendError(
                f"backend {device.name!r} failed ({fault.came}), and the CPU cannot take over: {error.came}",
                error.expected,
                error.action,
            ) from fault
        with contextlib.suppress(BackendError):  # a device at fault may not even be able to give its memory back
            device.close()
        self._backend, self._open_other, self.name = other, None, other.name
        self._log.clear()
        self.degraded = f"fallback to {other.name}: {device.name} failed, {fault.came}"
        return outputs


def _one_row(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy; of one row where all rows are one, as in window mode."""
    return array[:1].copy() if len(array) > 1 and array.strides[0] == 0 else array.copy()


def _all_rows(array: NDArray[Any], batch: int) -> NDArray[Any]:
    return np.broadcast_to(array, (batch, *array.shape[1:]))
