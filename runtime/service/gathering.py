"""Gathering: when the single readings of a stream become intervals: by the clock, by the sensors, or by a backlog."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runtime.aggregation import Assembler
from runtime.durable.stream import DurableStream
from runtime.forecast import Forecast
from runtime.messages import Detection
from runtime.service.backlog import PAUSE_S, Backlog
from runtime.service.logs import StreamLog
from runtime.service.sources import Inbox, Source
from stunet_deploy.errors import StreamError


class Gathering:
    """When the intervals of single readings are closed; for the stream's thread, but :attr:`catching_up` is for any.

    Args:
        source: source of the readings.
        inbox: into which it delivers.
        clock: returns seconds since the epoch; of no use where the source is not live.
        log: log of the stream.
        refuse: told why readings were refused that had been accepted before.
    """

    def __init__(
        self,
        source: Source,
        inbox: Inbox,
        clock: Callable[[], float],
        log: StreamLog,
        refuse: Callable[[StreamError], None],
    ) -> None:
        self._live = source.live
        self._backlog = Backlog(source, inbox)
        self._clock = clock
        self._log = log
        self._refuse = refuse

    @property
    def catching_up(self) -> bool:
        """Whether readings may come that were kept, so that no interval is closed by the clock."""
        return self._backlog.expected

    def turn(self) -> None:
        """Notice connections and pauses; after every wait for the inbox."""
        self._backlog.turn()

    def add(self, durable: DurableStream, assembler: Assembler, message: Detection) -> None:
        """Take a reading.

        Raises:
            StreamError: if it is refused, after it has been counted.
        """
        if not self._live:
            durable.add(*message, now=None)
            return
        now, catching_up = self._clock(), self._backlog.expected
        accepted = durable.add(*message, now=now, catching_up=catching_up)
        # Between the end of an interval and the answer of the source come readings that are a little late, as ever.
        if accepted is not None and assembler.is_over(accepted, now if catching_up else now - PAUSE_S):
            behind_s = assembler.behind_s(now)
            if self._backlog.add(behind_s):
                self._log.info(f"catching up: readings come that were kept, from {behind_s:.0f} s ago on average")

    def due(self, durable: DurableStream, assembler: Assembler) -> Iterator[Forecast]:
        """Yield the forecasts of intervals that readings show to be over; if the clock does, ask whether all have come.

        Raises:
            BackendError: if the backend fails.
        """
        if not self._live:
            yield from durable.due_by_sensors()
            for error in assembler.refused_since():
                self._refuse(error)
            return
        now = self._clock()
        if self._backlog.expected:
            yield from durable.due_of_backlog(now, drained=False)
        elif self._backlog.readings or assembler.is_due(now):
            self._backlog.ask(now)

    def answered(self, durable: DurableStream) -> Iterator[Forecast]:
        """Yield the forecasts of intervals that were over when the source was asked, unless a backlog came with it.

        Raises:
            BackendError: if the backend fails.
        """
        asked = self._backlog.answered()
        if asked is None:
            return
        now = self._clock()  # it may have gone on since then, and readings of later intervals may have come
        drained = self._backlog.drain()
        if drained is not None:
            yield from durable.due_of_backlog(now, drained=True, until=asked)
            said = f"{drained.readings:,} readings that were kept came in {drained.seconds:.0f} s"
            if drained.in_vain:
                late = "late readings are refused from now on; look whether the clocks are right, or raise grace_s"
                self._log.again("not caught up", f"{said}, and as late at the end as before: {late}")
            else:
                self._log.info(f"caught up: {said}")
        yield from durable.due(now, until=asked)

    def end(self, durable: DurableStream, assembler: Assembler) -> Iterator[Forecast]:
        """Yield the forecasts of intervals that wait for more readings, when no more will come.

        Raises:
            BackendError: if the backend fails.
        """
        if not self._live:
            assembler.end()
            yield from self.due(durable, assembler)
