"""Validation of what a stream is given: readings that it can use, at a time after the last interval's."""

from __future__ import annotations

from numpy.typing import ArrayLike

from runtime.clock import Clock, Timestamp
from runtime.durable.journal import Input
from runtime.forecast import Forecast
from runtime.options import StreamOptions
from runtime.readings import Interval, Readings, Values
from stunet_deploy.errors import StreamError
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time

#: The last interval that a stream has run, and the forecast issued after it.
Last = tuple[Interval, Forecast]


class Validator:
    """Checks an interval against the bundle, the clock and the last interval; changes nothing.

    Args:
        manifest: of the bundle.
        options: of the stream.
    """

    def __init__(self, manifest: Manifest, options: StreamOptions) -> None:
        self.readings = Readings(manifest, ignore_unknown=options.ignore_unknown)
        self._clock = Clock(manifest.interval_s, manifest.phase_s, options.tolerance)
        # An interval may end an interval from now: its start is then now, and its end that much later.
        self._ahead_s = 0 if manifest.stamp == "start" else manifest.interval_s

    def check(
        self, values: Values, timestamp: Timestamp, observed: ArrayLike | None, now: float | None, last: Last | None
    ) -> Input | Forecast:
        """Return the interval; or the last forecast, if this is the last interval again.

        Raises:
            StreamError: if the readings or their time cannot be accepted.
        """
        interval = self.readings.read(values, observed)
        stamp = self._clock.snap(timestamp)
        restart = now is not None and self._went_back(stamp, now, last)
        if last is None or restart or stamp > last[1].issued_s:
            return Input(interval, stamp, restart)
        return _repeated(interval, stamp, *last)

    def _went_back(self, stamp: int, now: float, last: Last | None) -> bool:
        """Return whether the last interval lies ahead of the clock; refuse one that does."""
        newest = now + self._ahead_s
        if stamp > newest:
            raise StreamError(
                f"timestamp {format_time(stamp)}, ahead of the clock ({format_time(int(now))})",
                "an interval that ends at most an interval from now",
                "correct the sender's clock, or this one",
                reason="ahead",
            )
        return last is not None and last[1].issued_s > newest


def _repeated(interval: Interval, stamp: int, last: Interval, forecast: Forecast) -> Forecast:
    """Return the last forecast if this is the last interval again; refuse a past that would be rewritten."""
    if stamp == forecast.issued_s and interval.same_readings(last):
        return forecast
    kind = "again with other readings" if stamp == forecast.issued_s else "older than the last interval"
    raise StreamError(
        f"timestamp {format_time(stamp)} {kind} (last: {format_time(forecast.issued_s)})",
        "an interval after the last one",
        "send every interval once and in order; to begin anew, reset() the stream or choose another `state` folder",
        reason="conflict" if stamp == forecast.issued_s else "late",
    )
