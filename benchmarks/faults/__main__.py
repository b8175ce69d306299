"""Faults: what a controller meets in years, done to a stream in half an hour; ``make faults`` runs all of it.

    python -m benchmarks.faults [--only kills,damage] [--bundle model.bundle] [--kills 500] ...

Each part is a module of ``benchmarks/faults``, which says what is done and what counts as a failure. Without
--bundle the model is an untrained ST-UNet of eight sensors of the shipped data: what it forecasts does not matter here,
only that it stays the same. Writes benchmarks/results/reliability.{json,md} and returns 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.brokers import brokers
from benchmarks.faults.clocks import clocks
from benchmarks.faults.damage import damage
from benchmarks.faults.disks import disks
from benchmarks.faults.endurance import endurance
from benchmarks.faults.gaps import gaps
from benchmarks.faults.kills import kills
from benchmarks.faults.network import small_bundle
from benchmarks.faults.recordings import recordings
from benchmarks.faults.refusals import refusals
from benchmarks.faults.table import Row, guarded, report
from benchmarks.harness.workbench import RESULTS, write_results
from runtime.timing import environment, installed_version
from stunet_deploy.bundle import Bundle


def main() -> int:
    """Run the suite, write its results, and return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="what to stream with; an untrained model by default")
    parser.add_argument("--only", help="parts, with commas between; what --out has of others stays; all by default")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of one stream")
    parser.add_argument("--messages", type=int, default=100_000, help="wrong ones, for each way that messages come")
    parser.add_argument("--flips", type=int, default=1000, help="damaged copies of each file")
    parser.add_argument("--restarts", type=int, default=50, help="of the broker")
    parser.add_argument("--kills", type=int, default=500, help="over all cases")
    parser.add_argument("--intervals", type=int, default=400, help="of a replay that is killed")
    parser.add_argument("--seed", type=int, default=0, help="of every choice")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    with ExitStack() as stack:
        path = options.bundle or small_bundle(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        bundle = Bundle.load(path)

        def rng(part: int) -> np.random.Generator:
            return np.random.default_rng([options.seed, part])

        parts: dict[str, Callable[[], Iterable[Row]]] = {
            "endurance": lambda: endurance(bundle, options.steps),
            "clocks": lambda: clocks(bundle),
            "gaps": lambda: gaps(bundle, rng(1)),
            "disks": lambda: disks(bundle),
            "damage": lambda: damage(bundle, options.flips, rng(2)),
            "messages": lambda: refusals(bundle, options.messages, rng(3)),
            "recordings": lambda: recordings(bundle, options.messages, rng(4)),
            "brokers": lambda: brokers(bundle, options.restarts, rng(5)),
            "kills": lambda: kills(bundle, options.kills, options.intervals, rng(6)),
        }
        chosen = options.only.split(",") if options.only else list(parts)
        strange = sorted(set(chosen) - parts.keys())
        if strange:
            parser.error(f"--only {','.join(strange)}: expected some of {','.join(parts)}")
        where = environment() | {"paho-mqtt": installed_version("paho-mqtt"), "mosquitto": _mosquitto()}
        measured = _measured(options.out) if options.only else {}
        failed = False
        for part in chosen:
            begin = time.monotonic()
            rows = guarded(part, parts[part])
            failed |= any(row.failures for row in rows)
            seconds = round(time.monotonic() - begin)
            print(f"{part}: {seconds} s", flush=True)
            measured[part] = {"commit": where["commit"], "seconds": seconds, "rows": [asdict(row) for row in rows]}
    measured = {part: measured[part] for part in parts if part in measured}
    text = report(measured, where, options.seed)
    write_results(options.out, "reliability", {"environment": where, "seed": options.seed, "parts": measured}, text)
    print(text)
    return int(failed)


def _measured(folder: Path) -> dict[str, Any]:
    """Return the parts that a folder of results has."""
    try:
        parts: dict[str, Any] = json.loads((folder / "reliability.json").read_text(encoding="utf-8"))["parts"]
    except (OSError, ValueError, KeyError):
        return {}
    return parts


def _mosquitto() -> str | None:
    """Return the version of the broker, if there is one."""
    try:
        said = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    return said.split()[2] if len(said.split()) > 2 else None


if __name__ == "__main__":
    sys.exit(main())
