"""The status of a stream, as other threads read it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from runtime.drift import DriftReport
from runtime.forecast import Forecast
from runtime.service.config import StreamConfig
from runtime.service.deliveries import Deliveries
from runtime.service.mqtt.report import BrokerReport
from runtime.service.step_times import StepTimes
from runtime.service.web.history import History
from stunet_deploy.manifest import Manifest

#: Counters of readings that were accepted and are not used.
DROPPED = ("outside_limits", "unknown", "stuck", "dropped", "unweighted")


@dataclass
class ServiceCounters:
    """Counters of a worker since the process began, beside those of its stream and assembler."""

    delivered: int = 0
    """Lines, messages or intervals that came."""
    redelivered: int = 0
    """Messages refused as late that were repeats by the broker, not faults of the sender."""
    forecasts: int = 0
    """Forecasts handed to the sinks."""
    backend_failures: int = 0
    """Intervals at which the backend failed and the stream restarted from zero."""
    undelivered: dict[str, int] = field(default_factory=dict)
    """Forecasts that a sink has lost, by sink."""


@dataclass(frozen=True)
class Status:
    """The status of one stream at one moment.

    Attributes:
        stream: name of the stream.
        manifest: manifest of its bundle.
        config: its config.
        backend: name of the backend that runs its steps.
        live: whether its readings are current.
        last: the last forecast, or None.
        running_s: seconds since the worker was made.
        age_s: seconds from the end of the last forecast's interval to now; of a replay, since the forecast was
            delivered; None without a forecast.
        waiting: length of the inbox.
        silent_s: seconds since the worker's last heartbeat.
        ended: whether the worker has ended.
        trouble: the reason why the stream would not survive a restart, or None.
        counters: counters of the worker, the stream and the assembler, by name.
        drift: running errors of its forecasts; None without a drift watch.
        history: observations and forecasts of about the last day.
        step_times: durations of its steps.
        deliveries: statistics of its last deliveries.
        broker: its link to the broker; None if the stream uses none.
        catching_up: whether single readings may come that were kept for the stream, so that no interval is closed by
            the clock.
        held: forecasts that wait in memory because a sink cannot deliver them, by sink.
        not_taken: why the last reload has not brought the bundle that the config names now; None if it has.
        lost: what the start or a new bundle could not restore; empty if all was.
        lost_s: seconds since that was last found.
    """

    stream: str
    manifest: Manifest
    config: StreamConfig
    backend: str
    live: bool
    last: Forecast | None
    running_s: float
    age_s: float | None
    waiting: int
    silent_s: float
    ended: bool
    trouble: str | None
    counters: dict[str, Any]
    drift: DriftReport | None
    history: History
    step_times: StepTimes
    deliveries: Deliveries
    broker: BrokerReport | None
    catching_up: bool
    held: dict[str, int]
    not_taken: str | None = None
    lost: tuple[str, ...] = ()
    lost_s: float = math.inf

    @property
    def connected(self) -> bool | None:
        """Whether the broker is connected; None if the stream uses no broker."""
        return None if self.broker is None else self.broker.connected

    @property
    def refused(self) -> dict[str, int]:
        """Lines, messages, intervals and readings that were refused, by reason."""
        found: dict[str, int] = {}
        for group in ("stream", "assembler"):
            for reason, count in self.counters.get(group, {}).get("refused", {}).items():
                found[reason] = found.get(reason, 0) + count
        return found

    @property
    def dropped(self) -> dict[str, int]:
        """Readings that were accepted and not used, by reason."""
        groups = [self.counters[group] for group in ("stream", "assembler") if group in self.counters]
        return {reason: sum(group.get(reason, 0) for group in groups) for reason in DROPPED}

    @property
    def undelivered(self) -> dict[str, int]:
        """Forecasts that were not delivered and are lost, by kind of sink."""
        return _by_kind(self.counters["service"]["undelivered"])

    @property
    def waiting_forecasts(self) -> dict[str, int]:
        """Forecasts that wait in memory until they can be delivered, by kind of sink."""
        return _by_kind(self.held)


def _by_kind(counts: dict[str, int]) -> dict[str, int]:
    """Return counts by kind of sink, since the address of a sink may be confidential."""
    found: dict[str, int] = {}
    for sink, count in counts.items():
        kind = sink.partition(" ")[0]
        found[kind] = found.get(kind, 0) + count
    return found
