"""Hostile HDF5 and Parquet files."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.faults.hostile.arrays import NESTED_KEY
from benchmarks.faults.hostile.kinds import NS, START_S, Kind, Maker, Place, Words, cut_off, look

#: Fills an HDF5 file.
Fill = Callable[[Any, Place], object]


def hdf5(fill: Fill) -> Maker:
    """Return the maker of an HDF5 file."""

    def make(place: Place) -> Words:
        path = place.folder / "metr-la.h5"
        with h5py.File(path, "w") as file:
            fill(file, place)
        return look(path)

    return make


def frame(file: Any) -> Any:
    """Write a frame as pandas does, its readings left out."""
    group = file.create_group("df")
    group["axis0"] = group["block0_items"] = np.array([b"11", b"12"])
    group["axis1"] = (START_S + 300 * np.arange(3)) * NS
    group["axis1"].attrs["kind"] = np.bytes_("datetime64")
    return group


def readings(*arguments: Any, **options: Any) -> Maker:
    """Return the maker of a frame with such readings."""
    return hdf5(lambda file, _: frame(file).create_dataset("block0_values", *arguments, **options))


def linked(link: Callable[[Path], Any]) -> Maker:
    """Return the maker of a frame whose readings are a link, beside a pipe."""

    def fill(file: Any, place: Place) -> None:
        pipe = place.folder / "pipe.h5"
        os.mkfifo(pipe)
        frame(file)["block0_values"] = link(pipe)

    return hdf5(fill)


def group_in_a_pipe(file: Any, place: Place) -> None:
    """Let the frame lie in a pipe."""
    os.mkfifo(place.folder / "pipe.h5")
    file["df"] = h5py.ExternalLink(str(place.folder / "pipe.h5"), "/")


def zeros(file: Any, place: Place) -> None:
    """Write a large frame of zeros."""
    lines = place.size(50_000, 200_000)
    shape, chunk = (lines, 800), (10_000, 800)
    data = frame(file).create_dataset("block0_values", shape, "f8", chunks=chunk, compression="gzip")
    for first in range(0, lines, 10_000):
        data[first : first + 10_000] = np.zeros(chunk)


def huge_chunk(file: Any, _: Place) -> None:
    """Write a small frame in a chunk that unpacks to gigabytes."""
    options = {"maxshape": (None, None), "chunks": (20_000, 20_000), "compression": "gzip"}
    data = frame(file).create_dataset("block0_values", (3, 2), "f8", **options)
    data.id.write_direct_chunk((0, 0), b"x\x9c" + bytes(30))


def claimed_names(file: Any, _: Place) -> None:
    """Let the names of columns claim a terabyte."""
    group = frame(file)
    group["block0_values"] = np.ones((3, 2))
    del group["axis0"]
    group.create_dataset("axis0", (10**11,), "S8", chunks=(1000,))


def virtual(file: Any, _: Place) -> None:
    """Let the readings lie in other files."""
    frame(file).create_virtual_dataset("block0_values", h5py.VirtualLayout((10**6, 10**5), "f8"))


def many_keys(file: Any, place: Place) -> None:
    """Write very many frames."""
    for number in range(place.size(200, 20_000)):
        file.create_group(f"k{number}")["table"] = 1


def table(rows: int, kind: Any, names: bytes) -> Maker:
    """Return the maker of pandas' table format."""

    def fill(file: Any, _: Place) -> None:
        chunks = (1000,) if rows > 1000 else None
        data = file.create_group("df").create_dataset("table", (rows,), kind, chunks=chunks)
        data.attrs["index_kind"] = np.bytes_("datetime64")
        data.attrs["values_block_0_kind"] = np.void(names)

    return hdf5(fill)


def fields(columns: int) -> list[tuple[Any, ...]]:
    """Return the fields of pandas' table format."""
    return [("index", "<i8"), ("values_block_0", "<f8", (columns,))]


def times(rows: int) -> Any:
    """Return a column of times."""
    return pa.array((START_S + 300 * np.arange(rows)) * NS, pa.timestamp("ns"))


def columns(make: Callable[[Place], dict[str, Any]], rows: int = 3) -> Maker:
    """Return the maker of a Parquet file of times and other columns."""

    def write(place: Place) -> Words:
        path = place.folder / "speeds.parquet"
        parquet.write_table(pa.table({"time": times(rows)} | make(place)), path)
        return look(path)

    return write


def wide(place: Place) -> Words:
    """Write as many columns as a large region has sensors, and some more."""
    lines, count = place.size(40, 300), place.size(3000, 50_000)
    values = np.random.default_rng(0).random((count, lines))
    return columns(lambda _: {f"s{column}": values[column] for column in range(count)}, lines)(place)


def equal_rows(place: Place) -> Words:
    """Write a few bytes that stand for very many rows."""
    path, lines = place.folder / "speeds.parquet", 1_000_000
    one = pa.table({"time": pa.array(np.zeros(lines, np.int64), pa.timestamp("ns")), "7": np.zeros(lines)})
    with parquet.ParquetWriter(path, one.schema, compression="zstd") as writer:
        for _ in range(place.size(50, 300)):
            writer.write_table(one)
    return look(path)


def long_words(place: Place) -> Words:
    """Write one very long word into every row."""
    lines = place.size(2000, 100_000)
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(lines, np.int32)), pa.array(["x" * 10**6]))
    return columns(lambda _: {"7": words}, lines)(place)


def claimed_footer(place: Place) -> Words:
    """Write a footer that claims to be longer than the file."""
    words = columns(lambda _: {"7": [1.0, 2.0, 3.0]})(place)
    path = place.folder / "speeds.parquet"
    content = bytearray(path.read_bytes())
    content[-8:-4] = struct.pack("<I", 2**32 - 1)
    path.write_bytes(content)
    return words


KINDS = (
    Kind("HDF5 readings that claim tebibytes", readings((10**9, 1000), "f8", chunks=(1000, 1000))),
    Kind("HDF5 readings of zeros", hdf5(zeros)),
    Kind("HDF5 readings in a huge chunk", hdf5(huge_chunk)),
    Kind("HDF5 readings that are a link to themselves", linked(lambda _: h5py.SoftLink("/df/block0_values"))),
    Kind("HDF5 readings that are a link to a pipe", linked(lambda pipe: h5py.ExternalLink(str(pipe), "/x"))),
    Kind("an HDF5 group that is a link to a pipe", hdf5(group_in_a_pipe)),
    Kind("HDF5 readings in a device", readings((3, 2), "f8", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)])),
    Kind("virtual HDF5 readings", hdf5(virtual)),
    Kind("HDF5 readings of text", readings(data=np.array([["a", "b"]] * 3, object), dtype=h5py.string_dtype())),
    Kind("HDF5 readings of several fields", readings((3, 2), [("a", "f8"), ("b", "f8")])),
    Kind("HDF5 readings that are one number", readings(data=1.0)),
    Kind("HDF5 names that claim a terabyte", hdf5(claimed_names)),
    Kind("an HDF5 file of very many frames", hdf5(many_keys)),
    Kind("an HDF5 table that claims tebibytes", table(10**10, fields(200), pickle.dumps(["a"] * 200, 0))),
    Kind("an HDF5 table of nested names", table(3, fields(2), NESTED_KEY)),
    Kind("an HDF5 table without an index", table(3, fields(2)[1:], pickle.dumps(["a", "b"], 0))),
    Kind("an HDF5 table of very wide rows", table(3, fields(10**8), pickle.dumps(["a", "b"], 0))),
    Kind("a Parquet of very many columns", wide, read=True),
    Kind("a Parquet of very many columns, cut off", cut_off(wide, "speeds.parquet")),
    Kind("a Parquet of equal rows", equal_rows),
    Kind("a Parquet of one long word in every row", long_words),
    Kind("a Parquet footer that claims gigabytes", claimed_footer),
    Kind("a Parquet of nested columns", columns(lambda _: {"7": [[1.0], [], None], "8": [{"a": 1}, {"a": 2}, None]})),
    Kind("a Parquet of bytes", columns(lambda _: {"7": [b"1", b"2", b"\xff"]})),
    Kind("a Parquet of decimals", columns(lambda _: {"7": pa.array([1, 2, None], pa.decimal128(38, 0))}), read=True),
    Kind("a Parquet of words", columns(lambda _: {"7": pa.array(["1", "", "1"]).dictionary_encode()}), read=True),
    Kind("a Parquet of nothing but a schema", columns(lambda _: {"7": pa.array([], "f8")}, 0)),
)
