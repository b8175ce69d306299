"""Sinks: where forecasts go."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Protocol, TextIO

from runtime.forecast import Forecast
from runtime.service.config import HttpConfig
from runtime.service.heartbeat import Heart
from stunet_deploy.errors import StunetError

#: Seconds between two tries of a request: 1, 2, 4 …, at most these.
_LONGEST_PAUSE_S = 30.0
#: Client errors after which the same request may succeed later: timeout, too early, too many requests.
_PASSING = (408, 425, 429)


class SinkError(StunetError):
    """A forecast that could not be handed out; the stream goes on without."""


class Sink(Protocol):
    """Where a stream's forecasts go; used by the stream's thread alone.

    Attributes:
        name: for the log and the counters.
    """

    name: str

    def write(self, forecast: Forecast, heart: Heart, *, patient: bool) -> None:
        """Hand a forecast out.

        Args:
            forecast: one that this sink has not been given before, but perhaps the same sink of an earlier process.
            heart: beaten while it takes long; after its stop nothing is waited for.
            patient: whether to wait for as long as it takes.

        Raises:
            SinkError, OSError: if it cannot be.
        """

    def flush(self, heart: Heart, *, patient: bool) -> None:
        """Finish what is under way, before the end.

        Raises:
            SinkError, OSError: if something of it cannot be handed out.
        """

    def close(self) -> None:
        """Let go of files and connections."""


class StdoutSink:
    """Forecast lines, flushed one by one; a reader that is gone ends the service.

    Args:
        out: standard output.
        lock: held while a line is written, if other streams write there too.
    """

    name = "stdout"

    def __init__(self, out: TextIO, lock: threading.Lock) -> None:
        self._out = out
        self._lock = lock

    def write(self, forecast: Forecast, heart: Heart, *, patient: bool) -> None:
        """Write a line; see :class:`Sink`."""
        with self._lock:
            self._out.write(forecast.to_json_line() + "\n")
            self._out.flush()

    def flush(self, heart: Heart, *, patient: bool) -> None:
        """Do nothing: every line is flushed."""

    def close(self) -> None:
        """Leave it open: it is not the sink's."""


class HttpSink:
    """A POST request with the forecast line as its body.

    An answer of 200 to 299 takes it. Anything else, and no answer, is tried again after 1, 2, 4 … seconds, but for
    redirections and for client errors that would be the same again.
    """

    def __init__(self, config: HttpConfig) -> None:
        self.name = f"http {config.url}"
        self._config = config
        self._opener = urllib.request.build_opener(_NoRedirection())

    def write(self, forecast: Forecast, heart: Heart, *, patient: bool) -> None:
        """Send it and wait for the answer; see :class:`Sink`."""
        body = forecast.to_json_line().encode()
        request = urllib.request.Request(self._config.url, body, {"Content-Type": "application/json"}, method="POST")
        attempt, pause_s = 1, 1.0
        while True:
            try:
                with self._opener.open(request, timeout=self._config.timeout_s):
                    return
            except (OSError, http.client.HTTPException) as error:
                final = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in _PASSING
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                if final or not (patient or attempt < self._config.attempts) or heart.wait(pause_s):
                    raise SinkError(
                        f"{self._config.url} has not taken the forecast ({error or type(error).__name__})",
                        "an answer of 200 to 299",
                        "look at the server's log",
                    ) from error
            attempt, pause_s = attempt + 1, min(2 * pause_s, _LONGEST_PAUSE_S)

    def flush(self, heart: Heart, *, patient: bool) -> None:
        """Do nothing: every request is answered."""

    def close(self) -> None:
        """Do nothing: every request has a connection of its own."""


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Makes an error of a redirection: followed, it would arrive without its body."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def make_folder(folder: Path, sink: str) -> None:
    """Make a sink's folder.

    Raises:
        SinkError: if it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(
            f"folder {folder} of a {sink} sink cannot be made ({error.strerror})", "a folder", "choose another folder"
        ) from error
