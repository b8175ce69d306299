"""One connection to a broker, from its beginning to its end, used by one thread."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from runtime.messages import LONGEST_MESSAGE
from runtime.service.config import MqttConfig
from runtime.service.logs import LOG
from runtime.service.mqtt.limits import AT_LEAST_ONCE, Limits
from runtime.service.mqtt.trouble import LostError, Trouble, failure, refusal
from stunet_deploy.errors import ConfigError

if TYPE_CHECKING:  # it comes with the extra [service]
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

_LOG = logging.getLogger(f"{LOG.name}.mqtt")
_LOG.setLevel(logging.WARNING)  # below it is every packet
# Of paho's messages, only an error in a callback of this module is not logged by the module itself.
_LOG.addFilter(lambda record: record.getMessage().startswith("Caught exception in "))
#: Bytes of the longest packet that the broker may send: the longest message, its topic, and properties.
LONGEST_PACKET = LONGEST_MESSAGE + 2**18
#: Bytes that are read at once: room for all that a packet claims would be taken before it is there.
_PART = 2**16


class Waker:
    """Ends a wait of the thread that uses a connection; from any thread."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def wake(self) -> None:
        """End the wait, or the next one."""
        with suppress(OSError):  # it is full, so that the thread is awake, or closed
            self._write.send(b"x")

    def drain(self) -> None:
        """Forget all calls so far."""
        with suppress(OSError):
            while self._read.recv(4096):
                pass

    def fileno(self) -> int:
        """Return what select waits for."""
        return self._read.fileno()

    def close(self) -> None:
        """Close it; nobody may wait for it any more."""
        self._read.close()
        self._write.close()


class Listener(Protocol):
    """What is told of a connection's events, in its thread; each method may end it by :class:`LostError`."""

    def on_connect(self, limits: Limits, kept: bool) -> None:
        """The broker has accepted the client; ``kept`` tells whether it has its session still."""

    def on_subscribe(self, codes: list[int]) -> None:
        """It has answered the oldest subscription that is without an answer: a code for each topic filter."""

    def on_unsubscribe(self, number: int) -> None:
        """It has answered the end of a subscription."""

    def on_publish(self, number: int, code: int) -> None:
        """It has answered a publication."""

    def on_message(self, message: MQTTMessage) -> None:
        """It has sent a message."""


class Connection:
    """A connection by MQTT 5.

    Args:
        config: address of the broker, and files that prove who this is.
        client_id: name at the broker.
        listener: is told what comes.
        waker: ends waits in :meth:`turn`.
        session_s: seconds for which the broker is to keep the session afterwards; 0 to begin without one.
        will: topic and payload that the broker publishes when the connection breaks; None for none.
        will_retained, will_qos: how.

    Raises:
        ConfigError: if a file of the password or of TLS cannot be read.
        ModuleNotFoundError: if paho-mqtt is not installed.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        listener: Listener,
        waker: Waker,
        *,
        session_s: int,
        will: tuple[str, str] | None = None,
        will_retained: bool = True,
        will_qos: int = AT_LEAST_ONCE,
    ) -> None:
        self._config = config
        self._listener = listener
        self._waker = waker
        self._session_s = session_s
        self._lost: LostError | None = None
        self._asked: dict[tuple[str, int], float] = {}  # what has no answer yet, and since when
        self._broken: list[OSError] = []
        self._client = make_client(config, client_id, self._broken)
        if will is not None:
            self._client.will_set(*will, will_qos, retain=will_retained)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_unsubscribe = self._on_unsubscribe

    def open(self) -> None:
        """Reach the broker and send CONNECT.

        Raises:
            LostError: if it cannot be reached.
        """
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        config, properties = self._config, Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_s
        properties.ReceiveMaximum = config.in_flight
        properties.MaximumPacketSize = LONGEST_PACKET
        try:
            self._client.connect(
                config.host,
                config.port,
                config.keepalive_s,
                clean_start=self._session_s == 0,
                properties=properties,
            )
        except (OSError, ValueError) as error:  # a name that is none is a UnicodeError, which is a ValueError
            raise LostError(failure(error, config.host, config.port)) from error
        self._ask("connect", 0)

    def turn(self, timeout_s: float, *, reading: bool = True) -> None:
        """Wait for packets, for what is to be written or for the waker, and handle what has come.

        Args:
            timeout_s: longest wait.
            reading: whether to take packets; False leaves them to the network, which then holds the broker back.

        Raises:
            LostError: if the connection has ended.
        """
        client, listening = self._client, self._client.socket()
        if listening is not None and self._lost is None:
            pending = reading and isinstance(listening, ssl.SSLSocket) and listening.pending() > 0
            wanted: list[Any] = [self._waker, listening] if reading else [self._waker]
            writing = [listening] if client.want_write() else []
            ready, _, _ = select.select(wanted, writing, [], 0 if pending else timeout_s)
            self._waker.drain()
            if pending or listening in ready:
                client.loop_read()
            if client.socket() is not None and client.want_write():
                client.loop_write()
            client.loop_misc()  # keeps it alive, and notices when the broker is silent
        if self._lost is not None:
            raise self._lost
        if client.socket() is None:
            raise LostError(Trouble("network", "broken", "the connection has ended"))
        if self._asked and time.monotonic() - min(self._asked.values()) > self._config.keepalive_s:
            raise LostError(self._silence())

    @property
    def answered(self) -> bool:
        """Whether the broker has answered all that it was asked."""
        return not self._asked

    def subscribe(self, topics: list[str]) -> None:
        """Ask for messages of topic filters; :meth:`Listener.on_subscribe` tells the answer."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        # The broker sends a retained message with the first subscription, not with each connection.
        options = SubscribeOptions(AT_LEAST_ONCE, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        _, number = self._client.subscribe([(topic, options) for topic in topics])
        self._ask("subscribe", number or 0)

    def unsubscribe(self, topics: list[str]) -> int:
        """Ask for no more messages of topic filters; the number is that of :meth:`Listener.on_unsubscribe`."""
        number = self._client.unsubscribe(topics)[1] or 0
        self._ask("unsubscribe", number)
        return number

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Publish a message and return the number by which :meth:`Listener.on_publish` tells the answer."""
        number = self._client.publish(topic, payload, qos, retain=retain).mid
        self._ask("publish", number)
        return number

    def ack(self, message: MQTTMessage) -> None:
        """Acknowledge a message."""
        if message.qos:
            self._client.ack(message.mid, message.qos)

    def close(self, *, polite: bool) -> None:
        """End it: with DISCONNECT, or so that the broker publishes the will."""
        self._client.on_disconnect = None
        if polite and self._client.socket() is not None:
            with suppress(Exception):  # it is over in any case
                self._client.disconnect()
                self._client.loop_write()
        rest = self._client.socket()
        if rest is not None:
            with suppress(OSError):
                rest.close()

    def _ask(self, what: str, number: int) -> None:
        self._asked[what, number] = time.monotonic()

    def _answered(self, what: str, number: int) -> None:
        self._asked.pop((what, number), None)

    def _silence(self) -> Trouble:
        """Return what the broker has not answered."""
        (what, _), since = min(self._asked.items(), key=lambda asked: asked[1], default=(("pingreq", 0), 0.0))
        lasts = f" for {time.monotonic() - since:.0f} s" if since else ""
        return Trouble("protocol", "no_answer", f"the broker has not answered {what.upper()}{lasts}")

    def _lose(self, trouble: Trouble) -> None:
        self._lost = self._lost or LostError(trouble)

    def _on_connect(self, client: Client, data: object, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._answered("connect", 0)
        if reason.is_failure:
            self._lose(refusal("connect", "the broker refuses the connection", reason.value, _said(properties)))
            return
        limits = Limits.of(properties, self._session_s)
        # It may ask for a shorter time; a longer one, or none, must not keep a dead connection from being noticed.
        own = self._config.keepalive_s
        client._keepalive = min(own, getattr(properties, "ServerKeepAlive", own) or own)
        self._tell(self._listener.on_connect, limits, flags.session_present)

    def _on_disconnect(self, client: Client, data: object, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._lose(refusal("disconnect", "the broker has ended the connection", reason.value, _said(properties)))
        elif self._broken:
            self._lose(failure(self._broken[0], self._config.host, self._config.port))
        elif reason.value == _UNREADABLE:
            why = "the broker sends what is no MQTT 5: the connection is ended"
            self._lose(Trouble("protocol", "unreadable", f"{why}; look at its version, and whether port is right"))
        elif reason.value == _SILENT:
            self._lose(self._silence())
        elif ("connect", 0) in self._asked:
            why = "the other side has ended the connection before it answered"
            self._lose(Trouble("network", "closed", f"{why}; look at port, tls and the broker's log"))
        else:
            self._lose(Trouble("network", "broken", "the connection was ended by the broker or the network"))

    def _on_message(self, client: Client, data: object, message: MQTTMessage) -> None:
        self._tell(self._listener.on_message, message)

    def _on_publish(self, client: Client, data: object, number: int, reason: ReasonCode, properties: Any) -> None:
        self._answered("publish", number)
        self._tell(self._listener.on_publish, number, reason.value)

    def _on_subscribe(
        self, client: Client, data: object, number: int, reasons: list[ReasonCode], properties: Any
    ) -> None:
        if ("subscribe", number) in self._asked:
            self._answered("subscribe", number)
            self._tell(self._listener.on_subscribe, [reason.value for reason in reasons])

    def _on_unsubscribe(self, client: Client, data: object, number: int, reasons: Any, properties: Any) -> None:
        self._answered("unsubscribe", number)
        self._tell(self._listener.on_unsubscribe, number)

    def _tell(self, listen: Any, *event: Any) -> None:
        """Call the listener; an error in it ends the connection, since paho would go on without a word."""
        try:
            listen(*event)
        except LostError as lost:
            self._lost = self._lost or lost
        except Exception as error:
            self._lose(failure(error, self._config.host, self._config.port))


#: Paho's own codes of the end of a connection.
_UNREADABLE, _SILENT = 0x82, 0x8D


def make_client(config: MqttConfig, client_id: str, broken: list[OSError]) -> Client:
    """Return paho's client, not connected, which takes no packet that is longer than it has asked for.

    Args:
        config: files of the password and of TLS.
        client_id: its name at the broker.
        broken: gets the error when reading fails, which paho keeps for itself.

    Raises:
        ConfigError: if a file of the password or of TLS cannot be read.
        ModuleNotFoundError: if paho-mqtt is not installed.
    """
    from paho.mqtt.client import Client, MQTTv5
    from paho.mqtt.enums import CallbackAPIVersion

    class Bounded(Client):
        def _sock_recv(self, bufsize: int) -> bytes:
            try:
                if bufsize > LONGEST_PACKET:
                    raise ConnectionAbortedError(
                        f"the broker sends a packet of {bufsize:,} bytes, against the protocol"
                    )
                return super()._sock_recv(min(bufsize, _PART))
            except BlockingIOError:
                raise
            except OSError as error:
                broken.append(error)
                raise

    client = Bounded(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, manual_ack=True)
    client.suppress_exceptions = True
    client.enable_logger(_LOG)
    client.max_inflight_messages_set(0)  # who publishes respects the broker's limit
    client.on_socket_register_write = lambda *_: None  # paho would write within publish; a turn writes
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


def _said(properties: Any) -> str | None:
    """Return the broker's own words, and the address to which it sends its clients, if it says them."""
    found = [getattr(properties, name, None) for name in ("ReasonString", "ServerReference")]
    return ", ".join(text for text in found if isinstance(text, str)) or None
