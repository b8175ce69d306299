"""Which message makes the broker end the connection, told from a broker that goes away while a message waits."""

from __future__ import annotations

from runtime.service.mqtt.outbox import Outgoing
from runtime.service.mqtt.trouble import Trouble

#: Ends in a row with the same message first in flight: after so many it is sent alone, on a connection that holds …
ALONE = 2
#: … and after so many, the last of them alone, it is the message.
PROOF = 5
#: Seconds that such a connection has to hold before, and within which an end is taken for the answer to the message.
_HOLDS_S, _ANSWER_S = 1.0, 3.0
#: Codes of DISCONNECT that may be about a message; others name another cause, as that the broker shuts down.
_CODES = (0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x93, 0x94, 0x95, 0x99, 0x9A, 0x9B)
_ENDS = frozenset({("network", "broken"), ("network", "tls"), *(("disconnect", f"0x{code:02x}") for code in _CODES)})


class Doubt:
    """Counts the ends of connections that may be the broker's answer to a message.

    Losing a forecast in an outage would be worse than a few more connections. So an end counts only if the broker had
    accepted the connection, ended it soon after the message and had not answered it; and all of them must come in a
    row: one attempt to connect that fails, or any other end, and the count begins again. From the third connection on
    the message is sent alone, on a connection that has been made at once, has held for a while and on which all else
    has been answered.
    """

    def __init__(self) -> None:
        self._message: Outgoing | None = None
        self._ends = 0

    @property
    def hurried(self) -> bool:
        """Whether to connect again at once, which fails with a broker that has just died."""
        return self._ends >= ALONE

    def allows(self, held_s: float, *, answered: bool) -> int | None:
        """Return how many messages may be on their way; None for no limit.

        Args:
            held_s: seconds since the broker has accepted the connection.
            answered: whether it has answered all that it was asked on it.
        """
        if self._ends < ALONE:
            return None
        return int(answered and held_s >= _HOLDS_S)

    def answered(self, message: Outgoing) -> None:
        """Take note that the broker has answered a message."""
        if message == self._message:
            self._message, self._ends = None, 0

    def ended(self, trouble: Trouble, first: Outgoing | None, waited_s: float) -> bool:
        """Return whether it is proven that a message ends connections; then it is not to be sent again.

        Args:
            trouble: why the connection has ended, or has not come about.
            first: the first message that was on its way; None also if the broker had not accepted the connection.
            waited_s: seconds since it was sent.
        """
        counts = first is not None and waited_s <= _ANSWER_S and (trouble.what, trouble.reason) in _ENDS
        if not counts:
            self._message, self._ends = None, 0
            return False
        self._message, self._ends = first, self._ends + 1 if first == self._message else 1
        if self._ends < PROOF:
            return False
        self._message, self._ends = None, 0
        return True
