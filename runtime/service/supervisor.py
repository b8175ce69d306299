"""The service: its streams in threads, until a signal, an error or the end of all sources."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TextIO

from runtime.service.config import ServiceConfig, StreamConfig
from runtime.service.connectors import Connectors
from runtime.service.logs import LOG
from runtime.service.notify import notify, watchdog_s
from runtime.service.orders import ENDED, RELOAD, STOP, Orders
from runtime.service.reloads import Reloads
from runtime.service.serving import load_bundle, open_serving
from runtime.service.status import Status
from runtime.service.trial import Limits
from runtime.service.web.endpoint import Endpoint
from runtime.service.web.history import LIMIT
from runtime.service.web.pages import StatusPages
from runtime.service.worker import TICK_S, Worker


class Service:
    """The streams of a config in one process, each in a thread of its own.

    Args:
        config: streams, broker and status page.
        out: standard output, for the sinks that write there.
        clock: returns seconds since the epoch.
        reread: reads the config again, for :meth:`reload`.
        orders: by which it is stopped and reloaded, where these may come before it is open.
        limits: of the trial of a new bundle.

    Raises:
        StunetError: if a bundle, backend, state folder, source, sink or port cannot be used; nothing runs then.
        ModuleNotFoundError: if a part of the config needs a package that is not installed.
    """

    def __init__(
        self,
        config: ServiceConfig,
        out: TextIO,
        *,
        clock: Callable[[], float] = time.time,
        reread: Callable[[], ServiceConfig] | None = None,
        orders: Orders | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._orders = orders or Orders()
        self._clock = clock
        self._trust = config.bundle.trust
        self._connectors = Connectors(config, out)
        self._endpoint: Endpoint | None = None
        with ExitStack() as opened:
            if config.http is not None:
                self._endpoint = Endpoint(config.http, StatusPages(self.statuses).reply)
                opened.callback(self._endpoint.close)
            self.workers = [self._open(stream, opened) for stream in config.stream]
            opened.pop_all()
        self._reloads = Reloads(config, self.workers, reread or (lambda: config), limits or Limits())

    def stop(self) -> None:
        """End the service, from any thread or signal handler."""
        self._orders.stop()

    def reload(self) -> None:
        """Read the config again and take over its new bundles, from any thread or signal handler.

        A new bundle is verified and warmed while the old one continues; if any of that fails, the old one stays.
        """
        self._orders.reload()

    @property
    def url(self) -> str | None:
        """Address of the status page; None without one."""
        return None if self._endpoint is None else self._endpoint.url

    def statuses(self) -> list[Status]:
        """Return the status of every stream, from any thread."""
        return [worker.status() for worker in self.workers]

    def run(self) -> None:
        """Run until all sources have ended or :meth:`stop`; then write snapshots and flush sinks.

        Raises:
            StunetError, OSError: the error that ended a stream early; the other streams are then stopped too.
        """
        started: list[Worker] = []
        try:
            for worker in self.workers:
                worker.start()
                started.append(worker)
            self._connectors.start()
            if self._endpoint is not None:
                self._endpoint.start()
            LOG.info("running: %s", ", ".join(worker.config.name for worker in self.workers))
            notify("READY=1")
            self._watch()
        finally:
            notify("STOPPING=1")
            self._end(started)
        for worker in self.workers:
            if worker.error is not None:
                raise worker.error

    def _end(self, started: Sequence[Worker]) -> None:
        """Stop the streams, and wait until each has written its last snapshot and flushed its sinks."""
        for worker in started:
            worker.heartbeat.stopped.set()
        self._reloads.close()
        for worker in started:
            worker.join()
        self._connectors.close()
        if self._endpoint is not None:
            self._endpoint.close()

    def _watch(self) -> None:
        """Handle orders until one ends the service; notify the service manager while all streams are alive."""
        wanted_s = watchdog_s()
        pause_s = TICK_S if wanted_s is None else min(TICK_S, wanted_s / 4)
        # An idle stream beats once a tick.
        limit_s = max(wanted_s or 0, 4 * TICK_S)
        running = len(self.workers)
        while running:
            order = self._orders.next(pause_s)
            if order == STOP:
                return
            if order == RELOAD:
                self._reloads.order()
            if order == ENDED:
                running -= 1
                if any(worker.error for worker in self.workers):
                    return
            if wanted_s is not None and all(worker.healthy(limit_s) for worker in self.workers):
                notify("WATCHDOG=1")

    def _open(self, config: StreamConfig, opened: ExitStack) -> Worker:
        serving = open_serving(config, load_bundle(config, self._trust))
        opened.callback(serving.close)
        source = self._connectors.source(config, serving.stream.bundle.manifest)
        sinks = []
        for sink in config.sink:
            sinks.append(self._connectors.sink(sink, config.name))
            opened.callback(sinks[-1].close)
        return Worker(
            config,
            serving,
            source,
            sinks,
            self._orders.ended,
            broker=self._connectors.broker(config),
            history_bytes=LIMIT if self._endpoint is not None else 0,
            clock=self._clock,
        )
