"""What a step graph says about itself, read from its file without ONNX.

The file is a message of Protocol Buffers: fields one after the other, each with its number, the kind of its value, and
the value. Metadata are fields of the outermost message, so that the graph itself is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator

#: What our keys begin with.
PREFIX = "stunet."
#: ``ModelProto.metadata_props``, and the two fields of each.
_METADATA, _KEY, _VALUE = 14, 1, 2
#: Kinds of values: a number of variable length, eight bytes, a length and so many bytes, four bytes.
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
#: Fields of a model's outermost message; ours has some twenty.
_MOST_FIELDS = 1000


def step_notes(model: bytes) -> dict[str, str]:
    """Return the metadata of an ONNX model whose keys begin with ``stunet.``; nothing where it has none or is no model.

    Args:
        model: content of the file.
    """
    found = {}
    try:
        for number, value in _fields(memoryview(model)):
            if number == _METADATA:
                entry = {key: bytes(text).decode() for key, text in _fields(value)}
                if entry.get(_KEY, "").startswith(PREFIX):
                    found[entry[_KEY]] = entry.get(_VALUE, "")
    except (ValueError, IndexError):
        return {}
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of every field of a message; no bytes of those that are numbers."""
    place = 0
    for _ in range(_MOST_FIELDS):
        if place == len(message):
            return
        tag, place = _varint(message, place)
        kind, length = tag & 7, 0
        if kind == _BYTES:
            length, place = _varint(message, place)
        elif kind == _VARINT:
            _, place = _varint(message, place)
        elif kind in (_EIGHT, _FOUR):
            place += 8 if kind == _EIGHT else 4
        else:
            raise ValueError("a field of no kind")
        if place + length > len(message):
            raise ValueError("a field that does not end")
        yield tag >> 3, message[place : place + length]
        place += length
    raise ValueError("too many fields")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a number of variable length, seven bits a byte, and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("a number that does not end")
