"""How a link to the broker is: what the status page, the health check and the metrics are told."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from runtime.service.config import MqttConfig
from runtime.service.mqtt.limits import Limits
from runtime.service.mqtt.trouble import Trouble

#: Ends of connections within so many seconds that are told although there is a connection again.
_OFTEN, _RECENTLY_S = 3, 600.0


@dataclass(frozen=True)
class BrokerReport:
    """A link at one moment.

    Attributes:
        connected: whether the broker has accepted it, and the connection has lasted since.
        problems: what keeps readings or forecasts away and will not mend by itself.
        warnings: what may mend by itself, and what works less well.
        troubles: number of all troubles by :attr:`Trouble.what` and :attr:`Trouble.reason`.
    """

    connected: bool
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    troubles: dict[tuple[str, str], int] = field(default_factory=dict)


class Standing:
    """What a link knows of itself, written by its thread and read by any.

    Args:
        config: of the broker.
    """

    def __init__(self, config: MqttConfig) -> None:
        self.connected = False
        self.limits: Limits | None = None
        self._config = config
        self._lock = threading.Lock()
        self._away: Trouble | None = None
        self._ends: deque[tuple[float, Trouble]] = deque(maxlen=_OFTEN)
        self._subscriptions: dict[str, Trouble] = {}
        self._publications: dict[str, Trouble] = {}
        self._troubles: Counter[tuple[str, str]] = Counter()

    @property
    def refused_topics(self) -> list[str]:
        """Topic filters whose subscription the broker has refused."""
        with self._lock:
            return [topic for topic, trouble in self._subscriptions.items() if trouble.reason.startswith("0x")]

    def count(self, trouble: Trouble) -> None:
        """Count a trouble."""
        with self._lock:
            self._troubles[trouble.what, trouble.reason] += 1

    def connect(self, limits: Limits) -> None:
        """Note that there is a connection."""
        with self._lock:
            self.connected, self.limits, self._away = True, limits, None
            self._subscriptions.clear()

    def disconnect(self, trouble: Trouble) -> None:
        """Note that there is none, and why."""
        with self._lock:
            if self.connected:
                self._ends.append((time.monotonic(), trouble))
            self.connected, self._away = False, trouble

    def subscribe(self, topic: str, trouble: Trouble | None) -> None:
        """Note the answer to a subscription."""
        with self._lock:
            self._subscriptions.pop(topic, None)
            if trouble is not None:
                self._subscriptions[topic] = trouble

    def publish(self, topic: str, trouble: Trouble | None) -> None:
        """Note the answer to a publication."""
        with self._lock:
            self._publications.pop(topic, None)
            if trouble is not None:
                self._publications[topic] = trouble

    def report(self, unconfirmed: int) -> BrokerReport:
        """Return how the link is."""
        with self._lock:
            problems: list[str] = []
            warnings: list[str] = []
            if not self.connected:
                why = "" if self._away is None else f": {self._away.text}"
                waiting = f"; {unconfirmed} forecasts wait" if unconfirmed else ""
                lasting = self._away is not None and self._away.lasting
                text = f"no connection to the MQTT broker{why}; it is tried again and again{waiting}"
                (problems if lasting else warnings).append(text)
            elif len(self._ends) == _OFTEN and time.monotonic() - self._ends[0][0] < _RECENTLY_S:
                last = self._ends[-1][1]
                warnings.append(f"the connection to the MQTT broker does not last: {last.text}")
            for trouble in self._subscriptions.values():
                (problems if trouble.reason.startswith("0x") else warnings).append(trouble.text)
            for topic, trouble in self._publications.items():
                (warnings if topic == self._config.status else problems).append(trouble.text)
            if self.connected and self.limits is not None:
                warnings += self.limits.remarks(self._config.session_s)
            return BrokerReport(self.connected, tuple(problems), tuple(warnings), dict(self._troubles))
