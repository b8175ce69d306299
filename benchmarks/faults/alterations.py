"""Ways to alter a manifest: each makes another text, or bytes that are none, of one that is right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from benchmarks.faults.fuzz import STRANGE, TOKENS

Alteration = Callable[[str, np.random.Generator], str | bytes]
Item = TypeVar("Item")
_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, -5, 2, 13, 1e-300, 5e-324, 1e38, 4e38, 1e308, -1e308, 0.5, 300.0, 10_081, 86_400 * 400, 2**31, 2**53,
    2**63, 10**12, 10**30, -0.0,
)  # fmt: skip
_TEXTS = ("", " ", "\0", "\n", "\x1b[2J", "\ud800", "é" * 2000, "x" * 10**6, "../../etc/passwd", "/etc/hostname", "a/b")
#: What has crashed services: facts, each with what it must not be.
_FACTS: tuple[tuple[str, Any], ...] = (
    ("interval_s", 0), ("interval_s", 10**30), ("interval_s", 366 * 86_400), ("interval_s", 600), ("phase_s", 299),
    ("phase_s", -1), ("std", [None]), ("std", [0]), ("std", [-1]), ("mean", []), ("limits", [[90, 0]]),
    ("limits", [[None, None]]), ("limits", [[-3e38, 3e38]]), ("limits", [[0, 1e39]]), ("window", -5),
    ("window", 10_080), ("sensor_ids", "abcdefgh"), ("sensor_ids", list(range(8))), ("sensor_ids", ["a"] * 8),
    ("horizon", "twelve"), ("horizon", 10**12), ("horizon", 13), ("timezone", "Mars/Base"), ("timezone", "UTC"),
    ("timezone", "../zoneinfo/UTC"), ("stamp", "middle"), ("stamp", "end"), ("tolerance", [0]), ("tolerance", [1e-30]),
    ("tolerance", []), ("targets", ["nothing"]), ("targets", ["speed", "speed"]), ("target_units", ["m", "m"]),
    ("files", {}), ("files", {"step.onnx": 5}), ("files", {"../x": "0" * 64}), ("parity", {}), ("parity", []),
    ("accuracy", {"fp64": {}}), ("accuracy", {}), ("no_data", [[1e308]]), ("no_data", [[0, 1], [2]]), ("model", ""),
    ("config", {"st_graph": "[]"}), ("config", {"st_graph": 1}), ("config", {"st_graph": "[" * 5000}), ("config", []),
    ("latitude", [0.0]), ("latitude", None), ("schema", 1), ("schema", 3), ("schema", True), ("features", ["flow"]),
    ("units", []), ("units", [7]), ("versions", {"python": 3}), ("contract", {}), ("bundle_id", ""), ("training", None),
)  # fmt: skip


def _choice(rng: np.random.Generator, choices: Sequence[Item]) -> Item:
    return choices[int(rng.integers(len(choices)))]


def _text_of(facts: Any) -> str:
    return json.dumps(facts, indent=1, sort_keys=True) + "\n"


def _places(facts: Any, depth: int = 0) -> Iterator[tuple[int, Any, Any]]:
    """Yield depth, container and key of every value at any depth."""
    entries = facts.items() if isinstance(facts, dict) else enumerate(facts) if isinstance(facts, list) else ()
    for key, value in entries:
        yield depth, facts, key
        yield from _places(value, depth + 1)


def _place(facts: Any, rng: np.random.Generator, kinds: tuple[type, ...] = (object,)) -> tuple[Any, Any]:
    """Return container and key of a value of some types; every depth is as likely, though most values lie deep."""
    places = [
        (depth, at, key)
        for depth, at, key in _places(facts)
        if isinstance(at[key], kinds) and (depth, key) != (0, "checksum")
    ]
    depth = _choice(rng, sorted({depth for depth, _, _ in places}))
    _, at, key = _choice(rng, [place for place in places if place[0] == depth])
    return at, key


def _replaced(text: str, rng: np.random.Generator, kinds: tuple[type, ...], values: Sequence[Any]) -> str:
    facts = json.loads(text)
    at, key = _place(facts, rng, kinds)
    at[key] = _choice(rng, values)
    return _text_of(facts)


def _numbers(text: str, rng: np.random.Generator) -> str:
    """Change a number: to an odd one, or a little."""
    facts = json.loads(text)
    at, key = _place(facts, rng, (int, float))
    at[key] = _choice(rng, [*_NUMBERS, at[key] + 1, at[key] * 1.0, at[key] * 1.01, -at[key]])
    return _text_of(facts)


def _sizes(text: str, rng: np.random.Generator) -> str:
    """Make a list or a table shorter, longer, empty or very long, or another order of it."""
    facts = json.loads(text)
    at, key = _place(facts, rng, (list, dict))
    value = at[key] if isinstance(at[key], list) else list(at[key].items())
    changed = _choice(rng, [value[:-1], value[::-1], value + value[:1], value * 2, [], value * 20_000, [value]])
    at[key] = changed[:100_000] if isinstance(at[key], list) or not changed else dict(changed[: len(changed) // 2])
    return _text_of(facts)


def _keys(text: str, rng: np.random.Generator) -> str:
    """Take a key away, rename it, or add one."""
    facts = json.loads(text)
    tables = [at[key] for _, at, key in _places(facts) if isinstance(at[key], dict) and at[key]] + [facts] * 3
    table = _choice(rng, tables)
    key = _choice(rng, sorted(set(table) - {"checksum"}))
    kept = table.pop(key) if rng.random() < 0.7 else None
    if rng.random() < 0.5:
        table[_choice(rng, [key + "s", key.upper(), "x", "", "__class__", "\ud800", "y" * 5000])] = kept
    return _text_of(facts)


def _exchanged(text: str, rng: np.random.Generator) -> str:
    """Exchange two values of the same type, wherever they are."""
    facts = json.loads(text)
    one, first = _place(facts, rng)
    other, second = _place(facts, rng, (type(one[first]),))
    value = json.loads(json.dumps(other[second]))
    one[first], other[second] = value, one[first]
    return _text_of(facts)


def _twice(text: str, rng: np.random.Generator) -> str:
    """Write a key a second time."""
    keys = list(re.finditer(r'\n +("[^"\n]+": )', text))
    key = _choice(rng, keys)
    value = json.dumps(_choice(rng, STRANGE))
    again = _choice(rng, [f"{key[0]}{value},", f"{key[0]}0,", f"{key[0]}null,"])
    return text[: key.start()] + again + text[key.start() :]


def _tokens(text: str, rng: np.random.Generator) -> str:
    """Write for a number what is none, or none that JSON has."""
    number = _choice(rng, list(re.finditer(r"(?<=[ \n])-?\d[\d.e+-]*(?=[,\n])", text)))
    return text[: number.start()] + _choice(rng, TOKENS).decode() + text[number.end() :]


def _deep(text: str, rng: np.random.Generator) -> str:
    """Put a value into brackets without end, or the whole."""
    depth = _choice(rng, [2, 30, 900, 1100, 200_000])
    opened, closed = _choice(rng, [("[", "]"), ('{"a":', "}")])
    if rng.random() < 0.2:
        return opened * depth + text + closed * depth
    number = _choice(rng, list(re.finditer(r"(?<=: )(\d+|null|\"[^\"\n]*\")(?=[,\n])", text)))
    return text[: number.start()] + opened * depth + number[0] + closed * depth + text[number.end() :]


def _bits(text: str, rng: np.random.Generator) -> str | bytes:
    """Flip some bits; sealed anew if it is still text."""
    data = bytearray(text.encode())
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(7))
    return data.decode()


def _bytes(text: str, rng: np.random.Generator) -> str | bytes:
    """Make something of it that is no text of JSON, or not at its beginning or end."""
    whole = text.encode()
    cut = whole[: int(rng.integers(len(whole)))]
    odd = (cut, b"", b"\xef\xbb\xbf" + whole, text.encode("utf-16"), whole + b"\0", b"[]", b"1", b'"x"', b"null")
    return _choice(rng, [*odd, whole + whole, whole.replace(b"a", b"\xff"), b" " * 10**7 + whole, b"{}"])


def _facts(text: str, rng: np.random.Generator) -> str:
    name, value = _choice(rng, _FACTS)
    return _text_of(json.loads(text) | {name: value})


def _every_item(text: str, rng: np.random.Generator) -> str:
    """Change all entries of a list alike."""
    facts = json.loads(text)
    at, key = _place(facts, rng, (list,))
    value = _choice(rng, [*_NUMBERS, *STRANGE])
    at[key] = [value] * len(at[key])
    return _text_of(facts)


#: By name. What is text is sealed anew before it is tried.
ALTERATIONS: dict[str, Alteration] = {
    "facts": _facts,
    "values": lambda text, rng: _replaced(text, rng, (object,), STRANGE),
    "numbers": _numbers,
    "texts": lambda text, rng: _replaced(text, rng, (str,), _TEXTS),
    "entries": _every_item,
    "sizes": _sizes,
    "keys": _keys,
    "exchanged": _exchanged,
    "twice": _twice,
    "tokens": _tokens,
    "deep": _deep,
    "bits": _bits,
    "bytes": _bytes,
}
