"""The sources and sinks of a service, opened from its config, and the links to the broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from runtime.service.config import (
    CsvConfig,
    HttpConfig,
    MqttSinkConfig,
    MqttSourceConfig,
    ParquetConfig,
    ReplayConfig,
    ServiceConfig,
    SinkConfig,
    StreamConfig,
)
from runtime.service.file_sinks import CsvSink, ParquetSink
from runtime.service.http_sink import HttpSink
from runtime.service.mqtt.ends import MqttSink, MqttSource
from runtime.service.mqtt.link import Link
from runtime.service.mqtt.report import BrokerReport
from runtime.service.sinks import Sink
from runtime.service.sources import ReplaySource, Source, StdinSource
from runtime.service.stdout_sink import Output, StdoutSink
from stunet_deploy.errors import ConfigError
from stunet_deploy.manifest import Manifest


class Connectors:
    """The sources and sinks of a service.

    Args:
        config: config of the service.
        out: standard output.

    Raises:
        ConfigError: if the broker's password or certificates cannot be read.
    """

    def __init__(self, config: ServiceConfig, out: TextIO) -> None:
        self._out = Output(out)
        self._links: dict[str, Link] = {}
        if config.mqtt is not None:
            for stream, client_id in config.client_ids.items():
                self._links[stream] = Link(config.mqtt, client_id, stream, status=not self._links)

    def source(self, config: StreamConfig, manifest: Manifest) -> Source:
        """Open the source of a stream.

        Raises:
            DataError: if it is a recording that cannot be read, or of another network.
        """
        if isinstance(config.source, ReplayConfig):
            return ReplaySource(config.source, manifest, ignore_unknown=config.ignore_unknown)
        if isinstance(config.source, MqttSourceConfig):
            return MqttSource(self._link(config.name), config.source.topics, next(iter(self._links.values())))
        return StdinSource(live=config.source.clock == "system")

    def sink(self, config: SinkConfig, stream: str) -> Sink:
        """Open a sink of a stream.

        Raises:
            SinkError: if its folder cannot be made.
            ModuleNotFoundError: if it needs pyarrow, which is not installed.
        """
        if isinstance(config, CsvConfig):
            return CsvSink(config, stream)
        if isinstance(config, ParquetConfig):
            return ParquetSink(config, stream)
        if isinstance(config, HttpConfig):
            return HttpSink(config, stream)
        if isinstance(config, MqttSinkConfig):
            return MqttSink(self._link(stream), config.topic_of(stream))
        return StdoutSink(self._out, stream)

    def broker(self, config: StreamConfig) -> Callable[[], BrokerReport] | None:
        """Return a function that tells how a stream's link to the broker is; None if it uses none."""
        link = self._links.get(config.name)
        return None if link is None else link.report

    def start(self) -> None:
        """Connect to the broker, if there is one; call it after all sources have been started."""
        for link in self._links.values():
            link.start()

    def close(self) -> None:
        """Disconnect from the broker, if there is one; call it after all sinks have been flushed."""
        for link in self._links.values():
            link.leave()
        for link in self._links.values():  # together: at a stop there is no time for one after the other
            link.close()

    def _link(self, stream: str) -> Link:
        if stream not in self._links:
            raise ConfigError("a source or sink of kind 'mqtt'", "an [mqtt] table", "add it to the config file")
        return self._links[stream]
