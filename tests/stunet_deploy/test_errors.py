"""Errors keep their three clauses, also on their way from one process to another."""

from __future__ import annotations

import json
import pickle
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stunet_deploy.errors import ConfigError, DataError, StreamError, StunetError, in_lines, visible, visible_json


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a window of 0", "at least 1", "correct window"),
        DataError("no file", "a recording", "check the path"),
        StreamError("a time before the last", "a later one", "leave it out", reason="late"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_in_another_process(error: StunetError) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert str(again) == str(error) == f"{error.came}; expected {error.expected}; {error.action}"


def test_nobody_has_to_read_a_clause_as_long_as_a_file() -> None:
    error = DataError(f"{'x' * 10**6} in column 'y'", "a number", "correct the cell")

    assert len(error.came) < 1500
    assert error.came.startswith("xxx")
    assert error.came.endswith("in column 'y'")


HOSTILE = "ring\nERROR fake\r\x1b[2J\x00\x7f\x85\x9b31m\u202e\u2066\u2028\ufeff\ud800 é 道路\u00a0µ"


@given(text=st.text())
def test_whatever_a_text_holds_one_printable_line_comes_out(text: str) -> None:
    for shown in (visible(text), visible(text + HOSTILE), str(DataError(text + HOSTILE, text, text))):
        assert all(character.isprintable() or category(character) == "Zs" for character in shown)
    assert visible(visible(text)) == visible(text)
    assert visible("é 道路\u00a0µ → …") == "é 道路\u00a0µ → …"
    assert in_lines([HOSTILE, text]).count("\n") == 1


@given(text=st.text())
def test_json_says_the_same_with_escapes(text: str) -> None:
    line = visible_json(json.dumps({text: HOSTILE}, ensure_ascii=False))
    assert json.loads(line) == {text: HOSTILE}
    assert all(character.isprintable() or category(character) == "Zs" for character in line)
