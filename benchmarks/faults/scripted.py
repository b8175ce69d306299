"""A broker of raw bytes: it answers as a script says, right or wrong, so that every answer of MQTT 5 can be met."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    *(0x10, 0x20, 0x30, 0x40, 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0),
)
#: Properties of CONNACK: identifier and format of the value.
_PROPERTIES = {
    "session_s": (0x11, "!I"),
    "keepalive_s": (0x13, "!H"),
    "ahead": (0x21, "!H"),
    "qos": (0x24, "!B"),
    "retain": (0x25, "!B"),
    "packet": (0x27, "!I"),
    "wildcards": (0x28, "!B"),
    "shared": (0x2A, "!B"),
}
_TEXTS = {"other_id": 0x12, "reference": 0x1C, "said": 0x1F}


def _length(number: int) -> bytes:
    """Return a number in bytes of seven bits."""
    found = b""
    while True:
        number, low = divmod(number, 128)
        found += bytes([low | (128 if number else 0)])
        if not number:
            return found


def _text(text: bytes) -> bytes:
    return struct.pack("!H", len(text)) + text


def packet(first: int, body: bytes) -> bytes:
    """Return a packet: its first byte, its length, and the rest."""
    return bytes([first]) + _length(len(body)) + body


def connack(code: int = 0, *, kept: bool = False, **properties: int | str) -> bytes:
    """Return the answer to CONNECT."""
    listed = b""
    for name, value in properties.items():
        if isinstance(value, str):
            listed += bytes([_TEXTS[name]]) + _text(value.encode())
        else:
            identifier, form = _PROPERTIES[name]
            listed += bytes([identifier]) + struct.pack(form, value)
    return packet(CONNACK, bytes([kept, code]) + _length(len(listed)) + listed)


def disconnect(code: int) -> bytes:
    """Return the end of a connection by the broker."""
    return packet(DISCONNECT, bytes([code, 0]))


def publish(topic: bytes, payload: bytes, number: int = 1, *, qos: int = 1) -> bytes:
    """Return a message to the client."""
    mid = struct.pack("!H", number) if qos else b""
    return packet(PUBLISH | qos << 1, _text(topic) + mid + b"\0" + payload)


_ACCEPTED = connack()


@dataclass(frozen=True)
class Script:
    """How a broker behaves to whoever connects.

    Attributes:
        greeting: answer to CONNECT; None for silence.
        suback: code for each topic filter; None for no answer.
        codes: number of codes in the answer beside those of the topic filters.
        puback: code for each message; None for no answer.
        then: sent after the answer to SUBSCRIBE; to a client that does not subscribe after CONNACK.
        closes: whether it ends the connection then.
        trickle_s: seconds between two bytes.
        deadly: topic of messages that are not answered: they end the connection.
        farewell: sent then, before the end.
        unsuback: whether it answers UNSUBSCRIBE.
    """

    greeting: bytes | None = _ACCEPTED
    suback: int | None = 1
    codes: int = 0
    puback: int | None = 0
    then: bytes = b""
    closes: bool = False
    trickle_s: float = 0.0
    deadly: str | None = None
    farewell: bytes = b""
    unsuback: bool = True


WELL = Script()


class ScriptedBroker:
    """A broker on loopback that behaves as its script says.

    Args:
        script: what the next connections meet.
        port: where it is to listen; 0 for any.

    Attributes:
        port: where it listens.
        published: topic and payload of what has been published.
        subscribed: topic filters asked for.
    """

    def __init__(self, script: Script = WELL, port: int = 0) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.subscribed: list[str] = []
        self._script = script
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", port))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def play(self, script: Script) -> None:
        """Behave otherwise from now on: whoever is connected is thrown out."""
        self._script = script
        for connection in list(self._open):
            _end(connection)

    def send(self, data: bytes) -> None:
        """Send something to whoever is connected; not within an answer that trickles."""
        for connection in list(self._open) if not self._script.trickle_s else ():
            with suppress(OSError):
                connection.sendall(data)

    def close(self) -> None:
        """Stop it."""
        _end(self._server)
        self.play(self._script)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection, self._script), daemon=True).start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        with connection, suppress(OSError):
            for first, body in _packets(connection):
                answer = self._answer(first, body, script)
                if script.trickle_s:
                    for byte in answer:
                        connection.sendall(bytes([byte]))
                        time.sleep(script.trickle_s)
                else:
                    connection.sendall(answer)
                if first & 0xF0 == DISCONNECT or (script.closes and first & 0xF0 in (CONNECT, SUBSCRIBE)):
                    _end(connection)
                if first & 0xF0 == PUBLISH and self.published[-1][0] == script.deadly:
                    _end(connection)
        with suppress(ValueError):
            self._open.remove(connection)

    def _answer(self, first: int, body: bytes, script: Script) -> bytes:
        """Return what a packet of the client is answered with."""
        kind = first & 0xF0
        if kind == CONNECT:
            return script.greeting or b""
        if kind == SUBSCRIBE:
            topics = _topics(body)
            self.subscribed += topics
            if script.suback is None:
                return script.then
            codes = bytes([script.suback]) * (len(topics) + script.codes)
            return packet(SUBACK, body[:2] + b"\0" + codes) + script.then
        if kind == UNSUBSCRIBE:
            return packet(UNSUBACK, body[:2] + b"\0\0") if script.unsuback else b""
        if kind == PUBLISH:
            (length,) = struct.unpack("!H", body[:2])
            topic, rest = body[2 : 2 + length], body[2 + length :]
            mid, rest = (rest[:2], rest[2:]) if first & 0x06 else (b"", rest)
            self.published.append((topic.decode(), rest[1:]))
            if topic.decode() == script.deadly:
                return script.farewell
            return b"" if script.puback is None or not mid else packet(PUBACK, mid + bytes([script.puback, 0]))
        return packet(PINGRESP, b"") if kind == PINGREQ else b""


def _packets(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield first byte and body of each packet of a client."""
    with connection.makefile("rb") as stream:
        while first := stream.read(1):
            length, shift = 0, 0
            while True:
                byte = stream.read(1)[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            yield first[0], stream.read(length)


def _topics(body: bytes) -> list[str]:
    """Return the topic filters of a SUBSCRIBE without properties."""
    found, rest = [], body[3:]
    while rest:
        (length,) = struct.unpack("!H", rest[:2])
        found.append(rest[2 : 2 + length].decode())
        rest = rest[3 + length :]
    return found


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        connection.close()
