"""A live peer: the service on the detectors of a running SUMO simulation, and what its forecasts were worth.

    make live
    python -m benchmarks.live [--days 8] [--seed 0] [--minutes 4] [--speed 0] [--out live]

Simulates weekdays on a real road network, trains on them, exports and verifies by the command line, then runs
``stunet run --config`` while SUMO simulates the next weekday and hands it every reading of every detector. Everything
goes to --out, the table and the picture to benchmarks/results/live.{md,json,png} too. Needs extra [live].
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from benchmarks.harness.workbench import RESULTS, ROOT, stunet, write_results
from benchmarks.live.comparison import UNUSUAL_KMH, compare, read_live_day
from benchmarks.live.demand import TIMEZONE, midnight, plan_day
from benchmarks.live.history import INTERVAL_S, simulate_history, write_recording
from benchmarks.live.network import CREDIT, read_network
from benchmarks.live.service import drive, read_lines, simulate_live, write_config
from runtime.timing import environment
from stunet_deploy.errors import CheckFailed, StunetError
from stunet_deploy.series.series import read_series

CONFIG = ROOT / "benchmarks" / "configs" / "live.toml"


def main() -> None:
    """Run the example from end to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=8, help="weekdays to learn from, before the live one")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness")
    parser.add_argument("--minutes", type=float, default=4.0, help="training time")
    parser.add_argument("--speed", type=float, default=0.0, help="of the live day: 1 is real time, 0 as SUMO goes")
    parser.add_argument("--out", type=Path, default=ROOT / "live", help="folder of all that is made")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the table")
    options = parser.parse_args()
    try:
        result = run(options.days, options.seed, options.minutes, options.speed, options.out.absolute())
    except (StunetError, CheckFailed) as error:
        parser.exit(error.exit_code, f"{error}\n")
    text = report(result)
    write_results(options.results, "live", result, text, indent=1)
    shutil.copyfile(options.out / "live.png", options.results / "live.png")
    print(f"\n{text}\npicture: {options.out / 'live.png'}")


def run(days: int, seed: int, minutes: float, speed: float, out: Path) -> dict[str, Any]:
    """Take the junction all the way and return everything that was found."""
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
        drive(config, simulate_live(days, seed, speed, messages), forecasts)
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
        "torch": version("torch"),
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
        "environment": environment(),
    }


def report(result: dict[str, Any]) -> str:
    """Return what was found as Markdown."""
    where, mae = result["environment"], result["mae"]
    horizons = [step for step in (1, 3, 6, 12) if step <= len(mae["labels"]["all day"])]
    titles = {
        "all day": "The whole day",
        "6:00 to 20:00": "From 6:00 to 20:00",
        "unusual traffic": f"Where speed was {UNUSUAL_KMH:g} km/h or more off the mean of the days before",
    }
    lines = [
        "# A day of live traffic",
        "",
        f"`python -m benchmarks.live --days {result['days']} --seed {result['seed']} --minutes {result['minutes']:g}` "
        f"(`make live`): SUMO {result['sumo']} simulates the motorway junction that it ships as A10KW, "
        f"{result['detectors']} detectors report every 30 seconds to `stunet run --config` as it happens, and the "
        f"model has learnt from the {result['days']} simulated weekdays before. **The traffic is simulated**, the "
        "roads are real: this shows that the whole way holds together, and says nothing about accuracy on real "
        "detectors.",
        "",
        f"Mean absolute error of speed in km/h at all detectors on {result['live_day']}, against what then happened:",
        "",
        "| | " + " | ".join(f"{step * INTERVAL_S // 60} min" for step in horizons) + " |",
        "| --- |" + " --- |" * len(horizons),
    ]
    for what, title in titles.items():
        share = mae["labels"][what][0] / mae["labels"]["all day"][0]
        lines.append(f"| **{title}** ({100 * share:.0f} % of the readings) |" + " |" * len(horizons))
        lines += [
            f"| {way} | " + " | ".join(f"{errors[step - 1]:.2f}" for step in horizons) + " |"
            for way, errors in mae[what].items()
        ]
    trained, verified, seconds = result["train"], result["verify"], result["seconds"]
    lines += [
        "",
        "Persistence is the last observed speed; time of day is the mean of the days before. Intervals in which "
        "nothing was measured do not count.",
        "",
        "![The junction, a detector's day, and an incident](live.png)",
        "",
        f"{result['readings']:,} readings became {result['forecasts']} forecasts. {result['warming_up']} of them, made "
        f"while the stream was warming up, do not count. A step takes {result['step_us'] / 1000:.2f} ms. Trained "
        f"{trained['seconds'] / 60:.1f} minutes, {trained['epochs']} epochs, best after {trained['best_epoch']}; "
        f"verified over {verified['intervals']} intervals, largest error {verified['max_abs_error']:.1e} km/h.",
        "",
        "Took " + ", ".join(f"{name} {spent / 60:.1f}" for name, spent in seconds.items()) + " minutes.",
        "",
        f"{where['cpu']}, {where['cores']} cores, load {where['load']} at the end; Python {where['python']}, "
        f"torch {result['torch']}, onnxruntime {where['onnxruntime']}, SUMO {result['sumo']}, commit "
        f"{(where['commit'] or 'unknown')[:12]}. {result['network']}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
