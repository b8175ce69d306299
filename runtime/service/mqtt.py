"""MQTT 5: the broker connection of a service, kept over restarts of either side, with its source and sink."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from runtime.forecast import Forecast
from runtime.service.config import MqttConfig
from runtime.service.heartbeat import Heartbeat
from runtime.service.logs import LOG, StreamLog
from runtime.service.sinks import Sink, SinkError
from runtime.service.sources import Delivery, Inbox
from stunet_deploy.errors import ConfigError

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_LOG = logging.getLogger(f"{LOG.name}.mqtt")
_LOG.setLevel(logging.WARNING)  # below it is every packet
# Of paho's messages, only an error in a callback of this module is not logged by the module itself.
_LOG.addFilter(lambda record: record.getMessage().startswith("Caught exception in "))
_TAKEN_OVER = 0x8E
ONLINE, OFFLINE = "online", "offline"
_AT_LEAST_ONCE = 1
#: Seconds for a broker's answer when the service ends or a config is checked.
_ANSWER_S = 5.0
_PAUSE_S = 0.05


class Broker:
    """A connection that is restored whenever it is lost, in a session that the broker keeps meanwhile.

    A message is acknowledged when its stream says so, on the connection that delivered it. The broker repeats what is
    not acknowledged on the next connection, so inboxes are then cleared.

    Args:
        config: address of the broker and identity of this client.

    Raises:
        ConfigError: if a file of the password or of TLS cannot be read.
        ModuleNotFoundError: if paho-mqtt is not installed.
    """

    def __init__(self, config: MqttConfig) -> None:
        self.config = config
        self._log = StreamLog("mqtt")
        self._status_topic = config.status_topic or f"stunet/{config.client_id}/status"
        self._routes: list[tuple[tuple[str, ...], Inbox]] = []
        self._lock = threading.Lock()
        self._confirmation = threading.Condition(self._lock)
        self._connections = 0
        self._published = 0
        self._confirmed = 0
        self._own: set[int] = set()  # messages of the status, which are no forecasts
        self._asked: dict[int, Inbox] = {}  # who waits for an answer of the broker
        self._client = _client(config, config.client_id)
        self._client.will_set(self._status_topic, OFFLINE, _AT_LEAST_ONCE, retain=True)
        self._client.max_queued_messages_set(config.unconfirmed)
        first_s = min(1.0, config.reconnect_max_s)
        self._client.reconnect_delay_set(first_s, config.reconnect_max_s)  # type: ignore[arg-type]  # sleeps any time
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_unsubscribe = self._on_unsubscribe
        self._client.on_publish = self._on_publish

    def subscribe(self, topics: tuple[str, ...], inbox: Inbox) -> None:
        """Deliver messages of topic filters to an inbox; call it before :meth:`start`."""
        self._routes.append((topics, inbox))
        inbox.lost()

    def ask(self, inbox: Inbox) -> bool:
        """Let the broker answer, whose messages come in order; return False without a connection."""
        # What is not subscribed may be unsubscribed: that changes nothing, and every broker answers.
        with self._lock:
            mid = self._client.unsubscribe(f"{self._status_topic}/answer")[1]
            if mid is not None:
                self._asked[mid] = inbox
        return mid is not None

    def start(self) -> None:
        """Connect in a thread of its own, trying until it succeeds."""
        config = self.config
        properties = _connect_properties(config.session_s, config.in_flight)
        self._client.connect_async(
            config.host, config.port, config.keepalive_s, clean_start=False, properties=properties
        )
        self._client.loop_start()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted this client and the connection has lasted since."""
        return self._client.is_connected()

    @property
    def unconfirmed(self) -> int:
        """Number of forecasts that the broker has not confirmed."""
        with self._lock:
            return self._published - self._confirmed

    def publish(self, topic: str, payload: str) -> bool:
        """Publish a retained message, now or once connected; return False if too many wait already."""
        from paho.mqtt.enums import MQTTErrorCode

        # Not under the lock, which the confirmation needs, since that may come before this returns.
        info = self._client.publish(topic, payload, _AT_LEAST_ONCE, retain=True)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            return False
        with self._lock:
            self._published += 1
        return True

    def settle(self, heartbeat: Heartbeat) -> None:
        """Wait a few seconds until all forecasts are confirmed; return at once without a connection."""
        end = time.monotonic() + _ANSWER_S
        with self._confirmation:
            while self._published > self._confirmed and self._client.is_connected() and time.monotonic() < end:
                heartbeat.beat()
                self._confirmation.wait(_PAUSE_S)

    def close(self) -> None:
        """Publish that this client is offline, and disconnect."""
        if self._client.is_connected():
            info = self._client.publish(self._status_topic, OFFLINE, _AT_LEAST_ONCE, retain=True)
            with self._lock:
                self._own.add(info.mid)
            with suppress(RuntimeError):  # the connection was lost, so the broker publishes the will
                info.wait_for_publish(_ANSWER_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, data: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        from paho.mqtt.subscribeoptions import SubscribeOptions

        if reason.is_failure:
            self._log.again("refused by the broker", str(reason))
            return
        self._connections += 1
        for _, inbox in self._routes:
            inbox.connected()
        if flags.session_present:
            for _, inbox in self._routes:
                inbox.clear()
        # The broker sends a retained message with the first subscription, not with each connection.
        options = SubscribeOptions(_AT_LEAST_ONCE, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        topics = sorted({topic for topics, _ in self._routes for topic in topics})
        if topics:
            client.subscribe([(topic, options) for topic in topics])
        status = client.publish(self._status_topic, ONLINE, _AT_LEAST_ONCE, retain=True)
        with self._lock:
            self._own.add(status.mid)
        subscribed = f", subscribed to {', '.join(topics)}" if topics else ""
        self._log.info(f"connected to {self.config.host}:{self.config.port}{subscribed}")

    def _on_connect_fail(self, client: Client, data: object) -> None:
        self._log.again("no connection", f"{self.config.host}:{self.config.port} does not answer")

    def _on_disconnect(
        self, client: Client, data: object, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        for _, inbox in self._routes:
            inbox.lost()
        with self._lock:
            self._asked.clear()
        if not reason.is_failure:
            return
        name = f"client_id {self.config.client_id!r}"
        if reason.value == _TAKEN_OVER:
            why = f"another client has connected with {name}; give each service one of its own in [mqtt]"
        else:
            # Not every broker tells that another client has taken over the session.
            why = f"if this repeats while the broker runs, look whether another service uses {name}"
        self._log.again("connection lost", f"the broker or the network ended the connection ({reason}); {why}")

    def _on_message(self, client: Client, data: object, message: MQTTMessage) -> None:
        from paho.mqtt.client import topic_matches_sub

        inboxes = [
            inbox for topics, inbox in self._routes if any(topic_matches_sub(topic, message.topic) for topic in topics)
        ]
        if message.qos == 0:  # the broker does not limit their number
            for inbox in inboxes:
                if inbox.full:
                    self._log.again("dropped", f"a message of QoS 0 by {message.topic}: too many wait")
                else:
                    inbox.put_now(Delivery(bytes(message.payload)))
            return
        ack = self._ack(message.mid, len(inboxes))
        for inbox in inboxes:
            inbox.put_now(Delivery(bytes(message.payload), ack, message.dup))
        if not inboxes:
            client.ack(message.mid, message.qos)

    def _on_unsubscribe(
        self, client: Client, data: object, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        with self._lock:
            inbox = self._asked.pop(mid, None)
        if inbox is not None:
            inbox.answer()

    def _ack(self, mid: int, streams: int) -> Callable[[], None]:
        """Return a function that acknowledges a message once every stream has called it."""
        connection, missing = self._connections, streams

        def ack() -> None:
            nonlocal missing
            with self._lock:
                missing -= 1
            # On another connection the message is repeated, and its number may belong to another one.
            if missing == 0 and connection == self._connections:
                self._client.ack(mid, _AT_LEAST_ONCE)

        return ack

    def _on_publish(
        self, client: Client, data: object, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._lock:
            if mid in self._own:
                self._own.remove(mid)
            else:
                self._confirmed += 1
                self._confirmation.notify_all()
        if reason.is_failure:
            self._log.again("forecast refused by the broker", str(reason))


class MqttSource:
    """Messages of JSON from topics; see :class:`runtime.service.sources.Source`."""

    live, patient, fleeting = True, False, False

    def __init__(self, broker: Broker, topics: tuple[str, ...]) -> None:
        self._broker = broker
        self._topics = topics

    def start(self, inbox: Inbox, stopped: threading.Event, last_s: int | None) -> None:
        """Subscribe; messages come once the broker connection is started."""
        self._broker.subscribe(self._topics, inbox)

    def ask(self, inbox: Inbox) -> bool:
        """Let the broker answer; see :class:`runtime.service.sources.Source`."""
        return self._broker.ask(inbox)


class MqttSink(Sink):
    """Every forecast line as a retained message; see :class:`runtime.service.sinks.Sink`."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.name = f"mqtt {topic}"
        self._broker = broker
        self._topic = topic

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Publish it and wait for the confirmation; without a connection it is held until there is one."""
        while patient and self._broker.unconfirmed >= self._broker.config.unconfirmed:
            if heartbeat.wait(_PAUSE_S):
                break
        if not self._broker.publish(self._topic, forecast.to_json_line()):
            raise SinkError(
                f"a forecast for {self._topic} dropped: {self._broker.unconfirmed} wait for the broker",
                "a broker that answers",
                "look at the broker, or raise unconfirmed in [mqtt]",
            )
        # Otherwise the next interval could reach the journal before this forecast has left the process. If the process
        # died then, only the next forecast would be delivered again.
        self._broker.settle(heartbeat)

    def flush(self, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Wait until the broker has confirmed all forecasts."""
        end = time.monotonic() + _ANSWER_S
        while self._broker.unconfirmed and ((patient and not heartbeat.stopped.is_set()) or time.monotonic() < end):
            heartbeat.beat()
            time.sleep(_PAUSE_S)
        if self._broker.unconfirmed:
            raise SinkError(
                f"{self._broker.unconfirmed} forecasts that the broker has not confirmed",
                "a broker that answers",
                "look at the broker",
            )


def probe(config: MqttConfig) -> None:
    """Connect to the broker once, under another client id.

    Raises:
        ConfigError: if it does not answer, or refuses the connection.
    """
    client = _client(config, f"{config.client_id}-check")
    answered = threading.Event()
    reasons: list[ReasonCode] = []

    def on_connect(
        client: Client, data: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        reasons.append(reason)
        answered.set()

    client.on_connect = on_connect
    trouble = None
    try:
        client.connect(config.host, config.port, config.keepalive_s, clean_start=True)
        client.loop_start()
        if not answered.wait(_ANSWER_S):
            trouble = "no answer"
        elif reasons[0].is_failure:
            trouble = str(reasons[0])
    except OSError as error:
        trouble = str(error)
    finally:
        client.disconnect()
        client.loop_stop()
    if trouble is not None:
        raise ConfigError(
            f"the broker {config.host}:{config.port} ({trouble})",
            "a connection",
            "start it, or correct [mqtt] in the config file",
        )


def _client(config: MqttConfig, client_id: str) -> Client:
    from paho.mqtt.client import Client, MQTTv5
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, manual_ack=True)
    client.suppress_exceptions = True  # one of them must not end its thread; they are logged
    client.enable_logger(_LOG)
    try:
        if config.username is not None:
            password = None if config.password_file is None else config.password_file.read_text().partition("\n")[0]
            client.username_pw_set(config.username, password)
        if config.tls:
            ca, certificate, key = (
                None if path is None else str(path)
                for path in (config.ca_file, config.certificate_file, config.key_file)
            )
            client.tls_set(ca, certificate, key)
    except (OSError, UnicodeDecodeError, ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"password_file, ca_file, certificate_file or key_file of [mqtt] ({error})",
            "files that this user may read: the password, and PEM",
            "correct the config file, or the rights of the files",
        ) from error
    return client


def _connect_properties(session_s: int, in_flight: int) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_s
    properties.ReceiveMaximum = in_flight
    return properties
