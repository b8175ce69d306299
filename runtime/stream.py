"""A stream: readings of one interval in, one forecast out; it owns the clock, the state and the missing-data policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.backends.base import ONNXRUNTIME, Backend, open_backend
from runtime.backends.buffers import zero_buffers
from runtime.clock import Timestamp
from runtime.counters import Counters, restored_counts
from runtime.drift import DriftWatch
from runtime.durable.journal import Input
from runtime.flat_lines import FlatLines
from runtime.forecast import Forecast
from runtime.options import StreamOptions
from runtime.readings import Interval, Values
from runtime.snapshot import LastPush, Snapshot
from runtime.validation import Last, Validator
from runtime.window import Carry, Mode, Steps, Window, drive
from stunet_deploy.bundle import Bundle
from stunet_deploy.contract import Lines
from stunet_deploy.errors import BackendError, ConfigError, StreamError
from stunet_deploy.precisions import FLOAT32
from stunet_deploy.series.wall_clock import find_zone, second_of_week
from stunet_deploy.site import longest_gap


class Stream:
    """Forecasts of one sensor network, one interval at a time; open one with :meth:`open`.

    Not for use from two threads. The bundle is shared, the state is the stream's own.

    Args:
        bundle: the model.
        mode: how it runs on its backend.
        name: appears in every forecast.
        options: how gaps, missing readings, unknown sensors and inexact times are treated.

    Attributes:
        counters: counts of its intervals.
        keep: called with every accepted interval before the state changes: a journal. What it returns are further
            reasons to trust the forecast less.
        watch: compares forecasts with what comes, or None.
    """

    def __init__(
        self,
        bundle: Bundle,
        mode: Mode,
        *,
        name: str = "stream",
        options: StreamOptions | None = None,
    ) -> None:
        self.bundle = bundle
        self.name = name
        self.counters = Counters()
        self.keep: Callable[[Input], tuple[str, ...]] | None = None
        self.watch: DriftWatch | None = None
        self._mode = mode
        self._options = options or StreamOptions()
        max_gap = self._options.max_gap
        self._max_gap = longest_gap(bundle.manifest.interval_s) if max_gap is None else max_gap
        self._validator = Validator(bundle.manifest, self._options)
        shape = (len(bundle.manifest.sensor_ids), len(bundle.manifest.features))
        stuck_after = self._options.stuck_after
        self._flat_lines = FlatLines(shape, stuck_after) if stuck_after else None
        self._zone = find_zone(bundle.manifest.timezone)
        self._inputs = zero_buffers(bundle.manifest.contract.inputs, 1)
        self._age = 0  # intervals since zero state
        self._last: Last | None = None

    @classmethod
    def open(
        cls,
        bundle: Bundle | str | Path,
        *,
        backend: str = ONNXRUNTIME,
        precision: str = FLOAT32,
        mode: Literal["carry", "window"] = "carry",
        threads: int = 1,
        fallback: bool = True,
        name: str = "stream",
        options: StreamOptions | None = None,
    ) -> Stream:
        """Open a bundle on a backend and return a fresh stream of it.

        Args:
            bundle: a bundle or its folder.
            backend: see :func:`runtime.backends.base.open_backend`.
            precision: one that the bundle was exported with.
            mode: ``carry`` keeps the state for ever; ``window`` forecasts from exactly the last
                ``manifest.window`` intervals, as the literature's protocol does.
            threads: CPU threads of one step.
            fallback: go on with the float32 step on the CPU when a GPU fails while the stream runs, and say so in every
                forecast. Not for measuring: what is measured is then not what was asked for.
            name, options: see :class:`Stream`.

        Raises:
            BundleError, BackendError, ConfigError: if the bundle, the backend or an argument does not serve.
        """
        if mode not in ("carry", "window"):
            raise ConfigError(f"mode {mode!r}", "'carry' or 'window'", "choose one of them")
        opened = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        rows = opened.manifest.window if mode == "window" else 1
        runner = open_backend(opened, backend, precision=precision, batch=rows, threads=threads, fallback=fallback)
        return cls(opened, Window(runner) if mode == "window" else Carry(runner), name=name, options=options)

    @property
    def backend(self) -> Backend:
        """The backend that runs the steps."""
        return self._mode.backend

    @property
    def last(self) -> Forecast | None:
        """The last forecast; None for a fresh stream."""
        return None if self._last is None else self._last[1]

    @property
    def last_readings(self) -> Interval | None:
        """Readings of the last interval, as they came; None for a fresh stream."""
        return None if self._last is None else self._last[0]

    @property
    def stuck_sensors(self) -> tuple[str, ...]:
        """Sensors of which a reading is being dropped because it repeats itself."""
        if self._flat_lines is None:
            return ()
        ids = self.bundle.manifest.sensor_ids
        return tuple(ids[node] for node in np.flatnonzero(self._flat_lines.stuck))

    def push(
        self,
        values: Values,
        timestamp: Timestamp,
        observed: ArrayLike | None = None,
        *,
        now: float | None = None,
    ) -> Forecast:
        """Take the readings of one interval and forecast the next ones.

        Args:
            values: [node, feature] (or [node] for a single feature) in manifest order, NaN where unobserved; or a
                mapping of sensor id to a number, None, or numbers by feature, absent where unobserved.
            timestamp: the interval's stamp: seconds since the epoch, a datetime with a zone, or ISO 8601 text.
            observed: of the shape of ``values``, 0 or False where a value must not be used.
            now: the controller's clock in seconds since the epoch. An interval that ends more than an interval after
                it is refused. If the last interval did, the clock was wrong then, and the stream starts from zero.

        Returns:
            The forecast. The same interval with the same readings again returns the same forecast and changes nothing.

        Raises:
            StreamError: if the readings or their time cannot be accepted; the stream is unchanged.
            BackendError: if the backend fails; reset the stream before it is used again.
        """
        accepted = self.accept(values, timestamp, observed, now=now)
        return accepted if isinstance(accepted, Forecast) else drive(self.steps(accepted), self._mode.step)

    def accept(
        self,
        values: Values,
        timestamp: Timestamp,
        observed: ArrayLike | None = None,
        *,
        now: float | None = None,
    ) -> Input | Forecast:
        """Check the readings of one interval as :meth:`push` does, without running it.

        Returns:
            The interval, for :meth:`steps`; or the last forecast if this is the last interval again.

        Raises:
            StreamError: if the readings or their time cannot be accepted; the stream is unchanged.
        """
        try:
            accepted = self._validator.check(values, timestamp, observed, now, self._last)
        except StreamError as error:
            self.counters.refuse(error)
            raise
        self.counters.repeats += isinstance(accepted, Forecast)
        return accepted

    def steps(self, accepted: Input) -> Steps[Forecast]:
        """Keep an accepted interval and return the steps that it takes, for a caller that runs several streams at once.

        Unlike :meth:`push` it does not run them; see :data:`runtime.window.Steps`.
        """
        return self._steps(accepted, () if self.keep is None else self.keep(accepted))

    def replay(self, accepted: Input, reasons: tuple[str, ...] = ()) -> Forecast:
        """Run an interval that a stream of this bundle has accepted before, from a journal.

        Args:
            accepted: the interval.
            reasons: further reasons to trust the forecast less.

        Raises:
            BackendError: if the backend fails; reset the stream before it is used again.
        """
        return drive(self._steps(accepted, reasons), self._mode.step)

    def warm_up(
        self, values: Iterable[Values], timestamps: Iterable[Timestamp], observed: Iterable[ArrayLike] | None = None
    ) -> None:
        """Push a history, oldest interval first; values [time, node, feature], timestamps and observed likewise.

        Raises:
            StreamError: if an interval cannot be accepted; those before it have been.
            ValueError: if the lengths differ.
        """
        masks = () if observed is None else (observed,)
        for interval in zip(values, timestamps, *masks, strict=True):
            self.push(*interval)

    def reset(self) -> None:
        """Forget everything but the counters: zero state, no clock."""
        self._mode.reset()
        self._age = 0
        self._last = None
        if self._flat_lines is not None:
            self._flat_lines.reset()

    def begin_anew(self) -> None:
        """Forget what a gap makes worthless, and keep the state entries that last."""
        lasting = self.bundle.manifest.contract.lasting if self._mode.name == Carry.name else ()
        kept = {name: line for name, line in self.read_lines().items() if name in lasting} if lasting else {}
        self.reset()
        if kept:
            self.write_lines(self.bundle.manifest.contract.initial_lines(self.backend.batch) | kept)

    def snapshot(self) -> Snapshot:
        """Return a copy of the stream's memory."""
        flat = self._flat_lines
        return Snapshot(
            bundle_id=self.bundle.manifest.bundle_id,
            mode=self._mode.name,
            age=self._age,
            lines=self.read_lines(),
            counters=asdict(self.counters),
            last=None if self._last is None else LastPush.of(*self._last),
            flat_lines=None if flat is None else (flat.values.copy(), flat.runs.copy()),
            drift=None if self.watch is None else self.watch.state(),
        )

    def restore(self, snapshot: Snapshot) -> bool:
        """Go on where another stream of this bundle and mode was; on the same backend its forecasts are the same bits.

        Returns:
            Whether its drift watch, if it has one, goes on too; otherwise that begins anew.

        Raises:
            StreamError: if the snapshot is of another bundle or mode, or of no stream; the stream is unchanged.
        """
        manifest = self.bundle.manifest
        snapshot.check(manifest, self._mode.name, self.backend.batch)
        self._mode.restore(snapshot.lines, snapshot.age)
        self._age = snapshot.age
        self.counters = restored_counts(Counters, snapshot.counters)
        self._last = None if snapshot.last is None else snapshot.last.restored(self.name, manifest)
        if self._flat_lines is not None:
            self._flat_lines.reset()
            if snapshot.flat_lines is not None:
                self._flat_lines.restore(*snapshot.flat_lines)
        if self.watch is not None:
            try:
                self.watch.restore(snapshot.drift)
            except (KeyError, IndexError, TypeError, ValueError):
                self.watch.begin_anew()
                return False
        return True

    def read_lines(self) -> Lines:
        """Return a copy of the state by age: [delay, batch, ...] per entry, oldest first."""
        return self.backend.read_lines()

    def write_lines(self, lines: Lines) -> None:
        """Replace the state by lines of another stream of this bundle and mode; the clock stays."""
        self.backend.write_lines(lines)

    def close(self) -> None:
        """Give the backend's memory back; the stream must not be used afterwards."""
        self.backend.close()

    def _steps(self, accepted: Input, reasons: tuple[str, ...]) -> Steps[Forecast]:
        """Bridge the gap before an interval, run it and forecast."""
        manifest = self.bundle.manifest
        interval, stamp, restart = accepted
        gap_reasons = []
        if restart:
            self.reset()
            self.counters.resets += 1
            gap_reasons.append("reset after the clock went back")
        missing = 0 if self._last is None else (stamp - self._last[1].issued_s) // manifest.interval_s - 1
        if missing > self._max_gap:
            self.begin_anew()
            self.counters.resets += 1
            gap_reasons.append(f"reset after a gap of {missing} intervals")
            missing = 0
        elif missing:
            self.counters.bridged += missing
            gap_reasons.append(f"bridged a gap of {missing} intervals")
        begin = time.perf_counter_ns()
        for before in range(missing, 0, -1):
            yield from self._run(self._validator.readings.nothing(), stamp - before * manifest.interval_s)
        if self._flat_lines is not None:
            heard = np.count_nonzero(interval.observed)
            interval = self._flat_lines.drop(interval)
            self.counters.stuck += int(heard - np.count_nonzero(interval.observed))
        values = yield from self._run(interval, stamp)
        step_us = (time.perf_counter_ns() - begin) / 1000
        share = np.count_nonzero(interval.observed) / interval.observed.size
        unsound = self._unsound(interval, share)
        forecast = Forecast(
            values=values,
            issued_s=stamp,
            observed_share=share,
            reasons=(*gap_reasons, *filter(None, [self.backend.degraded]), *unsound, *reasons),
            step_us=step_us,
            stream=self.name,
            manifest=manifest,
        )
        if self.watch is not None:
            self.watch.see(interval, forecast, sound=not gap_reasons and not unsound)
        self.counters.pushes += 1
        self.counters.outside_limits += accepted.interval.outside_limits
        self.counters.unknown += accepted.interval.unknown
        self._last = (accepted.interval, forecast)
        return forecast

    def _unsound(self, interval: Interval, share: float) -> list[str]:
        """Return the reasons for which the model's own forecast is less reliable."""
        reasons = []
        window = self.bundle.manifest.window
        if self._age < window:
            reasons.append(f"warming up: {self._age} of {window} intervals seen")
        if share < self._options.min_observed:
            seen = np.count_nonzero(interval.observed)
            reasons.append(f"too few sensors: {seen} of {interval.observed.size} readings observed")
        return reasons

    def _run(self, interval: Interval, stamp: int) -> Steps[NDArray[np.float32]]:
        inputs = self._inputs
        inputs["values"][0] = interval.values
        inputs["observed"][0] = interval.observed
        inputs["time_of_week"][0] = second_of_week(stamp, self._zone)
        forecast = yield inputs
        self._age += 1
        if np.count_nonzero(np.isfinite(forecast)) < forecast.size:
            raise BackendError(
                f"backend {self.backend.name!r} forecast a number that is not finite",
                "finite forecasts for any input",
                "run 'stunet verify' on the bundle with this backend",
            )
        return forecast
