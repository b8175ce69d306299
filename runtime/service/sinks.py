"""Sinks, which deliver forecasts: the interface, standard output and HTTP."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Protocol, TextIO

from runtime.forecast import Forecast
from runtime.service.config import HttpConfig
from runtime.service.heartbeat import Heartbeat
from stunet_deploy.errors import StunetError

#: Longest pause in seconds between two tries of a request.
_LONGEST_PAUSE_S = 30.0
#: Client errors after which a retry may succeed: timeout, too early, too many requests.
_RETRIED = (408, 425, 429)


class SinkError(StunetError):
    """A forecast could not be delivered; the stream continues."""


class Sink(Protocol):
    """A destination of a stream's forecasts, used by the stream's thread only.

    Attributes:
        name: its name in the log and the counters.
        lost: forecasts that it has taken and that were refused afterwards.
    """

    name: str
    lost: int = 0

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Deliver a forecast.

        Args:
            forecast: a forecast new to this sink, though an earlier process may have delivered it.
            heartbeat: beaten during a long delivery; once stopped, the sink waits no longer.
            patient: whether to retry without limit.

        Raises:
            SinkError, OSError: if it cannot be delivered.
        """

    def flush(self, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Deliver what is still held, before the end; by default nothing is.

        Raises:
            SinkError, OSError: if some of it cannot be delivered.
        """
        return

    def close(self) -> None:
        """Close files and connections; by default none are open."""
        return


class StdoutSink(Sink):
    """Forecast lines on standard output, flushed one by one; a closed pipe ends the service.

    Args:
        out: standard output.
        lock: held while a line is written, since streams share the output.
    """

    name = "stdout"

    def __init__(self, out: TextIO, lock: threading.Lock) -> None:
        self._out = out
        self._lock = lock

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Write a line; see :class:`Sink`."""
        with self._lock:
            self._out.write(forecast.to_json_line() + "\n")
            self._out.flush()


class HttpSink(Sink):
    """A POST request with the forecast line as its body.

    A status of 200 to 299 accepts it. Any other, and no answer, is retried after 1, 2, 4 … seconds, except for
    redirections and for client errors that a retry would meet again.
    """

    def __init__(self, config: HttpConfig) -> None:
        self.name = f"http {config.url}"
        self._config = config
        self._opener = urllib.request.build_opener(_NoRedirection())

    def write(self, forecast: Forecast, heartbeat: Heartbeat, *, patient: bool) -> None:
        """Send it and wait for the answer; see :class:`Sink`."""
        body = forecast.to_json_line().encode()
        request = urllib.request.Request(self._config.url, body, {"Content-Type": "application/json"}, method="POST")
        attempt, pause_s = 1, 1.0
        while True:
            try:
                with self._opener.open(request, timeout=self._config.timeout_s):
                    return
            except (OSError, http.client.HTTPException) as error:
                final = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in _RETRIED
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                if final or not (patient or attempt < self._config.attempts) or heartbeat.wait(pause_s):
                    raise SinkError(
                        f"{self._config.url} has not accepted the forecast ({error or type(error).__name__})",
                        "a status of 200 to 299",
                        "look at the server's log",
                    ) from error
            attempt, pause_s = attempt + 1, min(2 * pause_s, _LONGEST_PAUSE_S)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Turns a redirection into an error, since following it would drop the body."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def make_folder(folder: Path, sink: str) -> None:
    """Make a sink's folder.

    Raises:
        SinkError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(
            f"folder {folder} of a {sink} sink cannot be made ({error.strerror})", "a folder", "choose another folder"
        ) from error
