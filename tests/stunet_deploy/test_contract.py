from __future__ import annotations

import json

import numpy as np
import pytest

from stunet_deploy.contract import StateSpec, StepContract, TensorSpec, advance, read_taps
from stunet_deploy.errors import BundleError

CELL = ("batch", "node")


def make_contract() -> StepContract:
    return StepContract(
        (TensorSpec("values", CELL, (None, 3)),),
        (TensorSpec("forecast", ("batch", "horizon", "node"), (None, 2, 3)),),
        (
            StateSpec("encoder.hidden", CELL, (None, 3), delay=4, taps=(4, 2, 1)),
            StateSpec("decoder.hidden", CELL, (None, 3)),
        ),
    )


def test_names_are_those_of_every_format():
    contract = make_contract()
    assert contract.input_names == (
        "values",
        "state.encoder.hidden",
        "state.encoder.hidden.age2",
        "state.encoder.hidden.age1",
        "state.decoder.hidden",
    )
    assert contract.output_names == ("forecast", "next_state.encoder.hidden", "next_state.decoder.hidden")
    assert contract.slots == 5
    assert contract.state_bytes(2) == 5 * 2 * 2 * 3 * 4


def test_state_inputs_and_outputs_sort_alike():
    contract = make_contract()
    first_taps = [tap.name.removeprefix("state.") for tap in contract.taps if tap.age == tap.state.delay]
    written = [name.removeprefix("next_state.") for name in contract.output_names[1:]]
    assert sorted(first_taps) == sorted(written)


def test_json_round_trip():
    contract = make_contract()
    assert StepContract.from_json(json.loads(json.dumps(contract.to_json()))) == contract


def test_lines_shift_and_taps_read_by_age():
    contract = make_contract()
    lines = contract.initial_lines(2)
    assert lines["encoder.hidden"].shape == (4, 2, 3)
    for t in range(1, 7):
        lines = advance(lines, {name: np.full((2, 3), t, np.float32) for name in lines})
    ages = {name: int(array[0, 0]) for name, array in read_taps(contract, lines)}
    assert ages == {
        "state.encoder.hidden": 3,
        "state.encoder.hidden.age2": 5,
        "state.encoder.hidden.age1": 6,
        "state.decoder.hidden": 6,
    }


@pytest.mark.parametrize(("delay", "taps"), [(0, ()), (2, (1,)), (3, (3, 4)), (3, (3, 1, 2)), (3, (3, 3)), (2, (2, 0))])
def test_impossible_delays_and_taps_are_refused(delay, taps):
    with pytest.raises(BundleError, match="a delay of at least 1"):
        StateSpec("s", CELL, (None, 3), delay=delay, taps=taps)


def test_axes_and_names_are_checked():
    with pytest.raises(BundleError, match="free 'batch'"):
        TensorSpec("values", ("node", "batch"), (None, 3))
    with pytest.raises(BundleError, match="free 'batch'"):
        TensorSpec("values", CELL, (1, 3))
    spec = TensorSpec("values", CELL, (None, 3))
    with pytest.raises(BundleError, match="'values'"):
        StepContract((spec, spec), (), ())


@pytest.mark.parametrize("damaged", [{}, {"inputs": [{}], "outputs": [], "states": []}, {"inputs": 3}])
def test_damaged_json_is_refused(damaged):
    with pytest.raises(BundleError, match="cannot be read"):
        StepContract.from_json(damaged)
