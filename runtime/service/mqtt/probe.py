"""A look at the broker before a service runs: whether it takes this client, its subscriptions and its forecasts."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.service.config import MqttConfig
from runtime.service.mqtt.connection import Connection, Waker
from runtime.service.mqtt.limits import AT_LEAST_ONCE, Limits, unshared
from runtime.service.mqtt.trouble import LostError, Trouble, refusal

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

#: Seconds for the broker's answers.
_ANSWER_S = 5.0


@dataclass
class Found:
    """The result of a look at the broker.

    Attributes:
        troubles: what would keep readings or forecasts away.
        remarks: what would work less well.
    """

    troubles: list[Trouble] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class _Probe:
    """Asks for everything at once and waits for the answers; see :class:`runtime.service.mqtt.connection.Listener`."""

    def __init__(self, config: MqttConfig, client_id: str, topics: list[str], messages: dict[str, int]) -> None:
        self.found = Found()
        self._config = config
        self._client_id = client_id
        self._topics = topics
        self._messages = messages
        self._asked: list[str] = []
        self._published: dict[int, str] = {}
        self._connected = False
        self._connection: Connection

    def look(self) -> Found:
        """Return what is found."""
        with closing(Waker()) as waker:
            connection = self._connection = Connection(self._config, self._client_id, self, waker, session_s=0)
            try:
                connection.open()
                self._wait(connection)
            except LostError as lost:
                self.found.troubles.append(lost.trouble)
            finally:
                connection.close(polite=True)
        return self.found

    def _wait(self, connection: Connection) -> None:
        """Wait for all answers."""
        end = time.monotonic() + _ANSWER_S
        while not self._connected or self._asked or self._published:
            left_s = end - time.monotonic()
            if left_s <= 0:
                why = f"the broker {self._config.host}:{self._config.port} gives no answer within {_ANSWER_S:g} s"
                raise LostError(Trouble("protocol", "no_answer", why))
            connection.turn(left_s)

    def on_connect(self, limits: Limits, kept: bool) -> None:
        """Subscribe and publish."""
        self._connected = True
        self.found.remarks += limits.remarks(0)
        for topic in self._topics:
            code = limits.forbids(topic)
            if code is None:
                self._asked.append(topic)
            else:
                self._refused("subscribe", f"the broker would refuse the subscription to {topic}", code)
        if self._asked:
            # As another member of a group this would take messages away from the service.
            self._connection.subscribe([unshared(topic) for topic in self._asked])
        for topic, size in self._messages.items():
            if limits.packet is not None and size > limits.packet:
                why = (
                    f"a message for {topic} has {size:,} bytes, and the broker takes packets of {limits.packet:,} bytes"
                )
                self.found.troubles.append(Trouble("publish", "0x95", why, True))
            number = self._connection.publish(topic, b"", qos=limits.qos, retain=False)
            self._published[number] = topic

    def on_unsubscribe(self, number: int) -> None:
        """Do nothing: it ends no subscription."""

    def on_subscribe(self, codes: list[int]) -> None:
        """Note which subscriptions were granted."""
        topics, self._asked = self._asked, []
        if len(codes) != len(topics):
            why = f"the broker answers a subscription to {len(topics)} topics with {len(codes)} codes"
            self.found.troubles.append(Trouble("protocol", "suback", why, True))
            return
        for topic, code in zip(topics, codes, strict=True):
            if code >= 0x80:
                self._refused("subscribe", f"the broker refuses the subscription to {topic}", code)
            elif code < AT_LEAST_ONCE:
                self.found.remarks.append(f"the broker grants {topic} with QoS 0 only: messages may be lost")

    def on_publish(self, number: int, code: int) -> None:
        """Note whether a message was taken."""
        topic = self._published.pop(number, "")
        if code >= 0x80:
            trouble = refusal("publish", f"the broker refuses a message for {topic}", code)
            if topic == self._config.status:
                self.found.remarks.append(trouble.text)
            else:
                self.found.troubles.append(trouble)

    def on_message(self, message: MQTTMessage) -> None:
        """Leave it: the session ends with the connection."""

    def _refused(self, what: str, came: str, code: int) -> None:
        self.found.troubles.append(refusal(what, came, code))


def probe(config: MqttConfig, client_id: str, topics: list[str], messages: dict[str, int]) -> Found:
    """Connect to the broker once, subscribe, publish an empty message that nobody retains under each topic, and leave.

    Args:
        config: of the broker.
        client_id: name for this; a running service must not have it.
        topics: topic filters of all sources.
        messages: bytes of a message of every topic that the service publishes.

    Raises:
        ConfigError: if a file of the password or of TLS cannot be read.
        ModuleNotFoundError: if paho-mqtt is not installed.
    """
    return _Probe(config, client_id, topics, messages).look()
