"""The paths of a service's status page: the page, its data, and the endpoints for programs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from runtime.service.status import Status
from runtime.service.web import health, views
from runtime.service.web.endpoint import Reply, refusal
from runtime.service.web.prometheus import Metrics
from runtime.timing import installed_version

PAGE = Path(__file__).with_name("page.html")
_LINES = "application/x-ndjson"


class StatusPages:
    """The answers to requests about the streams of a service.

    An answer that stays the same until the next interval is computed once.

    Args:
        statuses: returns the status of every stream.

    Raises:
        ModuleNotFoundError: if prometheus-client is not installed.
    """

    def __init__(self, statuses: Callable[[], list[Status]]) -> None:
        self._statuses = statuses
        self._version = installed_version("stunet-deploy")  # None in a checkout that is not installed
        self._metrics = Metrics(statuses, self._version or "unknown")
        self._known: dict[tuple[str, str], tuple[object, bytes]] = {}
        text = PAGE.read_text(encoding="utf-8")
        self._page = Reply(text.encode(), "text/html; charset=utf-8", headers=_policy(text))
        self._paths: dict[str, Callable[[Mapping[str, str]], Reply]] = {
            "/": lambda query: self._page,
            "/forecast": self._forecast,
            "/healthz": self._healthz,
            "/metrics": lambda query: Reply(*self._metrics.render()),
            "/api/streams": self._streams,
            "/api/network": self._network,
            "/api/values": self._values,
            "/api/sensor": self._sensor,
            "/api/accuracy": self._accuracy,
        }

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """Return the answer to a path and query; called by one thread at a time."""
        answer = self._paths.get(path)
        if answer is None:
            return refusal(HTTPStatus.NOT_FOUND, f"path {path[:100]}", f"one of {', '.join(self._paths)}")
        try:
            return answer(query)
        except _UnknownStreamError as error:
            return refusal(HTTPStatus.NOT_FOUND, *error.args)

    def _forecast(self, query: Mapping[str, str]) -> Reply:
        lines = []
        for status in [self._find(query)] if "stream" in query else self._statuses():
            if (last := status.last) is not None:
                lines.append(self._once("line", status, last, lambda: last.to_json_line().encode() + b"\n"))
        if not lines:
            return refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "no forecast yet", "one, as soon as the first interval has come"
            )
        return Reply(b"".join(lines), "application/json" if len(lines) == 1 else _LINES)

    def _healthz(self, query: Mapping[str, str]) -> Reply:
        found = health.report(self._statuses())
        return _json(found, HTTPStatus.OK if found["ok"] else HTTPStatus.SERVICE_UNAVAILABLE)

    def _streams(self, query: Mapping[str, str]) -> Reply:
        return _json({"version": self._version, "streams": [views.overview(status) for status in self._statuses()]})

    def _network(self, query: Mapping[str, str]) -> Reply:
        status = self._find(query)
        manifest = status.manifest
        return Reply(self._once("network", status, manifest, lambda: _dump(views.network(manifest))))

    def _values(self, query: Mapping[str, str]) -> Reply:
        status = self._find(query)
        row, manifest = status.history.last, status.manifest
        if row is None:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no interval yet", "one, as soon as the first has come")
        return Reply(self._once("values", status, row, lambda: b"".join(views.values(row, manifest))))

    def _sensor(self, query: Mapping[str, str]) -> Reply:
        status = self._find(query)
        sensor = query.get("sensor", "")
        try:
            node = status.manifest.sensor_ids.index(sensor)
        except ValueError:
            return refusal(HTTPStatus.NOT_FOUND, f"sensor {sensor[:100]!r}", "?sensor=ID with an id of the bundle")
        return _json(views.sensor(status.history.rows(), status.manifest, node))

    def _accuracy(self, query: Mapping[str, str]) -> Reply:
        status = self._find(query)
        if status.drift is None:
            return refusal(HTTPStatus.NOT_FOUND, "a stream whose forecasts are not watched", "[stream.drift] enabled")
        return _json(views.accuracy(status.drift, status.manifest))

    def _find(self, query: Mapping[str, str]) -> Status:
        """Return the status of the stream that a query names, by default of the first one."""
        statuses = {status.stream: status for status in self._statuses()}
        name = query.get("stream", next(iter(statuses)))
        if name not in statuses:
            raise _UnknownStreamError(f"stream {name[:100]!r}", f"one of {', '.join(statuses)}")
        return statuses[name]

    def _once(self, what: str, status: Status, source: object, make: Callable[[], bytes]) -> bytes:
        """Return the bytes made from a source, from a cache while the source is the same object."""
        known = self._known.get((what, status.stream))
        if known is not None and known[0] is source:
            return known[1]
        made = make()
        self._known[what, status.stream] = (source, made)
        return made


class _UnknownStreamError(Exception):
    """A query names a stream that the service does not have: what came, and what was expected."""


def _dump(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, allow_nan=False).encode()


def _json(data: Any, status: int = HTTPStatus.OK) -> Reply:
    return Reply(_dump(data) + b"\n", status=status)


def _policy(page: str) -> dict[str, str]:
    """Return headers with which a browser runs the page's own script and connects to this service only."""

    def hashes(tag: str) -> str:
        parts = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in parts
        )

    policy = (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
