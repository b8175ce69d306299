"""Clients: hundreds of connections to the status page that are silent, slow, endless or gone, beside a running stream.

While they are there, more of them than the page has room for, every forecast must be made and answered to a client that
asks for it in good order, and the process must keep descriptors for its files.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.faults.live import ServiceProcess, free_port
from benchmarks.faults.network import START_S, message_of, readings_of
from benchmarks.faults.table import Row
from runtime.service.web.endpoint import CONNECTIONS
from stunet_deploy.bundle import Bundle

_CLIENTS = CONNECTIONS + 50
_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
_DRIP_S = 0.05


def _half_closed(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


#: What a client says at first and then again and again, and what it does in the end.
KINDS: dict[str, tuple[bytes, bytes, Callable[[socket.socket], None] | None]] = {
    "say nothing": (b"", b"", None),
    "say half a request": (_REQUEST, b"", None),
    "say a request byte by byte": (_REQUEST, b"a", None),
    "say headers without end": (_REQUEST, b"a: b\r\n" * 1000, None),
    "say a body that is not allowed": (_REQUEST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n", b"x", None),
    "read no answer": (_REQUEST + b"\r\n", b"", None),
    "close their half after half a request": (_REQUEST, b"", _half_closed),
    "close their half after a request": (_REQUEST + b"\r\n", b"", _half_closed),
    "reset after a request": (_REQUEST + b"\r\n", b"", _reset),
}


def clients(bundle: Bundle, intervals: int) -> Iterator[Row]:
    """Send so many intervals through a stream beside clients of each kind."""
    for kind in KINDS:
        yield _row(bundle, kind, intervals)


def _row(bundle: Bundle, kind: str, intervals: int) -> Row:
    manifest, port, failures, most = bundle.manifest, free_port(), [], 0
    over = threading.Event()
    with tempfile.TemporaryDirectory() as scratch:
        service = ServiceProcess(bundle, Path(scratch), sinks=[], top=f"[http]\nport = {port}")
        for step in range(intervals):
            stamp = START_S + manifest.interval_s * step
            service.send([json.dumps(message_of(manifest, stamp, readings_of(manifest, step))).encode()])
            if step == 0:  # the page is there
                thread = threading.Thread(target=_trouble, args=(port, kind, over), daemon=True)
                thread.start()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/forecast", timeout=30) as answer:
                    if answer.read().decode() != service.lines[-1]:
                        failures.append(f"another forecast on the page at interval {step}")
            except OSError as error:
                failures.append(f"no answer at interval {step}: {error}")
            with suppress(OSError):
                most = max(most, sum(1 for _ in Path(f"/proc/{service.pid}/fd").iterdir()))
        over.set()
        thread.join()
        code = service.end(signal.SIGTERM)
    if code:
        failures.append(f"exit code {code}: {service.log[-500:]}")
    if most > CONNECTIONS + 100:
        failures.append(f"{most} descriptors open")
    seen = f"{intervals} intervals, each forecast answered to another client; {most} descriptors at most"
    return Row(f"clients of the status page that {kind}", _CLIENTS, failures, seen)


def _trouble(port: int, kind: str, over: threading.Event) -> None:
    """Be so many clients, each anew when it has been cut off, until it is over."""
    first, again, then = KINDS[kind]
    those: list[socket.socket | None] = [None] * _CLIENTS
    while not over.wait(_DRIP_S):
        for number, client in enumerate(those):
            try:
                if client is None:
                    client = those[number] = socket.create_connection(("127.0.0.1", port), timeout=5)
                    client.sendall(first)
                    client.setblocking(False)
                    if then is not None:
                        then(client)
                    if client.fileno() < 0:
                        those[number] = None  # and comes again
                elif again:
                    client.send(again)
            except BlockingIOError:
                continue
            except OSError:
                if client is not None:
                    client.close()
                those[number] = None
    for client in those:
        if client is not None:
            client.close()
