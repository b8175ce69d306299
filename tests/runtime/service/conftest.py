"""A service on the small example bundle: its config as TOML text, its recording as a CSV file."""

from __future__ import annotations

import io
import json
import os
import signal
import threading

import numpy as np
import pytest

from runtime.service import connectors
from runtime.service.config import read_config
from runtime.service.sources import StdinSource
from runtime.service.supervisor import Service
from runtime.stream import Stream
from stunet_deploy.series.times import format_time
from tests.waiting import LONG_S, wait_for

SENSORS = [f"s{node}" for node in range(5)]


@pytest.fixture(scope="module")
def forecasts(shared_example):
    """Return 8 forecasts around midnight."""
    stream = Stream.open(shared_example.bundle)
    midnight = 1_330_646_400
    rng = np.random.default_rng(3)
    found = [stream.push(rng.uniform(0, 1, (5, 2)), midnight + 300 * t) for t in range(-4, 4)]
    stream.close()
    return found


@pytest.fixture(autouse=True)
def handlers():
    """Put the handlers of signals back: the command that runs a service leaves it deaf, since a process ends then."""
    numbers = [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def recording(tmp_path, readings):
    """Return a CSV file of 40 intervals in the long layout."""
    values, _, timestamps = readings
    rows = ["timestamp,sensor_id,speed,trend"]
    for t, stamp in enumerate(timestamps.tolist()):
        for node, sensor in enumerate(SENSORS):
            cells = ["" if np.isnan(value) else repr(float(value)) for value in values[t, node]]
            rows.append(f"{format_time(stamp)},{sensor},{','.join(cells)}")
    path = tmp_path / "recording.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def lines(readings):
    """Return the 40 intervals as lines of JSON."""
    values, _, timestamps = readings

    def cell(value):
        return None if np.isnan(value) else float(value)

    return [
        json.dumps(
            {
                "timestamp": format_time(stamp),
                "values": {
                    sensor: {"speed": cell(speed), "trend": cell(trend)}
                    for sensor, (speed, trend) in zip(SENSORS, values[t].tolist(), strict=True)
                },
            }
        )
        for t, stamp in enumerate(timestamps.tolist())
    ]


@pytest.fixture
def expected(example, readings):
    """Return the forecasts [time, horizon, node, target] of a plain stream by their time of issue, as text."""
    values, observed, timestamps = readings
    stream = Stream.open(example.bundle)
    forecasts = [stream.push(values[t], int(timestamps[t]), observed[t]) for t in range(len(timestamps))]
    stream.close()
    return {format_time(forecast.issued_s): forecast.values for forecast in forecasts}


@pytest.fixture
def write_config(tmp_path, example):
    """Return a function that writes a service of one stream and returns the file."""

    def write(source, sinks, *, extra="", top=""):
        text = f"""
{top}
[[stream]]
name = "ring"
bundle = "{example.bundle.path}"
state = "state"
{extra}
[stream.source]
{source}
"""
        for sink in sinks:
            text += f"[[stream.sink]]\n{sink}\n"
        path = tmp_path / "service.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def pipe(monkeypatch):
    """Return the end to write to of a pipe that stands for standard input."""
    read, write = os.pipe()
    monkeypatch.setattr(connectors, "StdinSource", lambda **options: StdinSource(read, **options))
    with os.fdopen(write, "w") as lines:
        yield lines
    os.close(read)


class Running:
    """A service in a thread, as a test watches it."""

    def __init__(self, path, prepare=lambda service: None, **options):
        self.out = io.StringIO()
        self.service = Service(read_config(path), self.out, **options)
        prepare(self.service)
        self.error = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            self.service.run()
        except BaseException as error:
            self.error = error

    def wait_for(self, reached):
        """Wait until something is so of the stream's status, or the service has ended."""
        wait_for(
            lambda: reached(self.service.statuses()[0]) or not self._thread.is_alive(),
            lambda: self.service.statuses()[0],
        )

    def finish(self, *, stop=True):
        """Stop the service, or wait for its end; return the status of its stream."""
        if stop:
            self.service.stop()
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.service.statuses()[0]


@pytest.fixture
def start():
    """Return a function that starts the service of a config file; what a failed test leaves is stopped."""
    running = []

    def begin(path, **options):
        running.append(Running(path, **options))
        return running[-1]

    yield begin
    for one in running:
        one.service.stop()
        one._thread.join(LONG_S)


@pytest.fixture
def send(pipe):
    """Return what writes lines to the service's standard input."""

    def send(lines):
        pipe.write("".join(f"{line}\n" for line in lines))
        pipe.flush()

    return send
