"""The service's log on standard error: lines for people, or JSON for machines, with levels for systemd's journal."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from typing import Any, Literal, TextIO

from stunet_deploy.errors import in_lines, shortened, visible, visible_json
from stunet_deploy.series.times import format_time

LOG = logging.getLogger("stunet")
LOG.addHandler(logging.NullHandler())  # without a handler, logging would write late messages to standard error
SERVICE = "service"
#: Characters of a warning that comes again and again, and of any other line: they may quote a message of megabytes.
_LONGEST, _LONGEST_OF_ALL = 500, 8000


class _Lines(logging.Formatter):
    """``2026-03-01T08:00:00Z WARNING ring-road: refused …``, without the time in the journal, which has its own.

    Every record is one line, and those of a traceback after it are indented: no text from outside begins a line.
    """

    def __init__(self, *, timed: bool) -> None:
        time = "%(asctime)s " if timed else ""
        super().__init__(f"{time}%(levelname)s %(stream)s: %(message)s", defaults={"stream": SERVICE})

    def format(self, record: logging.LogRecord) -> str:
        record.message = visible(shortened(record.getMessage(), _LONGEST_OF_ALL))
        record.asctime = self.formatTime(record)
        lines = [self.formatMessage(record)]
        if record.exc_info:
            lines += [f"    {line}" for line in self.formatException(record.exc_info).splitlines()]
        return in_lines(lines)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return format_time(int(record.created))


class _Json(logging.Formatter):
    """``{"time": …, "level": …, "stream": …, "message": …}``."""

    def format(self, record: logging.LogRecord) -> str:
        data: dict[str, Any] = {
            "time": format_time(int(record.created)),
            "level": record.levelname.lower(),
            "stream": getattr(record, "stream", SERVICE),
            "message": shortened(record.getMessage(), _LONGEST_OF_ALL),
        }
        if record.exc_info:
            data["traceback"] = self.formatException(record.exc_info)
        return visible_json(json.dumps(data, ensure_ascii=False))


class _Levels(logging.Formatter):
    """``<4>WARNING ring-road: refused …``, a level for the journal before each line (sd-daemon(3))."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        level = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        return "\n".join(f"<{level}>{line}" for line in self._lines.format(record).split("\n"))


def start_log(form: Literal["lines", "json"], out: TextIO) -> logging.Handler:
    """Write the log to a text stream until the handler that this returns is removed."""
    journal = _is_journal(out)
    lines = _Json() if form == "json" else _Lines(timed=not journal)
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Levels(lines) if journal else lines)
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    return handler


def _is_journal(out: TextIO) -> bool:
    """Return whether systemd's journal reads a text stream; ``JOURNAL_STREAM`` names it by device and inode."""
    try:
        status = os.fstat(out.fileno())
    except OSError:  # it has no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class StreamLog(logging.LoggerAdapter):  # type: ignore[type-arg]  # generic from Python 3.11 on
    """The log of one stream, in which repeated warnings become rarer.

    Args:
        stream: name of the stream.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(LOG, {"stream": stream})
        self._times: Counter[str] = Counter()

    def forget(self) -> None:
        """Log every kind of event as if it happened for the first time."""
        self._times.clear()

    def again(self, kind: str, message: str) -> None:
        """Log a warning the first, tenth, hundredth … time that an event of its kind happens."""
        self._times[kind] += 1
        times = self._times[kind]
        if times == 10 ** (len(str(times)) - 1):
            if len(message) > _LONGEST:
                message = f"{message[:_LONGEST]}… ({len(message):,} characters)"
            self.warning(f"{message} ({kind}, {times} times)" if times > 1 else f"{message} ({kind})")

    def over(self, kind: str) -> None:
        """Log that events of a kind have ended, if there were some; the next one is logged as the first again."""
        times = self._times.pop(kind, 0)
        if times:
            self.info(f"over: {kind}, {times} times")
