"""Protocol Buffers as bytes, read so strictly that every reader sees the same: no field is skipped or given twice.

A reader of Protocol Buffers skips fields that it does not know, takes the last of a field that is given twice, merges
messages, and cuts numbers to their width. So two readers may see two files in the same bytes. Here all of that is
refused, and what is left has one meaning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

#: Fields of a file, entries of lists included: each takes some hundred bytes when it is read.
MOST_FIELDS = 1 << 21
#: Bytes that are neither numbers of a tensor nor anything else that is kept as it lies in the file.
MOST_TEXT = 1 << 26
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Kind(Enum):
    """What a field holds, but for messages.

    ``COUNT`` is a whole number of 0 or more in 31 bits, ``RAW`` bytes that stay where they are, and ``REFUSED`` what
    no step has; its name says what came.
    """

    INT64 = auto()
    COUNT = auto()
    FLOAT = auto()
    TEXT = auto()
    RAW = auto()
    REFUSED = auto()


@dataclass(frozen=True)
class Field:
    """A field of a message.

    Attributes:
        name: as in the message's definition.
        kind: what it holds; the layout of a message that it holds.
        repeated: whether it may be there more than once.
    """

    name: str
    kind: Kind | Layout
    repeated: bool = False


@dataclass(frozen=True)
class Layout:
    """A kind of message.

    Attributes:
        name: with its article, for messages to the user.
        fields: by number.
        one_of: names of fields of which there may be one at most.
    """

    name: str
    fields: Mapping[int, Field]
    one_of: frozenset[str] = frozenset()


class MalformedError(ValueError):
    """Bytes that are not what they should be, or could be read in two ways."""


@dataclass
class _Budget:
    """What a file may still take."""

    fields: int = field(default=MOST_FIELDS)
    text: int = field(default=MOST_TEXT)

    def take_field(self) -> None:
        self.fields -= 1
        if self.fields < 0:
            raise MalformedError(f"more than {MOST_FIELDS:,} fields")

    def take_text(self, size: int) -> None:
        self.text -= size
        if self.text < 0:
            raise MalformedError(f"more than {MOST_TEXT >> 20} MB beside the numbers of its tensors")


def read_message(layout: Layout, data: bytes) -> dict[str, Any]:
    """Return the fields of a message by name: absent ones are absent, repeated ones are lists.

    Args:
        layout: of the message.
        data: all of it and nothing else.

    Raises:
        MalformedError: they are no such message, or could be read as another by another reader.
    """
    return _message(layout, memoryview(data), _Budget())


def _message(layout: Layout, data: memoryview, budget: _Budget) -> dict[str, Any]:
    found: dict[str, Any] = {}
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        known = layout.fields.get(number)
        if known is None:
            raise MalformedError(f"{layout.name} with an unknown field ({number})")
        if known.kind is Kind.REFUSED:
            raise MalformedError(f"{layout.name} with {known.name}")
        if known.name in found and not known.repeated:
            raise MalformedError(f"{layout.name} with two values of {known.name}")
        budget.take_field()
        value, place = _value(layout, known, wire, data, place, budget)
        if known.repeated:
            found.setdefault(known.name, []).extend(value if isinstance(value, list) else [value])
        else:
            found[known.name] = value
    if len(layout.one_of & found.keys()) > 1:
        raise MalformedError(f"{layout.name} with {' and '.join(sorted(layout.one_of & found.keys()))}")
    return found


def _value(layout: Layout, known: Field, wire: int, data: memoryview, place: int, budget: _Budget) -> tuple[Any, int]:
    """Return the value of a field and the place after it; a list where several numbers are packed."""
    kind = known.kind
    if wire == _VARINT and kind in (Kind.INT64, Kind.COUNT):
        return _number(known, data, place)
    if wire == _FIXED32 and kind is Kind.FLOAT and place + 4 <= len(data):
        return struct.unpack_from("<f", data, place)[0], place + 4
    if wire != _BYTES:
        raise MalformedError(f"{layout.name} whose {known.name} is of another type")
    size, place = _varint(data, place)
    end = place + size
    if end > len(data):
        raise MalformedError(f"{layout.name} that is cut off in {known.name}")
    content = data[place:end]
    if isinstance(kind, Layout):
        return _message(kind, content, budget), end
    if kind is Kind.RAW:
        return content, end
    budget.take_text(size)
    if kind is Kind.TEXT:
        try:
            return str(content, "utf-8"), end
        except UnicodeDecodeError as error:
            raise MalformedError(f"{layout.name} whose {known.name} is no text") from error
    if not known.repeated:
        raise MalformedError(f"{layout.name} whose {known.name} is of another type")
    return list(_packed(known, content, budget)), end


def _packed(known: Field, content: memoryview, budget: _Budget) -> Iterator[int | float]:
    """Yield the numbers of a list that lies in one piece."""
    place = 0
    while place < len(content):
        budget.take_field()
        if known.kind is not Kind.FLOAT:
            number, place = _number(known, content, place)
            yield number
        elif place + 4 <= len(content):
            yield struct.unpack_from("<f", content, place)[0]
            place += 4
        else:
            raise MalformedError(f"a list {known.name} that is cut off")


def _number(known: Field, data: memoryview, place: int) -> tuple[int, int]:
    """Return a whole number and the place after it."""
    value, place = _varint(data, place)
    if known.kind is Kind.INT64:
        return value - (value >> 63 << 64), place
    if value >> 31:
        raise MalformedError(f"{known.name} = {value}")
    return value, place


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return a number of up to 64 bits, in the one form that has no byte too many, and the place after it."""
    value = shift = 0
    while place < len(data):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64 or (byte == 0 and shift):
                break
            return value, place
        shift += 7
        if shift > 63:
            break
    raise MalformedError("a number that is cut off or too long")
