"""Hostile arrays: npy, npz and pickles."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from benchmarks.faults.hostile.kinds import START_S, Kind, Maker, Place, Words, file, graph, look

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Zeros:
    """An array of zeros, written without being held."""

    shape: tuple[int, ...]
    kind: str = "<f8"


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """Return the header of an npy array."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}, }}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def own(**changes: Any) -> dict[str, Any]:
    """Return the arrays of a recording of one's own, some replaced."""
    return {
        "values": np.full((3, 2, 1), 500, np.int16),
        "scale": np.array([0.1]),
        "observed": np.ones((3, 2, 1), bool),
        "timestamps": START_S + 300 * np.arange(3),
        "sensor_ids": np.array(["a", "b"]),
        "features": np.array(["speed"]),
        "units": np.array(["km/h"]),
        "timezone": np.array("UTC"),
        "interval_s": np.array(300),
    } | changes


def write_npz(path: Any, arrays: Mapping[str, Any]) -> None:
    """Write an npz of arrays, of zeros, or of bytes in their place."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, content in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                if isinstance(content, bytes):
                    member.write(content)
                elif isinstance(content, Zeros):
                    member.write(header(content.shape, content.kind))
                    for _ in range(prod(content.shape) * np.dtype(content.kind).itemsize // MEBIBYTE):
                        member.write(bytes(MEBIBYTE))
                else:
                    np.lib.format.write_array(member, np.asarray(content))


def npz(name: str, arrays: Callable[[Place], Mapping[str, Any]]) -> Maker:
    """Return the maker of an npz."""

    def make(place: Place) -> Words:
        write_npz(place.folder / name, arrays(place))
        return look(place.folder / name)

    return make


def lying(place: Place) -> Words:
    """Write an npz whose directory claims more bytes than there are."""
    words = npz("PEMS04.npz", lambda _: {"data": header((1 << 24, 307, 3)) + bytes(80)})(place)
    path = place.folder / "PEMS04.npz"
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)
    return words


def seconds(_: Place) -> dict[str, Any]:
    """Return a recording of an interval of a second, with gaps that are just bridged."""
    cells = np.ones((400, 2, 1), np.int16)
    times = START_S + 9_900 * np.arange(400)
    return own(interval_s=np.array(1), values=cells, observed=cells > 0, timestamps=times)


def pickled(content: bytes) -> Maker:
    """Return the maker of a pickled graph."""
    return file("adj_mx.pkl", lambda _: content)


def nested() -> list[Any]:
    """Return a graph, one of whose sensors would be written out in 2^60 characters."""
    name: list[Any] = ["a"]
    for _ in range(60):
        name = [name, name]
    return [[name], {"a": 0}, np.zeros((1, 1))]


#: A dict with a key whose hash takes 2^60 steps.
NESTED_KEY = b"\x80\x02}()" + b"q\x01h\x01\x86" * 60 + b"K\x01u."
UNFILLED = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85U\x01b\x87R."

KINDS = (
    Kind("an npy that claims terabytes", graph("g.npy", lambda _: header((10**6, 10**6)))),
    Kind("an npy of a negative shape", file("g.npy", lambda _: header((-4, 4)) + bytes(64))),
    Kind("an npy whose shape overflows", file("g.npy", lambda _: header((2**62, 4)) + bytes(64))),
    Kind("an npy with an endless header", file("g.npy", lambda _: b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{" * 1000)),
    Kind(
        "a sparse npy as large as a disk",
        lambda place: look(place.sparse("g.npy", 1 << 40, header((370_000, 370_000)))),
    ),
    Kind("an npz that claims terabytes", npz("PEMS04.npz", lambda _: {"data": header((10**9, 307, 3))})),
    Kind("an npz whose directory lies", lying),
    Kind("an npz of zeros", npz("PEMS04.npz", lambda place: {"data": Zeros((place.size(1 << 15, 1 << 17), 512, 3))})),
    Kind(
        "an npz of one's own, of zeros",
        npz("own.npz", lambda place: own(values=Zeros((place.size(1 << 17, 1 << 20), 512, 1), "<i2"))),
    ),
    Kind("an npz of an endless name", npz("own.npz", lambda _: own(sensor_ids=header((2,), "<U500000000")))),
    Kind(
        "an npz of a graph of zeros",
        npz(
            "g.npz",
            lambda place: {"adjacency": Zeros((1 << 14, place.size(5120, 1 << 14))), "sensor_ids": np.array(["a"])},
        ),
    ),
    Kind("an npz of words for readings", npz("own.npz", lambda _: own(values=np.full((3, 2, 1), "x")))),
    Kind("an npz of complex readings", npz("PEMS04.npz", lambda _: {"data": np.ones((3, 2, 1), complex)})),
    Kind(
        "an npz of brackets in brackets",
        npz("own.npz", lambda _: {"speed": np.ones((3, 2)), "sensor_ids": ["a", "b"], "meta": "[" * 100_000}),
    ),
    Kind("an npz of an interval of no length", npz("own.npz", lambda _: own(interval_s=np.array(0)))),
    Kind("an npz of times after all years", npz("own.npz", lambda _: own(timestamps=2**62 + 300 * np.arange(3)))),
    Kind("an npz of a grid of seconds", npz("own.npz", seconds)),
    Kind("a pickle of a place beyond memory", pickled(b"\x80\x02]r\xff\xff\xff\x7f.")),
    Kind("a pickle of an array that is not there", pickled(b"\x80\x02cnumpy\nndarray\n(J\x00\x00\x00\x70\x85tR.")),
    Kind("a pickle of an array to be filled", pickled(b"\x80\x02" + UNFILLED)),
    Kind("a pickle of bytes beyond memory", pickled(b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b"x.")),
    Kind("a pickle of nested keys", pickled(NESTED_KEY)),
    Kind("a pickle of nested names", pickled(pickle.dumps(nested(), 2))),
    Kind("a pickle of lists in lists", pickled(b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".")),
    Kind("a pickle of objects", pickled(pickle.dumps([["a"], {"a": 0}, np.array([[None]])], 2))),
)
