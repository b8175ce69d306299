"""What a step says about itself is read as ONNX reads it, from any bytes."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.step_notes import step_notes


def model(notes: dict[str, str]) -> bytes:
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["a"], ["b"])], "step", [], [])
    made = onnx.helper.make_model(graph, producer_name="tests", opset_imports=[onnx.helper.make_opsetid("", 20)])
    onnx.helper.set_model_props(made, notes)
    return bytes(made.SerializeToString())


@given(
    st.dictionaries(st.sampled_from(["a", "stunet.", "stunet.x", "stunet.\u00e9", "Stunet.x"]), st.text(max_size=300))
)
def test_ours_are_read_and_others_left(notes: dict[str, str]) -> None:
    expected = {name: note for name, note in notes.items() if name.startswith("stunet.")}
    assert step_notes(model(notes)) == expected


@given(st.binary(max_size=200))
def test_bytes_that_are_no_model_say_nothing_ours(content: bytes) -> None:
    assert all(name.startswith("stunet.") for name in step_notes(content))


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_model_that_is_cut_off_says_nothing(cut: int) -> None:
    assert step_notes(model({"stunet.x": "1"})[:-cut]) == {}


def test_fields_without_end_are_not_read_to_the_end() -> None:
    assert step_notes(b"\x08\x01" * 10**7 + model({"stunet.x": "1"})) == {}
