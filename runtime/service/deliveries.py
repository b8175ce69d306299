"""Statistics of a stream's last deliveries: time of the last one, and refusals by reason."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

#: Number of deliveries that are kept.
RECENT = 1000


@dataclass(frozen=True)
class Recent:
    """Statistics of the last deliveries.

    Attributes:
        number: number of deliveries, at most :data:`RECENT`.
        refused: number of refused ones by reason.
        age_s: seconds since the last one; None before the first.
    """

    number: int
    refused: Counter[str]
    age_s: float | None


class Deliveries:
    """The last deliveries to one stream; written by its worker, read from any thread."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._reasons: deque[str | None] = deque(maxlen=RECENT)
        self._lock = threading.Lock()

    def add(self, refused: str | None) -> None:
        """Record a delivery, with the reason if it was refused."""
        with self._lock:
            self._last = time.monotonic()
            self._reasons.append(refused)

    def read(self) -> Recent:
        """Return the statistics."""
        with self._lock:
            last, reasons = self._last, list(self._reasons)
        refused = Counter(reason for reason in reasons if reason is not None)
        return Recent(len(reasons), refused, None if last is None else time.monotonic() - last)
