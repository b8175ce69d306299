"""``stunet bench``: how fast a bundle forecasts on this machine, and whether two measurements differ."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from stunet_deploy.cli.console import Console
from stunet_deploy.cli.options import add_backend
from stunet_deploy.errors import CheckFailed, ConfigError

HELP = "Measure latency, cold start and memory of a bundle on this machine; exit code 1 if a deadline is missed."
EXAMPLE = "example: stunet bench model.bundle --threads 1 2 --out bench.json"
_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("bundle", type=Path, nargs="?", metavar="bundle/", help="folder that stunet-export wrote")
    add_backend(parser, several=True)
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1], metavar="N", help="CPU threads of a step, one or several (1)"
    )
    parser.add_argument(
        "--count", type=int, help="forecasts in each loop (2000, or half a minute's); p99.9 takes 10000"
    )
    parser.add_argument("--rate", type=float, help="forecasts a second in the open loop (100, or half of what it can)")
    parser.add_argument("--deadline", metavar="T", help="within which a forecast must be there: 500us, 1ms, 0.1s")
    parser.add_argument(
        "--at",
        default="p99",
        choices=("p50", "p90", "p95", "p99", "p999", "max"),
        help="exit with code 1 if this percentile is later than --deadline (p99)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the measurement, samples included, as JSON")
    parser.add_argument(
        "--export-times", type=Path, metavar="FILE", help="write the closed loop as trtexec --exportTimes does"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="draw a measurement written by --out as FILE.png; runs nothing"
    )
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar=("A", "B"), help="say whether two measurements differ; runs nothing"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure; 0, or 1 if the deadline is missed or forecasts are wrong. Or compare or draw measurements; then 0."""
    if arguments.compare is not None:
        a, b = arguments.compare
        return _compare(a, b, console)
    if arguments.report is not None:
        return _report(arguments.report, console)
    if arguments.bundle is None:
        expected = "a bundle to measure, --compare A B or --report FILE"
        raise ConfigError("no bundle", expected, "stunet bench bundle/")
    from runtime.bench.measure import bench
    from runtime.bench.plan import COUNT, Case, Plan
    from runtime.bench.summary import check_count, missed, required_count, table
    from runtime.bench.trtexec import export_times
    from stunet_deploy.bundle import Bundle
    from stunet_deploy.files import replacing

    deadline_us = None if arguments.deadline is None else parse_duration(arguments.deadline)
    count = arguments.count
    if deadline_us is not None:
        count = max(COUNT, required_count(arguments.at)) if count is None else count
        check_count(arguments.at, count)
    for path in (arguments.out, arguments.export_times):
        if path is not None and not path.parent.is_dir():
            raise ConfigError(f"{path} in no folder", "a folder that exists", f"mkdir -p {path.parent}")
    cases = [Case(*options) for options in product(arguments.backend, arguments.precision, arguments.threads)]
    plan = Plan(count=count, rate=arguments.rate, deadline_us=deadline_us)
    bundle = Bundle.load(arguments.bundle)
    found = bench(bundle, cases, plan, say=console.say)
    for path, written in ((arguments.out, _as_json), (arguments.export_times, export_times)):
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(written(found), encoding="utf-8")
            console.say(f"wrote {path}")
    console.answer(found, table(found))
    wrong = [run for run in found["runs"] if not run["parity"]["passed"]]
    if wrong:
        raise CheckFailed(f"the forecasts of {len(wrong)} of {len(found['runs'])} cases exceed their tolerance")
    late = [] if deadline_us is None else missed(found, arguments.at)
    if late:
        raise CheckFailed(f"deadline of {arguments.deadline}: " + "; ".join(late))
    if arguments.out is None:
        console.next(f"stunet bench {arguments.bundle} --out FILE, later --compare FILE FILE or --report FILE")
    return 0


def _report(path: Path, console: Console) -> int:
    """Draw a measurement beside its file."""
    from runtime.bench.summary import read_measurement, table
    from stunet_deploy.cli.pictures.forecasts import save_png
    from stunet_deploy.cli.pictures.latency import draw_latencies

    found, picture = read_measurement(path), path.with_suffix(".png")
    save_png(draw_latencies(found), picture)
    console.answer({"measurement": str(path), "picture": str(picture)}, f"{table(found)}\n\n{picture}")
    return 0


def _compare(a: Path, b: Path, console: Console) -> int:
    """Compare two measurements, percentile by percentile."""
    import numpy as np

    from runtime.bench.resampling import AGREEMENT, compare_samples
    from runtime.bench.summary import read_measurement, samples_of

    one, other = read_measurement(a), read_measurement(b)
    found = compare_samples(samples_of(one), samples_of(other), np.random.default_rng(0))
    lines = [f"{b} against {a}; intervals that all hold in {AGREEMENT:.0%} of repetitions, in microseconds"]
    for each in found:
        verdict = "no difference" if not each.differs else "slower" if each.b_us > each.a_us else "faster"
        lines.append(
            f"{each.case}, {each.loop.replace('_', ' ')} p{each.percent:g}: {each.a_us:.1f} -> {each.b_us:.1f} "
            f"({each.b_us / each.a_us:.3f} times, {each.low_us:+.1f} … {each.high_us:+.1f}): {verdict}"
        )
    if one["bundle_id"] != other["bundle_id"]:
        lines.append("the two are of different bundles")
    for key in ("cpu", "onnxruntime", "governor"):
        before, after = one["environment"][key], other["environment"][key]
        if before != after:
            lines.append(f"{key} was {before}, then {after}")
    answer = {"a": str(a), "b": str(b), "differs": any(each.differs for each in found)}
    console.answer(answer | {"differences": [each.to_json() for each in found]}, "\n".join(lines))
    return 0


def parse_duration(text: str) -> float:
    """Return a duration such as 500us, 1ms or 0.1s in microseconds.

    Raises:
        ConfigError: if the text is not a duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s)", text.strip())
    if match is None:
        raise ConfigError(f"--deadline {text!r}", "a number with us, ms or s", "write it like 1ms")
    return float(match[1]) * _UNITS_US[match[2]]


def _as_json(found: Mapping[str, Any]) -> str:
    return json.dumps(found, allow_nan=False) + "\n"
