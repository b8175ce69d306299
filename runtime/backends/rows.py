"""Rows of a backend, each a backend of its own: some step while the others stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend
from runtime.backends.buffers import zero_buffers
from runtime.backends.slots import check_lines
from runtime.window import FORECAST, Inputs
from stunet_deploy.contract import Lines


class SharedBackend:
    """A backend of which some rows step and the others stay as they are."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._inputs = zero_buffers(backend.contract.inputs, backend.batch)
        self._zero = set(range(backend.batch))

    def step(self, rows: Mapping[int, Inputs]) -> NDArray[np.float32]:
        """Step some rows and return the forecasts [batch, horizon, node, target], to be copied before the next step."""
        for row, inputs in rows.items():
            for name, array in inputs.items():
                self._inputs[name][row] = array[0]
        # What has stepped along is put back: a row in zero state by zeroing it, which copies nothing.
        zero = sorted(self._zero - rows.keys())
        held = [row for row in range(self.backend.batch) if row not in rows and row not in self._zero]
        before = self.backend.read_lines() if held else {}
        forecasts: NDArray[np.float32] = self.backend.step(self._inputs)[FORECAST]
        if held:
            after = self.backend.read_lines()
            for name, line in after.items():
                line[:, held] = before[name][:, held]
            self.backend.write_lines(after)
        if zero:
            self.backend.reset(zero)
        self._zero -= rows.keys()
        return forecasts

    def reset(self, row: int) -> None:
        """Bring a row to zero state."""
        self.backend.reset([row])
        self._zero.add(row)

    def read(self, row: int) -> Lines:
        """Return a copy of a row's state."""
        return {name: line[:, row : row + 1] for name, line in self.backend.read_lines().items()}

    def write(self, row: int, lines: Lines) -> None:
        """Replace a row's state."""
        check_lines(self.backend.contract, 1, lines)
        whole = self.backend.read_lines()
        for name, line in whole.items():
            line[:, row] = lines[name][:, 0]
        self.backend.write_lines(whole)
        self._zero.discard(row)


class BackendRow:
    """One row as a backend of its own; see :class:`runtime.backends.base.Backend`."""

    batch = 1

    def __init__(self, rows: SharedBackend, row: int) -> None:
        self._rows = rows
        self._row = row
        self.contract = rows.backend.contract

    @property
    def name(self) -> str:
        """Name of the backend that runs the steps."""
        return self._rows.backend.name

    @property
    def degraded(self) -> str | None:
        """Why forecasts are marked as degraded."""
        return self._rows.backend.degraded

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run one interval of this row alone; all others stay as they are."""
        return {FORECAST: self._rows.step({self._row: dict(inputs)})[self._row : self._row + 1]}

    def reset(self, rows: Collection[int] | None = None) -> None:
        """Bring the row to zero state."""
        self._rows.reset(self._row)

    def read_lines(self) -> Lines:
        """Return a copy of the row's state."""
        return self._rows.read(self._row)

    def write_lines(self, lines: Lines) -> None:
        """Replace the row's state."""
        self._rows.write(self._row, lines)

    def close(self) -> None:
        """Leave the memory to the group."""
