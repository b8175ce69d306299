"""A worker: the thread of one stream, from its inbox through the forecast to its sinks."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from runtime.clock import to_seconds
from runtime.forecast import Forecast
from runtime.replay import INTERVAL_MESSAGE, Detection, Record, read_message
from runtime.service.config import StreamConfig
from runtime.service.heart import Heart
from runtime.service.logs import StreamLog
from runtime.service.serving import Serving
from runtime.service.sinks import Sink
from runtime.service.sources import Delivery, End, Inbox, Source
from runtime.service.swap import take_over
from stunet_deploy.errors import BackendError, StreamError, StunetError

#: Seconds in which a stream looks at its clock and its orders, if nothing comes.
TICK_S = 0.25
#: Intervals in a row at which the backend may fail before the service ends, to be started anew.
_FAILURES = 3
_DETECTION_MESSAGE = '{"sensor": "id", "timestamp": "2012-03-01T08:00:07Z", "values": number or {feature: number}}'


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
        bundle_id: identity of the model that forecasts.
        last: the last forecast, or None.
        waiting: length of the inbox.
        silent_s: seconds since the worker last showed that it is alive.
        trouble: why the disk would not survive the process, or None.
        counters: of the worker, the stream and the assembler, by name.
    """

    stream: str
    bundle_id: str
    last: Forecast | None
    waiting: int
    silent_s: float
    trouble: str | None
    counters: dict[str, Any]


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
        clock: seconds since the epoch.

    Attributes:
        heart: stop it to end the worker.
        error: why it ended before its time.
    """

    def __init__(
        self,
        config: StreamConfig,
        serving: Serving,
        source: Source,
        sinks: Sequence[Sink],
        on_end: Callable[[], None],
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
        self._clock = clock
        self._counters = ServiceCounters(undelivered={sink.name: 0 for sink in sinks})
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
        counters = {"service": asdict(self._counters), "stream": asdict(serving.stream.counters)}
        if serving.assembler is not None:
            counters["assembler"] = asdict(serving.assembler.counters)
        return Status(
            stream=self.config.name,
            bundle_id=serving.stream.bundle.manifest.bundle_id,
            last=serving.stream.last,
            waiting=len(self._inbox),
            silent_s=self.heart.silent_s,
            trouble=serving.durable.trouble,
            counters=counters,
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
        old, self._serving = self._serving, new
        old.close()
        self.log.info(f"goes on with bundle {new.stream.bundle.manifest.bundle_id[:8]}")

    def _take(self, delivery: Delivery) -> None:
        """Use a delivery, hand out its forecast and acknowledge it."""
        self._counters.delivered += 1
        try:
            self._hand_out_all(self._forecasts(delivery))
        except StreamError as error:
            if delivery.again and error.reason == "late":
                self._counters.redelivered += 1
            elif self.config.strict:
                raise
            else:
                self.log.again(f"refused: {error.reason}", str(error))
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
            try:
                message = read_message(delivery.content)
                if isinstance(message, Detection) != single:
                    raise StreamError(
                        "an interval to a stream with an assembler" if single else "a reading without an assembler",
                        _DETECTION_MESSAGE if single else INTERVAL_MESSAGE,
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
                    self._hand_out(forecast)
        except BackendError as error:
            self._counters.backend_failures += 1
            self._failures += 1
            if self._failures >= _FAILURES:
                raise
            self.log.error(f"{error}; the stream begins from zero")

    def _hand_out(self, forecast: Forecast) -> None:
        """Give a forecast to every sink."""
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
        self._handed_s = forecast.issued_s
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
