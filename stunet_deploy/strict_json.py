"""JSON that every reader reads alike: no key twice, no number or text beyond what all have, no depth without end."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NoReturn

#: Brackets in brackets; what we write has half as many at most.
_DEEPEST = 24
#: Digits of a whole number: those of 64 bits, and its sign.
_DIGITS = 20


def parse_json(text: str, most: float = math.inf) -> Any:
    """Return the value of a JSON text.

    Args:
        text: as it was read.
        most: values that it may hold, keys included: reading them as what they should be takes longer than this.

    Raises:
        ValueError: saying what is wrong: no JSON, a key that comes twice in an object, NaN or an infinity, a number
            beyond those of 64 bits, half of a surrogate pair, too many values, or brackets nested too deep.
    """
    if text.count(",") + text.count(":") > most:  # at once: a value takes some fifty times its text
        raise ValueError("very many values")
    try:
        data = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("brackets in brackets without end") from error
    level: list[Any] = [data]
    for _ in range(_DEEPEST + 1):
        if not level:
            return data
        most -= len(level)
        if most < 0:
            raise ValueError("very many values")
        level = [inner for entry in level for inner in _within(entry)]
    raise ValueError(f"brackets in brackets, more than {_DEEPEST} deep")


def _within(entry: object) -> Iterable[Any]:
    """Return what an object or a list holds, after checking a number or text."""
    if isinstance(entry, dict):
        return (*entry, *entry.values())
    if isinstance(entry, list):
        return entry
    if isinstance(entry, str) and not entry.isascii():
        entry.encode()  # an error of this is a ValueError
    elif isinstance(entry, float) and not math.isfinite(entry):
        raise ValueError("a number beyond those of 64 bits")
    return ()


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:60]!r} twice in an object")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:  # more may take for ever to read
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no number of JSON")
