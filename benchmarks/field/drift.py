"""When the drift watch raises its alarm: after what was done to the readings, after how long, and never without.

    python -m benchmarks.field.drift [--bundles FOLDER] [--seed 0]

Streams the two weeks with the watch's default options, as a service does, and disturbs the readings or the clock from
four times of the test span on. Measures what the watch costs, too. Bundles that are not in the folder of --bundles are
trained.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, number, page, table
from benchmarks.harness.weeks import Week
from benchmarks.harness.workbench import stunet
from runtime.drift import DriftOptions, DriftWatch
from runtime.forecast import Forecast
from runtime.readings import Interval
from runtime.stream import Stream
from runtime.timing import measure as measure_calls
from stunet_deploy.bundle import Bundle
from stunet_deploy.manifest import Manifest
from stunet_deploy.series.times import format_time
from stunet_deploy.series.wall_clock import DAY_S

STARTS_H = (0, 4, 8, 12)


class Rows(NamedTuple):
    """Intervals to push: values and observed [time, node, feature], stamps [time] in seconds."""

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    stamps: NDArray[np.int64]

    def between(self, begin: int, end: int | None = None) -> Rows:
        """Return the intervals from one to before another."""
        return Rows(self.values[begin:end], self.observed[begin:end], self.stamps[begin:end])


Disturb = Callable[[Rows, NDArray[np.bool_], np.random.Generator], Rows]


def recalibrated(share: float) -> Disturb:
    """Return what scales the readings of a share of the sensors by 0.8."""

    def disturb(rows: Rows, adjacent: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
        values = rows.values.copy()
        values[:, rng.permutation(values.shape[1])[: round(share * values.shape[1])]] *= 0.8
        return rows._replace(values=values)

    return disturb


def swapped(share: float) -> Disturb:
    """Return what hands the readings of a share of the sensors round among them."""

    def disturb(rows: Rows, adjacent: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
        order = np.arange(rows.values.shape[1])
        chosen = rng.permutation(order)[: round(share * len(order))]
        order[chosen] = np.roll(chosen, 1)
        return rows._replace(values=rows.values[:, order], observed=rows.observed[:, order])

    return disturb


def clock(hours: int) -> Disturb:
    """Return what sets the clock ahead."""

    def disturb(rows: Rows, adjacent: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
        return rows._replace(stamps=rows.stamps + 3600 * hours)

    return disturb


def roadworks(share: float) -> Disturb:
    """Return what slows a connected share of the sensors to 35 % of their speed, give or take 3."""

    def disturb(rows: Rows, adjacent: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
        nodes = rows.values.shape[1]
        zone = np.arange(nodes) == rng.integers(nodes)
        while zone.sum() < round(share * nodes):
            grown = zone | adjacent[zone].any(axis=0)
            more = np.flatnonzero(grown & ~zone if grown.sum() > zone.sum() else ~zone)
            zone[more[: round(share * nodes) - zone.sum()]] = True
        values = rows.values.copy()
        slow = 0.35 * values[:, zone] + rng.normal(0, 3, values[:, zone].shape)
        values[:, zone] = np.maximum(slow, 1)
        return rows._replace(values=values)

    return disturb


CASES: dict[str, Disturb] = {
    "10 % of detectors recalibrated (× 0.8)": recalibrated(0.1),
    "25 % of detectors recalibrated": recalibrated(0.25),
    "50 % of detectors recalibrated": recalibrated(0.5),
    "25 % of sensor ids swapped": swapped(0.25),
    "all sensor ids swapped": swapped(1.0),
    "clock 3 hours ahead": clock(3),
    "clock 6 hours ahead": clock(6),
    "clock 12 hours ahead": clock(12),
    "clock 3 hours behind": clock(21),
    "5 % of the network slow (roadworks)": roadworks(0.05),
    "10 % of the network slow": roadworks(0.1),
    "25 % of the network slow": roadworks(0.25),
}
#: Disturbances after which the sensors that forecasts are worse than persistence at are counted, and after how long.
LOCAL, LOCAL_H = [case for case in CASES if case.startswith(("5 %", "10 %", "25 %"))], 12
#: A disturbance that ends: after how long the alarm clears.
PASSING, PASSING_H = "50 % of detectors recalibrated", 8


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both weeks and the cost, and write the page."""
    command = Command("benchmarks.field.drift", __doc__)
    command.weeks("metr-la", "pemsd7-m")
    command.option("--bundles", None, "folder of metr-la.bundle and pemsd7-m.bundle; made if absent", kind=Path)
    command.option("--minutes", 10.0, "training time of each", quick=0.01)
    command.option("--sizes", (207, 33_113), "sensors for which the watch is timed", quick=(6,))
    command.option(
        "--rounds", 1000, "how often an interval is timed; a fifth of it for 1,000 sensors and more", quick=30
    )
    command.option("--seed", 0, "seed of all randomness")
    command.run(measure, report, arguments)


def push(stream: Stream, rows: Rows) -> list[DriftState]:
    """Push intervals and return the statistic and the alarm after each."""
    found = []
    for values, observed, stamp in zip(*rows, strict=True):
        stream.push(values, int(stamp), observed)
        found.append(DriftState.of(stream))
    return found


class DriftState(NamedTuple):
    """The watch after an interval."""

    statistic: float
    alarm: bool

    @classmethod
    def of(cls, stream: Stream) -> DriftState:
        """Read the watch of a stream."""
        if stream.watch is None:
            raise RuntimeError("this stream has no watch")
        report = stream.watch.report()
        return cls(report.statistic, report.alarm)


def count_alarms(states: list[DriftState]) -> int:
    """Return how often the alarm was raised."""
    return sum(now.alarm and not before.alarm for before, now in pairwise([DriftState(0.0, False), *states]))


def hours_until(states: list[DriftState], alarm: bool, interval_s: int) -> float | None:
    """Return the hours until the alarm is on or off; None if never."""
    found = [number for number, state in enumerate(states, 1) if state.alarm == alarm]
    return round(found[0] * interval_s / 3600, 2) if found else None


def count_worse(stream: Stream, touched: NDArray[np.bool_]) -> dict[str, int]:
    """Return at how many of the disturbed sensors, and of the others, forecasts are worse than persistence."""
    if stream.watch is None:
        raise RuntimeError("this stream has no watch")
    report = stream.watch.report()
    worse = (report.sensor_mae > report.sensor_persistence_mae)[:, 0]
    return {
        "disturbed": int(touched.sum()),
        "disturbed_worse": int((worse & touched).sum()),
        "others": int((~touched).sum()),
        "others_worse": int((worse & ~touched).sum()),
    }


def measure_week(week: Week, bundle: Bundle, seed: int) -> dict[str, Any]:
    """Stream one week undisturbed, and from each start on with each disturbance."""
    manifest = bundle.manifest
    series = week.series()
    with np.load(week.file) as archive:
        weights = archive["adjacency"]
    adjacent = (weights > 0) | (weights.T > 0)
    rows = Rows(series.values, series.observed, series.timestamps)
    interval_s, day = manifest.interval_s, DAY_S // manifest.interval_s
    test = int(manifest.training["test_start"])
    starts = [test + hours * 3600 // interval_s for hours in STARTS_H]
    stream = Stream.open(bundle)
    stream.watch = DriftWatch(manifest)
    clean: list[DriftState] = []
    snapshots = {}
    for begin, end in zip([0, *starts], [*starts, len(series.timestamps)], strict=True):
        snapshots[begin] = stream.snapshot()
        clean += push(stream, rows.between(begin, end))
    whole = stream.watch.report()
    cases: dict[str, list[dict[str, float | None]]] = {}
    for case, disturb in CASES.items():
        print(f"{week.name}: {case}", flush=True)
        cases[case] = []
        for start in starts:
            stream.restore(snapshots[start])
            rest = rows.between(start)
            states = push(stream, disturb(rest, adjacent, np.random.default_rng([seed, start])))
            cases[case].append(
                {
                    "start_row": start,
                    "hours_watched": len(states) * interval_s / 3600,
                    "hours_until_alarm": hours_until(states, True, interval_s),
                    "alarms": count_alarms(states),
                }
            )
    start, length = starts[0], PASSING_H * 3600 // interval_s
    stream.restore(snapshots[start])
    rest = CASES[PASSING](rows.between(start), adjacent, np.random.default_rng([seed, start]))
    push(stream, rest.between(0, length))
    after = push(stream, rows.between(start + length))
    worse = {}
    for case in LOCAL:
        rest = rows.between(start, start + LOCAL_H * 3600 // interval_s)
        disturbed = CASES[case](rest, adjacent, np.random.default_rng([seed, start]))
        stream.restore(snapshots[start])
        push(stream, disturbed)
        worse[case] = count_worse(stream, (disturbed.values != rest.values).any(axis=(0, 2)))
    stream.close()
    return {
        "bundle_id": manifest.bundle_id,
        "training": manifest.training,
        "test_from": format_time(series.timestamps[test]),
        "mae": whole.mae[:, 0].tolist(),
        "persistence_mae": whole.persistence_mae[:, 0].tolist(),
        "alarms_undisturbed": count_alarms(clean),
        "largest_statistic_by_day": [
            round(max(state.statistic for state in clean[row : row + day]), 3) for row in range(0, len(clean), day)
        ],
        "largest_statistic_in_test": round(max(state.statistic for state in clean[test:]), 3),
        "cases": cases,
        "sensors_worse_than_persistence": worse,
        "hours_until_cleared": hours_until(after, False, interval_s),
    }


def time_watch(manifest: Manifest, sensors: int, intervals: int) -> dict[str, Any]:
    """Time an interval of the watch, and measure its part of a snapshot, for so many sensors."""
    manifest = replace(manifest, site=replace(manifest.site, sensor_ids=tuple(map(str, range(sensors)))))
    watch, rng, clock = DriftWatch(manifest), np.random.default_rng(0), count()
    shape = (sensors, len(manifest.targets))
    intervals_seen = [Interval(rng.uniform(20, 70, shape).astype(np.float32), rng.random(shape) > 0.02) for _ in "abc"]
    forecasts = [rng.uniform(20, 70, (manifest.horizon, *shape)).astype(np.float32) for _ in "abc"]

    def see() -> None:
        number = next(clock)
        forecast = Forecast(forecasts[number % 3], manifest.interval_s * number, 1.0, (), 0.0, "timed", manifest)
        watch.see(intervals_seen[number % 3], forecast, sound=True)

    samples = measure_calls(see, warm_up=2 * manifest.horizon, repeats=intervals)
    snapshot_bytes = sum(array.nbytes for array in watch.state().values())
    return {"sensors": sensors, "see": samples.summary(), "snapshot_bytes": snapshot_bytes}


def time_step(bundle: Bundle, intervals: int) -> dict[str, Any]:
    """Time a push without the watch."""
    stream, clock = Stream.open(bundle), count()
    shape = (50, len(bundle.manifest.sensor_ids), len(bundle.manifest.features))
    values = np.random.default_rng(0).uniform(20, 70, shape).astype(np.float32)

    def push_one() -> None:
        number = next(clock)
        stream.push(values[number % 50], bundle.manifest.interval_s * number)

    samples = measure_calls(push_one, warm_up=24, repeats=intervals)
    stream.close()
    return samples.summary()


def find_bundle(week: Week, folder: Path, minutes: float, seed: int) -> Bundle:
    """Return the bundle of a week, trained now if it is not in the folder."""
    path, model = folder / f"{week.name}.bundle", folder / f"{week.name}.pt"
    if not path.is_dir():
        stunet("train", *week.source, "--max-minutes", minutes, "--seed", seed, "--out", model)
        stunet("export", model, "--out", path)
    return Bundle.load(path)


def measure(options: Namespace) -> dict[str, Any]:
    """Measure both weeks, and what the watch costs."""
    with tempfile.TemporaryDirectory() as folder:
        kept = options.bundles or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        bundles = {week.name: find_bundle(week, kept, options.minutes, options.seed) for week in options.weeks}
        first, rounds = bundles["metr-la"], options.rounds
        return {
            "options": asdict(DriftOptions()),
            "cost": [time_watch(first.manifest, n, rounds if n < 1000 else rounds // 5) for n in options.sizes],
            "push": time_step(first, rounds),
            "sets": {week.name: measure_week(week, bundles[week.name], options.seed) for week in options.weeks},
        }


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    options, sets = result["options"], result["sets"]

    def both(what: str, pick: Callable[[Mapping[str, Any]], str]) -> list[str]:
        return [what, *(pick(found) for found in sets.values())]

    def each(pick: Callable[[Mapping[str, Any]], str], between: str = "; ") -> str:
        return between.join(f"{name}{pick(found)}" for name, found in sets.items())

    def hours(case: str) -> list[str]:
        return both(case, lambda found: " · ".join(spoken(run["hours_until_alarm"]) for run in found["cases"][case]))

    def spoken(hours: float | None) -> str:
        return "none" if hours is None else f"{hours:.1f}"

    def place(case: str) -> list[str]:
        return both(
            case,
            lambda found: "{disturbed_worse} of {disturbed}, {others_worse} of {others} others".format(
                **found["sensors_worse_than_persistence"][case]
            ),
        )

    watched = each(
        lambda found: ": " + ", ".join(f"{run['hours_watched']:.1f}" for run in next(iter(found["cases"].values())))
    )
    trained = each(
        lambda found: " {max_minutes:g} minutes, validation MAE {validation_mae:.2f}".format(**found["training"])
    )
    most = each(lambda found: f" {max(run['alarms'] for runs in found['cases'].values() for run in runs)}", ", ")
    begins = each(lambda found: f" {found['test_from']}", ", ")
    cleared = ", ".join(f"{found['hours_until_cleared']} hours ({name})" for name, found in sets.items())
    return page(
        "Drift watch on one week of METR-LA and seven days of PeMSD7(M)",
        f"`{result['command']}`: {machine(result['environment'])} Defaults: days = {options['days']:g}, delta = "
        f"{options['delta']:g}, threshold = {options['threshold']:g}. Models with 32 channels, trained on the week "
        f"({trained}).",
        "Each week runs as one stream from its first row. The reference is learnt on the way, on days that the model "
        "was trained on, where it is a little better than later: false alarms are likelier here than in the field.",
        table(
            ["undisturbed", *sets],
            [
                both("alarms in the whole week", lambda found: f"{found['alarms_undisturbed']}"),
                both("largest statistic, test span", lambda found: f"{found['largest_statistic_in_test']:.2f}"),
                both(
                    "largest statistic by day",
                    lambda found: " ".join(f"{top:.2f}" for top in found["largest_statistic_by_day"]),
                ),
            ],
        ),
        f"Hours until the alarm, for disturbances that begin {', '.join(map(str, STARTS_H))} hours after the test span "
        f"does ({begins}) and last to the end of "
        f"the week (hours left: {watched}); the sensors differ from start to start.",
        table(["what happens", *sets], map(hours, CASES)),
        f'Alarms per disturbance, at most: {most}. After {PASSING_H} hours of "{PASSING}" the alarm clears within '
        f"{cleared}.",
        f"What touches a part of the network shows by sensor, alarm or not. After {LOCAL_H} hours forecasts are worse "
        "than persistence at so many of the sensors that were disturbed, and of the others:",
        table(["what happens", *sets], map(place, LOCAL)),
        table(
            ["sensors, horizon 12", "an interval of the watch, median µs", "p90 µs", "bytes in a snapshot"],
            [
                [
                    f"{row['sensors']:,}",
                    *(number(row["see"][key], ".0f") for key in ("median_us", "p90_us")),
                    f"{row['snapshot_bytes']:,}",
                ]
                for row in result["cost"]
            ],
        ),
        f"A push of METR-LA's bundle (32 channels) without the watch: median {result['push']['median_us']:.0f} µs.",
    )


if __name__ == "__main__":
    main()
