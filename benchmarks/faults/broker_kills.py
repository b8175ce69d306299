"""Kills with a broker: a whole service ended at random instants, while its broker comes and goes.

The service takes intervals (or single readings) from a broker, and hands forecasts to it and to a CSV file. It is ended
with SIGKILL while it starts, while it catches up, in the middle of an interval; the broker is stopped and started
meanwhile, before and after. The sender goes on all the time, by the clock that the service has, too. Afterwards every
forecast must be there in both, those of an uninterrupted run to the last bit, copies included; none may be twice in the
file.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.faults.kills import CASES, EVERY
from benchmarks.faults.network import Mode
from benchmarks.faults.roadside import Roadside
from benchmarks.faults.table import Row
from stunet_deploy.bundle import Bundle

_AWAY = 6  # most intervals that are sent while the service is dead


def broker_kills(bundle: Bundle, number: int, rng: np.random.Generator) -> Iterator[Row]:
    """Kill so many services in all; each of carry and window mode, intervals and single readings gets a quarter."""
    if shutil.which("mosquitto") is None:
        yield Row("kill -9 with a broker", 0, [], "", skipped="mosquitto is not installed")
        return
    for index, (mode, source) in enumerate(CASES):
        yield kill(bundle, mode, source, (number + index) // len(CASES), rng)


def kill(bundle: Bundle, mode: Mode, source: str, number: int, rng: np.random.Generator) -> Row:
    """Kill a service so many times."""
    done, running, stops, failures = 0, 0, 0, []
    with tempfile.TemporaryDirectory() as scratch:
        roadside = Roadside(Path(scratch), [bundle], mode, single=source == "readings", every=EVERY)
        started, start_s = time.monotonic(), 0.5  # how long it takes to start and to catch up, as measured last
        try:
            while done < number:
                pushing, away, bounced = rng.random(3) < (0.75, 0.3, 0.3)
                rest = []
                if pushing:
                    roadside.settle()
                    start_s = time.monotonic() - started
                    roadside.run(int(rng.integers(3)))
                    messages = roadside.feed.interval()
                    cut = int(rng.integers(len(messages) + 1))
                    roadside.send(messages[:cut])
                    rest = messages[cut:]
                    _sleep(rng, 0.05)
                else:
                    _sleep(rng, 1.1 * start_s)
                if away:
                    roadside.broker.stop()
                    _sleep(rng, 0.05)
                roadside.service.kill()
                done, running, stops = done + 1, running + int(pushing), stops + int(away) + int(bounced)
                roadside.send(rest)
                roadside.go_on(int(rng.integers(_AWAY + 1)))
                if away:
                    roadside.broker.start()
                started = time.monotonic()
                roadside.service.start()
                if bounced:
                    _sleep(rng, 1.1 * start_s)
                    roadside.broker.stop()
                    _sleep(rng, 0.1)
                    roadside.broker.start()
        except TimeoutError as error:
            failures.append(f"broken off: {error}")
        failures += roadside.judge()
        seen = (
            f"{running} of them while it took {source}, the others while it started or caught up; the broker was "
            f"stopped {stops} times; {len(roadside.feed.expected)} forecasts, copies by QoS 1: {roadside.copies}"
        )
        roadside.close()
    return Row(f"kill -9 with a broker, {mode}, {source}", done, failures, seen)


def _sleep(rng: np.random.Generator, longest_s: float) -> None:
    """Wait a random time."""
    time.sleep(rng.uniform(0, longest_s))
