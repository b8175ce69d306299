"""Counters of a stream, and the reasons for which it and an assembler refuse readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stunet_deploy.errors import StreamError

#: Every reason for which readings are refused, in words; ``StreamError.reason`` is one of them.
REFUSALS = {
    "message": "no JSON, or not what the stream takes: with [stream.assembler] single readings, else whole intervals",
    "shape": "an array of another shape, or not of numbers",
    "unknown_sensor": "a sensor that the bundle does not have",
    "unknown_feature": "a feature that the bundle does not have",
    "reading": "something that is no number",
    "timestamp": "a timestamp that cannot be read, or has no zone",
    "off_grid": "a timestamp too far from the interval grid",
    "late": "older than what has been forecast from",
    "conflict": "the same time again with other readings",
    "ahead": "a timestamp ahead of this machine's clock, or far ahead of the other messages",
    "flood": "a sensor that sends more than once a second",
    "deadly": "an interval or a message that has killed the process before",
    "other": "for another reason, which the log names",
}


def no_refusals() -> dict[str, int]:
    """Return a count of 0 for every reason."""
    return dict.fromkeys(REFUSALS, 0)


_Counts = TypeVar("_Counts")


@dataclass
class Counters:
    """Counts of a stream's intervals since it was opened or, with snapshots, since it first was."""

    pushes: int = 0
    """Intervals accepted, repeats not counted."""
    repeats: int = 0
    """Pushes of the last interval once more, with the same readings."""
    refused: dict[str, int] = field(default_factory=no_refusals)
    """Refused pushes by reason, see :data:`REFUSALS`; they change nothing else."""
    bridged: int = 0
    """Missing intervals that were run as unobserved."""
    resets: int = 0
    """Resets because a gap was too long to bridge, or because the clock went back."""
    outside_limits: int = 0
    """Readings dropped because they lie outside the manifest's limits."""
    unknown: int = 0
    """Readings of unknown sensors that were ignored."""
    stuck: int = 0
    """Readings dropped because their detector repeats itself."""
    unkept: int = 0
    """Intervals forecast from that could not be written to the journal."""
    failed_writes: int = 0
    """Attempts to write a journal record or a snapshot that failed."""

    def refuse(self, error: StreamError) -> None:
        """Count a refusal."""
        count_refusal(self.refused, error)


@dataclass
class AssemblyCounters:
    """Counts of an assembler's readings."""

    readings: int = 0
    """Readings accepted, repeats not counted."""
    repeats: int = 0
    """Readings that had come before, the same in sensor, time and numbers."""
    refused: dict[str, int] = field(default_factory=no_refusals)
    """Refused readings by reason, see :data:`REFUSALS`."""
    outside_limits: int = 0
    """Numbers dropped because they lie outside the manifest's limits."""
    unknown: int = 0
    """Readings of unknown sensors that were ignored."""
    dropped: int = 0
    """Readings dropped because the clock went back and they lay ahead of it."""
    unweighted: int = 0
    """Numbers dropped because the weight of their rule did not come with them, or is negative."""


def restored_counts(kind: Callable[..., _Counts], counts: Mapping[str, Any]) -> _Counts:
    """Return the counters of an earlier process, perhaps of another version; what is new or was another begins at 0."""
    fresh = kind()
    for name, zero in vars(fresh).items():
        came = counts.get(name)
        if isinstance(came, type(zero)):
            setattr(fresh, name, zero | came if isinstance(came, dict) else came)
    return fresh


def count_refusal(refused: dict[str, int], error: StreamError) -> None:
    """Add one to the reason of a refusal."""
    refused[error.reason] = refused.get(error.reason, 0) + 1
