"""TensorRT's log: one logger for each flavour in a process, since TensorRT keeps the first and ignores later ones."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

from runtime.backends.gpu.flavor import Flavor

#: Lines that are kept; a process that runs for months must not keep all.
_KEPT = 10_000


@cache
def tensorrt_log(flavor: Flavor) -> Any:
    """Return the logger of a flavour: ``lines`` holds its messages but for verbose ones, ``errors`` those of errors."""
    trt = flavor.module
    severities = trt.ILogger.Severity

    class Log(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]  # a base that is known at run time
        """Keeps messages as lines of text, each with its severity in front."""

        def __init__(self) -> None:
            super().__init__()
            self.lines: deque[str] = deque(maxlen=_KEPT)
            self.errors: deque[str] = deque(maxlen=_KEPT)

        def clear(self) -> None:
            """Forget all messages."""
            self.lines.clear()
            self.errors.clear()

        def log(self, severity: Any, msg: str) -> None:
            """Take one message from TensorRT."""
            if severity != severities.VERBOSE:
                self.lines.append(f"{severity.name.lower().replace('_', ' ')}: {msg}")
            if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                self.errors.append(msg)

    return Log()
