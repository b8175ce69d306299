"""A stream opened from its config: bundle, backend, assembler and the folder of its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.aggregation import Assembler
from runtime.drift import DriftReport
from runtime.durable.stream import DurableStream
from runtime.service.config import StreamConfig
from runtime.service.drift_log import LoggedDriftWatch
from runtime.service.logs import StreamLog
from runtime.stream import Stream
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import BundleError
from stunet_deploy.manifest import MANIFEST, Manifest
from stunet_deploy.signature import Trust


@dataclass(frozen=True)
class Serving:
    """An open stream with its assembler.

    Attributes:
        durable: the stream in its folder.
        assembler: gathers single readings into intervals; None where whole intervals come.
    """

    durable: DurableStream
    assembler: Assembler | None

    @property
    def stream(self) -> Stream:
        """The stream; push to it through :attr:`durable` only."""
        return self.durable.stream

    @property
    def drift(self) -> DriftReport | None:
        """Running errors of its forecasts; None without a drift watch."""
        watch = self.stream.watch
        return None if watch is None else watch.report()

    def close(self) -> None:
        """Write a last snapshot and free the backend's memory."""
        self.durable.close()
        self.stream.close()


def load_bundle(config: StreamConfig, trust: Sequence[Path] | None) -> Bundle:
    """Open the bundle that a config names.

    Args:
        config: of the stream.
        trust: files of the public keys of which one must have signed it; None if any bundle is taken.

    Raises:
        BundleError: naming the stream, if the bundle is missing, damaged, or not signed by one of the keys.
        ConfigError: if a key cannot be read.
    """
    where = f'stream "{config.name}"'
    if not (config.bundle / MANIFEST).is_file():
        trouble = f"no {MANIFEST} in it" if config.bundle.is_dir() else "no such folder"
        raise BundleError(
            f"{where}: bundle {config.bundle}: {trouble}",
            "the folder of a bundle",
            "copy the bundle there, or correct `bundle` in the config file (paths are relative to that file)",
        )
    try:
        return Bundle.load(config.bundle, trust=None if trust is None else Trust.read(trust))
    except BundleError as error:
        raise BundleError(f"{where}: {error.came}", error.expected, error.action) from error


def open_stream(config: StreamConfig, bundle: Bundle) -> Stream:
    """Open a stream with no state and no folder.

    Raises:
        BundleError, BackendError, ConfigError: if the bundle, the backend or an option cannot be used.
    """
    return Stream.open(
        bundle,
        backend=config.backend,
        precision=config.precision,
        mode=config.mode,
        threads=config.threads,
        fallback=config.fallback,
        name=config.name,
        options=config,
    )


def make_assembler(config: StreamConfig, manifest: Manifest) -> Assembler | None:
    """Return the assembler of a config, if it has one.

    Raises:
        ConfigError: if its options do not fit the bundle.
    """
    options = config.assembler
    if options is None:
        return None
    return Assembler(
        manifest,
        options.rules,
        grace_s=options.grace_s,
        stamp=options.stamp,
        period_s=options.period_s,
        ignore_unknown=config.ignore_unknown,
    )


def open_serving(config: StreamConfig, bundle: Bundle) -> Serving:
    """Open a stream and restore the state that its last process left.

    Raises:
        BundleError, BackendError, ConfigError, StreamError: if the bundle, the backend, an option or the folder cannot
            be used.
    """
    assembler = make_assembler(config, bundle.manifest)
    stream = open_stream(config, bundle)
    if bundle.signed is not None:
        StreamLog(config.name).info(f"{config.bundle} is signed {bundle.signed}")
    if config.drift.enabled:
        stream.watch = LoggedDriftWatch(bundle.manifest, config.drift, StreamLog(config.name))
    try:
        # A state belongs to one model, so each bundle has a folder of its own and can be returned to.
        folder = config.state / f"{bundle.manifest.bundle_id[:16]}-{config.mode}"
        durable = DurableStream(stream, folder, every=config.snapshot_every, assembler=assembler)
    except BaseException:
        stream.close()
        raise
    return Serving(durable, assembler)
