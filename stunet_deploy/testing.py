"""The properties that every step must have, checked over plain numpy callables: torch models, ONNX sessions, backends.

A step is seen as a pure function of inputs and lines (see :data:`stunet_deploy.contract.Lines`)::

    step(inputs [batch, ...], lines [delay, batch, ...])  ->  outputs [batch, ...], next_state [batch, ...]

so the same function checks a model before export, its graph after export, and every backend that runs it. The checks
raise AssertionError naming the property, and belong in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.contract import Lines, StepContract, advance
from stunet_deploy.series.wall_clock import WEEK_S

Arrays = dict[str, NDArray[Any]]
#: (inputs [batch, ...], lines) -> (outputs [batch, ...], next state [batch, ...] by the name of its entry)
StepFunction = Callable[[Arrays, Lines], tuple[Arrays, Arrays]]
#: (inputs [batch, time, ...], lines) -> (outputs [batch, time, ...], lines after the last interval)
ForwardFunction = Callable[[Arrays, Lines], tuple[Arrays, Lines]]
#: (rng, batch, time) -> inputs [batch, time, ...]
SampleFunction = Callable[[np.random.Generator, int, int], Arrays]

#: The input whose zeros say which cells of another input must not be used.
MASKS = {"values": "observed"}
EXTREMES = np.array([3e38, -3e38, np.finfo(np.float32).max, 1e-45, -1e-45, 0.0, -0.0, 1.0], np.float32)


class StatefulStep(Protocol):
    """The interface of a backend to :func:`verify_stateful_step`."""

    @property
    def contract(self) -> StepContract:
        """Inputs, outputs and state."""

    def step(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run one interval."""

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Zero the state of all batch rows or of some."""

    def read_lines(self) -> Lines:
        """Return the state by age."""

    def write_lines(self, lines: Lines) -> None:
        """Replace the state."""


def verify_step_contract(
    contract: StepContract,
    step: StepFunction,
    rng: np.random.Generator,
    *,
    forward: ForwardFunction | None = None,
    sample: SampleFunction | None = None,
    masks: Mapping[str, str] = MASKS,
    batch: int = 3,
    time: int | None = None,
    tolerance: float = 1e-5,
    exact: bool = True,
) -> None:
    """Check that a step keeps its contract.

    The properties: the step is a pure function with the contract's names, shapes and dtypes; ``forward`` is the step
    unrolled, however the sequence is cut; rows of a batch do not see each other; cells marked as unobserved cannot
    leak; outputs and states are finite for finite inputs; a row in a batch equals the row alone.

    Args:
        contract: what the step declares.
        step: the step.
        rng: source of all random numbers.
        forward: the same model over a sequence, where there is one.
        sample: makes inputs; by default speeds from 0 to 80, masks with one cell in five unobserved, times of week.
        masks: input name -> name of its mask, for those among the contract's inputs.
        batch: number of rows, at least 2.
        time: number of intervals; by default long enough to go round all slots twice.
        tolerance: relative and absolute, where only round-off may differ.
        exact: whether equal rows must be equal bit for bit; otherwise within the tolerance.

    Raises:
        AssertionError: naming the first property that does not hold.
    """
    length = 2 * contract.slots + 1 if time is None else time
    names = {spec.name for spec in contract.inputs}
    masks = {name: mask for name, mask in masks.items() if {name, mask} <= names}
    drawn = sample or partial(sample_inputs, contract, masks=masks)
    check = _Check(contract, step, drawn(rng, batch, length), masks, tolerance, exact)
    check.pure()
    check.rows_independent(rng)
    check.unobserved_cannot_leak()
    check.finite(rng)
    check.batch_equals_rows()
    if forward is not None:
        check.forward_equals_steps(forward, rng)


def verify_stateful_step(
    open_step: Callable[[int], StatefulStep],
    rng: np.random.Generator,
    *,
    sample: SampleFunction | None = None,
    masks: Mapping[str, str] = MASKS,
    batch: int = 3,
    tolerance: float = 1e-5,
    exact: bool = True,
) -> None:
    """Check a backend: the contract's properties, and that its own state is the state of the pure step.

    Besides :func:`verify_step_contract`: it starts from zero; reset equals fresh; a reset of some rows leaves the
    others alone; lines read on one backend continue on another of a different phase, bit for bit.

    Args:
        open_step: opens a fresh backend with a number of rows.
        rng, sample, masks, batch, tolerance, exact: as in :func:`verify_step_contract`.

    Raises:
        AssertionError: naming the first property that does not hold.
    """
    stepper = open_step(batch)
    contract = stepper.contract
    length = 2 * contract.slots + 1
    drawn = sample or partial(sample_inputs, contract, masks=masks)
    inputs = drawn(rng, batch, 2 * length)
    first, second = _cut(inputs, 0, length), _cut(inputs, length, 2 * length)

    _equal(stepper.read_lines(), contract.initial_lines(batch), "a fresh backend starts from zero")
    fresh = _run_stateful(stepper, first)
    middle = stepper.read_lines()
    uninterrupted = _run_stateful(stepper, second)
    expected, lines = run_steps(contract, as_step(open_step), inputs, contract.initial_lines(batch))
    _equal(fresh, _cut(expected, 0, length), "state kept by the backend equals state passed by the caller")
    _equal(uninterrupted, _cut(expected, length, 2 * length), "state kept by the backend stays that of the caller")
    _equal(stepper.read_lines(), lines, "lines read from the backend are those of the caller")

    stepper.reset()
    _equal(_run_stateful(stepper, first), fresh, "reset equals fresh")

    other = open_step(batch)
    _run_stateful(other, _cut(inputs, 0, 1))
    other.write_lines(middle)
    _equal(_run_stateful(other, second), uninterrupted, "lines written at another phase continue bit for bit")

    other.write_lines(middle)
    other.reset([0])
    cleared = {name: line.copy() for name, line in middle.items()}
    for line in cleared.values():
        line[:, 0] = 0
    _equal(other.read_lines(), cleared, "a reset of one row zeroes that row and no other")

    step = as_step(open_step)
    verify_step_contract(contract, step, rng, sample=sample, masks=masks, batch=batch, tolerance=tolerance, exact=exact)


def as_step(open_step: Callable[[int], StatefulStep]) -> StepFunction:
    """Return a backend as a pure step; every call finds it at another phase of its slots."""
    opened: dict[int, StatefulStep] = {}

    def step(inputs: Arrays, lines: Lines) -> tuple[Arrays, Arrays]:
        batch = _batch(inputs)
        if batch not in opened:
            opened[batch] = open_step(batch)
        opened[batch].write_lines(lines)
        outputs = {name: array.copy() for name, array in opened[batch].step(inputs).items()}
        return outputs, {name: line[-1] for name, line in opened[batch].read_lines().items()}

    return step


def sample_inputs(
    contract: StepContract, rng: np.random.Generator, batch: int, time: int, masks: Mapping[str, str] = MASKS
) -> Arrays:
    """Return inputs [batch, time, ...]: masks with one cell in five unobserved, times of week, values from 0 to 80."""
    inputs: Arrays = {}
    for spec in contract.inputs:
        shape = (batch, time, *spec.with_batch(batch)[1:])
        if spec.name in masks.values():
            inputs[spec.name] = (rng.random(shape) < 0.8).astype(spec.dtype)
        else:
            inputs[spec.name] = rng.uniform(0, WEEK_S if spec.name == "time_of_week" else 80, shape).astype(spec.dtype)
    return inputs


def run_steps(contract: StepContract, step: StepFunction, inputs: Arrays, lines: Lines) -> tuple[Arrays, Lines]:
    """Run a step over inputs [batch, time, ...] from lines; return outputs [batch, time, ...] and the lines after."""
    rows: list[Arrays] = []
    for t in range(_time(inputs)):
        outputs, next_state = step({name: array[:, t] for name, array in inputs.items()}, lines)
        rows.append(outputs)
        lines = advance(lines, next_state)
    return {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}, lines


@dataclass
class _Check:
    """The properties of one step over one set of inputs [batch, time, ...]."""

    contract: StepContract
    step: StepFunction
    inputs: Arrays
    masks: Mapping[str, str]
    tolerance: float
    exact: bool

    def __post_init__(self) -> None:
        self.batch = _batch(self.inputs)
        self.well_formed()
        self.outputs, self.lines = self.run(self.inputs)

    def run(self, inputs: Arrays, lines: Lines | None = None) -> tuple[Arrays, Lines]:
        before = self.contract.initial_lines(_batch(inputs)) if lines is None else lines
        return run_steps(self.contract, self.step, inputs, before)

    def same(self, found: Arrays, expected: Arrays, what: str) -> None:
        if self.exact:
            _equal(found, expected, what)
        else:
            self.close(found, expected, what)

    def close(self, found: Arrays, expected: Arrays, what: str) -> None:
        assert found.keys() == expected.keys(), f"{what}: {sorted(found)} against {sorted(expected)}"
        for name, array in found.items():
            np.testing.assert_allclose(
                array, expected[name], rtol=self.tolerance, atol=self.tolerance, err_msg=f"{what}: {name}"
            )

    def well_formed(self) -> None:
        outputs, next_state = self.step(_at(self.inputs, 0), self.contract.initial_lines(self.batch))
        for found, specs in ((outputs, self.contract.outputs), (next_state, self.contract.states)):
            expected = {spec.name: (spec.with_batch(self.batch), np.dtype(spec.dtype)) for spec in specs}
            shapes = {name: (array.shape, array.dtype) for name, array in found.items()}
            assert shapes == expected, f"names, shapes and dtypes are the contract's: {shapes} against {expected}"

    def pure(self) -> None:
        inputs = {name: array.copy() for name, array in _at(self.inputs, 0).items()}
        lines = {name: line.copy() for name, line in self.lines.items()}
        outputs = {name: array.copy() for name, array in self.step(inputs, lines)[0].items()}
        _equal(inputs, _at(self.inputs, 0), "a step must not write to its inputs")
        _equal(lines, self.lines, "a step must not write to its lines")
        self.same(self.step(inputs, lines)[0], outputs, "the same step again gives the same outputs")

    def rows_independent(self, rng: np.random.Generator) -> None:
        victim = int(rng.integers(self.batch))
        others = [row for row in range(self.batch) if row != victim]
        expected, expected_lines = self.run(self.inputs, self.lines)
        for garbage in (np.nan, 1e30, -1e30):
            inputs = {name: array.copy() for name, array in self.inputs.items()}
            lines = {name: line.copy() for name, line in self.lines.items()}
            for array in inputs.values():
                array[victim] = garbage
            for line in lines.values():
                line[:, victim] = garbage
            with np.errstate(all="ignore"):
                found, found_lines = self.run(inputs, lines)
            what = f"{garbage} in one row changes no other"
            self.same(_rows(found, others, 0), _rows(expected, others, 0), what)
            self.same(_rows(found_lines, others, 1), _rows(expected_lines, others, 1), what)

    def unobserved_cannot_leak(self) -> None:
        for garbage in (np.nan, np.inf, -np.inf, 1e30, -7.0):
            inputs = dict(self.inputs)
            for name, mask in self.masks.items():
                inputs[name] = np.where(inputs[mask] == 0, np.float32(garbage), inputs[name])
            found, lines = self.run(inputs)
            self.same(found, self.outputs, f"{garbage} under an unobserved mark does not leak")
            self.same(lines, self.lines, f"{garbage} under an unobserved mark does not leak")

    def finite(self, rng: np.random.Generator) -> None:
        """Masks stay 0 or 1; every other input takes the largest, smallest and mixed float32 numbers."""
        for extremes in (EXTREMES[:1], EXTREMES[1:2], EXTREMES):
            inputs = dict(self.inputs)
            for name, array in self.inputs.items():
                if name not in self.masks.values():
                    inputs[name] = rng.choice(extremes, size=array.shape).astype(array.dtype)
            found, lines = self.run(inputs)
            for name, array in (found | lines).items():
                assert np.isfinite(array).all(), f"finite inputs give finite outputs and states: {name}"

    def batch_equals_rows(self) -> None:
        for row in range(self.batch):
            found, lines = self.run(_rows(self.inputs, [row], 0))
            self.close(found, _rows(self.outputs, [row], 0), "a row alone equals the row in a batch")
            self.close(lines, _rows(self.lines, [row], 1), "a row alone equals the row in a batch")

    def forward_equals_steps(self, forward: ForwardFunction, rng: np.random.Generator) -> None:
        length = _time(self.inputs)
        cuts = [(), range(1, length), sorted(rng.choice(range(1, length), size=min(2, length - 1), replace=False))]
        for cut in cuts:
            lines = self.contract.initial_lines(self.batch)
            parts = []
            for begin, end in pairwise([0, *map(int, cut), length]):
                outputs, lines = forward(_cut(self.inputs, begin, end), lines)
                parts.append(outputs)
            found = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
            what = f"forward cut at {[int(t) for t in cut]} equals the steps"
            self.close(found, self.outputs, what)
            self.close(lines, self.lines, what)


def _equal(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], what: str) -> None:
    assert found.keys() == expected.keys(), f"{what}: {sorted(found)} against {sorted(expected)}"
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=f"{what}: {name}")


def _run_stateful(stepper: StatefulStep, inputs: Arrays) -> Arrays:
    rows = [{name: array.copy() for name, array in stepper.step(_at(inputs, t)).items()} for t in range(_time(inputs))]
    return {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}


def _batch(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _time(inputs: Arrays) -> int:
    return len(next(iter(inputs.values()))[0])


def _at(inputs: Arrays, t: int) -> Arrays:
    return {name: array[:, t] for name, array in inputs.items()}


def _cut(inputs: Arrays, begin: int, end: int) -> Arrays:
    return {name: array[:, begin:end] for name, array in inputs.items()}


def _rows(arrays: Arrays, rows: Sequence[int], axis: int) -> Arrays:
    return {name: np.take(array, rows, axis=axis) for name, array in arrays.items()}
