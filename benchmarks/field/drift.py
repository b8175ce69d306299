"""When the drift watch raises its alarm: after what was done to the readings, after how long, and never without.

    python -m benchmarks.field.drift [--bundles FOLDER] [--seed 0]

Streams the two weeks with the watch's default options, as a service does, and disturbs the readings or the clock from
four times of the test span on. Measures what the watch costs, too. Needs metr-la.npz and pemsd7-m.npz in the folder
named by STUNET_DATA (or shared/data beside the repository). Bundles that are not in the folder of --bundles are
trained. Writes benchmarks/results/drift.{json,md}.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.workbench import RESULTS, ROOT, SHARED, stunet, write_results
from runtime.drift import DriftOptions, DriftWatch
from runtime.forecast import Forecast
from runtime.readings import Interval
from runtime.stream import Stream
from runtime.timing import Samples, environment
from stunet_deploy.bundle import Bundle, Manifest
from stunet_deploy.series.series import read_series
from stunet_deploy.series.table import format_time
from stunet_deploy.series.wall_clock import DAY_S

ZONE = "America/Los_Angeles"
#: Name of a set, and for how many minutes its model is trained.
SETS = {"metr-la": 9, "pemsd7-m": 14}
STARTS_H = (0, 4, 8, 12)
#: Sensors for which the watch is timed: METR-LA's, and a city's.
SIZES = (207, 33_113)


class Rows(NamedTuple):
    """Intervals to push: values and observed [time, node, feature], stamps [time] in seconds."""

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    stamps: NDArray[np.int64]


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
            raise RuntimeError("nobody watches this stream")
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
        raise RuntimeError("nobody watches this stream")
    report = stream.watch.report()
    worse = (report.sensor_mae > report.sensor_persistence_mae)[:, 0]
    return {
        "disturbed": int(touched.sum()),
        "disturbed_worse": int((worse & touched).sum()),
        "others": int((~touched).sum()),
        "others_worse": int((worse & ~touched).sum()),
    }


def measure(name: str, bundle: Bundle, seed: int) -> dict[str, Any]:
    """Stream one week undisturbed, and from each start on with each disturbance."""
    manifest = bundle.manifest
    series = read_series(SHARED / f"{name}.npz", timezone=ZONE)
    with np.load(SHARED / f"{name}.npz") as archive:
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
        clean += push(stream, Rows(*(part[begin:end] for part in rows)))
    whole = stream.watch.report()
    cases: dict[str, list[dict[str, float | None]]] = {}
    for case, disturb in CASES.items():
        print(f"{name}: {case}", flush=True)
        cases[case] = []
        for start in starts:
            stream.restore(snapshots[start])
            rest = Rows(*(part[start:] for part in rows))
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
    rest = CASES[PASSING](Rows(*(part[start:] for part in rows)), adjacent, np.random.default_rng([seed, start]))
    push(stream, Rows(*(part[:length] for part in rest)))
    after = push(stream, Rows(*(part[start + length :] for part in rows)))
    worse = {}
    for case in LOCAL:
        rest = Rows(*(part[start : start + LOCAL_H * 3600 // interval_s] for part in rows))
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
    """Time an interval of the watch, a report and a snapshot's part, for so many sensors."""
    manifest = replace(manifest, site=replace(manifest.site, sensor_ids=tuple(map(str, range(sensors)))))
    watch, rng, nanoseconds = DriftWatch(manifest), np.random.default_rng(0), []
    shape = (sensors, len(manifest.targets))
    for number in range(intervals):
        interval = Interval(rng.uniform(20, 70, shape).astype(np.float32), rng.random(shape) > 0.02)
        values = rng.uniform(20, 70, (manifest.horizon, *shape)).astype(np.float32)
        forecast = Forecast(values, manifest.interval_s * number, 1.0, (), 0.0, "timed", manifest)
        begin = time.perf_counter_ns()
        watch.see(interval, forecast, sound=True)
        nanoseconds.append(time.perf_counter_ns() - begin)
    state = watch.state()
    return {
        "sensors": sensors,
        "see": Samples(np.array(nanoseconds[2 * manifest.horizon :])).summary(),
        "snapshot_bytes": sum(array.nbytes for array in state.values()),
    }


def time_step(bundle: Bundle, intervals: int) -> dict[str, Any]:
    """Time a push without the watch."""
    stream, rng, nanoseconds = Stream.open(bundle), np.random.default_rng(0), []
    shape = (len(bundle.manifest.sensor_ids), len(bundle.manifest.features))
    for number in range(intervals):
        values = rng.uniform(20, 70, shape).astype(np.float32)
        begin = time.perf_counter_ns()
        stream.push(values, bundle.manifest.interval_s * number)
        nanoseconds.append(time.perf_counter_ns() - begin)
    stream.close()
    return Samples(np.array(nanoseconds[24:])).summary()


def find_bundle(name: str, folder: Path, seed: int) -> Bundle:
    """Return the bundle of a set, trained now if it is not in the folder."""
    path = folder / f"{name}.bundle"
    if not path.is_dir():
        config = ROOT / "benchmarks" / "configs" / f"{name}.toml"
        model, data = folder / f"{name}.pt", ("--data", SHARED / f"{name}.npz", "--timezone", ZONE)
        limits = ("--max-minutes", str(SETS[name]), "--seed", str(seed))
        stunet("train", *data, "--config", config, *limits, "--out", model)
        stunet("export", model, "--out", path)
    return Bundle.load(path)


def report(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    where, options, sets = result["environment"], result["options"], result["sets"]

    def cell(runs: list[dict[str, Any]]) -> str:
        hours = [run["hours_until_alarm"] for run in runs]
        return " · ".join("none" if hour is None else f"{hour:.1f}" for hour in hours)

    def place(found: dict[str, int]) -> str:
        return (
            f"{found['disturbed_worse']} of {found['disturbed']}, {found['others_worse']} of {found['others']} others"
        )

    def both(pick: Callable[[dict[str, Any]], str]) -> str:
        return " | ".join(pick(sets[name]) for name in SETS)

    watched = "; ".join(
        f"{name}: " + ", ".join(f"{run['hours_watched']:.1f}" for run in next(iter(found["cases"].values())))
        for name, found in sets.items()
    )
    trained = "; ".join(
        f"{name} {found['training']['max_minutes']:g} minutes, validation MAE {found['training']['validation_mae']:.2f}"
        for name, found in sets.items()
    )
    begins = ", ".join(f"{name} {found['test_from']}" for name, found in sets.items())
    lines = [
        "# Drift watch on one week of METR-LA and seven days of PeMSD7(M)",
        "",
        f"`python -m benchmarks.field.drift`: {where['cpu']}, Python {where['python']}, numpy {where['numpy']}, commit "
        f"{(where['commit'] or 'unknown')[:12]}. Defaults: days = {options['days']:g}, delta = {options['delta']:g}, "
        f"threshold = {options['threshold']:g}. Models with 32 channels, trained on the week ({trained}).",
        "",
        "Each week runs as one stream from its first row. The reference is learnt on the way, on days that the model "
        "was trained on, where it is a little better than later: false alarms are likelier here than in the field.",
        "",
        "| undisturbed | " + " | ".join(SETS) + " |",
        "| --- |" + " --- |" * len(SETS),
        "| alarms in the whole week | " + both(lambda found: f"{found['alarms_undisturbed']}") + " |",
        "| largest statistic, test span | " + both(lambda found: f"{found['largest_statistic_in_test']:.2f}") + " |",
        "| largest statistic by day | "
        + both(lambda found: " ".join(f"{top:.2f}" for top in found["largest_statistic_by_day"]))
        + " |",
        "",
        f"Hours until the alarm, for disturbances that begin {', '.join(map(str, STARTS_H))} hours after the test span "
        f"does ({begins}) and last to the end of "
        f"the week (hours left: {watched}); the sensors differ from start to start.",
        "",
        "| what happens | " + " | ".join(SETS) + " |",
        "| --- |" + " --- |" * len(SETS),
        *(f"| {case} | " + both(lambda found, case=case: cell(found["cases"][case])) + " |" for case in CASES),
        "",
        "Alarms per disturbance, at most: "
        + ", ".join(
            f"{name} {max(run['alarms'] for runs in found['cases'].values() for run in runs)}"
            for name, found in sets.items()
        )
        + f'. After {PASSING_H} hours of "{PASSING}" the alarm clears within '
        + ", ".join(f"{found['hours_until_cleared']} hours ({name})" for name, found in sets.items())
        + ".",
        "",
        f"What touches a part of the network shows by sensor, alarm or not. After {LOCAL_H} hours forecasts are worse "
        "than persistence at so many of the sensors that were disturbed, and of the others:",
        "",
        "| what happens | " + " | ".join(SETS) + " |",
        "| --- |" + " --- |" * len(SETS),
        *(
            f"| {case} | " + both(lambda found, case=case: place(found["sensors_worse_than_persistence"][case])) + " |"
            for case in LOCAL
        ),
        "",
        "| sensors, horizon 12 | an interval of the watch, median µs | p90 µs | bytes in a snapshot |",
        "| --- | --- | --- | --- |",
        *(
            f"| {row['sensors']:,} | {row['see']['median_us']:.0f} | {row['see']['p90_us']:.0f} | "
            f"{row['snapshot_bytes']:,} |"
            for row in result["cost"]
        ),
        "",
        f"A push of METR-LA's bundle (32 channels) without the watch: median {result['push']['median_us']:.0f} µs.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure both weeks and the cost, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, help="folder of metr-la.bundle and pemsd7-m.bundle; made if absent")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    missing = [SHARED / f"{name}.npz" for name in SETS if not (SHARED / f"{name}.npz").is_file()]
    if missing:
        parser.error(f"no file {missing[0]}; set STUNET_DATA to the folder of the week files")
    with tempfile.TemporaryDirectory() as folder:
        kept = options.bundles or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        bundles = {name: find_bundle(name, kept, options.seed) for name in SETS}
        manifest = bundles["metr-la"].manifest
        result = {
            "environment": environment(),
            "options": asdict(DriftOptions()),
            "cost": [time_watch(manifest, sensors, 1000 if sensors < 1000 else 200) for sensors in SIZES],
            "push": time_step(bundles["metr-la"], 1000),
            "sets": {name: measure(name, bundle, options.seed) for name, bundle in bundles.items()},
        }
    text = report(result)
    write_results(options.out, "drift", result, text, indent=1)
    print(text)


if __name__ == "__main__":
    main()
