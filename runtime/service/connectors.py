"""The sources and sinks of a service, opened from its config, and the broker connection that they share."""

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
from runtime.service.mqtt import Broker, MqttSink, MqttSource
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
        self._broker = Broker(config.mqtt) if config.mqtt is not None and config.uses_mqtt else None

    def source(self, config: StreamConfig, manifest: Manifest) -> Source:
        """Open the source of a stream.

        Raises:
            DataError: if it is a recording that cannot be read, or of another network.
        """
        if isinstance(config.source, ReplayConfig):
            return ReplaySource(config.source, manifest, ignore_unknown=config.ignore_unknown)
        if isinstance(config.source, MqttSourceConfig):
            return MqttSource(self._shared_broker(), config.source.topics)
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
            return MqttSink(self._shared_broker(), config.topic or f"stunet/{stream}/forecast")
        return StdoutSink(self._out, stream)

    def connected(self, config: StreamConfig) -> Callable[[], bool] | None:
        """Return a function that tells whether the broker is connected; None if the stream uses no broker."""
        broker = self._broker
        return None if broker is None or not config.uses_mqtt else lambda: broker.connected

    def start(self) -> None:
        """Connect to the broker, if there is one; call it after all sources have been started."""
        if self._broker is not None:
            self._broker.start()

    def close(self) -> None:
        """Disconnect from the broker, if there is one; call it after all sinks have been flushed."""
        if self._broker is not None:
            self._broker.close()

    def _shared_broker(self) -> Broker:
        if self._broker is None:
            raise ConfigError("a source or sink of kind 'mqtt'", "an [mqtt] table", "add it to the config file")
        return self._broker
