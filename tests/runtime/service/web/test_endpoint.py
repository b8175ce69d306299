"""The server, whatever it serves: against clients that are wrong, slow or hostile."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from runtime.service.config import EndpointConfig
from runtime.service.web import endpoint
from runtime.service.web.endpoint import CONNECTIONS, Endpoint, Reply
from stunet_deploy.errors import ConfigError


class Echo:
    """Answers with what it was asked."""

    def __init__(self):
        self.large = b"x" * 20_000_000

    def reply(self, path, query):
        if path == "/large":
            return Reply(self.large)
        if path == "/broken":
            raise ValueError("a mistake")
        return Reply(json.dumps([path, query]).encode())


@pytest.fixture
def serve():
    """Return a function that serves on loopback and returns the port."""
    running = []

    def serve(host="127.0.0.1"):
        running.append(Endpoint(EndpointConfig(0, host), Echo()))
        running[-1].start()
        return urlsplit(running[-1].url).port

    yield serve
    for one in running:
        one.close()


def ask(port, path="/", method="GET", host="127.0.0.1", **headers):
    """Return status, headers and body of an answer."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def say(port, text):
    """Send bytes and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        parts = []
        with suppress(ConnectionError):  # it did not want to hear the rest
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(65536):
                parts.append(part)
        return b"".join(parts)


def test_a_request_is_answered_with_its_path_and_query(serve):
    status, headers, body = ask(serve(), "/forecast?stream=ring%20road&empty=")

    assert (status, json.loads(body)) == (200, ["/forecast", {"stream": "ring road", "empty": ""}])
    assert headers["Content-Type"] == "application/json"
    assert int(headers["Content-Length"]) == len(body)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "stunet"


def test_head_has_the_headers_and_no_body(serve):
    status, headers, body = ask(serve(), "/somewhere", "HEAD")

    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == len(json.dumps(["/somewhere", {}]))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "BREW"])
def test_nothing_but_get_and_head_is_allowed(serve, method):
    status, headers, body = ask(serve(), "/", method)

    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(body)["error"] == f"method {method}"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:8080", "[", "", "a b"]
)
def test_a_name_that_is_not_this_machines_is_refused_on_loopback(serve, host):
    status, _, body = ask(serve(), "/", Host=host)

    assert status == 421
    assert b"localhost" in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"])
def test_the_names_of_loopback_are_served_with_any_port(serve, host):
    assert ask(serve(), "/", Host=host)[0] == 200


def test_every_name_is_served_where_the_whole_network_is(serve):
    assert ask(serve("0.0.0.0"), "/", Host="controller-7.agency.example")[0] == 200


def test_ipv6_is_served_where_there_is_some(serve):
    try:
        port = serve("::1")
    except ConfigError:
        pytest.skip("no IPv6 here")

    assert ask(port, host="::1")[0] == 200


LONG = b"GET / HTTP/1.0\r\nh: " + b"x" * 10_000_000 + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b"GET\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9.9\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"505"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), b"400"),
        (b"GET http://[/ HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /?" + b"&".join(b"a=%d" % n for n in range(20)) + b" HTTP/1.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nno header\r\n\r\n", b"200"),
        (b"GET / HTTP/1.0\r\n" + b"".join(b"h%d: 1\r\n" % n for n in range(200)) + b"\r\n", b"431"),
    ],
    ids=range(11),
)
def test_rubbish_is_refused_and_the_next_request_answered(serve, text, status):
    port = serve()

    assert say(port, text)[:12] == (b"HTTP/1.0 " + status if status else b"")
    assert ask(port)[0] == 200


@pytest.mark.parametrize("text", [LONG, b"GET /" + LONG, b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 1_000_000], ids=range(3))
def test_a_request_without_end_is_not_read_to_its_end(serve, text):
    port = serve()

    # What has not been read resets the connection, perhaps before the answer has arrived.
    assert say(port, text)[:10] in (b"HTTP/1.0 4", b"")
    assert ask(port)[0] == 200


def test_a_body_is_not_waited_for(serve):
    text = b"GET / HTTP/1.0\r\nContent-Length: 1000000000\r\n\r\n"

    assert say(serve(), text)[:12] == b"HTTP/1.0 200"


def test_a_mistake_of_the_site_is_an_answer(serve):
    port = serve()

    assert ask(port, "/broken")[0] == 500
    assert ask(port)[0] == 200


def test_clients_that_say_nothing_or_read_nothing_hold_up_nobody(serve):
    port = serve()
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS // 2 - 1)]
    greedy = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS // 2 - 1)]
    try:
        for client in silent:
            client.sendall(b"GET / HT")
        for client in greedy:
            client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        assert ask(port)[0] == 200
    finally:
        for client in silent + greedy:
            client.close()


def test_more_connections_than_there_is_room_for_are_turned_away_until_there_is(serve):
    port = serve()
    held = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(CONNECTIONS)]
    late = socket.create_connection(("127.0.0.1", port), timeout=30)
    assert late.recv(1) == b""
    late.close()
    for client in held:
        client.close()

    pause = threading.Event()
    for _ in range(500):
        try:
            assert ask(port)[0] == 200
            return
        except (ConnectionError, http.client.HTTPException):
            pause.wait(0.02)
    pytest.fail("no room again")


def test_a_request_that_takes_too_long_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr(endpoint, "REQUEST_S", 0.2)
    port = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"GET / HTTP/1.0\r\n")
        assert slow.recv(1) == b""


def test_a_port_that_is_taken_and_a_host_that_is_none_are_named(serve):
    port = serve()
    for config, named in [
        (EndpointConfig(port), f"127.0.0.1:{port}"),
        (EndpointConfig(0, "192.0.2.1"), "192.0.2.1"),
        (EndpointConfig(0, "no such host"), "no such host"),
        (EndpointConfig(0, "a..b"), "a..b"),
    ]:
        with pytest.raises(ConfigError, match=named) as refused:
            Endpoint(config, Echo())
        assert "[http]" in refused.value.action


def test_nothing_listens_after_its_end_or_before_its_start():
    one = Endpoint(EndpointConfig(0), Echo())
    port = urlsplit(one.url).port
    one.close()
    two = Endpoint(EndpointConfig(port), Echo())
    two.start()
    assert ask(port)[0] == 200
    two.close()
    with pytest.raises(ConnectionRefusedError):
        ask(port)
