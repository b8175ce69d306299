"""``stunet run``: stream a recording, or lines of JSON, through a bundle."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_backend, add_trust, open_bundle
from stunet_deploy.cli.service import run_service
from stunet_deploy.errors import ConfigError, DataError, StreamError, in_lines
from stunet_deploy.wording import span_in_words

if TYPE_CHECKING:
    from runtime.forecast import Forecast
    from runtime.messages import Record
    from runtime.stream import Stream
    from runtime.timing import Samples
    from stunet_deploy.manifest import Manifest

HELP = "Stream a recording through a bundle, one interval in, one forecast out; or, with --config, run a service."
EXAMPLE = "examples: stunet run model.bundle --replay metr-la.h5 --json-lines; stunet run --config service.toml"

STANDARD_INPUT = "-"
SENSORS_SHOWN = 8
#: Intervals between two lines of progress.
PROGRESS_EVERY = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, nargs="?", metavar="bundle/", help="folder that stunet-export wrote")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="run the streams of a TOML file until a signal, sources and sinks included; see docs/guide/operations.md",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only check what --config names, and print what would run"
    )
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="a recording, the bundle's golden.npz, or - for lines of JSON on standard input: "
        '{"timestamp": …, "values": {sensor: number|null}}',
    )
    parser.add_argument(
        "--mode",
        choices=["carry", "window"],
        default="carry",
        help="carry the state for ever (default), or forecast from exactly the last window",
    )
    parser.add_argument(
        "--max-gap",
        type=int,
        metavar="N",
        help="missing intervals that are bridged, after more the stream starts from zero (default: less than a day)",
    )
    parser.add_argument("--from", dest="start", metavar="T", help="first time: ISO 8601 (the bundle's zone) or seconds")
    parser.add_argument("--to", dest="stop", metavar="T", help="time to stop before")
    parser.add_argument("--json-lines", action="store_true", help="print every forecast as a line of JSON")
    parser.add_argument(
        "--no-fallback",
        action="store_true",
        help="end when the GPU fails, instead of going on with the CPU and saying so in every forecast",
    )
    add_backend(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Push every interval and print the forecasts, or a summary of them; or run a service."""
    if arguments.config is not None:
        return run_service(arguments, console)
    _check_words(arguments)

    from runtime.options import StreamOptions
    from runtime.stream import Stream

    if arguments.json and arguments.json_lines:
        raise ConfigError("--json and --json-lines", "one of them", "choose a summary or every forecast")
    bundle = open_bundle(arguments.bundle, arguments.trust)
    records = _records(arguments, bundle.manifest)
    stream = Stream.open(
        bundle,
        backend=arguments.backend,
        precision=arguments.precision,
        mode=arguments.mode,
        fallback=not arguments.no_fallback,
        options=StreamOptions(max_gap=arguments.max_gap),
    )
    summary = Summary()
    live = arguments.replay == STANDARD_INPUT
    try:
        for record in _believed(records, stream, console) if live else records:
            forecast = stream.push(*record)
            summary.add(forecast)
            if arguments.json_lines:
                console.line(forecast.to_json_line(), flush=live)
            elif len(summary.step_us) % PROGRESS_EVERY == 0:
                console.say(f"{len(summary.step_us)} intervals, at {_local(forecast)}")
    finally:
        stream.close()
    if summary.last is None:
        raise DataError(
            f"no interval in {arguments.replay}" + (" between --from and --to" if not live else ""),
            "at least one interval to forecast from",
            "choose other times or another recording",
        )
    if arguments.json_lines:
        console.say(summary.headline(stream))
    else:
        console.answer(summary.to_json(stream), summary.to_text(stream))
    console.next(f"stunet evaluate {arguments.bundle} --data FILE scores these forecasts against what came")
    return 0


def _check_words(arguments: argparse.Namespace) -> None:
    """Refuse to run without --config if it is not known what.

    Raises:
        ConfigError: saying what is missing.
    """
    if arguments.dry_run:
        raise ConfigError("--dry-run without --config", "the config file to check", "add --config FILE")
    if arguments.bundle is not None and arguments.replay is None:
        raise ConfigError(
            f"bundle {arguments.bundle} without --replay",
            "a recording to forecast from, or - for lines of JSON on standard input",
            "add --replay FILE; for a service, name the bundle in a config file and run with --config FILE alone",
        )
    if arguments.bundle is None:
        raise ConfigError(
            "neither a bundle nor --config" if arguments.replay is None else "--replay without a bundle",
            "what is to run",
            "stunet run model.bundle --replay FILE, or stunet run --config service.toml",
        )


def _records(arguments: argparse.Namespace, manifest: Manifest) -> Iterator[Record]:
    from runtime.messages import LONGEST_MESSAGE, read_json_lines
    from runtime.replay import open_replay
    from stunet_deploy.series.times import parse_time

    zone = manifest.timezone
    start, stop = (None if text is None else parse_time(text, zone) for text in (arguments.start, arguments.stop))
    if arguments.replay != STANDARD_INPUT:
        return open_replay(arguments.replay, manifest, start=start, stop=stop)
    if (start, stop) != (None, None):
        raise ConfigError("--from or --to for standard input", "a recording to cut", "leave them out")
    # One that is longer comes in parts, the first of which is refused.
    return read_json_lines(iter(lambda: sys.stdin.readline(LONGEST_MESSAGE + 1), ""))


def _believed(records: Iterator[Record], stream: Stream, console: Console) -> Iterator[Record]:
    """Yield the intervals of standard input, but those at a time that the next one shows to be wrong."""
    from runtime.jumps import Jumps

    def refuse(errors: list[StreamError]) -> None:
        for error in errors:
            stream.counters.refuse(error)
            console.say(f"refused: {error}")

    jumps = Jumps(stream.bundle.manifest)
    for record in records:
        verdict = jumps.take(record)
        refuse(verdict.refused)
        if verdict.anew:
            stream.reset()
        yield from verdict.ready
    refuse(jumps.end())


def _local(forecast: Forecast) -> str:
    """Return when a forecast was issued, in the time zone of its bundle."""
    from datetime import timezone

    from stunet_deploy.series.wall_clock import find_zone

    zone = forecast.manifest.timezone
    return f"{forecast.issued_at.astimezone(find_zone(zone) or timezone.utc):%Y-%m-%d %H:%M} {zone}"


class Summary:
    """The steps and forecasts of a run, summed up."""

    def __init__(self) -> None:
        self.step_us: list[float] = []
        self.degraded = 0
        self.reasons: Counter[str] = Counter()
        self.first: Forecast | None = None
        self.last: Forecast | None = None

    def add(self, forecast: Forecast) -> None:
        """Count one forecast."""
        self.first = self.first or forecast
        self.last = forecast
        self.step_us.append(forecast.step_us)
        self.degraded += forecast.degraded
        # "warming up: 3 of 12 intervals seen" and "warming up: 4 of …" are one reason.
        self.reasons.update(reason.partition(":")[0] for reason in forecast.reasons)

    def to_json(self, stream: Stream) -> dict[str, Any]:
        """Return the summary as JSON; the last forecast is a forecast line."""
        import json

        from stunet_deploy.series.times import format_time

        assert self.first is not None
        assert self.last is not None
        return {
            "bundle_id": self.last.bundle_id,
            "backend": stream.backend.name,
            "intervals": len(self.step_us),
            "first": format_time(self.first.issued_s),
            "last": format_time(self.last.issued_s),
            "degraded": self.degraded,
            "reasons": dict(self.reasons),
            "counters": asdict(stream.counters),
            "latency": self.samples().summary(),
            "last_forecast": json.loads(self.last.to_json_line()),
        }

    def headline(self, stream: Stream) -> str:
        """Return counts and latency in one line."""
        samples = self.samples()
        p99 = samples.percentile(99)
        tail = f"p99 {p99:.0f}" if p99 is not None else f"max {samples.nanoseconds.max() / 1000:.0f}"
        why = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        return (
            f"{len(self.step_us)} forecasts on {stream.backend.name}, "
            f"step median {samples.median_us:.0f} µs, {tail} µs; {self.degraded} degraded"
            + (f" ({why})" if why else "")
        )

    def to_text(self, stream: Stream) -> str:
        """Return the summary for people, with the last forecast at the first sensors."""
        from stunet_deploy.metrics import scored_horizons

        assert self.last is not None
        manifest, values = self.last.manifest, self.last.values
        horizons = scored_horizons(manifest.horizon)
        target, unit = manifest.targets[0], manifest.units_of_targets[0]
        title = f"{target} {unit}".strip()
        width = max(len(title), *(len(sensor) for sensor in manifest.sensor_ids[:SENSORS_SHOWN]))
        minutes = "".join(f" {span_in_words(manifest.horizons_min[h - 1]):>8}" for h in horizons)
        lines = [
            self.headline(stream),
            f"last forecast, issued at {_local(self.last)}:",
            f"  {title:{width}}{minutes}",
        ]
        for node, sensor in enumerate(manifest.sensor_ids[:SENSORS_SHOWN]):
            lines.append(f"  {sensor:{width}}" + "".join(f"{values[h - 1, node, 0]:9.1f}" for h in horizons))
        hidden = len(manifest.sensor_ids) - SENSORS_SHOWN
        if hidden > 0:
            lines.append(f"  … and {hidden} more: --json-lines prints all")
        return in_lines(lines)

    def samples(self) -> Samples:
        """Return the step times as samples of the timing harness."""
        import numpy as np

        from runtime.timing import Samples

        return Samples((np.array(self.step_us) * 1000).astype(np.int64))
