"""Jumps of time in intervals that bring their own: one that lies far ahead of the others is believed with the next one.

Without a clock, an interval of the wrong year could not be told from a gap. Were it believed, all that come after it
would be late.
"""

from __future__ import annotations

from typing import NamedTuple

from runtime.clock import to_seconds
from runtime.messages import Record
from stunet_deploy.errors import StreamError
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time

#: Intervals of one time that are held back: a sender may repeat itself, or contradict itself, but not for ever.
_MOST_HELD = 100


class Verdict(NamedTuple):
    """What is to be done when an interval has come.

    Attributes:
        ready: the intervals to push now, in order.
        refused: why an earlier one is not believed, for each.
        anew: whether that one has been pushed, alone, so that the stream is to begin from zero.
    """

    ready: list[Record]
    refused: list[StreamError]
    anew: bool = False


class Jumps:
    """Holds an interval back that lies more than the model's window ahead, until the next one does so too.

    The first interval of all is not held back. If the next one lies far before it, it is taken back.

    Args:
        manifest: of the bundle.
        last_s: stamp of the last interval that the stream has, in seconds since the epoch; None if it is fresh.
    """

    def __init__(self, manifest: Manifest, last_s: float | None = None) -> None:
        self._far_s = manifest.window * manifest.interval_s
        self._last_s = last_s
        self._alone = False  # whether the last interval is the first of all
        self._held: list[Record] = []  # of one time

    def take(self, record: Record) -> Verdict:
        """Judge an interval and those before it."""
        try:
            seconds = to_seconds(record.timestamp)
        except StreamError:
            return Verdict([record], [])  # the stream refuses it
        if self._held:
            held_s = to_seconds(self._held[0].timestamp)
            if seconds == held_s:
                if len(self._held) >= _MOST_HELD:
                    return Verdict([], [self._error(held_s, seconds)])
                self._held.append(record)
                return Verdict([], [])
            held, self._held = self._held, []
            if seconds <= held_s - self._far_s:
                return Verdict(self._judge(record, seconds), [self._error(held_s, seconds) for _ in held])
            if seconds < held_s:
                self._last_s = held_s
                return Verdict([record, *held], [])
            self._last_s = held_s
            return Verdict([*held, *self._judge(record, seconds)], [])
        if self._alone and self._last_s is not None and seconds <= self._last_s - self._far_s:
            error = self._error(self._last_s, seconds)
            self._last_s = seconds
            return Verdict([record], [error], anew=True)
        return Verdict(self._judge(record, seconds), [])

    def end(self) -> list[StreamError]:
        """Return why the intervals that are held back are not believed, when no more will come."""
        held, self._held = self._held, []
        return [
            StreamError(
                f"an interval at {format_time(int(to_seconds(record.timestamp)))}, far ahead of the others, at the end",
                f"another one after it, or at most {self._far_s} s from one to the next",
                "correct the sender's clock, or send the next one too",
                reason="ahead",
            )
            for record in held
        ]

    def _judge(self, record: Record, seconds: float) -> list[Record]:
        if self._last_s is not None and seconds > self._last_s + self._far_s:
            self._held = [record]
            return []
        self._alone = self._last_s is None
        self._last_s = seconds if self._last_s is None else max(seconds, self._last_s)
        return [record]

    def _error(self, came_s: float, next_s: float) -> StreamError:
        return StreamError(
            f"an interval at {format_time(int(came_s))}, far ahead of the next one at {format_time(int(next_s))}",
            f"intervals in order, at most {self._far_s} s ahead of the one after them",
            "correct the sender's clock",
            reason="ahead",
        )
