"""The status of a stream: all that can be known of it from another thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runtime.drift import DriftReport
from runtime.forecast import Forecast
from runtime.service.config import StreamConfig
from runtime.service.deliveries import Deliveries
from runtime.service.step_times import StepTimes
from runtime.service.web.history import History
from stunet_deploy.bundle import Manifest

#: Counters of readings that were accepted and are not used.
DROPPED = ("outside_limits", "unknown", "stuck", "dropped", "unweighted")


@dataclass
class ServiceCounters:
    """What a worker has met since the process began, beside the counters of its stream and assembler."""

    delivered: int = 0
    """Lines, messages or intervals that came."""
    redelivered: int = 0
    """Messages refused as late that the broker had sent before, which is no fault of the sender."""
    forecasts: int = 0
    """Forecasts handed to the sinks."""
    backend_failures: int = 0
    """Intervals at which the backend failed, and the stream began from zero."""
    undelivered: dict[str, int] = field(default_factory=dict)
    """Forecasts that a sink has not taken, by sink."""


@dataclass(frozen=True)
class Status:
    """What a worker is doing, to be read from any thread.

    Attributes:
        stream: its name.
        manifest: of the bundle that forecasts.
        config: of the stream.
        backend: name of the backend that runs the steps.
        live: whether the readings are of now.
        last: the last forecast, or None.
        running_s: seconds since the worker was made.
        age_s: seconds since the end of the interval that the last forecast was made after, by the clock; of a replay,
            which may be of any time, since the forecast was handed out; None without one.
        waiting: length of the inbox.
        silent_s: seconds since the worker last showed that it is alive.
        ended: whether it has come to its end.
        trouble: why the stream would not survive the process, or None.
        counters: of the worker, the stream and the assembler, by name.
        drift: how far its forecasts were off, or None where nobody watches.
        history: observations and forecasts of about the last day.
        step_times: how long the steps took.
        deliveries: what has come of late.
        connected: whether the broker is there; None where the stream uses none.
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
    connected: bool | None

    @property
    def bundle_id(self) -> str:
        """Identity of the model that forecasts."""
        return self.manifest.bundle_id

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
        """Readings that came and are not used, by reason: those that the stream or the assembler counts."""
        groups = [self.counters[group] for group in ("stream", "assembler") if group in self.counters]
        return {reason: sum(group.get(reason, 0) for group in groups) for reason in DROPPED}

    @property
    def undelivered(self) -> dict[str, int]:
        """Forecasts that were not taken, by kind of sink; the address of a sink is nobody's business."""
        found: dict[str, int] = {}
        for sink, count in self.counters["service"]["undelivered"].items():
            kind = sink.partition(" ")[0]
            found[kind] = found.get(kind, 0) + count
        return found
