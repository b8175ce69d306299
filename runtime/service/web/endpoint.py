"""The status page and its endpoints, served by waitress beside the streams."""

from __future__ import annotations

import errno
import io
import ipaddress
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from runtime.service.config import EndpointConfig
from runtime.service.logs import LOG, SERVICE, StreamLog
from stunet_deploy.errors import ConfigError

if TYPE_CHECKING:  # it comes with the extra [service]
    from _typeshed.wsgi import StartResponse
    from waitress.server import TcpWSGIServer

#: Connections that are open at the same time, and the share of the process's descriptors that they may take; one more
#: cuts off the oldest that waits for no answer.
CONNECTIONS, SHARE = 256, 1 / 4
#: Errors of a system that has no descriptor or memory left, and seconds until a connection is accepted again.
_USED_UP, _PAUSE_S = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM), 1.0
#: Seconds without a byte in either direction, and seconds in all, after which a connection is cut off.
SILENCE_S, REQUEST_S = 10, 60
#: Bytes of a request's head.
REQUEST_BYTES = 2**14
#: Bytes of an answer that the kernel may hold for a client that does not read; it would take several megabytes.
SEND_BYTES = 2**17


@dataclass(frozen=True)
class Reply:
    """An answer to a request.

    Attributes:
        body: bytes of the answer.
        kind: its media type.
        status: HTTP status code.
        headers: further headers.
    """

    body: bytes
    kind: str = "application/json"
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: int, came: str, expected: str, **headers: str) -> Reply:
    """Return the answer to a request that cannot be served."""
    data = {"error": came, "expected": expected}
    return Reply(json.dumps(data, ensure_ascii=False).encode() + b"\n", status=status, headers=headers)


class Endpoint:
    """A server in two threads of its own: one reads and writes all connections, one computes the answers in turn.

    Args:
        config: address and port.
        answer: returns the answer to a path and query; called by one thread only.

    Raises:
        ConfigError: if the port is taken or not allowed, or the host is not an address of this machine.
        ModuleNotFoundError: if waitress is not installed.
    """

    def __init__(self, config: EndpointConfig, answer: Callable[[str, Mapping[str, str]], Reply]) -> None:
        listening = _bind(config)
        self._address: tuple[str, int] = listening.getsockname()[:2]
        # A page of another origin can name this one by a name of its own that it lets point to loopback. Where only
        # loopback is served, there is no other honest name for it.
        loopback = ipaddress.ip_address(self._address[0]).is_loopback
        hosts = {"localhost", "127.0.0.1", "::1", self._address[0], config.host.lower()} if loopback else None
        self._connections: dict[int, Any] = {}
        try:
            self._server = _make_server(_Application(answer, hosts), self._connections, listening)
        except BaseException:
            listening.close()
            raise
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """The address at which a browser on this machine finds it."""
        host, port = self._address
        if ipaddress.ip_address(host).is_unspecified:
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        LOG.info("status page on %s", self.url)

    def close(self) -> None:
        """Stop answering; open connections are cut off."""
        from waitress.wasyncore import close_all

        self._server.task_dispatcher.shutdown()  # first, since its threads write to the trigger
        if self._thread.is_alive():
            self._server.trigger.pull_trigger(lambda: close_all(self._connections))
            self._thread.join()
        close_all(self._connections)


class _Application:
    """The WSGI application: refuses what is never served, and answers the rest."""

    def __init__(self, answer: Callable[[str, Mapping[str, str]], Reply], hosts: set[str] | None) -> None:
        self._answer = answer
        self._hosts = hosts

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        reply = self._reply(environ["REQUEST_METHOD"], environ["REQUEST_URI"], environ.get("HTTP_HOST"))
        fixed = {
            "Content-Type": reply.kind,
            "Content-Length": str(len(reply.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        start_response(f"{reply.status:d} {HTTPStatus(reply.status).phrase}", [*(fixed | {**reply.headers}).items()])
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        # A file is sent by the thread of the connections from this one copy of its bytes, however slowly it is read.
        file: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(reply.body))
        return file

    def _reply(self, method: str, address: str, host: str | None) -> Reply:
        if method not in ("GET", "HEAD"):
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"method {method}", "GET or HEAD", Allow="GET, HEAD")
        if host is not None and self._hosts is not None and _name_of(host) not in self._hosts:
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, f"Host {host[:100]}", "localhost or 127.0.0.1")
        try:
            parts = urlsplit(address)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10))
        except ValueError as error:
            return refusal(HTTPStatus.BAD_REQUEST, f"the address ({error})", "a path and a query")
        try:
            return self._answer(parts.path, query)
        except Exception:
            LOG.exception("the answer to %s failed", address[:200])
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of the service", "see its log")


def _bind(config: EndpointConfig) -> socket.socket:
    """Return a socket bound to the address, not yet listening."""
    listening = None
    try:
        flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=flags)
        family, _, _, _, address = found[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)  # its connections inherit it
        listening.bind(address)
    except (OSError, UnicodeError) as error:  # a name with an empty or long label is no Unicode for DNS
        if listening is not None:
            listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"http: {config.host}:{config.port} ({reason})",
            "an address of this machine and a port that is free",
            "correct host or port under [http], or end what listens there",
        ) from error
    return listening


def _make_server(application: _Application, connections: dict[int, Any], listening: socket.socket) -> TcpWSGIServer:
    """Return a server that listens; the limits that waitress does not know are added here."""
    from waitress.adjustments import Adjustments
    from waitress.channel import HTTPChannel
    from waitress.parser import HTTPRequestParser, ParsingError
    from waitress.server import TcpWSGIServer

    class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
        def parse_header(self, header_plus: bytes) -> None:
            try:
                super().parse_header(header_plus)
            except ValueError as error:  # of an address with half a bracket, or a length of 5,000 digits
                raise ParsingError(str(error)) from error
            self.headers["CONNECTION"] = "close"  # one request a connection

    class Channel(HTTPChannel):  # type: ignore[misc]
        parser_class = Parser

    class Server(TcpWSGIServer):  # type: ignore[misc]
        channel_class = Channel
        accepts_again, troubles = 0.0, StreamLog(SERVICE)

        def readable(self) -> bool:
            # Without a descriptor, the waiting client would wake the loop at once, again and again. And all who have
            # asked in good order are answered; meanwhile others wait in the queue of the system.
            asked = sum(bool(channel.requests) for channel in self.active_channels.values())
            return bool(super().readable()) and time.monotonic() >= self.accepts_again and asked < _room()

        def accept(self) -> tuple[socket.socket, Any] | None:
            try:
                accepted: tuple[socket.socket, Any] | None = super().accept()
            except OSError as error:
                if error.errno not in _USED_UP:
                    raise
                self.accepts_again = time.monotonic() + _PAUSE_S
                self.troubles.again("no connection to the status page", os.strerror(error.errno))
                return None
            if time.monotonic() - self.accepts_again > REQUEST_S:
                self.troubles.over("no connection to the status page")
            return accepted

        def handle_accept(self) -> None:
            super().handle_accept()
            served = [channel for channel in self.active_channels.values() if not channel.will_close]
            idle = [channel for channel in served if not channel.requests][:-2]  # the newest two are not read yet
            for oldest in idle[: max(0, len(served) - _room())]:
                _cut_off(oldest)

        def maintenance(self, now: float) -> None:
            """Cut off what takes too long; the parent's waits for a client that does not read."""
            for channel in list(self.active_channels.values()):
                silent = not channel.requests and now - channel.last_activity > SILENCE_S
                if silent or now - channel.creation_time > REQUEST_S:
                    _cut_off(channel)

    logging.getLogger("waitress").setLevel(logging.ERROR)  # clients that leave early or come in numbers are no news
    options = Adjustments(
        sockets=[listening],
        threads=1,
        ident="stunet",  # names no version to strangers
        max_request_header_size=REQUEST_BYTES,
        max_request_body_size=1,  # no body at all
        connection_limit=2 * CONNECTIONS,  # a safeguard: the oldest is cut off first
        cleanup_interval=1,
        asyncore_use_poll=True,  # select() takes no descriptor above 1,023
        log_socket_errors=False,
    )
    where = (listening.family, listening.type, listening.proto, listening.getsockname())
    return Server(application, connections, _sock=listening, adj=options, sockinfo=where, bind_socket=False)


def _room() -> int:
    """Return the number of connections that may be open, so that files and the broker always have their descriptors."""
    try:
        import resource
    except ImportError:  # the system has no such limit
        return CONNECTIONS
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CONNECTIONS if limit == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, int(limit * SHARE)))


def _cut_off(channel: Any) -> None:
    # Not closed here: its descriptor could be given to a new connection while its events are still to be handled.
    with suppress(OSError):
        channel.socket.shutdown(socket.SHUT_RDWR)
    channel.will_close = True  # else one whose answer is still to be computed would stay until then


def _name_of(host: str) -> str | None:
    """Return the name or address in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
