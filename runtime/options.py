"""Options of a stream: which readings and times it accepts, and when it marks a forecast as degraded."""

from __future__ import annotations

from dataclasses import dataclass

from stunet_deploy.errors import ConfigError


@dataclass(frozen=True)
class StreamOptions:
    """How a stream treats gaps, missing readings, unknown sensors and inexact times.

    Raises:
        ConfigError: if an option is out of range.
    """

    max_gap: int | None = None
    """Number of missing intervals that are bridged; after a longer gap the stream starts from zero. None for what
    :func:`stunet_deploy.site.longest_gap` says, as in a recording: less than a day."""
    min_observed: float = 0.5
    """Share of readings below which a forecast is marked as degraded."""
    ignore_unknown: bool = False
    """Whether unknown sensor ids are skipped and counted instead of refused."""
    tolerance: float = 0.25
    """How far a time stamp may lie from the interval grid, as a share of an interval up to 0.5."""
    stuck_after: int = 0
    """A reading that repeats this many times in a row is taken for a stuck detector and dropped until it changes; 0
    disables the check."""

    def __post_init__(self) -> None:
        _require(self.max_gap is None or self.max_gap >= 0, f"max_gap = {self.max_gap}", "at least 0")
        _require(0 <= self.min_observed <= 1, f"min_observed = {self.min_observed}", "a share from 0 to 1")
        _require(0 <= self.tolerance <= 0.5, f"tolerance = {self.tolerance}", "a share from 0 to 0.5")
        _require(self.stuck_after == 0 or self.stuck_after >= 2, f"stuck_after = {self.stuck_after}", "0 or at least 2")


def _require(good: bool, came: str, expected: str) -> None:
    if not good:
        raise ConfigError(came, expected, "correct the option")
