"""The journal: what came in since a snapshot, written ahead of being used, one checksummed record after the other.

A record is its length, the CRC-32 of its bytes, and the bytes. The first record is a JSON header. A file that ends
within a record was cut by a crash; what lies before is whole.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.clock import is_time
from runtime.readings import Interval
from stunet_deploy.errors import DataError
from stunet_deploy.files import create_file, read_file

_FRAME = struct.Struct("<II")
_INTERVAL = struct.Struct("<cq?II")
_READING = struct.Struct("<cId")
_RESET = b"R"
#: Bytes of a journal that is read: a reading a second of ten thousand sensors for an hour.
_MOST = 1 << 31


class Input(NamedTuple):
    """An interval that a stream has accepted.

    Attributes:
        interval: its readings.
        stamp: seconds since the epoch, UTC.
        restart: the clock went back, so the stream starts from zero with it.
    """

    interval: Interval
    stamp: int
    restart: bool = False


class SingleReading(NamedTuple):
    """A reading of one sensor that an assembler has accepted.

    Attributes:
        node: index of the sensor.
        seconds: time since the epoch, UTC.
        values: a number or NaN for each name that the assembler reads.
    """

    node: int
    seconds: float
    values: tuple[float, ...]


class Reset(NamedTuple):
    """The stream was reset by hand, or because its backend failed."""


Entry = Input | SingleReading | Reset


def encode(entry: Entry) -> bytes:
    """Return the bytes of an entry."""
    if isinstance(entry, Input):
        interval, stamp, restart = entry
        head = _INTERVAL.pack(b"I", stamp, restart, interval.outside_limits, interval.unknown)
        return head + interval.values.tobytes() + interval.observed.tobytes()
    if isinstance(entry, SingleReading):
        return _READING.pack(b"S", entry.node, entry.seconds) + np.array(entry.values).tobytes()
    return _RESET


def decode(data: bytes, shape: tuple[int, int]) -> Entry:
    """Return the entry of its bytes, for intervals of a shape [node, feature].

    Raises:
        DataError: if the bytes are those of no entry, or of one that no stream of this shape can have accepted.
    """
    nodes, features = shape
    kind = data[:1]
    if kind == b"I" and len(data) == _INTERVAL.size + 5 * nodes * features:
        _, stamp, restart, outside_limits, unknown = _INTERVAL.unpack_from(data)
        values: NDArray[np.float32] = np.frombuffer(data, np.float32, nodes * features, _INTERVAL.size)
        seen = np.frombuffer(data, np.uint8, nodes * features, _INTERVAL.size + values.nbytes)
        if is_time(stamp) and (seen <= 1).all() and np.isfinite(values).all():
            observed = seen.view(np.bool_).reshape(shape)
            return Input(Interval(values.reshape(shape), observed, outside_limits, unknown), stamp, restart)
    if kind == b"S" and len(data) >= _READING.size and (len(data) - _READING.size) % 8 == 0:
        _, node, seconds = _READING.unpack_from(data)
        if node < nodes and is_time(seconds):
            return SingleReading(node, seconds, tuple(np.frombuffer(data, np.float64, -1, _READING.size).tolist()))
    if data == _RESET:
        return Reset()
    raise DataError(
        f"a journal record of kind {kind!r} and {len(data)} bytes",
        "a record of this bundle",
        "start without the journal",
    )


class Journal:
    """A journal being written; create one with a header.

    Args:
        path: where; a file that is there is replaced.
        header: the first record.

    Raises:
        OSError: if it cannot be written.
    """

    def __init__(self, path: str | Path, header: bytes) -> None:
        # Unbuffered: after each append the bytes are the system's, and survive the death of this process.
        self._file = create_file(path)
        self._length = 0
        try:
            self.append(header, sync=True)
        except OSError:
            self.close()
            raise

    def append(self, record: bytes, *, sync: bool) -> None:
        """Append a record, whole or not at all.

        Args:
            record: its bytes.
            sync: wait until it is on the disk, and so would survive a power cut.

        Raises:
            OSError: if it cannot be written; the records before are as they were.
        """
        framed = _FRAME.pack(len(record), zlib.crc32(record)) + record
        try:
            rest = framed
            while rest:  # a disk that fills up takes a part, and refuses the next
                rest = rest[os.write(self._file, rest) :]
            if sync:
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._length)
            os.lseek(self._file, self._length, os.SEEK_SET)
            raise
        self._length += len(framed)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Written(NamedTuple):
    """The content of a journal.

    Attributes:
        records: the whole records, the header first.
        rest: number of bytes behind them that are no whole record.
        torn: whether the rest is the beginning of a record, as a crash leaves it, and not a damaged one.
    """

    records: list[bytes]
    rest: int
    torn: bool


def read_journal(path: str | Path) -> Written:
    """Read a journal up to its end or to the first record that is not whole.

    Raises:
        OSError: if the file cannot be read.
    """
    data = read_file(path, _MOST)
    records: list[bytes] = []
    begin = 0
    while begin + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, begin)
        record = data[begin + _FRAME.size : begin + _FRAME.size + length]
        if len(record) < length:
            return Written(records, len(data) - begin, torn=not _begins_whole(record, checksum))
        if not record or zlib.crc32(record) != checksum:
            return Written(records, len(data) - begin, torn=False)
        records.append(record)
        begin += _FRAME.size + length
    return Written(records, len(data) - begin, torn=begin < len(data))


def _begins_whole(rest: bytes, checksum: int) -> bool:
    """Return whether the rest of a journal begins with a whole record after all: then its length was damaged."""
    found = 0
    for position in range(len(rest)):
        found = zlib.crc32(rest[position : position + 1], found)
        if found == checksum:
            return True
    return False
