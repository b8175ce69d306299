"""A stream opened as its config says: bundle, backend, assembler and the folder that it outlives its process in."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.aggregation import Assembler
from runtime.drift import DriftReport
from runtime.durable.stream import DurableStream
from runtime.service.config import StreamConfig
from runtime.service.drift import LoggedWatch
from runtime.service.logs import StreamLog
from runtime.stream import Stream
from stunet_deploy.bundle import MANIFEST, Bundle, Manifest
from stunet_deploy.errors import BundleError


@dataclass(frozen=True)
class Serving:
    """What one stream runs on.

    Attributes:
        durable: the stream in its folder.
        assembler: what gathers single readings; None where whole intervals come.
    """

    durable: DurableStream
    assembler: Assembler | None

    @property
    def stream(self) -> Stream:
        """The stream; push to it through :attr:`durable` only."""
        return self.durable.stream

    @property
    def drift(self) -> DriftReport | None:
        """How far its forecasts were off; None where nobody watches."""
        watch = self.stream.watch
        return None if watch is None else watch.report()

    def close(self) -> None:
        """Write a last snapshot and give the backend's memory back."""
        self.durable.close()
        self.stream.close()


def load_bundle(config: StreamConfig) -> Bundle:
    """Open the bundle that a config names.

    Raises:
        BundleError: naming the stream, if there is none or it is damaged.
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
        return Bundle.load(config.bundle)
    except BundleError as error:
        raise BundleError(f"{where}: {error.came}", error.expected, error.action) from error


def open_stream(config: StreamConfig, bundle: Bundle) -> Stream:
    """Open a fresh stream, without its folder.

    Raises:
        BundleError, BackendError, ConfigError: if the bundle, the backend or an option does not serve.
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
    """Return the assembler that a config asks for.

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
    """Open a stream and bring it to where its last process was.

    Raises:
        BundleError, BackendError, ConfigError, StreamError: if the bundle, the backend, an option or the folder does
            not serve.
    """
    assembler = make_assembler(config, bundle.manifest)
    stream = open_stream(config, bundle)
    if config.drift.enabled:
        stream.watch = LoggedWatch(bundle.manifest, config.drift, StreamLog(config.name))
    try:
        # The state of one model is nothing to another: each has a folder of its own, to which one can go back.
        folder = config.state / f"{bundle.manifest.bundle_id[:16]}-{config.mode}"
        durable = DurableStream(stream, folder, every=config.snapshot_every, assembler=assembler)
    except BaseException:
        stream.close()
        raise
    return Serving(durable, assembler)
