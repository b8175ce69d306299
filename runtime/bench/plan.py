"""The cases and the plan of a measurement of a bundle, and the findings of each case."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from runtime.backends.base import ONNXRUNTIME
from runtime.bench.loops import Trace
from runtime.bench.machine import Energy
from stunet_deploy.errors import ConfigError
from stunet_deploy.precisions import FLOAT32

#: Every case runs in so many turns, so that a slow minute of the machine meets all of them alike.
TURNS = 10
#: Forecasts in a loop, but no more than take so many seconds, and at least so many that the median is known.
COUNT, LOOP_S, LEAST = 2000, 30.0, 20
#: Forecasts a second in the open loop, if the slowest case is twice as fast.
RATE = 100.0


@dataclass(frozen=True)
class Case:
    """One way to run the bundle: a backend, a precision and a number of threads."""

    backend: str = ONNXRUNTIME
    precision: str = FLOAT32
    threads: int = 1


@dataclass(frozen=True)
class Plan:
    """How it is measured.

    Attributes:
        count: forecasts in each loop; None for :data:`COUNT`, or as many as take :data:`LOOP_S`.
        rate: of the open loop, forecasts a second; None for :data:`RATE`, or half of what the slowest case can do.
        warm_up: forecasts of each case before the first that counts, beside the golden stream; for two seconds at most.
        idle_s: pause before a first step after idle.
        idle_repeats: how often that is measured.
        cold_starts: how many fresh processes are started.
        deadline_us: within which a forecast must be there, in microseconds.

    Raises:
        ConfigError: if a number is too small to measure anything.
    """

    count: int | None = None
    rate: float | None = None
    warm_up: int = 200
    idle_s: float = 0.5
    idle_repeats: int = 5
    cold_starts: int = 3
    deadline_us: float | None = None

    def __post_init__(self) -> None:
        count, rate, deadline = (1 if given is None else given for given in (self.count, self.rate, self.deadline_us))
        if (self.count is not None and count < TURNS) or not 0 < rate < 1e6 or deadline <= 0:
            raise ConfigError(
                f"{self.count} forecasts at {self.rate} a second, deadline {self.deadline_us}",
                f"at least {TURNS}, a rate above 0 and a deadline above 0",
                "choose another --count, --rate or --deadline",
            )

    def settled(self, slowest_us: float) -> Plan:
        """Return the plan with what was left open, for cases whose slowest takes so many microseconds."""
        count, rate = self.count, self.rate
        if count is None:
            count = max(LEAST, min(COUNT, int(1e6 * LOOP_S / slowest_us)))
        if rate is None:
            rate = min(RATE, 0.5e6 / slowest_us)
        return replace(self, count=count, rate=rate)


@dataclass
class Run:
    """The findings of one case; :func:`runtime.bench.summary.run_to_json` gives them as JSON."""

    case: Case
    artifact: dict[str, str]
    parity: dict[str, Any]
    device_memory_mb: float | None
    energy: Energy
    closed: list[Trace] = field(default_factory=list)
    opened: list[Trace] = field(default_factory=list)
    idle_us: list[float] = field(default_factory=list)
    cold_starts: list[dict[str, Any]] = field(default_factory=list)
