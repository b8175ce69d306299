from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.backends.slots import HostSlots, line_slots, read_slot, write_slot
from stunet_deploy.contract import StateSpec, StepContract, advance
from stunet_deploy.errors import StreamError


def make_contract(delays: list[int]) -> StepContract:
    states = tuple(
        StateSpec(f"s{i}", ("batch", "node"), (None, 3), delay=d, taps=tuple(range(d, 0, -1)))
        for i, d in enumerate(delays)
    )
    return StepContract((), (), states)


delay_lists = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(delays=delay_lists, intervals=st.integers(1, 60))
def test_tap_reads_what_was_written_its_age_ago_and_never_the_slot_being_written(
    delays: list[int], intervals: int
) -> None:
    contract = make_contract(delays)
    written = [-1] * contract.slots  # interval that wrote each slot; all entries share the rule
    for t in range(intervals):
        phase = t % contract.slots
        for tap in contract.taps:
            slot = read_slot(phase, tap.age, contract.slots)
            assert slot != write_slot(phase)
            assert written[slot] == (t - tap.age if t >= tap.age else -1)
        written[write_slot(phase)] = t


@given(delays=delay_lists, intervals=st.integers(0, 30))
def test_lines_by_slots_are_the_lines_by_shifting(delays: list[int], intervals: int) -> None:
    contract = make_contract(delays)
    slots = HostSlots(contract, 2)
    lines = contract.initial_lines(2)
    rng = np.random.default_rng(0)
    for _ in range(intervals):
        next_state = {s.name: rng.random((2, 3), np.float32) for s in contract.states}
        for name, array in next_state.items():
            slots.arrays[name][write_slot(slots.phase)] = array
        slots.advance()
        lines = advance(lines, next_state)
    for name, line in slots.read_lines().items():
        np.testing.assert_array_equal(line, lines[name])


def test_lines_move_to_slots_of_another_phase() -> None:
    contract = make_contract([1, 4])
    source, target = HostSlots(contract, 2), HostSlots(contract, 2)
    rng = np.random.default_rng(1)
    for array in source.arrays.values():
        array[:] = rng.random(array.shape)
    for _ in range(3):
        target.advance()
    lines = source.read_lines()
    target.write_lines(lines)
    for name, line in target.read_lines().items():
        np.testing.assert_array_equal(line, lines[name])


def test_reset_of_rows_zeroes_every_slot_of_those_rows_only() -> None:
    slots = HostSlots(make_contract([2, 3]), 3)
    for array in slots.arrays.values():
        array[:] = 7
    slots.advance()
    slots.reset([0, 2])
    for array in slots.arrays.values():
        assert (array[:, [0, 2]] == 0).all()
        assert (array[:, 1] == 7).all()
    assert slots.phase == 1
    slots.reset()
    assert slots.phase == 0
    assert not any(array.any() for array in slots.arrays.values())


def test_line_slots_go_from_oldest_to_youngest() -> None:
    assert line_slots(phase=1, delay=3, slots=4) == [2, 3, 0]


def test_write_lines_refuses_other_shapes() -> None:
    slots = HostSlots(make_contract([2]), 1)
    with pytest.raises(StreamError, match="same bundle and batch"):
        slots.write_lines({"s0": np.zeros((3, 1, 3), np.float32)})
    with pytest.raises(StreamError, match="same bundle and batch"):
        slots.write_lines({})
