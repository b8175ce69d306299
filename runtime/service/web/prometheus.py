"""Metrics of a service for Prometheus, in its standard names and base units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from runtime.service.status import Status
from runtime.service.step_times import BOUNDS_S
from runtime.service.web.health import problems
from stunet_deploy.errors import visible

if TYPE_CHECKING:  # it comes with the extra [service]
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

#: Counters with one number for each stream: name without ``_total``, group and key in the status, meaning.
_COUNTERS = (
    ("stunet_forecasts", "service", "forecasts", "Forecasts handed to the sinks since the process began"),
    ("stunet_deliveries", "service", "delivered", "Lines, messages or intervals that came since the process began"),
    ("stunet_redelivered", "service", "redelivered", "Messages refused as late that had come before"),
    ("stunet_backend_failures", "service", "backend_failures", "Intervals at which the backend failed"),
    ("stunet_intervals", "stream", "pushes", "Intervals accepted since the stream first began"),
    ("stunet_intervals_repeated", "stream", "repeats", "Intervals that came once more with the same readings"),
    ("stunet_intervals_bridged", "stream", "bridged", "Missing intervals that were run as unobserved"),
    ("stunet_intervals_unkept", "stream", "unkept", "Intervals that the journal could not take"),
    ("stunet_resets", "stream", "resets", "Resets after a long gap, or after the clock went back"),
    ("stunet_failed_writes", "stream", "failed_writes", "Journal records and snapshots that could not be written"),
)
#: Counters with several numbers for each stream: name without ``_total``, attribute of the status, label, meaning.
_LABELLED = (
    ("stunet_readings_refused", "refused", "reason", "Lines, messages, intervals or readings refused"),
    ("stunet_readings_dropped", "dropped", "reason", "Readings that came and are not used"),
    ("stunet_forecasts_undelivered", "undelivered", "sink", "Forecasts that a sink has lost"),
)


class Metrics:
    """The metrics of a service, of its process and of the interpreter.

    Args:
        statuses: returns the status of every stream.
        version: version of this package.

    Raises:
        ModuleNotFoundError: if prometheus-client is not installed.
    """

    def __init__(self, statuses: Callable[[], list[Status]], version: str) -> None:
        self._registry = _make_registry(statuses, version)

    def render(self) -> tuple[bytes, str]:
        """Return the metrics as Prometheus reads them, and their media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST


def _make_registry(statuses: Callable[[], list[Status]], version: str) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
    from prometheus_client.registry import Collector

    class StreamCollector(Collector):
        def collect(self) -> Iterable[Metric]:
            return _collect(statuses(), version)

    registry = CollectorRegistry()
    registry.register(StreamCollector())
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _collect(statuses: list[Status], version: str) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    build = GaugeMetricFamily("stunet_build_info", "Version of stunet-deploy", labels=["version"])
    build.add_metric([version], 1)
    yield build
    yield from _counters(statuses)
    yield from _gauges(statuses)
    yield _step_times(statuses)
    yield from _drift(statuses)


def _counters(statuses: list[Status]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    for name, group, key, meaning in _COUNTERS:
        counter = CounterMetricFamily(name, meaning, labels=["stream"])
        for status in statuses:
            counter.add_metric([status.stream], status.counters[group][key])
        yield counter
    for name, attribute, label, meaning in _LABELLED:
        counter = CounterMetricFamily(name, meaning, labels=["stream", label])
        for status in statuses:
            for value, count in getattr(status, attribute).items():
                counter.add_metric([status.stream, value], count)
        yield counter
    counter = CounterMetricFamily(
        "stunet_mqtt_troubles", "What has gone wrong with the broker", labels=["stream", "what", "reason"]
    )
    for status in statuses:
        if status.broker is not None:
            for (what, reason), count in status.broker.troubles.items():
                counter.add_metric([status.stream, what, reason], count)
    yield counter


def _gauges(statuses: list[Status]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    def gauge(name: str, meaning: str, value: Callable[[Status], float | None]) -> Metric:
        family = GaugeMetricFamily(name, meaning, labels=["stream"])
        for status in statuses:
            found = value(status)
            if found is not None:
                family.add_metric([status.stream], found)
        return family

    info = GaugeMetricFamily(
        "stunet_bundle_info",
        "Bundle that forecasts, and what it runs on",
        labels=["stream", "bundle_id", "model", "backend", "precision", "mode"],
    )
    for status in statuses:
        config, manifest = status.config, status.manifest
        info.add_metric(
            [
                status.stream,
                visible(manifest.bundle_id),
                visible(manifest.model),
                status.backend,
                config.precision,
                config.mode,
            ],
            1,
        )
    yield info
    yield gauge("stunet_healthy", "1 where /healthz finds nothing", lambda status: not problems(status))
    yield gauge(
        "stunet_forecast_age_seconds",
        "Time since the end of the last interval forecast from; of a replay since its forecast",
        lambda status: status.age_s,
    )
    yield gauge(
        "stunet_forecast_issued_timestamp_seconds",
        "Stamp of the last interval forecast from, seconds since 1970",
        lambda status: None if status.last is None else status.last.issued_s,
    )
    held = GaugeMetricFamily(
        "stunet_forecasts_held", "Forecasts that wait in memory for a sink", labels=["stream", "sink"]
    )
    for status in statuses:
        for kind, count in status.waiting_forecasts.items():
            held.add_metric([status.stream, kind], count)
    yield held
    yield gauge("stunet_interval_seconds", "Length of an interval", lambda status: status.manifest.interval_s)
    yield gauge(
        "stunet_observed_ratio",
        "Share of readings observed in the last interval",
        lambda status: None if status.last is None else status.last.observed_share,
    )
    yield gauge(
        "stunet_degraded",
        "1 where the last forecast has a reason to be trusted less",
        lambda status: None if status.last is None else status.last.degraded,
    )
    yield gauge(
        "stunet_durable", "0 where the stream would not survive a restart", lambda status: status.trouble is None
    )
    yield gauge(
        "stunet_reload_failed",
        "1 where the last reload has not brought the bundle of the config",
        lambda status: status.not_taken is not None,
    )
    yield gauge(
        "stunet_restored_in_part",
        "1 where the start or a new bundle could not restore everything",
        lambda status: bool(status.lost),
    )
    yield gauge(
        "stunet_delivery_age_seconds",
        "Time since the last line, message or interval came",
        lambda status: status.deliveries.read().age_s,
    )
    yield gauge("stunet_mqtt_connected", "1 while the broker of the stream is there", lambda status: status.connected)
    yield gauge(
        "stunet_catching_up",
        "1 while readings that were kept may come, and no interval is closed by the clock",
        lambda status: status.catching_up,
    )
    yield gauge("stunet_waiting", "Lines, messages or intervals that wait", lambda status: status.waiting)
    yield gauge("stunet_waiting_limit", "How many of them may wait", lambda status: status.config.queue)
    yield gauge("stunet_silent_seconds", "Time since the last sign of life", lambda status: status.silent_s)
    yield gauge("stunet_sensors", "Sensors of the network", lambda status: len(status.manifest.sensor_ids))


def _step_times(statuses: list[Status]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(
        "stunet_step_seconds", "Time that the model took for a forecast, bridged intervals included", labels=["stream"]
    )
    for status in statuses:
        durations = status.step_times.read()
        buckets, below = [], 0
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], durations.counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        family.add_metric([status.stream], buckets, durations.total_s)
    return family


def _drift(statuses: list[Status]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    watched = [(status, status.drift) for status in statuses if status.drift is not None]
    labels = ["stream", "horizon_min", "target"]
    mae = GaugeMetricFamily("stunet_forecast_mae", "Running mean absolute error, in units of the target", labels=labels)
    persistence = GaugeMetricFamily(
        "stunet_persistence_mae", "The same of the last reading, taken as the forecast", labels=labels
    )
    for status, drift in watched:
        for family, errors in ((mae, drift.mae), (persistence, drift.persistence_mae)):
            for minutes, row in zip(status.manifest.horizons_min, errors.tolist(), strict=True):
                for target, error in zip(status.manifest.targets, row, strict=True):
                    family.add_metric([status.stream, f"{minutes:g}", visible(target)], error)
    yield from (mae, persistence)
    alarm = GaugeMetricFamily("stunet_drift_alarm", "1 while forecasts are worse than they were", labels=["stream"])
    statistic = GaugeMetricFamily("stunet_drift_statistic", "Statistic of the Page-Hinkley test", labels=["stream"])
    threshold = GaugeMetricFamily("stunet_drift_threshold", "Statistic at which the alarm is raised", labels=["stream"])
    scored = CounterMetricFamily("stunet_drift_scored", "Forecast numbers compared with a reading", labels=["stream"])
    for status, drift in watched:
        alarm.add_metric([status.stream], drift.alarm)
        statistic.add_metric([status.stream], drift.statistic)
        threshold.add_metric([status.stream], drift.threshold)
        scored.add_metric([status.stream], drift.scored)
    yield from (alarm, statistic, threshold, scored)
