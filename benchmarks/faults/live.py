"""A live service in this process: its clock stands still until it is told, and what it takes in can be waited for."""

from __future__ import annotations

import io
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.service.config import read_config
from runtime.service.logs import LOG
from runtime.service.status import Status
from runtime.service.supervisor import Service
from stunet_deploy.bundle import Bundle

_PATIENCE_S = 120.0
LOG.addHandler(logging.NullHandler())  # what a service says is counted here, not read


class LiveService:
    """A service of one stream; what it is sent comes over a pipe that stands for standard input, or from a broker.

    Args:
        bundle: the model.
        folder: for its config, state and files.
        now: what its clock shows, in seconds since the epoch; None for the system's clock.
        source: table of the source in TOML.
        sinks: tables of further sinks; standard output is always one.
        options: further keys of the stream.
        top: tables beside it.
        assembler: whether single readings come.
    """

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        *,
        now: float | None = None,
        source: str = 'kind = "stdin"',
        sinks: Iterable[str] = (),
        options: str = "",
        top: str = "",
        assembler: bool = False,
    ) -> None:
        self.now = now
        self.sent = 0
        self._out = io.StringIO()
        self._config = _config(
            bundle, folder, source, ('kind = "stdout"', *sinks), options, top, 0 if assembler else None
        )
        self._bundle = bundle
        read, write = os.pipe()
        os.dup2(read, 0)
        os.close(read)
        self._pipe = os.fdopen(write, "wb")
        self._service = Service(
            read_config(self._config),
            self._out,
            clock=lambda: time.time() if self.now is None else self.now,
            reread=lambda: read_config(self._config),
        )
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def send(self, lines: Iterable[bytes]) -> None:
        """Send lines and wait until all have been taken."""
        for line in lines:
            self._pipe.write(line + b"\n")
            self.sent += 1
        self._pipe.flush()
        self.wait_for(lambda status: settled(status) >= self.sent)

    def reload(self, bundle: Bundle) -> None:
        """Let another bundle take over, and wait until it has."""
        text = self._config.read_text()
        self._config.write_text(text.replace(f'bundle = "{self._bundle.path}"', f'bundle = "{bundle.path}"'))
        self._bundle = bundle
        self._service.reload()
        self.wait_for(lambda status: status.manifest.bundle_id == bundle.manifest.bundle_id)

    @property
    def lines(self) -> list[str]:
        """The forecast lines so far."""
        return self._out.getvalue().splitlines()

    @property
    def status(self) -> Status:
        """What the stream is doing."""
        return self._service.statuses()[0]

    def wait_for(self, reached: Callable[[Status], bool]) -> None:
        """Wait until something is so.

        Raises:
            TimeoutError: if it is not in time, or the service has ended.
        """
        end = time.monotonic() + _PATIENCE_S
        while not reached(self.status):
            if time.monotonic() > end or not self._thread.is_alive():
                raise TimeoutError(f"in vain: {self.status.counters}, {self._error}")
            time.sleep(0.001)

    def close(self) -> Status:
        """Stop it and return what the stream did last.

        Raises:
            TimeoutError: if it does not end.
            BaseException: what ended it before.
        """
        self._service.stop()
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            raise TimeoutError("it has not ended")
        self._pipe.close()
        if self._error is not None:
            raise self._error
        return self.status

    def _run(self) -> None:
        try:
            self._service.run()
        except BaseException as error:
            self._error = error


class ServiceProcess:
    """A service of one stream in a process of its own; what it is sent goes to its standard input.

    Args:
        bundle: the model.
        folder: for its config, state and files.
        sinks: tables of sinks in TOML before standard output, which is the last.
        options: further keys of the stream.
        top: tables beside it.

    Attributes:
        lines: the forecast lines so far.
        log: what it has said on standard error.
    """

    def __init__(self, bundle: Bundle, folder: Path, *, sinks: Iterable[str], options: str = "", top: str = "") -> None:
        config = _config(bundle, folder, 'kind = "stdin"', (*sinks, 'kind = "stdout"'), options, top)
        self.lines: list[str] = []
        self.log = ""
        command = [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1)
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_log)]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, lines: Iterable[bytes]) -> None:
        """Send intervals, and wait for the forecast of each."""
        for line in lines:
            wanted = len(self.lines) + 1
            self._process.stdin.write(line.decode() + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            wait_until(lambda: len(self.lines) >= wanted, self._process.poll)  # noqa: B023

    def limit(self, kind: int, number: int) -> None:
        """Limit one of its resources; see :mod:`resource`."""
        import resource

        hard = resource.prlimit(self._process.pid, kind)[1]
        resource.prlimit(self._process.pid, kind, (hard if number == resource.RLIM_INFINITY else number, hard))

    def end(self, number: signal.Signals) -> int:
        """Send a signal that ends it, and return its exit code."""
        self._process.send_signal(number)
        code = self._process.wait(_PATIENCE_S)
        for reader in self._readers:
            reader.join(_PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        return code

    def _read(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            self.lines.append(line)

    def _read_log(self) -> None:
        for line in self._process.stderr:  # type: ignore[union-attr]
            self.log += line


def wait_until(reached: Callable[[], object], ended: Callable[[], object] = lambda: None) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: if it is not in time, or what it needs has ended.
    """
    end = time.monotonic() + _PATIENCE_S
    while not reached():
        if time.monotonic() > end or ended() is not None:
            raise TimeoutError("in vain")
        time.sleep(0.001)


def config_text(
    bundle: Bundle, source: str, sinks: Iterable[str], *, options: str = "", top: str = "", grace_s: float | None = None
) -> str:
    """Return the config of a service of one stream, from tables in TOML; with a grace, single readings come."""
    text = f'{top}\n[[stream]]\nname = "ring"\nbundle = "{bundle.path}"\nstate = "state"\n{options}\n'
    text += f"[stream.source]\n{source}\n" + ("" if grace_s is None else f"[stream.assembler]\ngrace_s = {grace_s}\n")
    return text + "".join(f"[[stream.sink]]\n{sink}\n" for sink in sinks)


def _config(
    bundle: Bundle,
    folder: Path,
    source: str,
    sinks: Iterable[str],
    options: str,
    top: str,
    grace_s: float | None = None,
) -> Path:
    """Write the config of a service, and return its path."""
    config = folder / "service.toml"
    config.write_text(config_text(bundle, source, sinks, options=options, top=top, grace_s=grace_s))
    return config


def settled(status: Status) -> int:
    """Return how many messages have been taken, repeated or refused."""
    stream, assembler = status.counters["stream"], status.counters.get("assembler")
    if assembler is None:
        return int(stream["pushes"] + stream["repeats"] + sum(stream["refused"].values()))
    # Refusals of the stream are of messages, which are no readings, and of intervals after a jump of the clock.
    taken = assembler["readings"] + assembler["repeats"] + sum(assembler["refused"].values())
    return int(taken + stream["refused"]["message"])


def free_port() -> int:
    """Return a free port below those that clients get: one that keeps trying such a port could connect to itself."""
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


class Mosquitto:
    """A broker on loopback that keeps sessions and messages in a file, as one in the field has to."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nuser root\npersistence true\npersistence_location {folder}/\n"
            f"max_queued_messages 0\nallow_anonymous true\n"
        )
        self.start()

    def start(self) -> None:
        """Start it, with what it kept."""
        self._process = subprocess.Popen(["mosquitto", "-c", self._config], stderr=subprocess.DEVNULL)
        while self._process.poll() is None:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        raise RuntimeError("mosquitto has not started")

    def stop(self) -> None:
        """Stop it in good order."""
        while self._process.poll() is None:  # it forgets a signal that comes before its main loop runs
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)

    def freeze(self) -> None:
        """Let it do nothing, though its connections stay."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def table(self, port: int = 0, **more: Any) -> str:
        """Return the [mqtt] table of a service at this broker, or at another port that leads to it."""
        lines = [f"{key} = {value}" for key, value in more.items()]
        head = f'[mqtt]\nclient_id = "controller"\nport = {port or self.port}\nreconnect_max_s = 0.05'
        return "\n".join([head, *lines])


class Line:
    """A line of TCP to a port on loopback, which can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._ends: list[socket.socket] = []
        self._whole = False
        self.port = free_port()
        self.mend()

    def mend(self) -> None:
        """Let connections pass."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._whole = True
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def cut(self) -> None:
        """Cut all connections and refuse others."""
        self._whole = False
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._server.close()
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while self._whole:
                near = server.accept()[0]
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
