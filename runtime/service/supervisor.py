"""The service: its streams in threads, until a signal, an error or the end of all sources."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from runtime.service.config import ServiceConfig, StreamConfig
from runtime.service.connectors import Connectors
from runtime.service.logs import LOG
from runtime.service.notify import notify, watchdog_s
from runtime.service.serving import load_bundle, open_serving
from runtime.service.status import Status
from runtime.service.swap import needs_restart, prepare, would_start
from runtime.service.web.endpoint import Endpoint
from runtime.service.web.history import LIMIT
from runtime.service.web.pages import StatusPages
from runtime.service.worker import TICK_S, Worker
from stunet_deploy.errors import StunetError

#: Events in the queue of a service.
_STOP, _ENDED, _RELOAD = "stop", "ended", "reload"


class Service:
    """The streams of a config in one process, each in a thread of its own.

    Args:
        config: streams, broker and status page.
        out: standard output, for the sinks that write there.
        clock: returns seconds since the epoch.
        reread: reads the config again, for :meth:`reload`.

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
    ) -> None:
        # A queue into which a signal handler may put at any moment.
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._clock = clock
        self._config = config
        self._reread = reread
        self._reloading = threading.Lock()
        self._connectors = Connectors(config, out)
        self._endpoint: Endpoint | None = None
        with ExitStack() as opened:
            if config.http is not None:
                self._endpoint = Endpoint(config.http, StatusPages(self.statuses).reply)
                opened.callback(self._endpoint.close)
            self.workers = [self._open(stream, opened) for stream in config.stream]
            opened.pop_all()

    def stop(self) -> None:
        """End the service, from any thread or signal handler."""
        self._events.put(_STOP)

    def reload(self) -> None:
        """Read the config again and take over its new bundles, from any thread or signal handler.

        A new bundle is verified and warmed while the old one continues; if any of that fails, the old one stays.
        """
        self._events.put(_RELOAD)

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
        for worker in self.workers:
            worker.start()
        self._connectors.start()
        if self._endpoint is not None:
            self._endpoint.start()
        LOG.info("running: %s", ", ".join(worker.config.name for worker in self.workers))
        notify("READY=1")
        self._watch()
        notify("STOPPING=1")
        for worker in self.workers:
            worker.heartbeat.stopped.set()
        for worker in self.workers:
            worker.join()
        self._connectors.close()
        if self._endpoint is not None:
            self._endpoint.close()
        for worker in self.workers:
            if worker.error is not None:
                raise worker.error

    def _watch(self) -> None:
        """Handle events until one ends the service; notify the service manager while all streams are alive."""
        wanted_s = watchdog_s()
        pause_s = TICK_S if wanted_s is None else min(TICK_S, wanted_s / 4)
        # An idle stream beats once a tick.
        limit_s = max(wanted_s or 0, 4 * TICK_S)
        running = len(self.workers)
        while running:
            try:
                event = self._events.get(timeout=pause_s)
            except queue.Empty:
                event = ""
            if event == _STOP:
                return
            if event == _RELOAD:
                threading.Thread(target=self._reload, name="reload", daemon=True).start()
            if event == _ENDED:
                running -= 1
                if any(worker.error for worker in self.workers):
                    return
            if wanted_s is not None and all(worker.healthy(limit_s) for worker in self.workers):
                notify("WATCHDOG=1")

    def _reload(self) -> None:
        """Take over new bundles; errors are logged, and the streams continue."""
        with self._reloading:
            try:
                wanted = self._reread() if self._reread else self._config
            except StunetError as error:
                LOG.error("the config cannot be read again: %s; the next start would fail with it", error)
                return
            LOG.info("the config has been read again")
            streams = {stream.name: stream for stream in wanted.stream}
            for worker in self.workers:
                if worker.config.name in streams:
                    _take_bundle(worker, streams[worker.config.name], wanted.bundle.trust)
            running = replace(self._config, stream=tuple(worker.config for worker in self.workers))
            waiting = needs_restart(running, wanted)
            if waiting:
                LOG.warning("changes that take effect after a restart: %s", ", ".join(waiting))

    def _open(self, config: StreamConfig, opened: ExitStack) -> Worker:
        serving = open_serving(config, load_bundle(config, self._config.bundle.trust))
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
            lambda: self._events.put(_ENDED),
            broker=self._connectors.broker(config),
            history_bytes=LIMIT if self._endpoint is not None else 0,
            clock=self._clock,
        )


def _take_bundle(worker: Worker, wanted: StreamConfig, trust: Sequence[Path] | None) -> None:
    """Offer a worker the bundle of its new config, if it is another."""
    config = replace(worker.config, bundle=wanted.bundle, backend=wanted.backend, precision=wanted.precision)
    try:
        new = prepare(config, worker.serving, trust)
    except (StunetError, OSError) as error:
        if would_start(wanted, trust):
            after = "the next start would run the new one"
        else:
            after = "the next start would fail with this config"
        worker.log.error(f"the new bundle is not taken: {error}; the old one goes on, but {after}")
        return
    if new is not None:
        worker.offer(new, config)
    elif worker.config.bundle != wanted.bundle:
        worker.log.info(f"{wanted.bundle} is the running model")


@contextmanager
def obeying_signals(service: Service) -> Iterator[None]:
    """Stop a service at SIGTERM or SIGINT and reload it at SIGHUP; in the main thread only."""
    orders = {signal.SIGTERM: service.stop, signal.SIGINT: service.stop, signal.SIGHUP: service.reload}
    old = {number: signal.signal(number, lambda *_, order=order: order()) for number, order in orders.items()}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
