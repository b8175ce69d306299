"""Receivers: HTTP servers that hang, trickle, flood or talk rubbish, each at another step of a request.

A stream posts its forecasts to each of them, beside standard output and a CSV file. Its forecasts must go on, those of
an uninterrupted run to the last bit, on every sink that is well; its worker must show signs of life; and when the
receiver is well again it must get all that it missed, in order. A second stream, whose request may last an hour, must
end in good order when it is told to stop in the middle.
"""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType

from benchmarks.faults.live import LiveService
from benchmarks.faults.network import START_S, message_of, readings_of, spoken
from benchmarks.faults.table import Row, differences
from runtime.service.web.health import SILENT_S
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle

#: Seconds between two bytes of a receiver that trickles: often enough for any timeout of a single read.
DRIP_S = 0.02
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"


class Receiver:
    """An HTTP server on loopback that treats its clients badly until it is told to be well.

    Attributes:
        bodies: what was posted to it while it was well, in order.
        met: set when a client has come to it.
        url: where it listens.
    """

    def __init__(self, way: str) -> None:
        self.bodies: list[bytes] = []
        self.met = threading.Event()
        self._way = WAYS[way]
        self._deaf = way == "does not take the connection"
        self._tls = way.startswith("in TLS ")
        self._well = threading.Event()
        self._closed = threading.Event()
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(0 if self._deaf else 100)
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._listening.getsockname()[1]}/"
        self._fillers = [self._filler() for _ in range(8 if self._deaf else 0)]
        if self._deaf:
            self.met.set()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def can_be_well(self) -> bool:
        """Whether it can answer: not in TLS, for which it has no certificate."""
        return not self._tls

    def be_well(self) -> None:
        """Let go of all clients, and from now on take what is posted."""
        self._well.set()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed.set()
        self._well.set()
        self._thread.join()
        self._listening.close()

    def _filler(self) -> socket.socket:
        """Return a client for the queue of those that wait to be accepted: a full one takes no connection."""
        client = socket.socket()
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(self._listening.getsockname())
        return client

    def _serve(self) -> None:
        if self._deaf:
            self._well.wait()
        for filler in self._fillers:
            filler.close()
        self._listening.settimeout(DRIP_S)
        while not self._closed.is_set():
            with suppress(TimeoutError):
                client, _ = self._listening.accept()
                threading.Thread(target=self._meet, args=(client,), daemon=True).start()

    def _meet(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(60)
            if self._well.is_set():
                self._take(client)
                return
            self.met.set()
            self._way(client, self._well)

    def _take(self, client: socket.socket) -> None:
        """Take one request in good order."""
        with client.makefile("rb") as said:
            length = 0
            while (line := said.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            body = said.read(length)
        if body and len(body) == length:
            self.bodies.append(body)
            client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


_Way = Callable[[socket.socket, threading.Event], None]


def _drips(begin: bytes, again: bytes) -> _Way:
    """Return a receiver that says something and then goes on, byte by byte."""

    def drip(client: socket.socket, over: threading.Event) -> None:
        client.sendall(begin)
        position = 0
        while not over.wait(DRIP_S):
            client.sendall(again[position % len(again) :][:1])
            position += 1

    return drip


def _floods(begin: bytes, again: bytes) -> _Way:
    """Return a receiver that says something and then goes on as fast as it can."""

    def flood(client: socket.socket, over: threading.Event) -> None:
        client.sendall(begin)
        while not over.is_set():
            client.sendall(again * 1000)

    return flood


def _says(all_of_it: bytes) -> _Way:
    """Return a receiver that says something, and then nothing."""

    def say(client: socket.socket, over: threading.Event) -> None:
        client.sendall(all_of_it)
        over.wait()

    return say


def _leaves(client: socket.socket, over: threading.Event) -> None:
    client.recv(1)


#: What a receiver does.
WAYS: dict[str, _Way] = {
    "does not take the connection": _says(b""),
    "in TLS says nothing": _says(b""),
    "in TLS says its hello byte by byte": _drips(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03", b"\0"),
    "reads nothing and says nothing": _says(b""),
    "leaves at once": _leaves,
    "says its status byte by byte": _drips(b"", b"H"),
    "says headers byte by byte": _drips(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "says headers without end": _floods(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "says a line without end": _floods(b"HTTP/1.1 200 OK\r\na: ", b"b"),
    "says 100 Continue, byte by byte": _drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "says 100 Continue without end": _floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "answers 503 with a body byte by byte": _drips(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    "answers 503 with a body without end": _floods(b"HTTP/1.1 503 Busy\r\n\r\n", b"x"),
    "talks rubbish": _floods(b"", bytes(range(256))),
}
#: What a receiver does that has taken the forecast.
TAKEN: dict[str, _Way] = {
    "answers 200 with a body byte by byte": _drips(_OK, b"x"),
    "answers 200 with a body without end": _floods(_OK, b"x"),
}
WAYS |= TAKEN


def receivers(bundle: Bundle, intervals: int) -> Iterator[Row]:
    """Send so many intervals through a stream beside each receiver."""
    manifest = bundle.manifest
    messages = [
        json.dumps(message_of(manifest, START_S + manifest.interval_s * step, readings_of(manifest, step))).encode()
        for step in range(intervals)
    ]
    with closing(Stream.open(bundle, name="ring")) as plain:
        expected = [
            spoken(plain.push(readings_of(manifest, step), START_S + manifest.interval_s * step).to_json_line())
            for step in range(intervals)
        ]
    for way in WAYS:
        yield _row(bundle, way, messages, dict(expected))


def _row(bundle: Bundle, way: str, messages: list[bytes], expected: dict[str, str]) -> Row:
    failures = []
    middle = len(messages) // 2
    with tempfile.TemporaryDirectory() as scratch, Receiver(way) as receiver:
        service = _service(bundle, Path(scratch), receiver, "timeout_s = 0.2\nattempts = 2")
        silent_s = 0.0
        for message in messages[:middle]:
            service.send([message])
            silent_s = max(silent_s, service.status.silent_s)
        service.wait_for(lambda status: status.counters["service"]["forecasts"] == middle)
        held = sum(service.status.held.values())
        receiver.be_well()
        service.send(messages[middle:])
        status = service.close()
        failures += differences(dict(map(spoken, service.lines)), expected, "forecast on standard output")
        rows = (Path(scratch) / "out").glob("*.csv")
        written = {line.split(",")[0] for path in rows for line in path.read_text().splitlines()[1:]}
        failures += differences(dict.fromkeys(written), dict.fromkeys(expected), "forecast in the CSV file")
    got = [spoken(body) for body in receiver.bodies]
    lost = sum(status.counters["service"]["undelivered"].values())
    missed = middle if way in TAKEN else 0 if receiver.can_be_well else len(messages)
    wanted = list(expected.items())[missed:]
    if got != wanted:
        failures.append(f"the receiver got {len(got)} forecasts instead of {len(wanted)}, or others")
    if lost != (0 if receiver.can_be_well else len(messages)):
        failures.append(f"{lost} forecasts counted as lost")
    if held != (0 if way in TAKEN else middle):
        failures.append(f"{held} forecasts said to be waiting")
    if silent_s > SILENT_S:
        failures.append(f"the worker was silent for {silent_s:.0f} s")
    failures += _stopped(bundle, way, messages[0])
    seen = f"{held} waited, then {len(got)} came in order; {lost} lost" if receiver.can_be_well else f"{lost} lost"
    return Row(f"a receiver that {way}", len(messages), failures, f"{seen}, all counted; stops in the middle")


def _stopped(bundle: Bundle, way: str, message: bytes) -> list[str]:
    """Stop a service in the middle of a request that may last an hour; return what went wrong."""
    with tempfile.TemporaryDirectory() as scratch, Receiver(way) as receiver:
        service = _service(bundle, Path(scratch), receiver, "timeout_s = 3600")
        service.send([message])
        receiver.met.wait()
        try:
            service.close()
        except TimeoutError as error:
            return [f"stopped in the middle: {error}"]
    return []


def _service(bundle: Bundle, folder: Path, receiver: Receiver, options: str) -> LiveService:
    sinks = [f'kind = "http"\nurl = "{receiver.url}"\n{options}', 'kind = "csv"\nfolder = "out"']
    return LiveService(bundle, folder, sinks=sinks)
