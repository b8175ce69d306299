"""A worker: the thread of one stream, from its inbox through the forecast to its sinks."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from runtime.clock import to_seconds
from runtime.forecast import Forecast
from runtime.replay import DETECTION_MESSAGE, INTERVAL_MESSAGE, Detection, Record, read_message
from runtime.service.config import StreamConfig
from runtime.service.deliveries import Deliveries
from runtime.service.heartbeat import Heart
from runtime.service.logs import StreamLog
from runtime.service.serving import Serving
from runtime.service.sinks import Sink
from runtime.service.sources import Delivery, End, Inbox, Source
from runtime.service.status import ServiceCounters, Status
from runtime.service.step_times import StepTimes
from runtime.service.swap import take_over
from runtime.service.web.history import LIMIT, History
from stunet_deploy.errors import BackendError, StreamError, StunetError

#: Seconds in which a stream looks at its clock and its orders, if nothing comes.
TICK_S = 0.25
#: Intervals in a row at which the backend may fail before the service ends, to be started anew.
_FAILURES = 3


class Worker:
    """Runs one stream until its source ends or it is stopped.

    A line or message that is refused is counted and logged; with ``strict`` it ends the stream. A sink that fails is
    counted and logged, and the stream goes on.

    Args:
        config: of the stream.
        serving: the stream, opened; the worker closes it.
        source: where readings come from.
        sinks: where forecasts go; the worker closes them.
        on_end: called in the worker's thread when it has ended.
        connected: whether the broker is there, where the stream uses one.
        history_bytes: what the history may take; 0 where nobody looks at it.
        clock: seconds since the epoch.

    Attributes:
        heart: stop it to end the worker.
        error: why it ended before its time.
        history: observations and forecasts of about the last day, while the process lives.
        step_times: how long its steps took.
        deliveries: what has come of late.
    """

    def __init__(
        self,
        config: StreamConfig,
        serving: Serving,
        source: Source,
        sinks: Sequence[Sink],
        on_end: Callable[[], None],
        *,
        connected: Callable[[], bool] | None = None,
        history_bytes: int = LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.heart = Heart()
        self.error: BaseException | None = None
        self.log = StreamLog(config.name)
        self._serving = serving
        self._source = source
        self._inbox = Inbox(config.queue)
        self._sinks = sinks
        self._on_end = on_end
        self._connected = connected
        self._clock = clock
        self._counters = ServiceCounters(undelivered={sink.name: 0 for sink in sinks})
        self._history_bytes = history_bytes
        self.history = History(serving.stream.bundle.manifest, limit=history_bytes)
        self.step_times = StepTimes()
        self.deliveries = Deliveries()
        self._began = self._handed = time.monotonic()
        self._handed_s: int | None = None  # time of issue of the last forecast handed out
        self._heard_s = -math.inf  # newest time of a single reading, the clock where the source is not live
        self._failures = 0
        self._lock = threading.Lock()
        self._next: Serving | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=config.name)

    def start(self) -> None:
        """Begin."""
        recovery = self._serving.durable.recovery
        for note in recovery.notes:
            if recovery.lossy:
                self.log.error(f"restored in part: {note}")
            else:
                self.log.info(f"restored: {note}")
        last = self._serving.stream.last
        stream = self._serving.stream
        self.log.info(
            f"bundle {stream.bundle.manifest.bundle_id[:8]} on {stream.backend.name}, "
            + ("from zero" if last is None else f"going on after {last.issued_at:%Y-%m-%dT%H:%M:%SZ}")
        )
        self._source.start(self._inbox, self.heart.stopped, None if last is None else last.issued_s)
        self._thread.start()

    def join(self) -> None:
        """Wait until it has ended, with its last snapshot written and its sinks flushed."""
        self._thread.join()

    def healthy(self, limit_s: float) -> bool:
        """Return whether it has shown that it is alive within some seconds, or has ended as it should."""
        return self.heart.silent_s < limit_s or not self._thread.is_alive()

    def status(self) -> Status:
        """Return what it is doing, for an endpoint."""
        serving = self._serving
        manifest, last = serving.stream.bundle.manifest, serving.stream.last
        now = time.monotonic()
        age_s = None
        if last is not None:
            end_s = last.issued_s + (manifest.interval_s if manifest.stamp == "start" else 0)
            age_s = self._clock() - end_s if self._source.live else now - self._handed
        counters = {"service": asdict(self._counters), "stream": asdict(serving.stream.counters)}
        if serving.assembler is not None:
            counters["assembler"] = asdict(serving.assembler.counters)
        return Status(
            stream=self.config.name,
            manifest=manifest,
            config=self.config,
            backend=serving.stream.backend.name,
            live=self._source.live,
            last=last,
            running_s=now - self._began,
            age_s=age_s,
            waiting=len(self._inbox),
            silent_s=self.heart.silent_s,
            ended=self._ended,
            trouble=serving.durable.trouble,
            counters=counters,
            drift=serving.drift,
            history=self.history,
            step_times=self.step_times,
            deliveries=self.deliveries,
            connected=None if self._connected is None else self._connected(),
        )

    @property
    def serving(self) -> Serving:
        """What the stream runs on; only the worker pushes to it."""
        return self._serving

    def offer(self, serving: Serving, config: StreamConfig) -> None:
        """Give the worker another bundle to go on with, prepared; it takes over between two deliveries."""
        with self._lock:
            superseded, self._next = self._next, serving
            self.config = config
            if self._ended:
                superseded, self._next = serving, None
        if superseded is not None:
            superseded.close()

    def _run(self) -> None:
        try:
            # Whether the last process has handed its last forecast out cannot be known.
            if self._serving.stream.last is not None:
                self._hand_out(self._serving.stream.last)
            self._serve()
        except BaseException as error:
            self.error = error
        try:
            self._finish()
        except BaseException as error:
            self.error = self.error or error
        self._on_end()

    def _serve(self) -> None:
        """Take what comes until nothing more will, or until the stop."""
        while not self.heart.stopped.is_set():
            self.heart.beat()
            self._swap()
            delivery = self._inbox.take(TICK_S)
            if isinstance(delivery, End):
                if delivery.error is not None:
                    raise delivery.error
                return
            if delivery is not None:
                self._take(delivery)
            self._close_intervals()
        if self._source.fleeting:
            while isinstance(delivery := self._inbox.take(TICK_S), Delivery):
                self._take(delivery)

    def _swap(self) -> None:
        """Go on with another bundle if there is one, or say why not."""
        with self._lock:
            new, self._next = self._next, None
        if new is None:
            return
        try:
            take_over(new, self._serving)
        except StunetError as error:
            self.log.error(f"the new bundle is not taken: {error}")
            new.close()
            return
        if not self.history.fits(new.stream.bundle.manifest):
            self.history = History(new.stream.bundle.manifest, limit=self._history_bytes)
        old, self._serving = self._serving, new
        old.close()
        self.log.info(f"goes on with bundle {new.stream.bundle.manifest.bundle_id[:8]}")

    def _take(self, delivery: Delivery) -> None:
        """Use a delivery, hand out its forecast and acknowledge it."""
        self._counters.delivered += 1
        if self._counters.delivered == 1:
            self.log.info("the first delivery has come")
        refused = None
        try:
            self._hand_out_all(self._forecasts(delivery))
        except StreamError as error:
            if delivery.again and error.reason == "late":
                self._counters.redelivered += 1
            elif self.config.strict:
                raise
            else:
                refused = error.reason
                self.log.again(f"refused: {error.reason}", str(error))
        self.deliveries.add(refused)
        delivery.ack()

    def _close_intervals(self) -> None:
        """Forecast from the single readings whose interval is over."""
        if self._serving.assembler is not None:
            self._hand_out_all(self._due())

    def _forecasts(self, delivery: Delivery) -> Iterator[Forecast]:
        """Yield the forecast of a delivery, if it is an interval.

        Raises:
            StreamError: if it is refused; it has been counted.
            BackendError: if the backend fails.
        """
        durable, single = self._serving.durable, self._serving.assembler is not None
        now = self._clock() if self._source.live else None
        message: Record | Detection
        if isinstance(delivery.content, Record):
            message = delivery.content
        else:
            expected = DETECTION_MESSAGE if single else INTERVAL_MESSAGE
            try:
                message = read_message(delivery.content, expected)
                if isinstance(message, Detection) != single:
                    raise StreamError(
                        "an interval to a stream with an assembler" if single else "a reading without an assembler",
                        expected,
                        "send the other kind, or change [stream.assembler] in the config file",
                        reason="message",
                    )
                if isinstance(message, Detection):
                    moment = self._clock() if self._source.live else max(self._heard_s, to_seconds(message.timestamp))
            except StreamError as error:
                durable.stream.counters.refuse(error)
                raise
        if isinstance(message, Detection):
            durable.add(*message, now=moment)
            self._heard_s = moment
        else:
            yield durable.push(*message, now=now)

    def _due(self) -> Iterator[Forecast]:
        now = self._clock() if self._source.live else self._heard_s
        if now > -math.inf:
            yield from self._serving.durable.due(now)

    def _hand_out_all(self, forecasts: Iterator[Forecast]) -> None:
        """Hand forecasts out; the backend may fail at them, but not every time."""
        try:
            for forecast in forecasts:
                self._failures = 0
                if forecast.issued_s != self._handed_s:  # else the sender repeats itself
                    self.step_times.add(forecast.step_us / 1e6)
                    self._hand_out(forecast)
        except BackendError as error:
            self._counters.backend_failures += 1
            self._failures += 1
            if self._failures >= _FAILURES:
                raise
            self.log.error(f"{error}; the stream begins from zero")

    def _hand_out(self, forecast: Forecast) -> None:
        """Give a forecast to every sink, and note it."""
        stream = self._serving.stream
        self.history.add(forecast, stream.last_readings if stream.last is forecast else None)
        for sink in self._sinks:
            try:
                sink.write(forecast, self.heart, patient=self._source.patient)
            except BrokenPipeError:
                raise  # the reader of standard output is gone
            except (StunetError, OSError) as error:
                self._counters.undelivered[sink.name] += 1
                self.log.again(f"undelivered: {sink.name}", str(error))
            self.heart.beat()
        if self._serving.durable.trouble is not None:
            self.log.again("not durable", self._serving.durable.trouble)
        self._handed_s, self._handed = forecast.issued_s, time.monotonic()
        self._counters.forecasts += 1

    def _finish(self) -> None:
        """Write the last snapshot and close the sinks, each whatever becomes of the others."""
        for sink in self._sinks:
            try:
                sink.flush(self.heart, patient=self._source.patient)
                sink.close()
            except (StunetError, OSError) as error:
                self.log.again(f"at the end: {sink.name}", str(error))
        with self._lock:
            self._ended = True
            open_still = [self._serving] if self._next is None else [self._serving, self._next]
        for serving in open_still:
            try:
                serving.close()
            except (StunetError, OSError) as error:
                self.log.error(f"at the end: {error}")
        counters = self._counters
        self.log.info(f"ended after {counters.delivered} deliveries and {counters.forecasts} forecasts")
