"""What has come to a stream of late: how long ago, and how much of it was refused, for what."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

#: Deliveries that are looked back at.
RECENT = 1000


@dataclass(frozen=True)
class Recent:
    """The last thousand deliveries.

    Attributes:
        number: of them; less than a thousand at the beginning.
        refused: how many of them were refused, by reason.
        age_s: seconds since the last; None before the first.
    """

    number: int
    refused: Counter[str]
    age_s: float | None


class Deliveries:
    """What has come to one stream since the process began; written by its worker, read from any thread."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._reasons: deque[str | None] = deque(maxlen=RECENT)
        self._lock = threading.Lock()

    def add(self, refused: str | None) -> None:
        """Note that something has come, and the reason if it was refused."""
        with self._lock:
            self._last = time.monotonic()
            self._reasons.append(refused)

    def read(self) -> Recent:
        """Return what has come until now."""
        with self._lock:
            last, reasons = self._last, list(self._reasons)
        refused = Counter(reason for reason in reasons if reason is not None)
        return Recent(len(reasons), refused, None if last is None else time.monotonic() - last)
