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
