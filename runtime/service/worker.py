"""A worker: the thread of one stream, from its inbox over the forecast to its sinks."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from runtime.durable.guard import MessageGuard
from runtime.forecast import Forecast
from runtime.jumps import Jumps
from runtime.messages import DETECTION_MESSAGE, INTERVAL_MESSAGE, Detection, Record, read_message
from runtime.service.config import StreamConfig
from runtime.service.deliveries import Deliveries
from runtime.service.gathering import Gathering
from runtime.service.heartbeat import Heartbeat
from runtime.service.logs import StreamLog
from runtime.service.mqtt.report import BrokerReport
from runtime.service.offers import Offers
from runtime.service.serving import Serving
from runtime.service.sinks import Sink, SinkError
from runtime.service.sources import Answer, Delivery, End, Inbox, Source
from runtime.service.status import ServiceCounters, Status
from runtime.service.step_times import StepTimes
from runtime.service.swap import take_over
from runtime.service.web.history import LIMIT, History
from stunet_deploy.errors import BackendError, StreamError, StunetError

#: Seconds between two looks of an idle stream at its clock and its orders.
TICK_S = 0.25
#: Consecutive intervals at which the backend may fail before the service ends, to be restarted.
_FAILURES = 3


class Worker:
    """A thread that runs one stream until its source ends or it is stopped.

    A refused line or message is counted and logged; with ``strict`` it ends the stream. A sink that fails is counted
    and logged, and the stream continues.

    Args:
        config: config of the stream.
        serving: the open stream; the worker closes it.
        source: source of its readings.
        sinks: sinks of its forecasts; the worker closes them.
        on_end: called in the worker's thread when it has ended.
        broker: returns how its link to the broker is; None if the stream uses none.
        history_bytes: memory of the history; 0 without a status page.
        clock: returns seconds since the epoch.

    Attributes:
        config: its config, with the bundle, backend and precision that run.
        serving: the open stream; only the worker pushes to it.
        offers: the bundle that waits to take over, and how the last reload went.
        heartbeat: its sign of life, and the order to stop.
        error: the error that ended it early, or None.
        history: observations and forecasts of about the last day, since the process began.
        step_times: durations of its steps.
        deliveries: statistics of its last deliveries.
    """

    def __init__(
        self,
        config: StreamConfig,
        serving: Serving,
        source: Source,
        sinks: Sequence[Sink],
        on_end: Callable[[], None],
        *,
        broker: Callable[[], BrokerReport] | None = None,
        history_bytes: int = LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.heartbeat = Heartbeat()
        self.error: BaseException | None = None
        self.log = StreamLog(config.name)
        self.serving = serving
        self._source = source
        self._inbox = Inbox(config.queue)
        last = serving.stream.last
        self._jumps = Jumps(serving.stream.bundle.manifest, None if last is None else last.issued_s)
        self._sinks = sinks
        self._on_end = on_end
        self._broker = broker
        self._clock = clock
        self._gathering = Gathering(source, self._inbox, clock, self.log, self._refuse)
        self._counters = ServiceCounters(undelivered={sink.name: 0 for sink in sinks})
        self._history_bytes = history_bytes
        self.history = History(serving.stream.bundle.manifest, limit=history_bytes)
        self.step_times = StepTimes()
        self.deliveries = Deliveries()
        self.offers = Offers(self.log)
        self._lost: tuple[str, ...] = ()
        self._lost_at = -math.inf
        self._began = self._handed = time.monotonic()
        self._handed_s: int | None = None  # time of issue of the last forecast handed out
        self._failures = 0
        self._guard = MessageGuard(config.state)
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=config.name)

    def start(self) -> None:
        """Start the source and the thread."""
        self._say_restored()
        last = self.serving.stream.last
        stream = self.serving.stream
        self.log.info(
            f"bundle {stream.bundle.manifest.bundle_id[:8]} on {stream.backend.name}, "
            + ("from zero" if last is None else f"going on after {last.issued_at:%Y-%m-%dT%H:%M:%SZ}")
        )
        self._source.start(self._inbox, self.heartbeat.stopped, None if last is None else last.issued_s)
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended, its last snapshot written and its sinks flushed."""
        self._thread.join()

    def healthy(self, limit_s: float) -> bool:
        """Return whether its last heartbeat is younger than a limit in seconds, or it has ended."""
        return self.heartbeat.silent_s < limit_s or not self._thread.is_alive()

    def status(self) -> Status:
        """Return the status of its stream."""
        serving = self.serving
        manifest, last = serving.stream.bundle.manifest, serving.stream.last
        now = time.monotonic()
        age_s = None
        if last is not None:
            end_s = last.issued_s + (manifest.interval_s if manifest.stamp == "start" else 0)
            age_s = self._clock() - end_s if self._source.live else now - self._handed
        counters: dict[str, Any] = {"service": asdict(self._counters), "stream": asdict(serving.stream.counters)}
        for sink in self._sinks:
            counters["service"]["undelivered"][sink.name] += sink.lost
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
            silent_s=self.heartbeat.silent_s,
            ended=self._ended,
            trouble=serving.durable.trouble,
            counters=counters,
            drift=serving.drift,
            history=self.history,
            step_times=self.step_times,
            deliveries=self.deliveries,
            broker=None if self._broker is None else self._broker(),
            catching_up=serving.assembler is not None and self._gathering.catching_up,
            held={sink.name: sink.held for sink in self._sinks},
            not_taken=self.offers.not_taken,
            lost=self._lost,
            lost_s=now - self._lost_at,
        )

    def _say_restored(self) -> None:
        """Log what was found where the stream that runs now was restored, and keep what is missing for the status."""
        recovery = self.serving.durable.recovery
        for note in recovery.notes:
            if recovery.lossy:
                self.log.error(f"restored in part: {note}")
            else:
                self.log.info(f"restored: {note}")
        if recovery.lossy:
            self._lost += tuple(recovery.notes)
            self._lost_at = time.monotonic()

    def _run(self) -> None:
        try:
            # The last process may have ended before it delivered its last forecast.
            if self.serving.stream.last is not None:
                self._hand_out(self.serving.stream.last)
            self._serve()
        except BaseException as error:
            self.error = error
        try:
            self._finish()
        except BaseException as error:
            self.error = self.error or error
        self._on_end()

    def _serve(self) -> None:
        """Handle deliveries until the end of the source or the stop."""
        while not self.heartbeat.stopped.is_set():
            self.heartbeat.beat()
            self._swap()
            delivery = self._inbox.take(TICK_S)
            self._gathering.turn()
            if isinstance(delivery, End):
                if delivery.error is not None:
                    raise delivery.error
                self._end()
                return
            if isinstance(delivery, Answer):
                self._hand_out_all(self._gathering.answered(self.serving.durable), to_the_end=False)
            elif delivery is not None:
                self._take(delivery)
            if self.serving.assembler is not None:
                self._hand_out_all(self._gathering.due(self.serving.durable, self.serving.assembler), to_the_end=False)
        if self._source.fleeting:
            while isinstance(delivery := self._inbox.take(TICK_S), Delivery | Answer):
                if isinstance(delivery, Delivery):
                    self._take(delivery)
        self._disbelieve(self._jumps.end())

    def _swap(self) -> None:
        """Take over an offered bundle, or log why not."""
        with self.offers.taken() as taken:
            if taken is None:
                return
            new, config = taken
            try:
                take_over(new, self.serving)
            except (StunetError, OSError) as error:
                self.offers.not_taken = f"{error}; the old one goes on"
                self.log.error(f"the new bundle is not taken: {self.offers.not_taken}")
                new.close()
                return
            if not self.history.fits(new.stream.bundle.manifest):
                self.history = History(new.stream.bundle.manifest, limit=self._history_bytes)
            old, self.serving, self.config = self.serving, new, config
            old.close()
        self._say_restored()
        self.log.info(f"goes on with bundle {new.stream.bundle.manifest.bundle_id[:8]}")

    def _take(self, delivery: Delivery) -> None:
        """Push a delivery, deliver its forecast and acknowledge it."""
        self._counters.delivered += 1
        if self._counters.delivered == 1:
            self.log.info("the first delivery has come")
        refused = None
        try:
            self._hand_out_all(self._forecasts(delivery))
        except StreamError as error:
            if delivery.again and error.reason == "late":
                self._counters.redelivered += 1
            else:
                refused = error.reason
                self._refuse(error)
        self._guard.over()
        self.deliveries.add(refused)
        delivery.ack()

    def _disbelieve(self, errors: list[StreamError]) -> None:
        """Count and log refusals of intervals that had been held back."""
        for error in errors:
            self.serving.stream.counters.refuse(error)
            self._refuse(error)

    def _refuse(self, error: StreamError) -> None:
        """Log a refusal that has been counted; raise it if the stream is strict."""
        if self.config.strict:
            raise error
        self.log.again(f"refused: {error.reason}", str(error))

    def _forecasts(self, delivery: Delivery) -> Iterator[Forecast]:
        """Yield the forecast of a delivery, if it is an interval.

        Raises:
            StreamError: if it is refused, after it has been counted.
            BackendError: if the backend fails.
        """
        durable, assembler = self.serving.durable, self.serving.assembler
        single = assembler is not None
        now = self._clock() if self._source.live else None
        message: Record | Detection
        if isinstance(delivery.content, Record):
            message = delivery.content
        else:
            expected = DETECTION_MESSAGE if single else INTERVAL_MESSAGE
            try:
                self._guard.check(delivery.content, again=delivery.again)
                message = read_message(delivery.content, expected)
                if isinstance(message, Detection) != single:
                    raise StreamError(
                        "an interval to a stream with an assembler" if single else "a reading without an assembler",
                        expected,
                        "send the other kind, or change [stream.assembler] in the config file",
                        reason="message",
                    )
            except StreamError as error:
                durable.stream.counters.refuse(error)
                raise
        if isinstance(message, Detection):
            assert assembler is not None
            self._gathering.add(durable, assembler, message)
        elif self._source.live or isinstance(delivery.content, Record):
            forecast = durable.push(*message, now=now)
            self._guard.over()  # from here on the guard of the journal watches it; a sink may take long
            yield forecast
        else:
            yield from self._push_believed(message)

    def _push_believed(self, message: Record) -> Iterator[Forecast]:
        """Yield the forecasts of intervals that bring their own time, but of those at a time that cannot be right."""
        durable, verdict = self.serving.durable, self._jumps.take(message)
        self._disbelieve(verdict.refused)
        if verdict.anew:
            durable.reset()
        refused: StreamError | None = None
        failed: BackendError | None = None
        for record in verdict.ready:
            if refused is not None:
                self._refuse(refused)
                refused = None
            try:
                forecast = durable.push(*record)
            except StreamError as error:
                refused = error
            except BackendError as error:  # of this one; the others are good
                failed = error
            else:
                self._guard.over()
                yield forecast
        if failed is not None and refused is not None:
            self._refuse(refused)
        if failed is not None or refused is not None:
            raise failed or refused  # type: ignore[misc]

    def _end(self) -> None:
        """Use what waits for more, when the source has ended."""
        self._disbelieve(self._jumps.end())
        serving = self.serving
        if serving.assembler is not None:
            self._hand_out_all(self._gathering.end(serving.durable, serving.assembler))

    def _hand_out_all(self, forecasts: Iterator[Forecast], *, to_the_end: bool = True) -> None:
        """Deliver forecasts; raise the backend's error after too many consecutive ones.

        Args:
            forecasts: each is made when the one before has been delivered.
            to_the_end: whether a stop is to wait for all. Of intervals that the next start closes as well, it is not:
                their forecasts would pile up at a sink that is down, and be lost with it.
        """
        try:
            for forecast in forecasts:
                self._failures = 0
                if forecast.issued_s != self._handed_s:  # else the sender repeats itself
                    self.step_times.add(forecast.step_us / 1e6)
                    self._hand_out(forecast)
                if not to_the_end and self.heartbeat.stopped.is_set():
                    return
        except BackendError as error:
            self._counters.backend_failures += 1
            self._failures += 1
            if self._failures >= _FAILURES:
                raise
            self.log.error(f"{error}; the stream begins from zero")

    def _hand_out(self, forecast: Forecast) -> None:
        """Deliver a forecast to every sink and to the history."""
        stream = self.serving.stream
        self.history.add(forecast, stream.last_readings if stream.last is forecast else None)
        taken = []
        for sink in self._sinks:
            try:
                sink.write(forecast, self.heartbeat, patient=self._source.patient)
                taken.append(sink)
                self.log.over(f"undelivered: {sink.name}")
            except BrokenPipeError:
                raise  # the reader of standard output has closed it
            except (StunetError, OSError) as error:
                self._undelivered(sink, error)
            self.heartbeat.beat()
        for sink in taken:  # after all have it: who waits for a receiver that is away keeps no other waiting
            sink.settle(self.heartbeat)
        if self.serving.durable.trouble is not None:
            self.log.again("not durable", self.serving.durable.trouble)
        self._handed_s, self._handed = forecast.issued_s, time.monotonic()
        self._counters.forecasts += 1

    def _undelivered(self, sink: Sink, error: StunetError | OSError, *, at_end: bool = False) -> None:
        """Count the forecasts that a sink has lost, and log why it has not delivered."""
        self._counters.undelivered[sink.name] += error.lost if isinstance(error, SinkError) else 1
        self.log.again(f"{'at the end' if at_end else 'undelivered'}: {sink.name}", str(error))

    def _finish(self) -> None:
        """Write the last snapshot and close the sinks, each even if another fails."""
        for sink in self._sinks:
            try:
                try:
                    sink.flush(self.heartbeat, patient=self._source.patient)
                finally:
                    sink.close()
            except (StunetError, OSError) as error:
                self._undelivered(sink, error, at_end=True)
        waiting = self.offers.end()
        self._ended = True
        for serving in [self.serving] if waiting is None else [self.serving, waiting]:
            try:
                serving.close()
            except (StunetError, OSError) as error:
                self.log.error(f"at the end: {error}")
        counters = self._counters
        self.log.info(f"ended after {counters.delivered} deliveries and {counters.forecasts} forecasts")
