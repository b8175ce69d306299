"""Offers: the bundle that waits to take over a stream, between the reload that prepared it and the stream's thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from runtime.service.config import StreamConfig
from runtime.service.logs import StreamLog
from runtime.service.serving import Serving
from stunet_deploy.manifest import Manifest


class Offers:
    """The bundle that waits to take over a stream, if one does.

    Only one thread offers and withdraws, only one takes.

    Args:
        log: log of the stream.

    Attributes:
        not_taken: why the last reload has not brought the bundle that it should; None if it has.
    """

    def __init__(self, log: StreamLog) -> None:
        self.not_taken: str | None = None
        self._log = log
        self._lock = threading.Lock()
        self._waiting: tuple[Serving, StreamConfig] | None = None
        self._ended = False

    def offer(self, serving: Serving, config: StreamConfig) -> None:
        """Let a prepared stream of another bundle wait, where none waits; it is closed if the stream has ended."""
        with self._lock:
            if not self._ended:
                self._waiting = serving, config
                return
        serving.close()

    def waits(self, config: StreamConfig, manifest: Manifest) -> bool:
        """Return whether this bundle with this backend and precision waits already, as the last reload wants it.

        Args:
            config: with the bundle that is wanted.
            manifest: of that bundle.
        """
        with self._lock:
            if self._waiting is None:
                return False
            serving, waiting = self._waiting
            if serving.stream.bundle.manifest != manifest or replace(waiting, bundle=config.bundle) != config:
                return False
            self._waiting, self.not_taken = (serving, config), None
            return True

    def withdraw(self) -> None:
        """Close the bundle that waits, if one does: it is not wanted any more."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting[0].close()
            self._log.info(f"bundle {waiting[0].stream.bundle.manifest.bundle_id[:8]} will not take over any more")

    @property
    def coming(self) -> StreamConfig | None:
        """The config of the bundle that waits; None if none does."""
        with self._lock:
            return None if self._waiting is None else self._waiting[1]

    @contextmanager
    def taken(self) -> Iterator[tuple[Serving, StreamConfig] | None]:
        """Hand over the bundle that waits; None if none does.

        Until this ends, a reload is held up: it finds either the bundle that waits or the one that runs.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, None
            yield waiting

    def end(self) -> Serving | None:
        """Take no more offers, and return the stream that still waits, to be closed."""
        with self._lock:
            self._ended = True
            waiting, self._waiting = self._waiting, None
        return None if waiting is None else waiting[0]
