"""The link of one stream to the broker: a connection that is restored whenever it is lost, and what waits for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.service.config import MqttConfig
from runtime.service.heartbeat import Heartbeat
from runtime.service.logs import StreamLog
from runtime.service.mqtt.connection import Connection, Waker, make_client
from runtime.service.mqtt.doubt import PROOF, Doubt
from runtime.service.mqtt.limits import AT_LEAST_ONCE, Limits, unshared
from runtime.service.mqtt.outbox import Outbox, Outgoing
from runtime.service.mqtt.report import BrokerReport, Standing
from runtime.service.mqtt.trouble import NO_QOS, NO_RETAIN, LostError, Trouble, failure, hinted, refusal
from runtime.service.sources import Delivery, Inbox
from stunet_deploy.errors import ConfigError, shown

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

ONLINE, OFFLINE = "online", "offline"
#: Seconds for a broker's answer when the service ends.
ANSWER_S = 5.0
#: Seconds until a status that the broker has refused is published again.
_STATUS_PAUSE_S = 600.0
#: Longest wait for a packet, and for a confirmation.
_TURN_S, _PAUSE_S = 0.25, 0.05


class Link:
    """The link of a stream to the broker, in a thread of its own that nothing ends but :meth:`close`.

    Forecasts wait here until the broker has confirmed them, and are published again on the next connection if it has
    not. A message is acknowledged when its stream says so, on the connection that delivered it. The broker keeps the
    session meanwhile and repeats on the next connection what is not acknowledged, so the inbox is then cleared.

    Args:
        config: address of the broker.
        client_id: name of this link at the broker.
        stream: name in the log.
        status: whether it tells of the service, on the status topic.

    Raises:
        ConfigError: if a file of the password or of TLS cannot be read.
        ModuleNotFoundError: if paho-mqtt is not installed.
    """

    def __init__(self, config: MqttConfig, client_id: str, stream: str, *, status: bool = True) -> None:
        self.config = config
        self.client_id = client_id
        self._log = StreamLog(stream)
        self._status_topic = config.status if status else None
        self._topics: list[str] = []
        self._inbox: Inbox | None = None
        self._others: list[tuple[tuple[str, ...], Inbox]] = []
        self._outbox = Outbox(config.unconfirmed)
        self._doubt = Doubt()
        self._connected_s = 0.0  # when
        self._acks: deque[tuple[Connection, MQTTMessage]] = deque()
        self._asked: deque[list[str]] = deque()  # subscriptions without an answer
        self._questions = threading.Event()  # whether the stream waits for an answer
        self._question: int | None = None  # number of the packet that the broker is to answer
        self._ask_again = 0.0
        self._will_retained, self._will_qos = True, AT_LEAST_ONCE
        self.standing = Standing(config)
        self._closing = threading.Event()
        self._close_by = 0.0
        self._said_online = self._said_offline = False
        self._online_again = 0.0
        self._waker: Waker | None = None  # until it is started
        self._connection: Connection
        make_client(config, client_id, [])  # to see now whether its files can be read
        self._thread: threading.Thread | None = None

    def subscribe(self, topics: tuple[str, ...], inbox: Inbox) -> None:
        """Deliver messages of topic filters to an inbox; call it before :meth:`start`."""
        self._topics, self._inbox = sorted(set(topics)), inbox
        inbox.lost()

    def ask(self) -> bool:
        """Let the inbox get an answer of the broker, behind all messages before it; return False without a connection.

        It never comes if the connection is lost.
        """
        if not self.standing.connected:
            return False
        self._questions.set()
        self._wake()
        return True

    def inherit(self, topics: tuple[str, ...], inbox: Inbox) -> None:
        """Deliver to another stream what the session still brings of its topics, from when it had no link of its own.

        Call it before :meth:`start`.
        """
        self._others.append((topics, inbox))

    def start(self) -> None:
        """Connect in the thread, trying until it succeeds."""
        self._waker = Waker()
        name = f"mqtt {self.client_id}"
        self._thread = threading.Thread(target=self._run, args=(self._waker,), name=name, daemon=True)
        self._thread.start()

    def report(self) -> BrokerReport:
        """Return how the link is, from any thread."""
        return self.standing.report(self.unconfirmed)

    @property
    def unconfirmed(self) -> int:
        """Number of forecasts that the broker has not confirmed."""
        return self._outbox.unconfirmed

    def publish(self, topic: str, payload: str, refused: Callable[[], None]) -> bool:
        """Publish a retained message, now or once connected; return False if too many wait already.

        Args:
            topic, payload: of the message.
            refused: called in another thread if the broker refuses it.
        """
        taken = self._outbox.put(Outgoing(topic, payload.encode(), refused))
        self._wake()
        return taken

    def settle(self, heartbeat: Heartbeat) -> None:
        """Wait until all forecasts are confirmed, but a few seconds at most while the broker is there.

        While it is away a stream whose readings come from it waits for it, since none will come. Any other goes on.
        """
        end = time.monotonic() + ANSWER_S
        while self.unconfirmed and time.monotonic() < end:
            if not self.standing.connected:
                if self._inbox is None or heartbeat.stopped.is_set():
                    return
                end = time.monotonic() + ANSWER_S
            heartbeat.beat()
            self._outbox.wait(_PAUSE_S)

    def leave(self) -> None:
        """Publish that the service is offline, and disconnect, in the thread."""
        self._close_by = time.monotonic() + ANSWER_S
        self._closing.set()
        self._wake()

    def close(self) -> None:
        """Wait until the link has ended, after :meth:`leave`."""
        if self._thread is not None and self._waker is not None:
            # Longer only while the network does not answer at all.
            self._thread.join(max(0.0, self._close_by + ANSWER_S - time.monotonic()))
            if not self._thread.is_alive():
                self._waker.close()

    def _wake(self) -> None:
        if self._waker is not None:
            self._waker.wake()

    def _run(self, waker: Waker) -> None:
        """Connect again and again."""
        first_s = pause_s = min(1.0, self.config.reconnect_max_s)
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                trouble = self._serve(waker)
            except LostError as lost:
                trouble = lost.trouble
            except ConfigError as error:
                trouble = Trouble("client", "files", str(error), True)
            except BaseException as error:  # whatever it is, forecasts must find a thread that goes on
                trouble = failure(error, self.config.host, self.config.port)
            if trouble is None:
                break
            trouble = hinted(trouble, self.client_id)
            relieved = self._on_disconnect(trouble)
            if relieved or time.monotonic() - began > self.config.reconnect_max_s:
                pause_s = first_s
                self._log.forget()
            self._say(trouble)
            if self._doubt.hurried:  # no more than three times in a row
                continue
            self._closing.wait(pause_s)
            pause_s = min(2 * pause_s, self.config.reconnect_max_s)
        self.standing.connected = False

    def _serve(self, waker: Waker) -> Trouble | None:
        """Use one connection until it is lost; return None if the link was closed.

        Raises:
            LostError: why it has ended.
        """
        connection = self._connection = self._new_connection(waker)
        try:
            connection.open()
            while not self._closes(connection):
                heavy = self._inbox is not None and self._inbox.heavy
                connection.turn(_TURN_S, reading=not heavy)
                self._send(connection)
        finally:
            # Where nobody has confirmed "offline", the broker is to publish the will.
            connection.close(polite=self._closing.is_set() and not self._outbox.has_status)
        return None

    def _new_connection(self, waker: Waker) -> Connection:
        will = None if self._status_topic is None else (self._status_topic, OFFLINE)
        return Connection(
            self.config,
            self.client_id,
            self,
            waker,
            session_s=self.config.session_s,
            will=will,
            will_retained=self._will_retained,
            will_qos=self._will_qos,
        )

    def _closes(self, connection: Connection) -> bool:
        """Return whether the connection is to be ended now; before that the status is published."""
        if not self._closing.is_set():
            return False
        if not self.standing.connected or time.monotonic() > self._close_by:
            return True
        if self._status_topic is not None and not self._said_offline:
            self._said_online = self._said_offline = True
            self._outbox.put_first(Outgoing(self._status_topic, OFFLINE.encode()))
            self._send(connection)
        return not self._outbox.has_status

    def _send(self, connection: Connection) -> None:
        """Send acknowledgements, and messages as far as the broker takes them."""
        while self._acks:
            delivered_by, received = self._acks.popleft()
            if delivered_by is connection:  # on another one it is repeated, and its number belongs to another message
                connection.ack(received)
        limits = self.standing.limits
        if not self.standing.connected or limits is None:
            return
        if self._questions.is_set() and self._question is None:
            self._questions.clear()
            # What is not subscribed may be unsubscribed: that changes nothing, and every broker answers.
            self._question = connection.unsubscribe([f"{self.config.status}/answer"])
        if self.standing.refused_topics and not self._asked and time.monotonic() > self._ask_again:
            self._subscribe(connection, sorted(self.standing.refused_topics))
        if self._status_topic is not None and not self._said_online and time.monotonic() >= self._online_again:
            self._said_online = True
            self._outbox.put_first(Outgoing(self._status_topic, ONLINE.encode()))
        most = self._doubt.allows(time.monotonic() - self._connected_s, answered=connection.answered)
        for message in self._outbox.send(connection, limits, most):
            size = len(message.payload)
            text = (
                f"a message of {size:,} bytes for {message.topic}: the broker takes packets of {limits.packet:,} bytes"
            )
            self._refused(message, Trouble("publish", "0x95", text, True))

    def on_connect(self, limits: Limits, kept: bool) -> None:
        """Subscribe, and let the status and what waits be published."""
        if self._inbox is not None:
            self._inbox.connected()
            if kept:
                self._inbox.clear()
        self._asked.clear()
        self._outbox.restart()
        self._connected_s = time.monotonic()
        self._said_online = False
        self.standing.connect(limits)
        for remark in limits.remarks(self.config.session_s):
            self._log.again("limit of the broker", remark)
        foreign = sorted({topic for topics, _ in self._others for topic in topics} - set(self._topics))
        if kept and foreign:
            self._connection.unsubscribe(foreign)
        self._subscribe(self._connection, self._topics)
        session = "in the session that it has kept" if kept else "in a new session"
        self._log.info(f"connected to {self.config.host}:{self.config.port} as {self.client_id}, {session}")

    def _on_disconnect(self, trouble: Trouble) -> bool:
        """Note why there is no connection, and what the next one does otherwise.

        Return whether it will not be sent the message that has ended this one and those before.
        """
        if self._inbox is not None:
            self._inbox.lost()
        self._questions.clear()
        self._question = None
        if trouble.what == "connect" and trouble.reason == f"0x{NO_RETAIN:02x}" and self._will_retained:
            self._will_retained = False
        if trouble.what == "connect" and trouble.reason == f"0x{NO_QOS:02x}" and self._will_qos:
            self._will_qos = 0
        first = self._outbox.first if self.standing.connected else None
        self.standing.disconnect(trouble)
        number, message, waited_s = (0, None, 0.0) if first is None else first
        if not self._doubt.ended(trouble, message, waited_s) or message is None:
            return False
        self._outbox.answered(number)
        why = f"the broker ends the connection whenever it gets a message for {message.topic} ({PROOF} times in a row)"
        self._refused(message, Trouble("publish", "ends", f"{why}; look at its log, its limits and rights", True))
        return True

    def _subscribe(self, connection: Connection, topics: list[str]) -> None:
        """Subscribe to topic filters, those left out that the broker does not support."""
        self._ask_again = time.monotonic() + max(1.0, self.config.reconnect_max_s)
        limits, wanted = self.standing.limits, []
        for topic in topics:
            code = None if limits is None else limits.forbids(topic)
            if code is None:
                wanted.append(topic)
            else:
                self._answered(topic, code)
        if wanted:
            self._asked.append(wanted)
            connection.subscribe(wanted)

    def on_subscribe(self, codes: list[int]) -> None:
        """Note which subscriptions were granted."""
        topics = self._asked.popleft() if self._asked else []
        if len(codes) != len(topics):
            why = f"the broker answers a subscription to {len(topics)} topics with {len(codes)} codes"
            raise LostError(Trouble("protocol", "suback", why, True))
        for topic, code in zip(topics, codes, strict=True):
            self._answered(topic, code)
        granted = [topic for topic, code in zip(topics, codes, strict=True) if code < 0x80]
        if granted:
            self._log.info(f"subscribed to {', '.join(granted)}")

    def _answered(self, topic: str, code: int) -> None:
        trouble = None
        if code >= 0x80:
            trouble = refusal("subscribe", f"the broker refuses the subscription to {topic}", code)
        elif code < AT_LEAST_ONCE:
            why = f"the broker grants {topic} with QoS 0 only: messages may be lost without a sign"
            trouble = Trouble("subscribe", "qos_0", why)
        self.standing.subscribe(topic, trouble)
        if trouble is not None:
            self._say(trouble)

    def on_unsubscribe(self, number: int) -> None:
        """Let the stream have the answer that it waits for."""
        if number == self._question and self._inbox is not None:
            self._question = None
            self._inbox.answer()

    def on_publish(self, number: int, code: int) -> None:
        """Note that the broker has a message, or has refused it."""
        message = self._outbox.answered(number)
        if message is None:
            return
        self._doubt.answered(message)
        if code >= 0x80:
            self._refused(message, refusal("publish", f"the broker refuses a message for {message.topic}", code))
        else:
            self.standing.publish(message.topic, None)

    def _refused(self, message: Outgoing, trouble: Trouble) -> None:
        if message.refused is not None:
            message.refused()
        else:  # some brokers (mosquitto 2.0.11) end the connection then; said again on the next it would end each
            self._said_online, self._online_again = False, time.monotonic() + _STATUS_PAUSE_S
        self.standing.publish(message.topic, trouble)
        self._say(trouble)

    def on_message(self, message: MQTTMessage) -> None:
        """Deliver a message to the stream."""
        connection = self._connection
        inbox = self._inbox_of(message)
        if inbox is None:
            connection.ack(message)
            return
        if message.qos == 0:  # the broker does not limit their number
            if inbox.full:
                self._say(Trouble("message", "dropped", f"a message of QoS 0 by {message.topic}: too many wait"))
            else:
                inbox.put_now(Delivery(bytes(message.payload)))
            return

        def ack() -> None:
            self._acks.append((connection, message))
            self._wake()

        inbox.put_now(Delivery(bytes(message.payload), ack, message.dup))

    def _inbox_of(self, message: MQTTMessage) -> Inbox | None:
        """Return the inbox that a message is for; None, once said, if it is for none."""
        from paho.mqtt.client import topic_matches_sub

        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._say(Trouble("message", "topic", "a message dropped whose topic is no UTF-8"))
            return None
        routes = self._others if self._inbox is None else [(tuple(self._topics), self._inbox), *self._others]
        for topics, inbox in routes:
            if any(topic_matches_sub(unshared(wanted), topic) for wanted in topics):
                return inbox
        why = (
            f"a message by {shown(topic)} dropped, which this config does not ask for: "
            f"the session of client_id {self.client_id!r} has a subscription of another config; "
            "end the session at the broker, or unsubscribe it"
        )
        self._say(Trouble("message", "unasked", why))
        return None

    def _say(self, trouble: Trouble) -> None:
        """Count a trouble and log it."""
        self.standing.count(trouble)
        self._log.again(f"mqtt {trouble.what} {trouble.reason}", trouble.text)
