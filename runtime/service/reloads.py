"""Reloads: at an order the config is read again, and each stream is offered the bundle that it names now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runtime.service.config import ServiceConfig, StreamConfig
from runtime.service.logs import LOG
from runtime.service.serving import load_bundle
from runtime.service.swap import needs_restart, prepare
from runtime.service.trial import CutOffError, Limits, try_out
from runtime.service.worker import Worker
from stunet_deploy.errors import StunetError


class Reloads:
    """The reloads of a service, one after the other, in a thread beside its streams.

    Whatever a reload meets is logged, and the streams go on as they are. Any number of orders during a reload are one
    more reload.

    Args:
        config: config that the service was started with.
        workers: its streams.
        reread: reads the config again.
        limits: of the trial of each new bundle.
    """

    def __init__(
        self,
        config: ServiceConfig,
        workers: Sequence[Worker],
        reread: Callable[[], ServiceConfig],
        limits: Limits,
    ) -> None:
        self._config = config
        self._workers = workers
        self._reread = reread
        self._limits = limits
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._ordered = False
        self._thread: threading.Thread | None = None

    def order(self) -> None:
        """Reload, after the reload that is under way."""
        with self._lock:
            self._ordered = True
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="reload")
                self._thread.start()

    def close(self) -> None:
        """Cut off a reload that is under way and wait for its end.

        That is at once during a trial, and otherwise when a backend is open or an interval of the journal has run: the
        interpreter must not end while a thread is inside ONNX Runtime, which would abort the process.
        """
        with self._lock:
            self._stopped.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._ordered or self._stopped.is_set():
                    self._thread = None
                    return
                self._ordered = False
            try:
                self._reload()
            except CutOffError:
                LOG.info("the reload is cut off by the stop")
            except Exception as error:
                LOG.exception(f"the reload has failed: {type(error).__name__}: {error}")
                self._fail(f"{type(error).__name__}: {error}")

    def _reload(self) -> None:
        try:
            wanted = self._reread()
        except StunetError as error:
            LOG.error("the config cannot be read again: %s; the next start would fail with it", error)
            self._fail(f"the config cannot be read: {error}")
            return
        LOG.info("the config has been read again")
        streams = {stream.name: stream for stream in wanted.stream}
        for worker in self._workers:
            if worker.config.name in streams:
                self._bring(worker, streams[worker.config.name], wanted.bundle.trust)
        running = replace(self._config, stream=tuple(worker.offers.coming or worker.config for worker in self._workers))
        waiting = needs_restart(running, wanted)
        if waiting:
            LOG.warning("changes that take effect after a restart: %s", ", ".join(waiting))

    def _fail(self, trouble: str) -> None:
        for worker in self._workers:
            worker.offers.not_taken = trouble

    def _bring(self, worker: Worker, wanted: StreamConfig, trust: Sequence[Path] | None) -> None:
        """Offer a worker the bundle of its new config; whatever is wrong with that is the matter of this worker."""
        try:
            self._offer(worker, wanted, trust)
        except CutOffError:
            raise
        except Exception as error:
            worker.offers.withdraw()
            worker.offers.not_taken = f"{type(error).__name__}: {error}; the old one goes on"
            worker.log.exception(f"the new bundle is not taken: {worker.offers.not_taken}")

    def _offer(self, worker: Worker, wanted: StreamConfig, trust: Sequence[Path] | None) -> None:
        """Offer a worker the bundle of its new config, if it neither runs nor waits; no other waits then."""
        config = replace(worker.config, bundle=wanted.bundle, backend=wanted.backend, precision=wanted.precision)
        try:
            bundle = load_bundle(config, trust)
            if worker.offers.waits(config, bundle.manifest):
                worker.log.info(f"{wanted.bundle} waits to take over already")
                return
            worker.offers.withdraw()
            new = prepare(config, bundle, worker.serving, trust, self._stopped, self._limits)
        except (StunetError, OSError) as error:
            worker.offers.withdraw()
            worker.offers.not_taken = f"{error}; the old one goes on, but {self._outlook(wanted, trust)}"
            worker.log.error(f"the new bundle is not taken: {worker.offers.not_taken}")
            return
        worker.offers.not_taken = None
        if new is not None:
            worker.offers.offer(new, config)
        elif worker.config.bundle != wanted.bundle:
            worker.log.info(f"{wanted.bundle} is the running model")

    def _outlook(self, wanted: StreamConfig, trust: Sequence[Path] | None) -> str:
        """Return what a restart would do, which needs fewer checks than a new bundle."""
        try:
            try_out(wanted, self._stopped, trust=trust, limits=self._limits)
        except (StunetError, OSError):
            return "the next start would fail with this config"
        return "the next start would run the new one"
