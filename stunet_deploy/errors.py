"""Errors a user can act on: what came, what was expected, what to do next."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable
from unicodedata import category

_LONGEST = 1200
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 200, 200


def shown(value: object) -> str:
    """Return what came from outside as an error shows it: short, however long or deeply nested it is."""
    return _SHORT.repr(value)


def visible(text: str) -> str:
    """Return one line for people: what would end it, hide in it, turn it round or steer a terminal becomes an escape.

    Names, messages and files come from outside; none of them may look like a line of ours.
    """
    return _escaped(text, lambda character: character.encode("unicode_escape").decode("ascii"))


def in_lines(lines: Iterable[str]) -> str:
    """Return a text of lines of ours, each :func:`visible`."""
    return "\n".join(map(visible, lines))


def visible_json(text: str) -> str:
    """Return the same JSON with escapes for the characters that :func:`visible` escapes."""
    return _escaped(text, lambda character: json.dumps(character)[1:-1])


def shortened(text: str, most: int) -> str:
    """Return a text without the middle of what nobody would read: a name or a cell may be as long as a file."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 4 :]}"


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or category(character) == "Zs" else escape(character) for character in text
    )


def _readable(clause: str) -> str:
    return shortened(visible(shortened(clause, _LONGEST)), _LONGEST)


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
