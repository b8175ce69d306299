"""The ends of a link: a source of messages, and a sink of forecasts."""

from __future__ import annotations

import threading
import time

from runtime.forecast import Forecast
from runtime.service.heartbeat import Heartbeat
from runtime.service.mqtt.link import ANSWER_S, Link
from runtime.service.sinks import Sink, SinkError
from runtime.service.sources import Inbox

_PAUSE_S = 0.05


class MqttSource:
    """Messages of JSON from topics; see :class:`runtime.service.sources.Source`.

    Args:
        link: of the stream.
        topics: topic filters.
        first: link of the first stream, whose session may be one that all streams had together.
    """

    live, patient, fleeting = True, False, False

    def __init__(self, link: Link, topics: tuple[str, ...], first: Link) -> None:
        self._link = link
        self._topics = topics
        self._first = first

    def start(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        """Subscribe; messages come once the link is started."""
        self._link.subscribe(self._topics, inbox)
        if self._first is not self._link:
            self._first.inherit(self._topics, inbox)

    def ask(self, inbox: Inbox) -> bool:
        """Let the broker answer; see :class:`runtime.service.sources.Source`."""
        return self._link.ask()


class MqttSink(Sink):
    """Every forecast line as a retained message; see :class:`runtime.service.sinks.Sink`."""

    def __init__(self, link: Link, topic: str) -> None:
        self.name = f"mqtt {topic}"
        self._link = link
        self._topic = topic

    @property
    def held(self) -> int:
        """Number of forecasts that wait for the broker while it is away; see :class:`runtime.service.sinks.Sink`."""
        return 0 if self._link.standing.connected else self._link.unconfirmed

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Publish it, now or once the broker is there."""
        while patient and self._link.unconfirmed >= self._link.config.unconfirmed:
            if heartbeat.wait(_PAUSE_S):
                break
        if not self._link.publish(self._topic, forecast.to_json_line(), self._refused):
            raise SinkError(
                f"a forecast for {self._topic} dropped: {self._link.unconfirmed} wait for the broker",
                "a broker that answers",
                "look at the broker, or raise unconfirmed in [mqtt]",
            )

    def settle(self, heartbeat: Heartbeat) -> None:
        """Wait for the confirmation; see :meth:`runtime.service.mqtt.link.Link.settle`."""
        # Otherwise the next interval could reach the journal before this forecast has left the process. If the process
        # died then, only the next forecast would be delivered again.
        self._link.settle(heartbeat)

    def flush(self, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Wait until the broker has confirmed all forecasts."""
        end = time.monotonic() + ANSWER_S
        while self._link.unconfirmed and ((patient and not heartbeat.stopped.is_set()) or time.monotonic() < end):
            heartbeat.beat()
            time.sleep(_PAUSE_S)
        if self._link.unconfirmed:
            raise SinkError(
                f"{self._link.unconfirmed} forecasts that the broker has not confirmed",
                "a broker that answers",
                "look at the broker",
                lost=self._link.unconfirmed,
            )

    def _refused(self) -> None:
        self.lost += 1
