"""What a broker allows, as its answer to CONNECT says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

AT_LEAST_ONCE = 1
#: Messages that are sent ahead of their confirmation.
_AHEAD = 20
#: Bytes of a PUBLISH beside its topic and payload: type, length, length of the topic, number, no properties.
_HEAD = 1 + 4 + 2 + 2 + 1
_SHARE = "$share/"


@dataclass(frozen=True)
class Limits:
    """Limits of a broker.

    Attributes:
        packet: bytes of the longest packet that it takes; None without a limit.
        ahead: messages that may be on their way to it without a confirmation.
        qos: highest quality of service by which it takes messages.
        retain: whether it keeps retained messages.
        wildcards: whether topic filters may have + and #.
        shared: whether it has shared subscriptions.
        session_s: seconds for which it keeps the session while the client is away.
        other_id: name that it has given to this client instead of its own; None if it has not.
    """

    packet: int | None
    ahead: int
    qos: int
    retain: bool
    wildcards: bool
    shared: bool
    session_s: int
    other_id: str | None

    @classmethod
    def of(cls, properties: object, session_s: int) -> Limits:
        """Read them from the properties of an answer; what it leaves out has the protocol's default."""

        def number(name: str, default: int) -> int:
            return int(getattr(properties, name, default))

        return cls(
            packet=getattr(properties, "MaximumPacketSize", None),
            ahead=min(_AHEAD, number("ReceiveMaximum", 65535)),  # paho takes no answer with 0
            qos=min(AT_LEAST_ONCE, number("MaximumQoS", 2)),
            retain=bool(number("RetainAvailable", 1)),
            wildcards=bool(number("WildcardSubscriptionAvailable", 1)),
            shared=bool(number("SharedSubscriptionAvailable", 1)),
            session_s=number("SessionExpiryInterval", session_s),
            other_id=getattr(properties, "AssignedClientIdentifier", None),
        )

    def takes(self, topic: str, payload: bytes) -> bool:
        """Return whether a message is small enough."""
        return self.packet is None or _HEAD + len(topic.encode()) + len(payload) <= self.packet

    def forbids(self, topic: str) -> int | None:
        """Return the reason code with which the broker would refuse a topic filter; None if it would not."""
        if topic.startswith(_SHARE) and not self.shared:
            return 0x9E
        if set(topic) & {"+", "#"} and not self.wildcards:
            return 0xA2
        return None

    def remarks(self, session_s: int) -> Iterator[str]:
        """Yield what works less well because of them."""
        if self.session_s < session_s:
            yield (
                f"the broker keeps the session for {self.session_s} s, not for {session_s} s: "
                "messages that come while the service is away for longer are lost"
            )
        if not self.retain:
            yield "the broker keeps no retained messages: later subscribers get neither the last forecast nor status"
        if self.qos < AT_LEAST_ONCE:
            yield "the broker confirms no messages (its maximum QoS is 0): a forecast may be lost without a sign"
        if self.other_id is not None:
            yield f"the broker calls this client {self.other_id[:100]!r}, not by its own: it will not know it again"


def unshared(topic: str) -> str:
    """Return the topic filter of a subscription without the group that shares it (``$share/GROUP/``)."""
    return topic.split("/", 2)[2] if topic.startswith(_SHARE) else topic
