"""What goes wrong between a stream and its broker, in words: reason codes of MQTT 5, and errors of the network."""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass, replace

from stunet_deploy.errors import shown

#: Reason codes (MQTT 5, table 2-6): what each means here. One that is not listed is no reason code.
MEANINGS = {
    0x00: "without a reason",
    0x04: "with its will",
    0x80: "for a reason that it does not name",
    0x81: "it cannot read what it was sent",
    0x82: "what it was sent is against the protocol, it says",
    0x83: "for a reason of its own",
    0x84: "it does not speak MQTT 5",
    0x85: "it does not take this client_id",
    0x86: "the user name or the password is wrong",
    0x87: "not authorised",
    0x88: "it is not available",
    0x89: "it is busy",
    0x8A: "this client is banned",
    0x8B: "it shuts down",
    0x8C: "it asks for another way of authentication",
    0x8D: "it has heard nothing of this client for too long",
    0x8E: "another client has connected with the same client_id",
    0x8F: "it does not take this topic filter",
    0x90: "it does not take this topic",
    0x91: "a packet number is in use",
    0x93: "more messages were on their way than it allows",
    0x94: "a topic alias is invalid",
    0x95: "a packet is larger than it allows",
    0x96: "messages come faster than it allows",
    0x97: "a quota is used up",
    0x98: "its administrator has ended it",
    0x99: "it does not take what the message holds",
    0x9A: "it keeps no retained messages",
    0x9B: "it does not support this QoS",
    0x9C: "it asks clients to use another server for now",
    0x9D: "it has moved to another server",
    0x9E: "it supports no shared subscriptions",
    0x9F: "connections come faster than it allows",
    0xA0: "the time for which it allows a connection is over",
    0xA1: "it supports no subscription identifiers",
    0xA2: "it supports no wildcards in topic filters",
}
TAKEN_OVER, NO_RETAIN, NO_QOS = 0x8E, 0x9A, 0x9B
#: The codes that stay until somebody changes the config, the broker or its rights.
LASTING = frozenset(
    [0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8F, 0x90, 0x94, 0x95, 0x99, 0x9A, 0x9B, 0x9D, 0x9E, 0xA1, 0xA2]
)


@dataclass(frozen=True)
class Trouble:
    """One thing that goes wrong.

    Attributes:
        what: where it goes wrong: ``network``, ``connect``, ``subscribe``, ``publish``, ``disconnect``, ``protocol``
            (the broker breaks it), ``message`` or ``client`` (an error in this process).
        reason: a code of MQTT 5 such as ``0x87``, or a word; with ``what`` the key by which it is counted.
        text: for people.
        lasting: whether it will not mend by itself.
    """

    what: str
    reason: str
    text: str
    lasting: bool = False


class LostError(Exception):
    """The connection has ended, or has not come about.

    Args:
        trouble: why.
    """

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.text)
        self.trouble = trouble


def refusal(what: str, came: str, code: int, said: str | None = None) -> Trouble:
    """Return the trouble that a reason code tells.

    Args:
        what: see :class:`Trouble`.
        came: what has happened, for example "the broker refuses the connection".
        code: of the broker's answer.
        said: its own words.
    """
    meaning = MEANINGS.get(code, "with an unknown code")
    more = "" if said is None else f", {shown(said)}"
    return Trouble(what, f"0x{code:02x}", f"{came}: {meaning} (0x{code:02x}{more})", code in LASTING)


def hinted(trouble: Trouble, client_id: str) -> Trouble:
    """Return the end of a connection with where to look; not every broker tells that another client took over."""
    if (trouble.what, trouble.reason) == ("disconnect", f"0x{TAKEN_OVER:02x}"):
        hint = f"give each service one of its own in [mqtt], this one has client_id {client_id!r}"
    elif (trouble.what, trouble.reason) == ("network", "broken"):
        hint = f"if this repeats while the broker runs, look whether another service uses client_id {client_id!r}"
    else:
        return trouble
    return replace(trouble, text=f"{trouble.text}; {hint}")


def _why(error: ssl.SSLError) -> str:
    """Return the words of OpenSSL; an error made elsewhere has only its text."""
    return getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)


def failure(error: BaseException, host: str, port: int) -> Trouble:
    """Return the trouble behind an error of the network while a connection is made or used."""
    where = f"{host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"the certificate of {where} is not trusted ({_why(error)}); ca_file names its authority"
        return Trouble("network", "certificate", why, True)
    if isinstance(error, ssl.SSLError):
        why = f"no TLS with {where} ({_why(error)}); look at port, certificate_file and the broker's log"
        return Trouble("network", "tls", why, True)
    if isinstance(error, socket.gaierror):
        return Trouble("network", "name", f"no address for the host {host} ({error.strerror})")
    if isinstance(error, ValueError):  # UnicodeError is one
        return Trouble("network", "name", f"{shown(host)} is no name of a host ({error})", True)
    if isinstance(error, ConnectionRefusedError):
        return Trouble("network", "refused", f"nothing listens at {where} (connection refused)")
    if isinstance(error, TimeoutError):
        return Trouble("network", "silent", f"{where} does not answer")
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
        return Trouble("network", "route", f"no way to {where} ({error.strerror})")
    if isinstance(error, OSError):
        return Trouble("network", "broken", f"no connection to {where} ({error.strerror or error})")
    kind = type(error).__name__
    return Trouble("client", kind, f"an error in the connection to {where} ({kind}: {shown(str(error))})")
