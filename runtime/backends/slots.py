"""The slot rule: which slot each tap reads at an interval, which slot the step writes, and host memory kept by it.

Every state entry has R = contract.slots slots. At interval t, with phase t mod R::

    tap of age a    reads   slot (phase - a) mod R        1 <= a <= delay < R, so never the slot being written
    next_state      writes  slot  phase

Nothing is shifted or copied, and the pattern of addresses repeats every R intervals. Nothing else knows this rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.contract import NEXT_STATE, Lines, StepContract
from stunet_deploy.errors import StreamError


def read_slot(phase: int, age: int, slots: int) -> int:
    """Return the slot that holds what was written ``age`` intervals before an interval of this phase."""
    return (phase - age) % slots


def write_slot(phase: int) -> int:
    """Return the slot that an interval of this phase writes."""
    return phase


def next_phase(phase: int, slots: int) -> int:
    """Return the phase of the following interval."""
    return (phase + 1) % slots


def line_slots(phase: int, delay: int, slots: int) -> list[int]:
    """Return the slots of a delay line, oldest first, as an interval of this phase finds them."""
    return [read_slot(phase, age, slots) for age in range(delay, 0, -1)]


def bound_slots(contract: StepContract, phase: int) -> tuple[dict[str, tuple[str, int]], dict[str, tuple[str, int]]]:
    """Return what an interval of this phase reads, and what it writes: tensor name -> (state entry, slot)."""
    reads = {tap.name: (tap.state.name, read_slot(phase, tap.age, contract.slots)) for tap in contract.taps}
    writes = {NEXT_STATE + state.name: (state.name, write_slot(phase)) for state in contract.states}
    return reads, writes


def check_lines(contract: StepContract, batch: int, lines: Lines) -> None:
    """Check that lines hold every state entry of a contract in its shape.

    Raises:
        StreamError: if an entry is missing or unknown, or has another shape.
    """
    expected = {s.name: (s.delay, *s.with_batch(batch)) for s in contract.states}
    found = {name: line.shape for name, line in lines.items()}
    if found != expected:
        raise StreamError(f"lines of shapes {found}", f"{expected}", "restore lines of the same bundle and batch size")


class HostSlots:
    """All slots of all state entries in host memory, at addresses that never change.

    Args:
        contract: of the step, whose states are kept.
        batch: number of rows that step together.

    Attributes:
        arrays: [slot, batch, ...] per state entry.
        phase: of the interval that steps next; the caller of the step calls :meth:`advance` after it.
    """

    def __init__(self, contract: StepContract, batch: int) -> None:
        self.contract = contract
        self.batch = batch
        self.phase = 0
        self.arrays: dict[str, NDArray[Any]] = {
            state.name: np.zeros((contract.slots, *state.with_batch(batch)), state.dtype) for state in contract.states
        }

    def advance(self) -> None:
        """Go to the next interval."""
        self.phase = next_phase(self.phase, self.contract.slots)

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Zero every slot of every entry, for all batch rows or for some."""
        if rows is None:
            self.phase = 0
        for array in self.arrays.values():
            array[:, slice(None) if rows is None else list(rows)] = 0

    def read_lines(self) -> Lines:
        """Return a copy of what the next interval remembers, by age: [delay, batch, ...] per entry, oldest first."""
        return {
            state.name: self.arrays[state.name][line_slots(self.phase, state.delay, self.contract.slots)]
            for state in self.contract.states
        }

    def write_lines(self, lines: Lines) -> None:
        """Replace what the next interval remembers; the lines may come from a stream of another phase.

        Raises:
            StreamError: if an entry is missing or unknown, or has another shape.
        """
        check_lines(self.contract, self.batch, lines)
        for state in self.contract.states:
            slots = line_slots(self.phase, state.delay, self.contract.slots)
            self.arrays[state.name][slots] = lines[state.name]
