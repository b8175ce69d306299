"""Fuzz: messages that no sender should send, each made from one that is right.

Some kinds cannot be taken whatever they become (half of a JSON object, a sensor that nobody knows); others may turn out
to be right (a flipped bit in a digit).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time

Message = dict[str, Any]
Item = TypeVar("Item")
#: The kind whose reason depends on the stack of who reads it.
DEEP = "deep"
#: Values of every type that JSON has, and some that only Python's reader takes.
STRANGE: tuple[Any, ...] = (
    None, True, False, "", "fast", "61.5", "\ud800", "\x00", -1, 0, 1e308, -1e308, 5e-324, math.nan, math.inf,
    -math.inf, 10**400, 2**63, [], [1], [[]], {}, {"a": {}}, {"speed": {}}, {"speed": [1]}, {"speed": "1"},
    {"speed": 10**400},
)  # fmt: skip
#: Text in place of a JSON value.
TOKENS = (*b"nan NaN -Infinity 1e999 -1e-999 01 +1 0x1f 1_0 '1' undefined".split(), b"9" * 5000)
TIMES: tuple[Any, ...] = (
    None, True, "", "now", "yesterday", "2012-03-01T08:00:00", "2012-13-01T08:00:00Z", "2012-02-30T08:00:00Z",
    "2012-03-01T25:00:00Z", "12:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2012-03-01T08:00:00+99:00",
    "Z" * 3000, "\ud800", math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, 1_330_588_800_000, [], {},
    ["2012-03-01T08:00:00Z"],
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A way to spoil a message.

    Attributes:
        name: of it.
        spoil: makes the bytes of a spoilt message.
        reasons: for which it must be refused; empty where it may also be taken, or refused for any.
    """

    name: str
    spoil: Callable[[Message], bytes]
    reasons: frozenset[str] = frozenset()


class Fuzz:
    """Spoils messages of one kind of source.

    Args:
        rng: of all choices.
        manifest: of the stream.
        single: whether the messages are single readings.
        lines: whether a message is a line, and so not empty and without a break.
    """

    def __init__(self, rng: np.random.Generator, manifest: Manifest, *, single: bool, lines: bool) -> None:
        self._rng = rng
        self._interval_s = manifest.interval_s
        self._name = manifest.features[0]
        self._single = single
        self._lines = lines
        self.last_s = 0
        self.now = 0.0
        unknown = {"unknown_sensor"} | ({"late", "ahead"} if single else set())
        numbers = {"reading", "unknown_feature"} | ({"late", "ahead"} if single else set())
        self.kinds: tuple[Kind, ...] = (
            Kind("a part", self._part, frozenset({"message"})),
            Kind("bytes", lambda _: self._bytes(), frozenset({"message"})),
            Kind(DEEP, self._deep, frozenset({"message", *numbers, *unknown, "timestamp"})),
            Kind("keys", self._keys, frozenset({"message"})),
            Kind("sensor", self._sensor, frozenset(unknown)),
            Kind("feature", self._feature, frozenset({"unknown_feature", "late", "ahead"})),
            Kind("time", self._time, frozenset({"timestamp"})),
            Kind("late", lambda message: self._at(message, self.last_s - self._days()), frozenset({"late"})),
            Kind("ahead", lambda message: self._at(message, self.now + self._days()), frozenset({"ahead"})),
            Kind("types", self._types),
            Kind("numbers", self._numbers),
            Kind("twice", self._twice),
            Kind("bits", self._bits),
            Kind("swapped", self._swapped),
        )
        if not single:
            self.kinds += (Kind("off the grid", self._off_grid, frozenset({"off_grid"})),)

    def spoilt(self, message: Message) -> tuple[Kind, bytes]:
        """Return a spoilt copy of a message and its kind."""
        while True:
            kind = self.kinds[int(self._rng.integers(len(self.kinds)))]
            text = kind.spoil(json.loads(json.dumps(message)))
            if self._lines:
                text = text.replace(b"\n", b" ")
            if text.strip() or not self._lines:
                return kind, text

    def giants(self, message: Message, size: int) -> Iterator[bytes]:
        """Yield messages longer than a size, which are no JSON as far as they are read."""
        yield b"[" * (size + 1)
        yield json.dumps(message).encode()[:-1] + b" " * size + b"\xff"
        yield b'"' + bytes(self._rng.integers(65, 90, size, np.uint8)) + b'"'

    def _days(self) -> int:
        """Return one to ten days, in whole intervals, mostly."""
        intervals = int(self._rng.integers(1, 11)) * 86_400 // self._interval_s
        return self._interval_s * intervals

    def _choice(self, choices: Sequence[Item]) -> Item:
        return choices[int(self._rng.integers(len(choices)))]

    def _text(self, message: Message) -> bytes:
        return json.dumps(message, ensure_ascii=bool(self._rng.integers(2))).encode("utf-8", "surrogatepass")

    def _part(self, message: Message) -> bytes:
        text = self._text(message)
        begin = int(self._rng.integers(0, 2)) * int(self._rng.integers(1, len(text)))
        return text[begin:] if begin else text[: int(self._rng.integers(1, len(text)))]

    def _bytes(self) -> bytes:
        data = self._rng.integers(0, 256, int(self._rng.integers(1, 300)), np.uint8).tobytes()
        return data + b"\xff"

    def _deep(self, message: Message) -> bytes:
        # About a thousand is where Python's own limit lies; far more must not reach the C stack's.
        near, nearer = (int(self._rng.integers(850, 1050)) for _ in range(2))
        depth = self._choice([3, 50, near, nearer, 100_000])
        brackets: tuple[str, str] = self._choice([("[", "]"), ('{"a":', "}")])
        opened, closed = brackets
        nest: str = opened * depth + "1" + closed * depth
        where = self._choice(["alone", "values", "timestamp", "reading"])
        if where == "alone":
            return nest.encode()
        text = json.dumps(message | {"values" if where == "reading" else where: "HERE"})
        if where == "reading" and not self._single:
            text = text.replace('"HERE"', json.dumps({next(iter(message["values"])): {self._name: "HERE"}}))
        elif where == "values" and not self._single:
            nest = '{"nobody":' + nest + "}"
        elif self._single and where != "timestamp":
            nest = "{" + json.dumps(self._name) + ":" + nest + "}"
        return text.replace('"HERE"', nest).encode()

    def _keys(self, message: Message) -> bytes:
        key = self._choice(sorted(message))
        if self._rng.random() < 0.5:
            del message[key]
        else:
            message[self._choice(["", "value", "Timestamp", "\ud800", "x" * 5000])] = self._choice(STRANGE)
        return self._text(message)

    def _sensor(self, message: Message) -> bytes:
        name = self._choice(["", "nobody", "AE01 ", "\ud800", "ß" * 2000, "\x00", "AE01\n", "null"])
        if self._single:
            message["sensor"] = self._choice([name, *STRANGE])
        else:
            message["values"][name] = self._choice(STRANGE)
        return self._text(message)

    def _feature(self, message: Message) -> bytes:
        entry = {self._choice(["", "velocity", "Speed", "\ud800", "x" * 3000]): 1.0}
        if self._single:
            message["values"] = entry
        else:
            sensor = self._choice(sorted(message["values"]))
            message["values"] = {sensor: entry}
        return self._text(message)

    def _time(self, message: Message) -> bytes:
        return self._text(message | {"timestamp": self._choice(TIMES)})

    def _at(self, message: Message, seconds: float) -> bytes:
        stamp = int(seconds // self._interval_s) * self._interval_s
        return self._text(message | {"timestamp": self._choice([stamp, format_time(stamp)])})

    def _off_grid(self, message: Message) -> bytes:
        off = float(self._rng.uniform(0.26, 0.74)) * self._interval_s
        return self._text(
            message | {"timestamp": self.last_s + int(self._rng.integers(-3, 3)) * self._interval_s + off}
        )

    def _types(self, message: Message) -> bytes:
        where = message["values"]
        if self._rng.random() < 0.3 or not isinstance(where, dict) or not where:
            return self._text(message | {self._choice(sorted(message)): self._choice(STRANGE)})
        where[self._choice(sorted(where))] = self._choice(STRANGE)
        return self._text(message)

    def _numbers(self, message: Message) -> bytes:
        text = self._text(message)
        numbers = [i for i, byte in enumerate(text) if text[i - 2 : i] == b": " and chr(byte).isdigit()]
        if not numbers:
            return text
        begin = self._choice(numbers)
        end = next(i for i in range(begin, len(text)) if text[i : i + 1] in b",}")
        return text[:begin] + self._choice(TOKENS) + text[end:]

    def _twice(self, message: Message) -> bytes:
        """Return a message with a key that comes twice, or that itself does."""
        text = self._text(message)
        if self._rng.random() < 0.2:
            return text + b" " + text
        key = self._choice(sorted(message))
        return text[:-1] + b", " + json.dumps({key: self._choice([message[key], *STRANGE])}).encode()[1:]

    def _bits(self, message: Message) -> bytes:
        data = bytearray(self._text(message))
        for _ in range(int(self._rng.integers(1, 4))):
            data[int(self._rng.integers(len(data)))] ^= 1 << int(self._rng.integers(8))
        return bytes(data)

    def _swapped(self, message: Message) -> bytes:
        """Return a message in which a piece is missing, comes again, or stands elsewhere."""
        text = self._text(message)
        a, b, c = sorted(int(cut) for cut in self._rng.integers(0, len(text) + 1, 3))
        return self._choice([text[:a] + text[b:], text[:b] + text[a:], text[:a] + text[b:c] + text[a:b] + text[c:]])
