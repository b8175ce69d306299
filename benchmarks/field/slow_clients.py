"""Slow clients of the status page: whether a monitor is still answered while 64 of them hold connections.

    python -m benchmarks.field.slow_clients [--clients 64] [--seconds 60]

The page of 33,113 sensors is served by a process of its own. A quarter of the clients each is silent, sends a byte of a
request every two seconds, asks for an answer of megabytes and does not read it, and reads such an answer by 1,000 bytes
a second. One that is cut off connects again. Once a second `/healthz` is asked, on a new connection, with a second to
answer. Returns 1 if a probe had no answer within its second.
"""

from __future__ import annotations

import http.client
import multiprocessing
import socket
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.faults.network import small_bundle
from benchmarks.field.status_page import LARGE, enlarged, filled_status
from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, page, table
from runtime.service.config import EndpointConfig
from runtime.service.web.endpoint import Endpoint
from runtime.service.web.pages import StatusPages
from stunet_deploy.bundle import Bundle

#: What a client says at once, how many bytes it then sends, and how many it reads, each second.
KINDS = {
    "silent": (b"", 0.0, 0),
    "a byte of a request every two seconds": (b"", 0.5, 0),
    "an answer asked for and not read": (b"GET /api/values HTTP/1.0\r\n\r\n", 0.0, 0),
    "an answer read by 1,000 bytes a second": (b"GET /api/network HTTP/1.0\r\n\r\n", 0.0, 1000),
}
REQUEST = b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 100


def serve(bundle: Path, pipe: Connection) -> None:
    """Serve the page of a large network and send its address; stop when told to."""
    status = filled_status(enlarged(Bundle.load(bundle).manifest, LARGE))
    endpoint = Endpoint(EndpointConfig(0), StatusPages(lambda: [status]).reply)
    endpoint.start()
    pipe.send(endpoint.url)
    pipe.recv()
    endpoint.close()


def be_slow(address: tuple[str, int], kind: str, ended: threading.Event, cut_off: list[str]) -> None:
    """Hold a connection as a kind of client does, and connect again whenever it is cut off."""
    said, sent_a_second, read_a_second = KINDS[kind]
    while not ended.is_set():
        begin, sent = time.monotonic(), 0
        with suppress(OSError), socket.create_connection(address, timeout=5) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(said)
            while not ended.wait(1):
                due = int(sent_a_second * (time.monotonic() - begin))
                client.sendall(REQUEST[sent:due])
                sent = due
                if read_a_second:
                    client.recv(read_a_second)
                elif not said:
                    client.settimeout(0.01)
                    with suppress(TimeoutError):
                        if not client.recv(1):
                            break
                    client.settimeout(5)
        cut_off.append(kind)


def probe(address: tuple[str, int]) -> float | None:
    """Return the milliseconds until `/healthz` is answered; None if it is not within a second."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection(*address, timeout=1)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return 1000 * (time.perf_counter() - begin)


def probed(address: tuple[str, int], clients: int, seconds: int) -> dict[str, Any]:
    """Return what the probes met, a second each, while the clients were slow."""
    ended, cut_off, kinds = threading.Event(), list[str](), list(KINDS)
    threads = [
        threading.Thread(target=be_slow, args=(address, kinds[number % len(kinds)], ended, cut_off))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    answered = []
    for _ in range(seconds):
        begin = time.monotonic()
        answered.append(probe(address))
        time.sleep(max(0.0, begin + 1 - time.monotonic()))
    ended.set()
    for thread in threads:
        thread.join()
    return {
        "clients": clients,
        "answered_ms": answered,
        "cut_off": {kind: cut_off.count(kind) for kind in kinds},
    }


def measure(options: Namespace) -> dict[str, Any]:
    """Measure without slow clients and with them."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = small_bundle(Path(folder))
        for clients, seconds in ((0, min(10, options.seconds)), (options.clients, options.seconds)):
            here, there = multiprocessing.get_context("spawn").Pipe()
            server = multiprocessing.get_context("spawn").Process(target=serve, args=(bundle, there))
            server.start()
            there.close()  # or the end of a server that fails would not be noticed here
            parts = urlsplit(here.recv())
            found.append(probed((str(parts.hostname), int(parts.port or 0)), clients, seconds))
            here.send("stop")
            server.join()
    return {"found": found}


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    rows = []
    for one in result["found"]:
        good = [milliseconds for milliseconds in one["answered_ms"] if milliseconds is not None]
        slowest = [f"{value:.1f} ms" for value in (np.median(good), max(good))] if good else ["–", "–"]
        rows.append([one["clients"], len(one["answered_ms"]), len(good), *slowest])
    return page(
        "Slow clients of the status page",
        f"`{result['command']}`, {machine(result['environment'])}",
        f"The page of {LARGE:,} sensors, slow clients of four kinds, a quarter each: {'; '.join(KINDS)}. One that is "
        "cut off connects again.",
        table(["slow clients", "probes of `/healthz`", "answered within a second", "median", "slowest"], rows),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return 1 if a probe had no answer in time."""
    command = Command("benchmarks.field.slow_clients", __doc__)
    command.option("--clients", 64, "slow ones", quick=4)
    command.option("--seconds", 60, "for which they are slow", quick=2)
    _, result = command.run(measure, report, arguments)
    return int(any(milliseconds is None for one in result["found"] for milliseconds in one["answered_ms"]))


if __name__ == "__main__":
    sys.exit(main())
