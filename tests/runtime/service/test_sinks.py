"""What sinks share: forecasts that cannot be delivered are held, in order, and what is lost is counted; and stdout."""

from __future__ import annotations

import io
import math
import os
import select
import sys
import threading

import pytest

from runtime.service import sinks, stdout_sink
from runtime.service.heartbeat import Heartbeat
from runtime.service.sinks import HoldingSink, RefusedError, SinkError
from runtime.service.stdout_sink import Output, StdoutSink
from tests.waiting import LONG_S, wait_for


class Hurried(Heartbeat):
    """Does not wait between two tries."""

    def wait(self, seconds):
        return super().wait(0)


class Moody(HoldingSink):
    """Takes what its mood allows.

    Attributes:
        mood: raised instead of taking a forecast, or None.
        patience: fails so many times before that mood is over.
    """

    mood, patience, tried = None, math.inf, 0

    def __init__(self, **options):
        super().__init__("moody", "ring", **options)
        self.taken = []

    def _deliver(self, heartbeat, *, last):
        self.tried += 1
        if self.mood is not None and self.tried <= self.patience:
            raise self.mood("a bad mood", "a good one", "wait")
        self.taken.append(self._waiting[0])
        return 1


def write(sink, *forecasts, patient=False):
    """Write forecasts; return how many were said to be lost at each, None where there was no error."""
    lost = []
    for forecast in forecasts:
        try:
            sink.write(forecast, Hurried(), patient=patient)
            lost.append(None)
        except SinkError as error:
            lost.append(error.lost)
    return lost


@pytest.fixture(autouse=True)
def restless(monkeypatch):
    """A sink that fails is tried again at once."""
    monkeypatch.setattr(sinks, "_REST", 0)


def test_what_cannot_be_delivered_is_delivered_later_in_order(forecasts):
    sink = Moody()
    sink.mood = SinkError
    assert write(sink, *forecasts[:3]) == [0, 0, 0]
    assert sink.held == 3
    sink.mood = None
    assert write(sink, *forecasts[3:5]) == [None, None]
    assert (sink.held, sink.taken) == (0, forecasts[:5])


@pytest.mark.parametrize("limit", ["forecasts", "bytes"])
def test_beyond_the_limit_the_oldest_is_lost_and_counted(forecasts, monkeypatch, limit):
    if limit == "forecasts":
        monkeypatch.setattr(sinks, "HELD", 3)
    else:
        monkeypatch.setattr(sinks, "HELD_BYTES", 3 * forecasts[0].values.nbytes)
    sink = Moody()
    sink.mood = SinkError
    assert write(sink, *forecasts[:5]) == [0, 0, 0, 1, 1]
    sink.mood = None
    assert write(sink, *forecasts[5:7]) == [1, None]
    assert (sink.held, sink.taken) == (0, forecasts[3:7])


def test_one_forecast_is_held_however_large_it_is(forecasts, monkeypatch):
    monkeypatch.setattr(sinks, "HELD_BYTES", 0)
    sink = Moody(least=2)
    sink.mood = SinkError
    assert write(sink, *forecasts[:3]) == [0, 0, 1]
    assert sink.held == 2


def test_what_would_be_refused_again_is_lost_and_holds_up_nothing(forecasts):
    sink = Moody()
    sink.mood = SinkError
    assert write(sink, *forecasts[:2]) == [0, 0]
    sink.mood = RefusedError
    assert write(sink, forecasts[2]) == [3]
    sink.mood = None
    assert write(sink, forecasts[3]) == [None]
    assert sink.taken == forecasts[3:4]


def test_a_patient_stream_waits_until_it_is_delivered_or_stopped(forecasts, caplog):
    sink = Moody()
    sink.mood, sink.patience = SinkError, 1000
    assert write(sink, forecasts[0], patient=True) == [None]
    assert (sink.tried, sink.taken) == (1001, forecasts[:1])
    assert len([one for one in caplog.records if "a bad mood" in one.message]) == 4  # 1, 10, 100, 1,000 times

    sink.patience, heartbeat = math.inf, Heartbeat()
    heartbeat.stopped.set()
    with pytest.raises(SinkError):
        sink.write(forecasts[1], heartbeat, patient=True)
    with pytest.raises(SinkError, match="forecasts lost: 1"):
        sink.flush(heartbeat, patient=True)


def test_a_sink_that_fails_is_not_tried_with_every_forecast_of_a_stream_that_catches_up(forecasts, monkeypatch):
    monkeypatch.setattr(sinks, "_REST", 10**9)
    sink = Moody(tries=3)
    sink.mood = SinkError
    assert write(sink, *forecasts) == [0] * len(forecasts)
    assert (sink.tried, sink.held) == (3, len(forecasts))


def test_stdout_has_forecast_lines(forecasts):
    out = io.StringIO()
    assert set(write(StdoutSink(Output(out), "ring"), *forecasts)) == {None}

    assert out.getvalue().splitlines() == [forecast.to_json_line() for forecast in forecasts]


@pytest.fixture
def pipe():
    """Return the ends of a pipe, the first a descriptor and the second a text stream."""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as out:
        yield read, out
    os.close(read)


@pytest.mark.skipif(sys.platform == "win32", reason="no poll on this system")
def test_a_pipe_that_nobody_reads_holds_up_no_stream_and_has_whole_lines_in_the_end(forecasts, pipe, monkeypatch):
    monkeypatch.setattr(stdout_sink, "_READER_S", 0.01)
    read, out = pipe
    shared = Output(out)
    one, two = StdoutSink(shared, "one"), StdoutSink(shared, "two")
    said = []
    while len([lost for lost in said if lost is not None]) < 4:
        said += write(one, forecasts[len(said) % 8]) + write(two, forecasts[len(said) % 8])
    assert set(said) == {0, None}
    assert one.held + two.held == 4

    lines = []

    def collect():
        with os.fdopen(os.dup(read), encoding="utf-8") as reader:
            lines.extend(reader)

    reading = threading.Thread(target=collect)
    reading.start()
    monkeypatch.setattr(stdout_sink, "_READER_S", LONG_S)
    for sink in (one, two):
        sink.flush(Heartbeat(), patient=False)
    out.close()
    reading.join()

    assert len(lines) == len(said)
    assert {line.rstrip("\n") for line in lines} <= {forecast.to_json_line() for forecast in forecasts}


@pytest.mark.skipif(sys.platform == "win32", reason="no poll on this system")
def test_a_stop_ends_the_wait_for_a_reader(forecasts, pipe, monkeypatch):
    monkeypatch.setattr(stdout_sink, "_READER_S", 3600.0)
    monkeypatch.setattr(stdout_sink, "_STOPPED_S", 0.1)
    read, out = pipe
    sink, heartbeat = StdoutSink(Output(out), "ring"), Heartbeat()
    errors = []

    def run():
        try:
            while True:
                sink.write(forecasts[0], heartbeat, patient=True)
        except SinkError as error:
            errors.append(error)

    stream = threading.Thread(target=run, daemon=True)
    stream.start()
    wait_for(lambda: not select.select([], [out], [], 0)[1])  # the pipe is full
    heartbeat.stopped.set()
    stream.join(LONG_S)
    assert len(errors) == 1
    os.set_blocking(read, False)
    os.read(read, 2**20)  # or closing would wait for room


def test_a_reader_that_has_gone_ends_the_service(forecasts, pipe):
    read, out = pipe
    os.dup2(out.fileno(), read)  # closes the end that is read
    sink = StdoutSink(Output(out), "ring")
    with pytest.raises(BrokenPipeError):
        sink.write(forecasts[0], Heartbeat(), patient=False)
