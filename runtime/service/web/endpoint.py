"""The status page and its endpoints, served beside the streams: a slow or hostile client costs them nothing."""

from __future__ import annotations

import io
import ipaddress
import json
import socket
import socketserver
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from runtime.service.config import EndpointConfig
from runtime.service.logs import LOG
from stunet_deploy.errors import ConfigError

#: Requests that are under way at the same time; more are turned away.
CONNECTIONS = 32
#: Seconds that a client may be silent, and those that a request may take altogether.
SILENCE_S, REQUEST_S = 10.0, 60.0
#: Seconds between two looks at what is under way.
TICK_S = 0.25
#: Bytes of a request, its headers included; what is beyond them is not read.
REQUEST_BYTES = 2**14


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        body: what is sent.
        kind: its media type.
        status: of HTTP.
        headers: further ones.
    """

    body: bytes
    kind: str = "application/json"
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Site(Protocol):
    """What a server serves."""

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """Answer a request; called by one thread at a time."""


def refusal(status: int, came: str, expected: str) -> Reply:
    """Return the answer to a request that cannot be served."""
    data = {"error": came, "expected": expected}
    return Reply(json.dumps(data, ensure_ascii=False).encode() + b"\n", status=status)


class Endpoint:
    """Serves a site from threads of its own; at most one of them computes an answer at a time.

    Args:
        config: where.
        site: what.

    Attributes:
        url: where a browser on this machine finds it.

    Raises:
        ConfigError: if the port is taken or not allowed, or the host is none of this machine.
    """

    def __init__(self, config: EndpointConfig, site: Site) -> None:
        try:
            self._server = _Server(config, site)
        except (OSError, UnicodeError) as error:  # a name with an empty or long label is no Unicode for DNS
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"http: {config.host}:{config.port} ({reason})",
                "an address of this machine and a port that is free",
                "correct host or port under [http], or end what listens there",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(TICK_S,), name="http", daemon=True)

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host, port = self._server.server_address[:2]
        text = str(host)
        if ipaddress.ip_address(text).is_unspecified:
            text = "127.0.0.1"
        return f"http://{f'[{text}]' if ':' in text else text}:{port}/"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        LOG.info("status page on %s", self.url)

    def close(self) -> None:
        """Answer no more; what is under way is cut off."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS
    allow_reuse_port = False

    def __init__(self, config: EndpointConfig, site: Site) -> None:
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
        self.address_family, _, _, _, address = found[0]
        self.site = site
        self.rendering = threading.Lock()
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._begun: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__((str(address[0]), int(address[1])), _Handler)
        bound = str(self.server_address[0])
        # A page of another origin can name this one by a name of its own that it lets point to loopback. Where only
        # loopback is served, there is no other honest name for it.
        self.hosts = {"localhost", "127.0.0.1", "::1", bound, config.host.lower()} if _is_loopback(bound) else None

    def server_bind(self) -> None:
        # The parent's looks the address up in DNS, which may take long or forever.
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._lock:
            self._begun[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._release(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._release(request)

    def service_actions(self) -> None:
        """Cut off requests that take too long; called at every tick."""
        oldest = time.monotonic() - REQUEST_S
        with self._lock:
            late = [request for request, begun in self._begun.items() if begun < oldest]
        for request in late:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that is gone is no news, and what the site raises has been logged."""

    def _release(self, request: socket.socket) -> None:
        with self._lock:
            if self._begun.pop(request, None) is not None:
                self._slots.release()


class _Bounded(io.BufferedReader):
    """Ends after some bytes: the standard library would take headers of several megabytes."""

    left = REQUEST_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(self.left if size is None or size < 0 else min(size, self.left))
        self.left -= len(line)
        return line


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    rfile: _Bounded
    timeout = SILENCE_S

    def version_string(self) -> str:
        """Name no versions to strangers."""
        return "stunet"

    def setup(self) -> None:
        super().setup()
        self.rfile = _Bounded(socket.SocketIO(self.connection, "r"))

    def parse_request(self) -> bool:
        """Read the request's head and refuse what is never served; the body, if there is one, is not read."""
        if not super().parse_request():
            return False
        if self.rfile.left <= 0:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        if self.request_version == "HTTP/0.9":
            self.send_error(HTTPStatus.BAD_REQUEST, "a request without a version")
            return False
        if self.command not in ("GET", "HEAD"):
            self._send(
                refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"method {self.command}", "GET or HEAD"), Allow="GET, HEAD"
            )
            return False
        host = self.headers.get("Host")
        if host is not None and self.server.hosts is not None and _name_of(host) not in self.server.hosts:
            self._send(refusal(HTTPStatus.MISDIRECTED_REQUEST, f"Host {host[:100]}", "localhost or 127.0.0.1"))
            return False
        return True

    def do_GET(self) -> None:
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10))
        except ValueError as error:
            self._send(refusal(HTTPStatus.BAD_REQUEST, f"the address ({error})", "a path and a query"))
            return
        try:
            with self.server.rendering:
                reply = self.server.site.reply(parts.path, query)
        except Exception:
            LOG.exception("the answer to %s failed", self.path[:200])
            reply = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of the service", "see its log")
        self._send(reply)

    do_HEAD = do_GET  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer in JSON what the parent refuses."""
        self._send(refusal(code, message or HTTPStatus(code).phrase, "a request of HTTP/1.0 or 1.1"))

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests: a monitor asks every few seconds for months."""

    def _send(self, reply: Reply, **headers: str) -> None:
        self.request_version = "HTTP/1.0"  # for a request that names none the parent would leave the headers out
        self.send_response(reply.status)
        fixed = {
            "Content-Type": reply.kind,
            "Content-Length": str(len(reply.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**fixed, **reply.headers, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _name_of(host: str) -> str | None:
    """Return the name or address in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
