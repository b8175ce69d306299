"""The checks must hold for a right step and fail for each kind of wrong one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stunet_deploy.contract import StateSpec, StepContract, TensorSpec, read_taps
from stunet_deploy.testing import run_steps, verify_step_contract

CELL = ("batch", "node")
CONTRACT = StepContract(
    (TensorSpec("values", CELL, (None, 4)), TensorSpec("observed", CELL, (None, 4))),
    (TensorSpec("forecast", CELL, (None, 4)),),
    (StateSpec("slow", CELL, (None, 4), delay=3, taps=(3, 1)), StateSpec("fast", CELL, (None, 4))),
)


def right(inputs, lines):
    taps = dict(read_taps(CONTRACT, lines))
    cells = np.tanh(np.where(inputs["observed"] > 0, inputs["values"], 0) / 40)
    slow = np.tanh(cells + 0.5 * taps["state.slow"] - 0.25 * taps["state.slow.age1"])
    fast = np.tanh(cells + taps["state.fast"])
    return {"forecast": slow + fast}, {"slow": slow, "fast": fast}


def forward(inputs, lines):
    return run_steps(CONTRACT, right, inputs, lines)


def rng():
    return np.random.default_rng(3)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), batch=st.integers(2, 5), time=st.integers(1, 12))
def test_a_right_step_passes(seed, batch, time):
    verify_step_contract(CONTRACT, right, np.random.default_rng(seed), forward=forward, batch=batch, time=time)


def writes_inputs(inputs, lines):
    inputs["values"] *= 2
    return right(inputs, lines)


def writes_lines(inputs, lines):
    lines["fast"][0] += 1
    return right(inputs, lines)


def remembers_by_itself():
    calls = []

    def step(inputs, lines):
        calls.append(0)
        outputs, state = right(inputs, lines)
        return {"forecast": outputs["forecast"] + np.float32(len(calls))}, state

    return step


def changes_dtype(inputs, lines):
    outputs, state = right(inputs, lines)
    return outputs, state | {"slow": state["slow"].astype(np.float64)}


def lacks_a_state(inputs, lines):
    outputs, state = right(inputs, lines)
    return outputs, {"slow": state["slow"]}


def mixes_rows(inputs, lines):
    outputs, state = right(inputs, lines)
    return {"forecast": outputs["forecast"] + 1e-3 * np.mean(inputs["observed"] * state["fast"])}, state


def multiplies_by_the_mask(inputs, lines):
    outputs, state = right(inputs, lines)
    return {"forecast": outputs["forecast"] + np.tanh(inputs["values"] * inputs["observed"])}, state


def uses_unobserved(inputs, lines):
    outputs, state = right(inputs, lines)
    return {"forecast": outputs["forecast"] + np.nan_to_num(np.clip(inputs["values"], 0, 1))}, state


def overflows(inputs, lines):
    outputs, state = right(inputs, lines)
    with np.errstate(over="ignore"):
        return {"forecast": outputs["forecast"] + np.where(inputs["observed"] > 0, inputs["values"], 0) * 10}, state


def depends_on_the_batch(inputs, lines):
    outputs, state = right(inputs, lines)
    return {"forecast": outputs["forecast"] * np.float32(len(inputs["values"]))}, state


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (writes_inputs, "inputs"),
        (writes_lines, "lines"),
        (remembers_by_itself(), "same step again"),
        (changes_dtype, "shapes and dtypes"),
        (lacks_a_state, "names, shapes and dtypes"),
        (mixes_rows, "in one row"),
        (multiplies_by_the_mask, "does not leak"),
        (uses_unobserved, "does not leak"),
        (overflows, "finite"),
        (depends_on_the_batch, "row alone"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_wrong_steps_fail_with_the_property_that_they_break(wrong, message):
    with pytest.raises(AssertionError, match=message):
        verify_step_contract(CONTRACT, wrong, rng())


def forgets_at_cuts(inputs, lines):
    return forward(inputs, CONTRACT.initial_lines(len(inputs["values"])))


def returns_old_lines(inputs, lines):
    return forward(inputs, lines)[0], lines


@pytest.mark.parametrize("wrong", [forgets_at_cuts, returns_old_lines])
def test_wrong_forward_fails(wrong):
    with pytest.raises(AssertionError, match="equals the steps"):
        verify_step_contract(CONTRACT, right, rng(), forward=wrong)


def test_exact_and_tolerance_say_how_equal_is_equal():
    noise = np.random.default_rng(5)

    def noisy(inputs, lines):
        outputs, state = right(inputs, lines)
        return {"forecast": outputs["forecast"] + noise.uniform(0, 1e-6, (1, 4)).astype(np.float32)}, state

    verify_step_contract(CONTRACT, noisy, rng(), exact=False, tolerance=1e-4)
    with pytest.raises(AssertionError):
        verify_step_contract(CONTRACT, noisy, rng(), tolerance=1e-4)
    with pytest.raises(AssertionError):
        verify_step_contract(CONTRACT, noisy, rng(), exact=False, tolerance=1e-8)
