"""The sink that posts forecasts to an HTTP server, whatever that server does."""

from __future__ import annotations

import functools
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from runtime.service.config import HttpConfig
from runtime.service.heartbeat import Heartbeat
from runtime.service.sinks import HoldingSink, RefusedError, SinkError

#: Client errors after which a retry may succeed: timeout, too early, too many requests.
_RETRIED = (408, 425, 429)
#: Seconds between two looks at a request under way.
_LOOK_S = 0.25
#: Seconds that a request under way still gets when the stream is stopped.
_STOPPED_S = 1.0


class HttpSink(HoldingSink):
    """A POST request with the forecast line as its body.

    A status of 200 to 299 accepts it; nothing else of the answer is read. Redirections and client errors that a retry
    would meet again refuse it. After any other status, or without an answer in time, it is tried again. ``timeout_s``
    bounds the request as a whole: the look-up of the name, the connection, TLS, the body, and the answer.
    """

    def __init__(self, config: HttpConfig, stream: str) -> None:
        super().__init__(f"http {config.url}", stream, tries=config.attempts)
        self._config = config
        self._request: _Request | None = None

    def _deliver(self, heartbeat: Heartbeat, *, last: bool) -> int:
        body = self._waiting[0].to_json_line().encode()
        error = self._post(body, heartbeat)
        if error is None:
            return 1
        final = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in _RETRIED
        raise (RefusedError if final else SinkError)(
            f"{self._config.url} has not accepted the forecast ({str(error) or type(error).__name__})",
            "a status of 200 to 299",
            "look at the server's log",
        ) from error

    def _post(self, body: bytes, heartbeat: Heartbeat) -> Exception | None:
        """Send a body and wait for the answer; return why it has not been accepted, if so."""
        if self._request is not None and not self._request.ended.wait(_STOPPED_S):
            return TimeoutError("the look-up of its name hangs")  # nothing else outlives being cut off
        try:
            request = self._request = _Request(self._config.url, body, self._config.timeout_s)
        except RuntimeError as error:  # the system has no thread left
            return error
        begin = time.monotonic()
        end = begin + self._config.timeout_s
        while not request.ended.wait(max(0.0, min(_LOOK_S, end - time.monotonic()))):
            heartbeat.beat()
            now = time.monotonic()
            if heartbeat.stopped.is_set():
                end = min(end, now + _STOPPED_S)
            if now >= end:
                request.cut_off()
                return TimeoutError(f"no whole answer within {now - begin:.3g} s")
        return request.error


class _Request:
    """A request in a thread of its own, which can be cut off at any moment.

    The timeout of a socket holds for each of its operations: it does not bound a server that sends a byte now and then.
    And there is none for the look-up of a name.

    Attributes:
        ended: set when the thread has ended.
        error: why the request has not been accepted, or None.

    Raises:
        RuntimeError: if no thread can be started.
    """

    def __init__(self, url: str, body: bytes, timeout_s: float) -> None:
        self.ended = threading.Event()
        self.error: Exception | None = None
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._cut_off = False
        # A second descriptor of the connection: the first is closed by the thread, at any moment.
        self._socket: socket.socket | None = None
        threading.Thread(target=self._run, args=(url, body), name="http sink", daemon=True).start()

    def cut_off(self) -> None:
        """End the connection, whatever its thread waits for."""
        with self._lock:
            self._cut_off = True
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self, url: str, body: bytes) -> None:
        handlers = _Http(self._connect), _Https(self._connect), _NoRedirection()
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
            with urllib.request.build_opener(*handlers).open(request, timeout=self._timeout_s):
                pass
        except Exception as error:  # of the network, of HTTP, or of a name that is none
            self.error = error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
        self._hold(None)
        self.ended.set()

    def _connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """Return a connection to the first address of a host that answers; each gets its share of the time."""
        end = time.monotonic() + self._timeout_s
        addresses = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        failed: OSError = OSError("it has no address")
        for left, (family, kind, protocol, _name, where) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                connection = socket.socket(family, kind, protocol)
            except OSError as error:
                failed = error
                continue
            try:
                self._hold(connection)
                connection.settimeout(max(0.001, (end - time.monotonic()) / left))
                connection.connect(where)
                connection.settimeout(self._timeout_s)
                return connection
            except OSError as error:
                failed = error
                connection.close()
        raise failed

    def _hold(self, connection: socket.socket | None) -> None:
        """Be ready to cut off a connection, or none any more."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
            if connection is not None:
                if self._cut_off:
                    raise TimeoutError("cut off")
                self._socket = connection.dup()


_Connect = Callable[..., socket.socket]


def _connected(
    kind: type[http.client.HTTPConnection], connect: _Connect, *where: Any, **options: Any
) -> http.client.HTTPConnection:
    """Return an HTTP connection that is made by a function of ours."""
    connection = kind(*where, **options)
    connection._create_connection = connect  # type: ignore[attr-defined]  # there is no public way
    return connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, connect: _Connect) -> None:
        super().__init__()
        self._connect = connect

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_connected, http.client.HTTPConnection, self._connect), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, connect: _Connect) -> None:
        super().__init__()
        self._connect = connect

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_connected, http.client.HTTPSConnection, self._connect), req)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Turns a redirection into an error, since following it would drop the body."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None
