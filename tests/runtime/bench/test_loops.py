from __future__ import annotations

import numpy as np

from runtime.bench.loops import Trace, closed_loop, open_loop


class Machine:
    """A clock that stands still but for what sleeps and forecasts add to it."""

    def __init__(self, *forecasts_us: int) -> None:
        self.now = 1_000_000
        self.slept: list[float] = []
        self._forecasts = iter(forecasts_us)

    def clock(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(1e9 * seconds)

    def forecast(self) -> float:
        took = next(self._forecasts)
        self.now += 1000 * took
        return took - 1


def test_a_closed_loop_times_one_forecast_after_the_other() -> None:
    machine = Machine(300, 100, 200)

    trace = closed_loop(machine.forecast, 3, clock=machine.clock)

    assert (trace.latency.nanoseconds / 1000).tolist() == [300, 100, 200]
    assert (trace.step / 1000).tolist() == [299, 99, 199]
    assert trace.begin.tolist() == [1_000_000, 1_300_000, 1_400_000]
    assert trace.wait.nanoseconds.tolist() == [0, 0, 0]


def test_in_an_open_loop_a_slow_forecast_delays_those_behind_it() -> None:
    machine = Machine(200, 2500, 200, 200, 200)

    trace = open_loop(machine.forecast, 5, 1000.0, clock=machine.clock, sleep=machine.sleep)

    # Due every 1000 us: the second takes 2500, so the third begins 1500 late, the fourth 700, the fifth in time.
    assert (trace.latency.nanoseconds / 1000).tolist() == [200, 2500, 1700, 900, 200]
    assert (trace.service.nanoseconds / 1000).tolist() == [200, 2500, 200, 200, 200]
    assert (trace.wait.nanoseconds / 1000).tolist() == [0, 0, 1500, 700, 0]
    assert np.diff(trace.due).tolist() == [1_000_000] * 4


def test_an_open_loop_sleeps_on_when_it_wakes_too_early() -> None:
    machine = Machine(100)

    def nap(seconds: float) -> None:
        machine.sleep(max(seconds / 2, 1e-4))

    trace = open_loop(machine.forecast, 1, 1000.0, clock=machine.clock, sleep=nap)

    assert len(machine.slept) > 1
    assert trace.begin[0] >= trace.due[0]


def test_traces_are_joined_in_order() -> None:
    machine = Machine(1, 2, 3)

    joined = Trace.join([closed_loop(machine.forecast, count, clock=machine.clock) for count in (2, 1)])

    assert (joined.latency.nanoseconds / 1000).tolist() == [1, 2, 3]
