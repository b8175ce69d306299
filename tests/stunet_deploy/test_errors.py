"""Errors keep their three clauses, also on their way from one process to another."""

from __future__ import annotations

import pickle

import pytest

from stunet_deploy.errors import ConfigError, DataError, StreamError, StunetError


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
