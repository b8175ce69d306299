"""A service in a process of its own, which can be killed; its clock shows what it is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_double
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from runtime.service.config import read_config
from runtime.service.logs import start_log
from runtime.service.orders import Orders
from runtime.service.supervisor import Service

PATIENCE_S = 60.0
CONFIG, LOG_FILE = "service.toml", "log"


def forkserver() -> ForkServerContext:
    """Return what makes processes: a server that has imported everything, or most of the time would go into that."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.faults.kills", __name__])
    return context


class DrivenService:
    """A service as ``stunet run --config`` starts it, but for its clock; it is started at once.

    Args:
        folder: with its config; its log and files lie there, too.
        now: what its clock shows, in seconds since the epoch.
    """

    def __init__(self, folder: Path, now: float) -> None:
        self._folder = folder
        self._context = forkserver()
        self._clock = self._context.RawValue(c_double, now)
        self.start()

    @property
    def now(self) -> float:
        """What its clock shows."""
        return float(self._clock.value)

    @now.setter
    def now(self, seconds: float) -> None:
        self._clock.value = seconds

    @property
    def pid(self) -> int:
        """Number of its process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said since its first start."""
        return (self._folder / LOG_FILE).read_text()

    def start(self) -> None:
        """Start it again, and return before it has."""
        self._questions, asked = self._context.Pipe()
        self._process = self._context.Process(target=work, args=(self._folder, self._clock, asked), daemon=True)
        self._process.start()
        asked.close()  # so that its end is seen here

    def status(self) -> dict[str, Any]:
        """Ask what its stream does; wait for the answer while it starts.

        Raises:
            TimeoutError: if it has ended or does not answer.
        """
        with suppress(OSError, EOFError):
            self._questions.send(None)
            if self._questions.poll(PATIENCE_S):
                found: dict[str, Any] = self._questions.recv()
                return found
        raise TimeoutError(f"the service does not answer; its exit code is {self._process.exitcode}")

    def wait_for(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until something is so of its status, and return that.

        Raises:
            TimeoutError: if it is not in time, or the service has ended.
        """
        end = time.monotonic() + PATIENCE_S
        while not reached(status := self.status()):
            if time.monotonic() > end:
                raise TimeoutError(f"in vain: {status}")
            time.sleep(0.002)
        return status

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._ended()

    def stop(self) -> int | None:
        """End it in good order and return its exit code."""
        self._process.terminate()
        return self._ended()

    def end(self) -> None:
        """End it if it still runs."""
        if self._process.is_alive():
            self.kill()

    def reload(self) -> None:
        """Let it read its config again."""
        os.kill(self.pid, signal.SIGHUP)

    def _ended(self) -> int | None:
        self._process.join(PATIENCE_S)
        code = self._process.exitcode
        self._questions.close()
        return code


def work(folder: Path, clock: Any, asked: Connection) -> None:
    """Be the process of a service."""
    config = folder / CONFIG
    with (folder / LOG_FILE).open("a") as log, open(os.devnull, "w") as out:
        start_log("lines", log)
        orders = Orders()
        with orders.from_signals(to_the_end=True):
            service = Service(
                read_config(config),
                out,
                clock=lambda: float(clock.value),
                reread=lambda: read_config(config),
                orders=orders,
            )
            threading.Thread(target=_answer, args=(service, asked), daemon=True).start()
            service.run()


def _answer(service: Service, asked: Connection) -> None:
    """Say what the stream does whenever that is asked."""
    with suppress(OSError, EOFError):
        while True:
            asked.recv()
            status = service.statuses()[0]
            about = {
                "connected": status.connected,
                "bundle_id": status.manifest.bundle_id,
                "issued_s": None if status.last is None else status.last.issued_s,
                "url": service.url,
            }
            asked.send(status.counters | about)
