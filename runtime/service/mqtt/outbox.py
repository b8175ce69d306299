"""Messages on their way to the broker: those that wait, and those that it has not confirmed yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.service.mqtt.limits import Limits

if TYPE_CHECKING:
    from runtime.service.mqtt.connection import Connection


@dataclass(frozen=True)
class Outgoing:
    """A message to be published, retained where the broker can.

    Attributes:
        topic, payload: of the message.
        refused: called if it is never to arrive; None for a status, which is no forecast.
    """

    topic: str
    payload: bytes
    refused: Callable[[], None] | None = None


class Outbox:
    """A queue of messages, filled from any thread and emptied by that of the link.

    Args:
        limit: forecasts that it holds, confirmed ones not counted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Outgoing] = deque()
        self._flying: dict[int, Outgoing] = {}
        self._sent: dict[int, float] = {}  # when
        self._answer = threading.Condition()

    @property
    def unconfirmed(self) -> int:
        """Number of forecasts in it."""
        with self._answer:
            return sum(message.refused is not None for message in self._all())

    @property
    def has_status(self) -> bool:
        """Whether a status is in it."""
        with self._answer:
            return any(message.refused is None for message in self._all())

    def put(self, forecast: Outgoing) -> bool:
        """Add a forecast; return False if there is no room."""
        with self._answer:
            if self.unconfirmed >= self._limit:
                return False
            self._waiting.append(forecast)
            return True

    def put_first(self, status: Outgoing) -> None:
        """Add a status, which goes ahead of forecasts and for which there is always room."""
        with self._answer:
            self._waiting.appendleft(status)

    def wait(self, seconds: float) -> None:
        """Wait until the broker has answered one of them."""
        with self._answer:
            self._answer.wait(seconds)

    def restart(self) -> None:
        """Let forecasts without an answer wait again, for another connection; a status is of one connection."""
        with self._answer:
            rest = [message for message in self._all() if message.refused is not None]
            self._waiting = deque(rest)
            self._flying.clear()
            self._sent.clear()

    def send(self, connection: Connection, limits: Limits, most: int | None = None) -> list[Outgoing]:
        """Publish as many as the broker takes; return those that are too large for it, which are no longer here.

        Args:
            connection: by which they are published.
            limits: of the broker.
            most: messages that may be on their way, if fewer than it allows.
        """
        too_large = []
        ahead = limits.ahead if most is None else min(most, limits.ahead)
        with self._answer:
            while self._waiting and len(self._flying) < ahead:
                message = self._waiting.popleft()
                if limits.takes(message.topic, message.payload):
                    number = connection.publish(message.topic, message.payload, qos=limits.qos, retain=limits.retain)
                    self._flying[number], self._sent[number] = message, time.monotonic()
                else:
                    too_large.append(message)
        return too_large

    @property
    def first(self) -> tuple[int, Outgoing, float] | None:
        """Number of the first message that is on its way, the message, and the seconds since it was sent."""
        with self._answer:
            for number, message in self._flying.items():
                return number, message, time.monotonic() - self._sent[number]
            return None

    def answered(self, number: int) -> Outgoing | None:
        """Return the message that the broker has answered, which is no longer here; None if it is none of these."""
        with self._answer:
            self._answer.notify_all()
            self._sent.pop(number, None)
            return self._flying.pop(number, None)

    def _all(self) -> list[Outgoing]:
        return [*self._flying.values(), *self._waiting]
