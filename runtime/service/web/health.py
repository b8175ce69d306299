"""The health of a service's streams, for a monitor: problems and warnings in words."""

from __future__ import annotations

from typing import Any

from runtime.counters import REFUSALS
from runtime.service.config import MqttSourceConfig
from runtime.service.status import Status
from stunet_deploy.series.times import format_time

#: Intervals without a new forecast after which a live stream is stale; the assembler's grace is added.
STALE_AFTER = 3
#: Seconds without a heartbeat after which a worker counts as dead.
SILENT_S = 60.0
#: Seconds for which a start that could not restore everything is warned of.
LOST_S = 86_400.0
#: Share of the last deliveries that may be refused without a warning.
REFUSED_SHARE = 0.1


def stale_after_s(status: Status) -> float:
    """Return the age in seconds from which the last forecast of a stream is stale."""
    assembler = status.config.assembler
    return STALE_AFTER * status.manifest.interval_s + (0.0 if assembler is None else assembler.grace_s)


def problems(status: Status) -> list[str]:
    """Return the reasons why a stream is not healthy, in words.

    The age of a forecast is judged for live sources only, since a replay may be slower than the clock.
    """
    found: list[str] = []
    if status.silent_s > SILENT_S and not status.ended:
        found.append(f"no sign of life for {_duration(status.silent_s)}")
    if status.trouble is not None:
        found.append(f"would not survive a restart: {status.trouble}")
    if status.broker is not None and not status.ended:
        found += status.broker.problems
    if status.live:
        limit_s = stale_after_s(status)
        allowed = f"stale after {_duration(limit_s)}"
        if status.last is None or status.age_s is None:
            if status.running_s > limit_s:
                found.append(
                    f"no forecast since the start {_duration(status.running_s)} ago ({allowed}){_heard(status)}"
                )
        elif status.age_s > limit_s:
            found.append(f"no forecast for {_duration(status.age_s)} ({allowed}){_heard(status)}")
        elif status.age_s < -status.manifest.interval_s:
            found.append(f"the last forecast is of {format_time(status.last.issued_s)}, ahead of the clock")
    return found


def warnings(status: Status) -> list[str]:
    """Return what a person should look at although the stream is healthy, in words."""
    found: list[str] = []
    if status.catching_up and status.connected is False and not status.ended:
        found.append("intervals wait for the readings that the broker keeps")
    elif status.catching_up and status.age_s is not None and status.age_s > status.manifest.interval_s:
        now_at = "" if status.last is None else f" (now at {format_time(status.last.issued_s)})"
        found.append(f"catching up with readings that were kept{now_at}")
    if status.broker is not None and not status.ended:
        found += status.broker.warnings
    for kind, count in status.waiting_forecasts.items():
        if count:
            found.append(
                f"forecasts held in memory because the {kind} sink cannot deliver them, as the log says: {count:,}"
            )
    if status.not_taken is not None:
        found.append(f"the last reload has failed: {status.not_taken}")
    if status.lost and status.lost_s < LOST_S:
        found.append(f"restored in part {_duration(status.lost_s)} ago: {'; '.join(status.lost)}")
    recent = status.deliveries.read()
    refused = recent.refused.total()
    if refused > REFUSED_SHARE * recent.number:
        ((reason, count),) = recent.refused.most_common(1)
        which = "" if count == refused else f", {count:,} of them"
        found.append(f"{refused:,} of the last {recent.number:,} messages were refused{which}: {REFUSALS[reason]}")
    return found


def report(statuses: list[Status]) -> dict[str, Any]:
    """Return the answer of ``/healthz``: whether all streams are healthy, with problems and warnings of each."""
    streams = {
        status.stream: {
            "ok": not problems(status),
            "problems": problems(status),
            "warnings": warnings(status),
            "issued_at": None if status.last is None else format_time(status.last.issued_s),
            "age_s": None if status.age_s is None else round(status.age_s, 1),
        }
        for status in statuses
    }
    return {"ok": all(stream["ok"] for stream in streams.values()), "streams": streams}


def _heard(status: Status) -> str:
    """Return a clause that no message has come since the process began, if so."""
    if status.counters["service"]["delivered"]:
        return ""
    source = status.config.source
    where = ", ".join(source.topics) if isinstance(source, MqttSourceConfig) else "standard input"
    return f"; 0 messages have come from {where}"


def _duration(seconds: float) -> str:
    """Return a time span in words, in at most two units."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    hours = whole // 3600
    return f"{hours} h {whole % 3600 // 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
