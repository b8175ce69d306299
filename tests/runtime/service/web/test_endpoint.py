"""The server, whatever it serves: against clients that are wrong, slow or hostile."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from runtime.service.config import EndpointConfig
from runtime.service.web import endpoint
from runtime.service.web.endpoint import Endpoint, Reply
from stunet_deploy.errors import ConfigError
from tests.waiting import LONG_S, wait_for

LARGE = b"x" * 20_000_000


def echo(path, query):
    """Answer with what was asked."""
    if path == "/large":
        return Reply(LARGE)
    if path == "/broken":
        raise ValueError("a mistake")
    return Reply(json.dumps([path, query]).encode())


@pytest.fixture
def serve():
    """Return a function that serves on loopback and returns the port."""
    running = []

    def serve(host="127.0.0.1"):
        running.append(Endpoint(EndpointConfig(0, host), echo))
        running[-1].start()
        return urlsplit(running[-1].url).port

    serve.running = running
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
        with suppress(OSError):  # the rest is not read, and the connection perhaps reset already
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
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


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"])
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


MANY_HEADERS = b"".join(b"h%d: 1\r\n" % number for number in range(5000))
LONG = b"GET / HTTP/1.0\r\nh: " + b"x" * 10_000_000 + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b"\r\n" * 1000, b""),
        (b"GET / HTTP/1.0\r\n", b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), b""),
        (bytes(range(256)) + b"\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"get / HTTP/1.0\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9.9\r\n\r\n", b"400"),
        (b"GET  / HTTP/1.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0 and more\r\n\r\n", b"400"),
        (b"GET http://[/ HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /?" + b"&".join(b"a=%d" % n for n in range(20)) + b" HTTP/1.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nno header\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\n: nameless\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\n folded\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\na: bare\rreturn\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\na: \0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n", b"421"),
        (b"GET / HTTP/1.0\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nContent-Length: 1, 1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n", b"4"),
        (b"GET / HTTP/1.0\r\nContent-Length: 1000000000\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789", b"413"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"GET / HTTP/1.0\r\n" + MANY_HEADERS + b"\r\n", b"431"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.0\r\n\r\n", b"431"),
        (b"GET /\xff HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /%ff%00%zz?%ff=%fe HTTP/1.0\r\n\r\n", b"200"),
        (b"GET //[ HTTP/1.0\r\n\r\n", b"400"),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", b"405"),
        (b"GET localhost:80 HTTP/1.1\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", b"100"),
        (b"GET / HTTP/1.1\r\nConnection: keep-alive, \xff\r\n\r\n" * 3, b"200"),
    ],
    ids=range(35),
)
def test_rubbish_is_refused_and_the_next_request_answered(serve, text, status, caplog):
    port = serve()
    head = say(port, text).partition(b"\r\n")[0]

    # Of a head beyond the limit a part is never read, which may reset the connection before the answer has arrived.
    lost = head == b"" and (not status or len(text) > 16_000)
    assert lost or (status and head.partition(b" ")[2].startswith(status))
    assert ask(port)[0] == 200
    assert caplog.records == [record for record in caplog.records if record.levelname == "INFO"]


@pytest.mark.parametrize("text", [LONG, b"GET /" + LONG, b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 1_000_000], ids=range(3))
def test_a_request_without_end_is_not_read_to_its_end(serve, text):
    port = serve()

    # What has not been read resets the connection, perhaps before the answer has arrived.
    assert say(port, text)[:10] in (b"HTTP/1.0 4", b"")
    assert ask(port)[0] == 200


def test_a_mistake_of_the_site_is_an_answer(serve):
    port = serve()

    assert ask(port, "/broken")[0] == 500
    assert ask(port)[0] == 200


def test_one_request_is_answered_on_a_connection(serve):
    text = b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\nGET /second HTTP/1.1\r\nHost: localhost\r\n\r\n"
    said = say(serve(), text)

    assert said.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in said


def connect(port, number, text=b""):
    """Return connections on which some bytes have been sent."""
    clients = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(number)]
    for client in clients:
        client.sendall(text)
    return clients


def test_clients_that_say_nothing_or_read_nothing_hold_up_nobody(serve):
    port = serve()
    slow = [
        *connect(port, 32),
        *connect(port, 32, b"GET / HT"),
        *connect(port, 64, b"GET /large HTTP/1.0\r\n\r\n"),
    ]
    try:
        for _ in range(5):
            assert ask(port)[0] == 200
            for client in slow[32:64]:
                client.sendall(b"T")
    finally:
        for client in slow:
            client.close()


def test_one_connection_more_than_there_is_room_for_cuts_off_the_oldest(serve, monkeypatch):
    monkeypatch.setattr(endpoint, "CONNECTIONS", 8)
    port = serve()
    held = connect(port, 8)
    assert ask(port)[0] == 200
    assert held[0].recv(1) == b""
    held[7].sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert held[7].recv(12) == b"HTTP/1.0 200"
    for client in held:
        client.close()


def test_more_requests_than_there_is_room_for_wait_and_are_all_answered(monkeypatch):
    monkeypatch.setattr(endpoint, "CONNECTIONS", 4)
    computing = threading.Event()
    one = Endpoint(EndpointConfig(0), lambda path, query: computing.wait() and Reply(b""))
    one.start()
    port = urlsplit(one.url).port
    clients = [client for _ in range(12) for client in connect(port, 1, b"GET / HTTP/1.0\r\n\r\n")]
    try:
        wait_for(lambda: sum(bool(channel.requests) for channel in [*one._server.active_channels.values()]) >= 4)
        computing.set()
        for client in clients:
            assert client.recv(12) == b"HTTP/1.0 200"
    finally:
        computing.set()
        for client in clients:
            client.close()
        one.close()


def test_a_request_that_takes_too_long_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr(endpoint, "REQUEST_S", 0.2)
    port = serve()
    (slow,) = connect(port, 1, b"GET / HTTP/1.0\r\n")
    (greedy,) = connect(port, 1, b"GET /large HTTP/1.0\r\n\r\n")
    assert slow.recv(1) == b""  # both are due at the same look
    with greedy, suppress(ConnectionError):
        read = 0
        while part := greedy.recv(65536):
            read += len(part)
        assert read < len(LARGE)
    slow.close()


@contextmanager
def descriptors(number):
    """Take the process's right to more descriptors."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_clients_wait_while_there_is_no_descriptor_and_the_loop_does_not_spin(serve, monkeypatch, caplog):
    port = serve()
    clients = [socket.socket() for _ in range(3)]
    monkeypatch.setattr(endpoint, "_PAUSE_S", 3600.0)
    with descriptors(3):
        for client in clients:
            client.settimeout(LONG_S)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wait_for(lambda: [one for one in caplog.records if "no connection to the status page" in one.message])
        server = serve.running[0]._server
        assert server.accepts_again > time.monotonic()
        assert not server.readable()
    server.accepts_again = 0.0
    for client in clients:
        assert client.recv(12) == b"HTTP/1.0 200"
        client.close()


@pytest.mark.parametrize(("limit", "room"), [(2, 1), (100, 25), (10_000, 256)])
def test_connections_take_a_share_of_the_descriptors(limit, room):
    with descriptors(limit):
        assert endpoint._room() == room


def test_a_thousand_requests_of_two_hundred_clients_are_answered_by_one_thread():
    threads, statuses = set(), []

    def answer(path, query):
        threads.add(threading.get_ident())
        return echo(path, query)

    one = Endpoint(EndpointConfig(0), answer)
    one.start()
    port = urlsplit(one.url).port
    clients = [
        threading.Thread(target=lambda: statuses.extend(ask(port, "/healthz")[0] for _ in range(5))) for _ in range(200)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    one.close()

    assert statuses == [200] * 1000
    assert len(threads) == 1


def test_a_port_that_is_taken_and_a_host_that_is_none_are_named(serve):
    port = serve()
    for config, named in [
        (EndpointConfig(port), f"127.0.0.1:{port}"),
        (EndpointConfig(0, "192.0.2.1"), "192.0.2.1"),
        (EndpointConfig(0, "no such host"), "no such host"),
        (EndpointConfig(0, "a..b"), "a..b"),
    ]:
        with pytest.raises(ConfigError, match=named) as refused:
            Endpoint(config, echo)
        assert "[http]" in refused.value.action


def test_nothing_listens_after_its_end_or_before_its_start():
    one = Endpoint(EndpointConfig(0), echo)
    port = urlsplit(one.url).port
    one.close()
    two = Endpoint(EndpointConfig(port), echo)
    two.start()
    assert ask(port)[0] == 200
    two.close()
    with pytest.raises(ConnectionRefusedError):
        ask(port)
