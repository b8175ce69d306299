"""Errors a user can act on: what came, what was expected, what to do next."""

from __future__ import annotations

import reprlib

_LONGEST = 1200
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 200, 200


def shown(value: object) -> str:
    """Return what came from outside as an error shows it: short, however long or deeply nested it is."""
    return _SHORT.repr(value)


def _readable(clause: str) -> str:
    """Return a clause without the middle of what nobody would read: a name or a cell may be as long as a file."""
    return clause if len(clause) <= _LONGEST else f"{clause[: _LONGEST // 2]} … {clause[-_LONGEST // 4 :]}"


class StunetError(Exception):
    """An error in what the user gave or in the environment; the command line exits with code 2.

    The message has three clauses, so that no traceback has to be read:

    Args:
        came: what was given or found, with the offending name or value.
        expected: what would have been right.
        action: what the user can do next, as a command where there is one.
    """

    exit_code = 2

    def __init__(self, came: str, expected: str, action: str) -> None:
        self.came, self.expected, self.action = map(_readable, (came, expected, action))
        # By these it is pickled on its way from one process to another.
        super().__init__(self.came, self.expected, self.action)

    def __str__(self) -> str:
        return f"{self.came}; expected {self.expected}; {self.action}"


class DataError(StunetError):
    """A data file, graph file or array does not hold what its use needs."""


class ConfigError(StunetError):
    """A setting is unknown or out of range; ``came`` names the field."""


class CheckpointError(StunetError):
    """A checkpoint is damaged, foreign or of another schema."""


class BundleError(StunetError):
    """A bundle is incomplete, altered, foreign or of another schema."""


class BackendError(StunetError):
    """An inference backend is missing, or is not the one that was asked for."""


class StreamError(StunetError):
    """A push that the stream cannot accept: wrong sensors, shape or time.

    Args:
        came, expected, action: see :class:`StunetError`.
        reason: the word under which the refusal is counted.
    """

    def __init__(self, came: str, expected: str, action: str, *, reason: str = "other") -> None:
        super().__init__(came, expected, action)
        self.reason = reason


class CheckFailed(Exception):
    """A check ran and did not pass (verification, deadline, accuracy gate); exit code 1."""

    exit_code = 1
