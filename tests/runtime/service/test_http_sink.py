"""The HTTP sink, against servers that are well and those that are not."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.faults.receivers import TAKEN, WAYS, Receiver
from runtime.service import http_sink
from runtime.service.config import HttpConfig
from runtime.service.heartbeat import Heartbeat
from runtime.service.http_sink import HttpSink
from runtime.service.sinks import SinkError
from tests.paths import ROOT
from tests.waiting import LONG_S

HOUR_S = 3600.0


class Hurried(Heartbeat):
    """Does not wait between two tries."""

    def wait(self, seconds):
        return super().wait(0)


@pytest.fixture
def server():
    """Return a server on loopback that answers with the statuses it is given, then 204, and what it was sent."""
    statuses, bodies = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(statuses.pop(0) if statuses else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/in", statuses, bodies
        running.shutdown()


def test_http_posts_every_forecast(server, forecasts):
    url, _, bodies = server
    sink = HttpSink(HttpConfig("http", url), "ring")
    for forecast in forecasts[:2]:
        sink.write(forecast, Heartbeat(), patient=False)

    assert bodies == [("/in", "application/json", json.loads(forecast.to_json_line())) for forecast in forecasts[:2]]


@pytest.mark.parametrize(("answers", "patient"), [([503, 500], False), ([503] * 5, True)])
def test_http_tries_again_after_a_passing_fault(server, forecasts, answers, patient):
    url, statuses, bodies = server
    statuses += answers
    HttpSink(HttpConfig("http", url), "ring").write(forecasts[0], Hurried(), patient=patient)

    assert len(bodies) == len(answers) + 1


@pytest.mark.parametrize(("answers", "patient", "tries"), [([503] * 9, False, 3), ([404], True, 1), ([302], True, 1)])
def test_http_gives_up_in_the_end_or_when_it_would_be_the_same_again(server, forecasts, answers, patient, tries):
    url, statuses, bodies = server
    statuses += answers

    with pytest.raises(SinkError, match=str(answers[0])):
        HttpSink(HttpConfig("http", url), "ring").write(forecasts[0], Hurried(), patient=patient)
    assert len(bodies) == tries


def test_http_without_a_server_does_not_wait_after_the_stop(forecasts):
    heartbeat = Heartbeat()
    heartbeat.stopped.set()

    with pytest.raises(SinkError, match=r"127\.0\.0\.1:9"):
        HttpSink(HttpConfig("http", "http://127.0.0.1:9/"), "ring").write(forecasts[0], heartbeat, patient=True)


def in_time(do):
    """Do something in a thread, which has to end; return the error that it raised."""
    raised = []

    def attempt():
        try:
            do()
        except SinkError as error:
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(LONG_S)
    assert not thread.is_alive()
    return raised[0] if raised else None


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_hangs_or_trickles_is_given_up_and_nothing_is_lost(way, forecasts):
    with Receiver(way) as receiver:
        sink, heartbeat = HttpSink(HttpConfig("http", receiver.url, 0.3, 1), "ring"), Heartbeat()
        error = in_time(lambda: sink.write(forecasts[0], heartbeat, patient=False))
        assert sink.held == (way not in TAKEN)
        assert (error is None) == (way in TAKEN)
        assert error is None or (error.lost == 0 and "held in memory: 1" in error.came)

        receiver.be_well()
        sink._rest_until = 0.0
        if receiver.can_be_well:
            error = in_time(lambda: sink.write(forecasts[1], heartbeat, patient=True))
            assert (error, sink.held) == (None, 0)
            wanted = forecasts[1:2] if way in TAKEN else forecasts[:2]
            # On a busy machine a request may be given up after the receiver has it, and is then repeated.
            assert list(dict.fromkeys(receiver.bodies)) == [forecast.to_json_line().encode() for forecast in wanted]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("patient", [True, False])
def test_a_stop_in_the_middle_of_a_request_ends_it(way, patient, forecasts, monkeypatch):
    monkeypatch.setattr(http_sink, "_STOPPED_S", 0.1)
    with Receiver(way) as receiver:
        sink, heartbeat = HttpSink(HttpConfig("http", receiver.url, HOUR_S), "ring"), Heartbeat()

        def stop():
            receiver.met.wait()
            heartbeat.stopped.set()

        threading.Thread(target=stop, daemon=True).start()
        error = in_time(lambda: sink.write(forecasts[0], heartbeat, patient=patient))
        left = in_time(lambda: sink.flush(heartbeat, patient=patient))

        assert (error is None) == (left is None) == (way in TAKEN)
        assert left is None or (left.lost == 1 and "forecasts lost: 1" in left.came)
        assert sink._request.ended.wait(LONG_S)  # no thread stays behind


def test_a_server_that_does_not_read_a_large_forecast_is_given_up(forecasts):
    large = replace(forecasts[0], values=np.zeros((3, 500_000, 1), np.float32))
    with Receiver("reads nothing and says nothing") as receiver:
        sink = HttpSink(HttpConfig("http", receiver.url, 2.0, 1), "ring")
        assert "no whole answer" in str(in_time(lambda: sink.write(large, Heartbeat(), patient=False)))


def test_a_name_whose_look_up_hangs_is_given_up_and_takes_one_thread(forecasts, monkeypatch):
    found = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found.wait() and [])
    sink = HttpSink(HttpConfig("http", "http://forecasts.agency.example/", 0.3, 3), "ring")
    before = set(threading.enumerate())

    errors = [in_time(lambda one=one: sink.write(one, Hurried(), patient=False)) for one in forecasts[:3]]

    assert all(error.lost == 0 for error in errors)
    assert "look-up" in str(errors[-1])
    assert [one.name for one in set(threading.enumerate()) - before] == ["http sink"]
    found.set()
    sink._request.ended.wait()


def test_a_name_with_an_address_that_does_not_answer_is_reached_at_the_next(server, forecasts, monkeypatch):
    url, _, bodies = server
    with Receiver("does not take the connection") as deaf:
        there = [socket.getaddrinfo(*address.rsplit(":", 1))[0] for address in (deaf.url[7:-1], url[7:-3])]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: there)
        sink = HttpSink(HttpConfig("http", "http://forecasts.agency.example/in", 2.0, 1), "ring")
        assert in_time(lambda: sink.write(forecasts[0], Heartbeat(), patient=False)) is None
    assert len(bodies) == 1


def test_a_service_at_such_servers_ends_in_good_order_at_sigterm(write_config, recording, tmp_path):
    config = write_config(f'kind = "replay"\npath = "{recording.name}"', [])
    stream = config.read_text()
    with ExitStack() as stack:
        receivers = [stack.enter_context(Receiver(way)) for way in WAYS]
        text = "".join(
            stream.replace('"ring"', f'"ring{number}"').replace('"state"', f'"state{number}"')
            + f'[[stream.sink]]\nkind = "http"\nurl = "{receiver.url}"\ntimeout_s = {HOUR_S}\n'
            for number, receiver in enumerate(receivers)
        )
        config.write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-m", "stunet_deploy", "run", "--config", str(config)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for receiver in receivers:
            assert receiver.met.wait(LONG_S)
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=LONG_S)[1]

    assert process.returncode == 0, log
    for number, way in enumerate(WAYS):
        lost = f"at the end: http {receivers[number].url}" in log
        assert lost == (way not in TAKEN), log
        assert f"ring{number}: ended after" in log
