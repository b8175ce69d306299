"""The drift watch of a service, which logs its alarms and keeps its own errors from the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from runtime.drift import DriftOptions, DriftWatch
from runtime.forecast import Forecast
from runtime.readings import Interval
from runtime.service.logs import StreamLog
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time


class LoggedDriftWatch(DriftWatch):
    """A drift watch that logs when its alarm is raised and cleared, and restarts after an error of its own.

    Args:
        manifest: manifest of the stream's bundle.
        options: time constant and alarm threshold.
        log: log of the stream.
    """

    def __init__(self, manifest: Manifest, options: DriftOptions, log: StreamLog) -> None:
        super().__init__(manifest, options)
        self._log = log

    def see(self, interval: Interval, forecast: Forecast, *, sound: bool) -> None:
        """Score what was forecast for an interval; see :meth:`runtime.drift.DriftWatch.see`."""
        before = self.alarm_since_s
        try:
            super().see(interval, forecast, sound=sound)
            self._tell(before, self.alarm_since_s)
        except Exception as error:  # forecasts matter more than what is known about them
            self._fail(error)

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Return its state for a snapshot; empty after an error."""
        try:
            return super().state()
        except Exception as error:  # forecasts matter more than what is known about them
            self._log.again("drift watch", f"the drift watch is not in the snapshot because of {error!r}")
            return {}

    def restore(self, state: Mapping[str, NDArray[Any]] | None) -> None:
        """Take over the state of another watch; restart after an error."""
        try:
            super().restore(state)
        except Exception as error:  # forecasts matter more than what is known about them
            self._fail(error)

    def _tell(self, before: int | None, now: int | None) -> None:
        """Log a change of the alarm."""
        if before is None and now is not None:
            report = self.report()
            worse = int((report.sensor_mae > report.sensor_persistence_mae).any(axis=1).sum())
            self._log.error(
                f"drift: since {format_time(now)} forecasts are worse against persistence than they were, and worse "
                f"than it at {worse} of {len(report.sensor_mae)} sensors; "
                "see docs/guide/retraining.md"
            )
        elif before is not None and now is None:
            self._log.info(f"drift: the alarm of {format_time(before)} is over")

    def _fail(self, error: Exception) -> None:
        self._log.again("drift watch", f"the drift watch begins anew after {error!r}")
        self.begin_anew()
