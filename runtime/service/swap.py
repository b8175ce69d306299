"""A new bundle for a running stream: verified and warmed beside the old one, which stays if any of that fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from runtime.durable.journal import Input, Reset, decode, read_journal
from runtime.durable.recovery import JOURNAL, file_of, numbers_of
from runtime.durable.stream import DurableStream
from runtime.service.config import EndpointConfig, MqttConfig, ServiceConfig, StreamConfig
from runtime.service.serving import Serving, open_serving
from runtime.service.trial import CutOffError, Limits, try_out
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import BundleError, DataError
from stunet_deploy.manifest import MANIFEST, Manifest


def prepare(
    config: StreamConfig,
    bundle: Bundle,
    serving: Serving,
    trust: Sequence[Path] | None,
    stopped: threading.Event,
    limits: Limits,
) -> Serving | None:
    """Return a stream of a new bundle, warmed from the running one's journal; None if the model is the same.

    Args:
        config: config of the stream, with the new bundle.
        bundle: the new bundle, as :func:`runtime.service.serving.load_bundle` opens it.
        serving: the running stream; another thread may push to it meanwhile.
        trust: see :func:`runtime.service.serving.load_bundle`.
        stopped: set when the service stops.
        limits: of the trial, in which the bundle verifies before it is opened here.

    Raises:
        StunetError: if the bundle is of another network or does not verify on this backend, or if its stream cannot be
            opened or warmed. Nothing stays open then.
        CutOffError: if the service stops; nothing stays open then either.
    """
    running = serving.stream.bundle.manifest
    if bundle.manifest.bundle_id == running.bundle_id:
        if trust is not None and bundle.manifest != running:  # which nobody may have signed
            raise BundleError(
                f"bundle {config.bundle}, the running model with another {MANIFEST}",
                "the one that runs, or another model",
                "restart the service: a state folder serves one bundle at a time",
            )
        return None
    _check_network(bundle.manifest, running)
    try_out(config, stopped, trust=trust, manifest=bundle.manifest, limits=limits)
    new = open_serving(config, bundle)
    try:
        catch_up(new, serving.durable, stopped)
    except BaseException:
        new.close()
        raise
    return new


def catch_up(new: Serving, old: DurableStream, stopped: threading.Event | None = None) -> None:
    """Push to a new stream the intervals of the old one's journal that it has not seen.

    Raises:
        StunetError: if an interval cannot be taken.
        CutOffError: if the service stops.
    """
    for interval, stamp, _ in journaled(old):
        if stopped is not None and stopped.is_set():
            raise CutOffError
        last = new.stream.last
        if last is None or stamp > last.issued_s:
            new.durable.push(interval.values, stamp, interval.observed)


def take_over(new: Serving, old: Serving) -> None:
    """Bring a prepared stream up to the old one, readings of open intervals included, while no thread pushes.

    Raises:
        StunetError: if that fails; the old stream is unchanged.
    """
    catch_up(new, old.durable)
    if new.assembler is not None and old.assembler is not None:
        new.assembler.take_over(old.assembler)
        new.durable.snapshot()


def journaled(durable: DurableStream) -> list[Input]:
    """Return the intervals that the journals of a stream hold since it last began from zero, oldest first."""
    manifest = durable.stream.bundle.manifest
    shape = (len(manifest.sensor_ids), len(manifest.features))
    found: list[Input] = []
    for number in numbers_of(durable.folder, JOURNAL):
        # The stream's thread removes old journals; a record that it is writing is not whole yet.
        with suppress(OSError, DataError):
            for record in read_journal(file_of(durable.folder, number, JOURNAL)).records[1:]:
                entry = decode(record, shape)
                if isinstance(entry, Reset) or (isinstance(entry, Input) and entry.restart):
                    found = []
                if isinstance(entry, Input):
                    found.append(entry)
    return found


def needs_restart(running: ServiceConfig, wanted: ServiceConfig) -> list[str]:
    """Return the changed tables and keys of a config that take effect after a restart; bundles do not.

    Args:
        running: the running config, with the bundles that its streams have now.
        wanted: the config in the file.
    """
    found = ["log"] if wanted.log != running.log else []
    found += _changed("[http]", running.http, wanted.http) + _changed("[mqtt]", running.mqtt, wanted.mqtt)
    old, new = ({stream.name: stream for stream in config.stream} for config in (running, wanted))
    for name in old | new:
        if name not in new:
            found.append(f'stream "{name}", which is gone')
        elif name not in old:
            found.append(f'stream "{name}", which is new')
        else:
            found += _changed(f'stream "{name}"', old[name], replace(new[name], bundle=old[name].bundle))
    return found


_Table = TypeVar("_Table", EndpointConfig, MqttConfig, StreamConfig)


def _changed(where: str, old: _Table | None, new: _Table | None) -> list[str]:
    """Return the keys of a table that differ, or the table itself if it is in one config only."""
    if old is None or new is None:
        return [] if old is new else [where]
    return [f"{where} {key.name}" for key in fields(old) if getattr(old, key.name) != getattr(new, key.name)]


def _check_network(new: Manifest, old: Manifest) -> None:
    """Refuse a bundle of another network than the running one."""
    for what in ("sensor_ids", "features", "interval_s", "phase_s", "stamp"):
        if getattr(new, what) != getattr(old, what):
            raise BundleError(
                f"a new bundle with other {what}",
                "a model of the network that runs",
                "restart the service: the readings so far are of another network",
            )
