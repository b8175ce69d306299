"""A dry run: everything that a config names is opened or reached; nothing is started or written."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from runtime.durable.stream import in_use
from runtime.forecast import Forecast
from runtime.service.config import (
    CsvConfig,
    EndpointConfig,
    HttpConfig,
    MqttConfig,
    MqttSinkConfig,
    MqttSourceConfig,
    ParquetConfig,
    ReplayConfig,
    ServiceConfig,
    SinkConfig,
    StdinConfig,
    StreamConfig,
)
from runtime.service.mqtt.link import OFFLINE
from runtime.service.mqtt.probe import probe
from runtime.service.serving import load_bundle, make_assembler, open_stream
from runtime.service.sources import ReplaySource
from runtime.service.web.endpoint import Endpoint
from runtime.service.web.pages import StatusPages
from stunet_deploy.bundle import Bundle
from stunet_deploy.errors import ConfigError, StunetError
from stunet_deploy.manifest import Manifest

_ANSWER_S = 5.0


@dataclass
class DryRun:
    """The result of a dry run.

    Attributes:
        plan: a line for each stream, source and sink that would run.
        problems: errors with which the service would not start.
        notes: what works less well; folders and ports in use by a running service, which may be the one of this config.
    """

    plan: list[str] = field(default_factory=list)
    problems: list[StunetError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, line: str, check: Callable[[], None]) -> None:
        """Add a line to the plan, and a problem if its check finds one."""
        self.plan.append(line)
        try:
            check()
        except StunetError as error:
            self.problems.append(error)
        except ModuleNotFoundError as error:
            extra = "parquet" if str(error.name).startswith("pyarrow") else "service"
            missing = f"{line.strip()}: {error.name} is not installed"
            self.problems.append(ConfigError(missing, "the package", f"pip install 'stunet-deploy[{extra}]'"))


def check_service(config: ServiceConfig) -> DryRun:
    """Return the result of a dry run of a config."""
    found = DryRun()
    forecasts: dict[str, int] = {}
    for stream in config.stream:
        _check_stream(stream, config.bundle.trust, found, forecasts)
    if config.mqtt is not None and config.uses_mqtt:
        broker = config.mqtt
        secured = " with TLS" if broker.tls else ""
        names = ", ".join(config.client_ids.values())
        line = f"broker {broker.host}:{broker.port}{secured} as {names}"
        found.attempt(line, lambda: _check_broker(config, broker, forecasts, found))
    if config.http is not None:
        page = config.http
        found.attempt(f"status page on {page.host}:{page.port}", lambda: _check_endpoint(page, found))
    return found


def _check_endpoint(config: EndpointConfig, found: DryRun) -> None:
    """Bind the port for a moment; it may be taken by a running service of this config."""
    try:
        Endpoint(config, StatusPages(list).reply).close()
    except ConfigError as error:
        if not found.notes or getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
            raise
        found.notes.append(f"port {config.port} is taken: correct if that service has it")


def _check_broker(config: ServiceConfig, broker: MqttConfig, forecasts: dict[str, int], found: DryRun) -> None:
    """Ask the broker for all that the service will; ``forecasts`` has the bytes of a forecast by its topic."""
    name = f"{broker.client_id}-check"
    while name in config.client_ids.values():  # it would end the connection of that stream
        name += "-"
    topics = {
        topic
        for stream in config.stream
        if isinstance(stream.source, MqttSourceConfig)
        for topic in stream.source.topics
    }
    messages = {**forecasts, broker.status: len(OFFLINE)}
    result = probe(broker, name, sorted(topics), messages)
    found.notes += result.remarks
    for trouble in result.troubles:
        found.problems.append(
            ConfigError(
                trouble.text,
                "a broker that takes what the service asks for",
                "mend it, or correct [mqtt] in the config file",
            )
        )


def _forecast_bytes(config: StreamConfig, manifest: Manifest) -> int:
    """Return the bytes of a forecast with numbers of usual length."""
    shape = (manifest.horizon, len(manifest.sensor_ids), len(manifest.targets))
    forecast = Forecast(np.full(shape, 100 / 3, np.float32), 0, 1.0, (), 100.0, config.name, manifest)
    return len(forecast.to_json_line().encode())


def _check_stream(config: StreamConfig, trust: Sequence[Path] | None, found: DryRun, forecasts: dict[str, int]) -> None:
    """Check a stream, and add the bytes of a forecast for each of its topics at the broker."""
    bundle: list[Bundle] = []

    def open_once() -> None:
        bundle.append(load_bundle(config, trust))
        if bundle[0].signed is not None:
            found.plan.append(f"  signed {bundle[0].signed}")
        bundle[0].check_files()  # a reload reads all of them, a start does not
        open_stream(config, bundle[0]).close()
        assembler = make_assembler(config, bundle[0].manifest)
        if assembler is not None:
            found.plan.append(f"  single readings of {', '.join(assembler.names)}")

    found.attempt(
        f"stream {config.name}: {config.bundle} on {config.backend} in {config.precision}, mode {config.mode}",
        open_once,
    )
    found.attempt(f"  state in {config.state}", lambda: _check_folder(config.state))
    if _is_running(config.state):
        found.notes.append(
            f"a running service uses {config.state}: correct if it is the one of this config, "
            "otherwise choose another folder"
        )
    source = config.source
    if isinstance(source, ReplayConfig):
        speed = f"{source.speed:g} times real time" if source.speed else "as fast as it can"
        found.attempt(f"  from {source.path}, {speed}", lambda: _check_replay(config, source, bundle))
    elif isinstance(source, MqttSourceConfig):
        found.plan.append(f"  from MQTT {', '.join(source.topics)}")
    else:
        by_messages = isinstance(source, StdinConfig) and source.clock == "messages"
        found.plan.append("  from standard input" + (", by the clock of its messages" if by_messages else ""))
    for sink in config.sink:
        _check_sink(sink, config.name, found)
        if isinstance(sink, MqttSinkConfig):
            forecasts[sink.topic_of(config.name)] = _forecast_bytes(config, bundle[0].manifest) if bundle else 0


def _is_running(state: Path) -> bool:
    """Return whether a running service uses a state folder, with this bundle or another."""
    try:
        return any(in_use(folder) for folder in state.iterdir() if folder.is_dir())
    except OSError:
        return False


def _check_replay(config: StreamConfig, source: ReplayConfig, bundle: list[Bundle]) -> None:
    if bundle:  # the recording is checked against it
        try:
            ReplaySource(source, bundle[0].manifest, ignore_unknown=config.ignore_unknown)
        except OSError as error:
            raise ConfigError(
                f"recording {source.path} ({error.strerror})", "a file to read", "correct the config file"
            ) from error


def _check_sink(config: SinkConfig, stream: str, found: DryRun) -> None:
    if isinstance(config, CsvConfig):
        found.attempt(f"  to CSV files in {config.folder}", lambda: _check_folder(config.folder))
    elif isinstance(config, ParquetConfig):
        found.attempt(f"  to Parquet files in {config.folder}", lambda: _check_parquet(config))
    elif isinstance(config, HttpConfig):
        found.attempt(f"  to {config.url}", lambda: _check_http(config))
    elif isinstance(config, MqttSinkConfig):
        found.plan.append(f"  to MQTT {config.topic_of(stream)}")
    else:
        found.plan.append("  to standard output")


def _check_parquet(config: ParquetConfig) -> None:
    import pyarrow.parquet  # noqa: F401

    _check_folder(config.folder)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written or made, without making it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"folder {folder}, which this user cannot {'write' if there == folder else 'make'}",
            "a folder with write permission",
            "choose another folder, or correct its rights",
        )


def _check_http(config: HttpConfig) -> None:
    parts = urlsplit(config.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ConfigError(
            f"url {config.url} ({error.strerror or error})", "a server that answers", "start it, or correct the url"
        ) from error
