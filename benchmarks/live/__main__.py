"""A live peer: the service on the detectors of a running SUMO simulation, and what its forecasts were worth.

    make live
    python -m benchmarks.live [--days 8] [--seed 0] [--minutes 4] [--speed 0] [--folder live]

Simulates weekdays on a real road network, trains on them, exports and verifies by the command line, then runs
``stunet run --config`` while SUMO simulates the next weekday and hands it every reading of every detector. Everything
goes to --folder, the table and the picture to the results too. Needs extra [live].
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any
from zoneinfo import ZoneInfo

from benchmarks.harness.command import Command
from benchmarks.harness.page import machine, page, table
from benchmarks.harness.workbench import CONFIGS, ROOT, stunet
from benchmarks.live.comparison import UNUSUAL_KMH, compare, read_live_day
from benchmarks.live.demand import TIMEZONE, midnight, plan_day
from benchmarks.live.history import INTERVAL_S, simulate_history, write_recording
from benchmarks.live.network import CREDIT, read_network
from benchmarks.live.service import drive, read_lines, simulate_live, write_config
from stunet_deploy.errors import CheckFailed, StunetError
from stunet_deploy.series.series import read_series

CONFIG = CONFIGS / "live.toml"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example from end to end."""
    command = Command("benchmarks.live", __doc__)
    command.option("--days", 8, "weekdays to learn from, before the live one", quick=1)
    command.option("--seed", 0, "seed of all randomness")
    command.option("--minutes", 4.0, "training time", quick=0.1)
    command.option("--speed", 0.0, "of the live day: 1 is real time, 0 as SUMO goes")
    command.option("--folder", ROOT / "live", "folder of all that is made")
    try:
        options, _ = command.run(measure, report, arguments)
    except (StunetError, CheckFailed) as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    if not options.page_only:
        shutil.copyfile(options.folder / "live.png", options.out / "live.png")


def measure(options: Namespace) -> dict[str, Any]:
    """Take the junction all the way and return everything that was found."""
    days, seed, minutes, out = options.days, options.seed, options.minutes, options.folder.absolute()
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str, title: str) -> Iterator[None]:
        print(f"{len(seconds) + 1}. {title}", flush=True)
        started = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - started, 1)

    out.mkdir(parents=True, exist_ok=True)
    network = read_network()
    recording, roads, model, bundle = (out / name for name in ("history.npz", "roads.csv", "model.pt", "model.bundle"))
    messages, forecasts, config = (out / name for name in ("messages.ndjson", "forecasts.ndjson", "service.toml"))
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with stage("simulate", f"simulating {days} weekdays of {len(network.names)} detectors, {workers} at a time"):
        paths = simulate_history(out / "days", days, seed, workers)
        write_recording(recording, network, paths, seed)
        roads.write_text(network.graph_csv(), encoding="utf-8")
    with stage("train", f"training for at most {minutes:g} minutes"):
        limits = ("--max-minutes", str(minutes), "--seed", str(seed))
        trained = stunet("train", "--data", recording, "--graph", roads, "--config", CONFIG, *limits, "--out", model)
    with stage("export", "exporting and verifying"):
        for old in (bundle, out / "state"):  # of a run before
            shutil.rmtree(old, ignore_errors=True)
        stunet("export", model, "--out", bundle)
        verified = stunet("verify", bundle)
    date = f"{datetime.fromtimestamp(midnight(days), ZoneInfo(TIMEZONE)):%Y-%m-%d}"
    with stage("live", f"running the service on {date}, while SUMO simulates it"):
        write_config(config, bundle, out / "state")
        drive(config, simulate_live(days, seed, options.speed, messages), forecasts)
    lines = read_lines(forecasts)
    day = read_live_day(read_lines(messages), lines, read_series(recording))
    from benchmarks.live.pictures import draw

    incidents = plan_day(days, seed, len(network.names)).incidents
    draw(out / "live.png", day, network, incidents)
    return {
        "days": days,
        "seed": seed,
        "minutes": minutes,
        "live_day": date,
        "sumo": version("eclipse-sumo"),
        "network": CREDIT,
        "detectors": len(network.names),
        "readings": sum(1 for _ in messages.open(encoding="utf-8")),
        "forecasts": len(lines),
        "warming_up": day.first,
        "incidents": len(incidents),
        "mae": compare(day),
        "step_us": sorted(line["step_us"] for line in lines)[len(lines) // 2],
        "train": {key: trained[key] for key in ("seconds", "epochs", "best_epoch", "best_validation_mae")},
        "verify": {key: verified[key] for key in ("intervals", "max_abs_error", "tolerance")},
        "seconds": seconds,
    }


def report(result: dict[str, Any]) -> str:
    """Return the results as a page."""
    mae, trained, verified, seconds = (result[key] for key in ("mae", "train", "verify", "seconds"))
    horizons = [step for step in (1, 3, 6, 12) if step <= len(mae["labels"]["all day"])]
    titles = {
        "all day": "The whole day",
        "6:00 to 20:00": "From 6:00 to 20:00",
        "unusual traffic": f"Where speed was {UNUSUAL_KMH:g} km/h or more off the mean of the days before",
    }
    where = {"torch": result.get("torch"), **result["environment"], "SUMO": result["sumo"]}
    rows = []
    for what, title in titles.items():
        share = mae["labels"][what][0] / mae["labels"]["all day"][0]
        rows.append([f"**{title}** ({100 * share:.0f} % of the readings)", *[""] * len(horizons)])
        rows += [[way, *(f"{errors[step - 1]:.2f}" for step in horizons)] for way, errors in mae[what].items()]
    return page(
        "A day of live traffic",
        f"`python -m benchmarks.live --days {result['days']} --seed {result['seed']} --minutes {result['minutes']:g}` "
        f"(`make live`): SUMO {result['sumo']} simulates the motorway junction that it ships as A10KW, "
        f"{result['detectors']} detectors report every 30 seconds to `stunet run --config` as it happens, and the "
        f"model has learnt from the {result['days']} simulated weekdays before. **The traffic is simulated**, the "
        "roads are real: this shows that the whole way holds together, and says nothing about accuracy on real "
        "detectors.",
        f"Mean absolute error of speed in km/h at all detectors on {result['live_day']}, against what then happened:",
        table(["", *(f"{step * INTERVAL_S // 60} min" for step in horizons)], rows),
        "Persistence is the last observed speed; time of day is the mean of the days before. Intervals in which "
        "nothing was measured do not count.",
        "![The junction, a detector's day, and an incident](live.png)",
        f"{result['readings']:,} readings became {result['forecasts']} forecasts. {result['warming_up']} of them, made "
        f"while the stream was warming up, do not count. A step takes {result['step_us'] / 1000:.2f} ms. Trained "
        f"{trained['seconds'] / 60:.1f} minutes, {trained['epochs']} epochs, best after {trained['best_epoch']}; "
        f"verified over {verified['intervals']} intervals, largest error {verified['max_abs_error']:.1e} km/h.",
        "Took " + ", ".join(f"{name} {spent / 60:.1f}" for name, spent in seconds.items()) + " minutes.",
        f"{machine(where, 'SUMO')} {result['network']}.",
    )


if __name__ == "__main__":
    main()
