"""Whether the streams of a service are well: what a monitor asks, and why not."""

from __future__ import annotations

from typing import Any

from runtime.service.status import Status
from stunet_deploy.series import format_time

#: Intervals without a new forecast after which a live stream is stale; the assembler's grace comes on top.
STALE_AFTER = 3
#: Seconds without a sign of life after which a worker counts as dead.
SILENT_S = 60.0


def stale_after_s(status: Status) -> float:
    """Return the age in seconds from which the last forecast of a stream is stale."""
    assembler = status.config.assembler
    return STALE_AFTER * status.manifest.interval_s + (0.0 if assembler is None else assembler.grace_s)


def problems(status: Status) -> list[str]:
    """Return why a stream is not well, each reason in words; none if it is.

    Whether forecasts still come is judged by the clock, and so for live sources only: a replay may be slower.
    """
    found = []
    if status.silent_s > SILENT_S and not status.ended:
        found.append(f"no sign of life for {_duration(status.silent_s)}")
    if status.trouble is not None:
        found.append(f"would not survive a restart: {status.trouble}")
    if status.live:
        limit_s = stale_after_s(status)
        allowed = f"stale after {_duration(limit_s)}"
        if status.last is None or status.age_s is None:
            if status.running_s > limit_s:
                found.append(f"no forecast since the start {_duration(status.running_s)} ago ({allowed})")
        elif status.age_s > limit_s:
            found.append(f"no forecast for {_duration(status.age_s)} ({allowed})")
        elif status.age_s < -status.manifest.interval_s:
            found.append(f"the last forecast is of {format_time(status.last.issued_s)}, ahead of the clock")
    return found


def report(statuses: list[Status]) -> dict[str, Any]:
    """Return the answer of ``/healthz``: whether all is well, and for each stream what is not."""
    streams = {
        status.stream: {
            "ok": not problems(status),
            "problems": problems(status),
            "issued_at": None if status.last is None else format_time(status.last.issued_s),
            "age_s": None if status.age_s is None else round(status.age_s, 1),
        }
        for status in statuses
    }
    return {"ok": all(stream["ok"] for stream in streams.values()), "streams": streams}


def _duration(seconds: float) -> str:
    """Return a time span as people say it, in two units."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    hours = whole // 3600
    return f"{hours} h {whole % 3600 // 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
