"""The backlog of a live stream: what its sender kept while it was away, cut off or slow, and whether more may come.

While a backlog comes, an interval that is over by the clock must not be closed by it. A backlog may begin with every
connection, and after every pause of the stream's thread: its sink has blocked, its process was stopped, the machine
slept. It has been drained when for a while nothing came of an interval that is over, and what the source held when it
was asked has come too.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from runtime.service.sources import Inbox, Source

#: Seconds without a reading of an interval that is over, after which a backlog counts as drained.
QUIET_S = 2.0
#: Longest time, in seconds, that the senders get to come back after a connection was cut; else as long as it was.
SENDERS_S = 60.0
#: Seconds in which a backlog must become smaller, or it is not waited for any longer.
_PROGRESS_S = 60.0
#: Seconds between two turns of a stream's thread after which readings may have piled up.
PAUSE_S = 1.0


def elapsed_s() -> float:
    """Return seconds of real time, those included in which the machine slept."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux only; elsewhere a sleep shows as a cut connection
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True)
class Drained:
    """A backlog that is over.

    Attributes:
        readings: how many of its readings were taken.
        seconds: how long that took.
        in_vain: whether it did not become smaller, so that it is not waited for any longer.
    """

    readings: int
    seconds: float
    in_vain: bool


class Backlog:
    """What a stream knows of the backlog of its source; for the stream's thread, but :attr:`expected` is for any.

    Args:
        source: asked for an answer behind all that it holds.
        inbox: into which it delivers.

    Attributes:
        readings: how many readings of the present backlog have been taken; 0 while there is none.
    """

    def __init__(self, source: Source, inbox: Inbox) -> None:
        self.readings = 0
        self._source = source
        self._inbox = inbox
        self._turned_s = self._cut_s = elapsed_s()
        self._until_s = -math.inf
        self._begun_s = 0.0
        self._connections = 0
        self._asked: tuple[float, float] | None = None  # what the controller's clock showed, and when
        self._smallest = (math.inf, 0.0)  # how far the sensors were behind, at best, and when
        self._in_vain = False

    @property
    def expected(self) -> bool:
        """Whether a backlog is there, or may come, so that no interval is closed by the clock."""
        if self._inbox.cut or self._connections < self._inbox.connections:
            return True
        now_s, asked = elapsed_s(), self._asked
        unanswered = asked is not None and now_s > asked[1] + PAUSE_S
        return now_s < self._until_s or (unanswered and not self._in_vain)

    def turn(self) -> None:
        """Notice connections and pauses; once in every turn of the stream's thread."""
        now_s = elapsed_s()
        pause_s, self._turned_s = now_s - self._turned_s, now_s
        if self._connections < self._inbox.connections:
            self._connections = self._inbox.connections
            self._begin(_patience_s(now_s - self._cut_s))
        elif pause_s > PAUSE_S:
            self._begin(QUIET_S)
        if not self._inbox.cut:
            self._cut_s = now_s
        else:
            self._asked = None  # the answer will not come

    def add(self, behind_s: float) -> bool:
        """Count a reading of an interval that is over, and return whether a backlog has begun with it.

        Args:
            behind_s: by how many seconds the sensors are behind the clock, on average.
        """
        now_s = elapsed_s()
        if not self.readings:
            self._begun_s, self._smallest = now_s, (behind_s, now_s)
        elif behind_s < self._smallest[0] - 1:
            self._smallest = (behind_s, now_s)
        self._in_vain = self._in_vain or now_s - self._smallest[1] > _PROGRESS_S
        if self._in_vain:
            self._until_s = -math.inf
        else:
            self._until_s = max(self._until_s, now_s + QUIET_S)
        self.readings += 1
        return self.readings == 1 and not self._in_vain

    def ask(self, clock_s: float) -> None:
        """Let the source answer behind all that it holds now, unless it has been asked.

        Args:
            clock_s: what the controller's clock shows.
        """
        if self._asked is None and self._source.ask(self._inbox):
            self._asked = clock_s, elapsed_s()

    def answered(self) -> float | None:
        """Return what the clock showed when the source was asked; None if a backlog has begun since, or may begin."""
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        delay_s = elapsed_s() - asked[1]
        if delay_s > PAUSE_S and not self._in_vain:  # what holds up the answer holds up the senders too
            self._begin(_patience_s(delay_s))
        return None if self.expected else asked[0]

    def drain(self) -> Drained | None:
        """End the present backlog and return what it was; None if there was none."""
        readings, self.readings = self.readings, 0
        drained = Drained(readings, elapsed_s() - self._begun_s, self._in_vain)
        return drained if readings else None

    def _begin(self, seconds: float) -> None:
        self._asked, self._in_vain = None, False
        self._until_s = max(self._until_s, elapsed_s() + seconds)


def _patience_s(outage_s: float) -> float:
    """Return how long the senders get to come back after an outage."""
    return min(SENDERS_S, max(QUIET_S, outage_s))
