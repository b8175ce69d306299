"""The config file of a service: which streams run, what they read, and where their forecasts go."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from runtime.drift import DriftOptions
from runtime.options import StreamOptions
from runtime.rules import Rule
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.errors import ConfigError
from stunet_deploy.toml_files import read_toml

_NAME = "letters, digits, _ . and - only"


@dataclass(frozen=True)
class ReplayConfig:
    """A recording."""

    kind: Literal["replay"]
    path: Path
    """A series as :func:`stunet_deploy.series.series.read_series` reads it, or a bundle's golden.npz."""
    speed: float = 0.0
    """1 is real time, 60 a minute a second; 0 as fast as the forecasts are made."""

    def __post_init__(self) -> None:
        _require(self.speed >= 0, f"speed = {self.speed:g}", "at least 0")


@dataclass(frozen=True)
class StdinConfig:
    """Lines of JSON on standard input."""

    kind: Literal["stdin"]
    clock: Literal["system", "messages"] = "system"
    """Clock by which intervals are closed: the controller's, or the newest time of a reading (of a recording or a
    simulation, which has its own time)."""


@dataclass(frozen=True)
class MqttSourceConfig:
    """Messages of JSON."""

    kind: Literal["mqtt"]
    topics: tuple[str, ...]
    """Topic filters to subscribe to, + and # allowed."""

    def __post_init__(self) -> None:
        _require(bool(self.topics), "topics = []", "at least one topic")
        for topic in self.topics:
            _require(_is_filter(topic), f"topic {topic!r}", "a topic filter, with + and # for whole levels")


@dataclass(frozen=True)
class StdoutConfig:
    """Forecast lines on standard output."""

    kind: Literal["stdout"]


@dataclass(frozen=True)
class CsvConfig:
    """A CSV file per day (UTC)."""

    kind: Literal["csv"]
    folder: Path


@dataclass(frozen=True)
class ParquetConfig:
    """Parquet files of several forecasts each."""

    kind: Literal["parquet"]
    folder: Path
    every: int = 12
    """Forecasts in one file; a crash loses those not yet in a file."""

    def __post_init__(self) -> None:
        _require(self.every >= 1, f"every = {self.every}", "at least 1")


@dataclass(frozen=True)
class HttpConfig:
    """A POST request for every forecast."""

    kind: Literal["http"]
    url: str
    timeout_s: float = 10.0
    attempts: int = 3
    """Tries of a forecast in a row; then it is held. A replay tries without limit."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        _require(
            parts.scheme in ("http", "https") and bool(parts.hostname), f"url = {self.url!r}", "http:// or https://"
        )
        _require(self.timeout_s > 0, f"timeout_s = {self.timeout_s:g}", "more than 0")
        _require(self.attempts >= 1, f"attempts = {self.attempts}", "at least 1")


@dataclass(frozen=True)
class MqttSinkConfig:
    """A retained message for every forecast."""

    kind: Literal["mqtt"]
    topic: str = ""
    """Empty for stunet/STREAM/forecast."""

    def __post_init__(self) -> None:
        _require(_is_plain(self.topic), f"topic = {self.topic!r}", "a topic without + and #")

    def topic_of(self, stream: str) -> str:
        """Return the topic of a stream's forecasts."""
        return self.topic or f"stunet/{stream}/forecast"


SourceConfig = ReplayConfig | StdinConfig | MqttSourceConfig
SinkConfig = StdoutConfig | CsvConfig | ParquetConfig | HttpConfig | MqttSinkConfig


@dataclass(frozen=True)
class AssemblerConfig:
    """Single readings, gathered into intervals; see :class:`runtime.aggregation.Assembler`."""

    rules: dict[str, Rule] = field(default_factory=dict)
    grace_s: float = 30.0
    stamp: Literal["start", "end"] = "start"
    period_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class StreamConfig(StreamOptions):
    """Config of one stream; its :class:`runtime.options.StreamOptions` are keys of the same table."""

    name: str
    """Its name in forecasts, log lines and topics."""
    bundle: Path
    state: Path
    """Folder of snapshots and journals, with a folder in it for each bundle and mode."""
    source: SourceConfig
    sink: tuple[SinkConfig, ...]
    backend: str = "onnxruntime"
    precision: str = "fp32"
    mode: Literal["carry", "window"] = "carry"
    threads: int = 1
    fallback: bool = True
    snapshot_every: int = 12
    """Intervals between two snapshots."""
    queue: int = 256
    """Lines, messages or intervals that may wait before the source waits."""
    strict: bool = False
    """End with an error where readings are refused, instead of counting them."""
    assembler: AssemblerConfig | None = None
    """For single readings; without it whole intervals are expected."""
    drift: DriftOptions = field(default_factory=DriftOptions)
    """How forecasts are compared with later readings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_is_name(self.name), f"name = {self.name!r}", _NAME)
        _require(bool(self.sink), "no sink", "at least one [[stream.sink]]")
        _require(self.queue >= 1, f"queue = {self.queue}", "at least 1")
        _require(self.threads >= 1, f"threads = {self.threads}", "at least 1")
        _require(self.snapshot_every >= 1, f"snapshot_every = {self.snapshot_every}", "at least 1")
        _require(
            self.assembler is None or not isinstance(self.source, ReplayConfig),
            "an assembler for a replay",
            "single readings from stdin or MQTT: a recording holds intervals",
        )

    @property
    def uses_mqtt(self) -> bool:
        """Whether its source or a sink needs the broker."""
        return any(isinstance(end, (MqttSourceConfig, MqttSinkConfig)) for end in (self.source, *self.sink))


@dataclass(frozen=True)
class MqttConfig:
    """The broker of all MQTT sources and sinks."""

    client_id: str
    """Name of this client at the broker, which keeps its session under it; no other client may have it."""
    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password_file: Path | None = None
    """File whose first line is the password."""
    tls: bool = False
    ca_file: Path | None = None
    """Authority that signed the broker's certificate; by default those of the system."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30
    session_s: int = 604_800
    """Seconds for which the broker keeps messages while this client is away."""
    in_flight: int = 100
    """Messages that the broker sends before they are acknowledged."""
    unconfirmed: int = 1000
    """Forecasts that wait for a broker that does not answer; beyond them a replay waits, and others drop new ones."""
    reconnect_max_s: float = 60.0
    """Longest pause in seconds between two attempts to connect; the pause starts at one second and doubles."""
    status_topic: str = ""
    """Topic of the retained ``online`` or ``offline``; empty for stunet/CLIENT_ID/status."""

    def __post_init__(self) -> None:
        _require(bool(self.host.strip()), f"host = {self.host!r}", "an address or name")
        _require(_is_name(self.client_id), f"client_id = {self.client_id!r}", _NAME)
        _require(_is_plain(self.status_topic), f"status_topic = {self.status_topic!r}", "a topic without + and #")
        _require(1 <= self.port <= 65535, f"port = {self.port}", "1 to 65535")
        _require(self.keepalive_s >= 1, f"keepalive_s = {self.keepalive_s}", "at least 1")
        _require(0 <= self.session_s < 2**32, f"session_s = {self.session_s}", "at least 0, below 2**32")
        _require(1 <= self.in_flight <= 65535, f"in_flight = {self.in_flight}", "1 to 65535")
        _require(1 <= self.unconfirmed < 65535, f"unconfirmed = {self.unconfirmed}", "1 to 65534")
        _require(self.reconnect_max_s > 0, f"reconnect_max_s = {self.reconnect_max_s:g}", "more than 0")
        _require(
            self.password_file is None or self.username is not None, "a password_file without username", "both of them"
        )
        _require(
            self.tls or (self.ca_file, self.certificate_file, self.key_file) == (None, None, None),
            "a ca_file, certificate_file or key_file without tls = true",
            "tls = true with them",
        )

    @property
    def status(self) -> str:
        """Topic of the status."""
        return self.status_topic or f"stunet/{self.client_id}/status"


@dataclass(frozen=True)
class EndpointConfig:
    """Address of the status page and its endpoints."""

    port: int
    """0 for a free port, which the log names."""
    host: str = "127.0.0.1"
    """Address or name of this machine; 0.0.0.0 or :: for all its addresses."""

    def __post_init__(self) -> None:
        _require(0 <= self.port <= 65535, f"port = {self.port}", "0 to 65535")
        _require(bool(self.host.strip()), f"host = {self.host!r}", "an address or name of this machine")


@dataclass(frozen=True)
class BundlesConfig:
    """Which bundles are taken."""

    trust: tuple[Path, ...] | None = None
    """Files of public keys, of which one must have signed a bundle; without it any bundle is taken."""

    def __post_init__(self) -> None:
        _require(self.trust != (), "trust = []", "one or more public keys, or no trust")


@dataclass(frozen=True)
class ServiceConfig:
    """Config of a service."""

    stream: tuple[StreamConfig, ...]
    mqtt: MqttConfig | None = None
    http: EndpointConfig | None = None
    """The status page; without it the service opens no port."""
    bundle: BundlesConfig = field(default_factory=BundlesConfig)
    log: Literal["lines", "json"] = "lines"
    """Format of the log on standard error."""

    def __post_init__(self) -> None:
        _require(bool(self.stream), "no stream", "one or more [[stream]] tables")
        names = [stream.name for stream in self.stream]
        twice = sorted({name for name in names if names.count(name) > 1})
        _require(not twice, f"streams of one name: {twice}", "a name of its own for each")
        states = [stream.state.resolve() for stream in self.stream]
        _require(len(set(states)) == len(states), "streams with one state folder", "a folder of its own for each")
        readers = [stream.name for stream in self.stream if isinstance(stream.source, StdinConfig)]
        _require(len(readers) <= 1, f"streams {readers} all read stdin", "one of them")
        _require(self.mqtt is not None or not self.uses_mqtt, "a source or sink of kind 'mqtt'", "an [mqtt] table")

    @property
    def uses_mqtt(self) -> bool:
        """Whether a source or sink needs the broker."""
        return any(stream.uses_mqtt for stream in self.stream)

    @property
    def client_ids(self) -> dict[str, str]:
        """Names at the broker, by stream that uses it: the first has ``client_id``, so that it keeps its session when
        others are added; the others have ``client_id-STREAM``."""
        names = [stream.name for stream in self.stream if stream.uses_mqtt]
        first = "" if self.mqtt is None else self.mqtt.client_id
        return {name: first if number == 0 else f"{first}-{name}" for number, name in enumerate(names)}


def read_config(path: Path) -> ServiceConfig:
    """Read a config file; its paths are relative to its folder.

    Raises:
        ConfigError: if the file cannot be read; naming the key, if one is unknown, missing or out of range.
    """
    return from_mapping(ServiceConfig, read_toml(path), folder=path.absolute().parent)


def _is_name(text: str) -> bool:
    """Return whether a text can be a part of topics and file names."""
    return re.fullmatch(r"[A-Za-z0-9_.-]+", text) is not None and text.strip(".") != ""


def _is_plain(topic: str) -> bool:
    return not set(topic) & {"+", "#", "\0"}


def _is_filter(topic: str) -> bool:
    """Return whether a text is a topic filter, that of a shared subscription included."""
    if topic.startswith("$share/"):
        _, group, *rest = topic.split("/", 2)
        if not rest or not group or not _is_plain(group):
            return False
        topic = rest[0]
    *levels, last = topic.split("/")
    plain = all(_is_plain(level) or level == "+" for level in levels)
    return bool(topic) and plain and (_is_plain(last) or last in ("+", "#")) and len(topic.encode()) < 2**16


def _require(good: bool, came: str, expected: str) -> None:
    if not good:
        raise ConfigError(came, expected, "correct the config file")
