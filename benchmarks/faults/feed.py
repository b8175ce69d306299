"""What a service is sent, and what it has to make of it: every message goes also to streams that nothing happens to."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.faults.network import START_S, Mode, message_of, single_readings_of, spoken, values_of
from runtime.aggregation import Assembler
from runtime.messages import Detection, Record, read_message
from runtime.service.config import CsvConfig
from runtime.service.file_sinks import CsvSink
from runtime.service.heartbeat import Heartbeat
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle

GRACE_S = 30


class Message(NamedTuple):
    """What is sent, and when; without a payload it is only a moment at which an interval may be over."""

    now: float
    payload: bytes = b""


class Feed:
    """A sender of intervals or of single readings, and what a service forecasts from them that nothing happens to.

    Args:
        folder: for CSV files of what is expected.
        bundles: models of one network, of which the service may run any.
        mode: of their streams.
        single: whether single readings are sent.

    Attributes:
        expected: by time of issue, the forecast line of each bundle.
    """

    def __init__(self, folder: Path, bundles: Sequence[Bundle], mode: Mode, *, single: bool) -> None:
        self.expected: dict[str, set[str]] = {}
        self._folder = folder
        self._manifest = bundles[0].manifest
        self._streams = [Stream.open(bundle, mode=mode, name="ring") for bundle in bundles]
        self._sinks = [CsvSink(CsvConfig("csv", folder), "ring") for _ in bundles]
        self._assembler = Assembler(self._manifest, grace_s=GRACE_S) if single else None
        self._steps = count()

    def interval(self) -> list[Message]:
        """Return the messages of the next interval, of which some are silent."""
        manifest, step = self._manifest, next(self._steps)
        begin_s = START_S + manifest.interval_s * step
        if self._assembler is None:
            values = values_of(manifest, step)
            if values is None:
                return []
            return [Message(begin_s + manifest.interval_s, _json(message_of(manifest, begin_s, values)))]
        found = [Message(begin_s + GRACE_S)]
        for sensor, second, reading in single_readings_of(manifest, step):
            numbers = {name: None if math.isnan(number) else number for name, number in reading.items()}
            said = {"sensor": sensor, "timestamp": second, "values": numbers}
            found.append(Message(second, _json(said)))
        return sorted(found)

    def note(self, message: Message) -> None:
        """Note what a service forecasts that is sent a message."""
        for record in self._whole(message):
            forecasts = [stream.push(*record) for stream in self._streams]
            for forecast, sink in zip(forecasts, self._sinks, strict=True):
                sink.write(forecast, Heartbeat(), patient=False)
            said = [spoken(forecast.to_json_line()) for forecast in forecasts]
            self.expected[said[0][0]] = {line for _, line in said}

    def taken(self, status: Mapping[str, Any]) -> bool:
        """Return whether a service with this status has taken all of it."""
        last, assembler = self._streams[0].last, self._assembler
        if status["issued_s"] != (None if last is None else last.issued_s):
            return False
        return assembler is None or status["assembler"]["readings"] == assembler.counters.readings

    def wrong_files(self, folder: Path) -> list[str]:
        """Return what is wrong with the CSV files of a service: each forecast has to be in one of them, once."""
        found, seen = [], Counter[str]()
        for path in sorted(folder.iterdir()):
            right = self._folder / path.name
            known = set(right.read_text().splitlines()) if right.is_file() else set()
            rows = path.read_text().splitlines()
            seen.update(row.partition(",")[0] for row in rows)
            found += [f"{path.name}: another row {row[:60]}" for row in rows if row not in known]
        once = self._manifest.horizon * len(self._manifest.targets)
        found += [f"{seen[issued]} rows of {issued}" for issued in self.expected if seen[issued] != once]
        return found

    def close(self) -> None:
        """Close the streams and files."""
        for stream, sink in zip(self._streams, self._sinks, strict=True):
            stream.close()
            sink.close()

    def _whole(self, message: Message) -> Iterable[Record]:
        """Return the intervals that are whole with a message."""
        said = read_message(message.payload) if message.payload else None
        if isinstance(said, Record):
            return [said]
        assert self._assembler is not None
        records = [*self._assembler.due(message.now)]
        if isinstance(said, Detection):
            self._assembler.add(*said, now=message.now)
        return records


def _json(said: object) -> bytes:
    return json.dumps(said).encode()
