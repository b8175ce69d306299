"""Faults: what a controller meets in years, done to a stream in half an hour; ``make faults`` runs all of it.

    python -m benchmarks.faults [--only kills damage] [--bundle model.bundle] [--kills 500] ...

Each part is a module of ``benchmarks/faults``, which says what is done and what counts as a failure. Without
--bundle the model is an untrained ST-UNet of eight sensors of the shipped data: what it forecasts does not matter here,
only that it stays the same. Writes the page "reliability" and returns 1 if anything failed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.brokers import brokers
from benchmarks.faults.bundles import KINDS, bundles
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
from benchmarks.harness.command import Command
from benchmarks.harness.page import measured_on, stored
from stunet_deploy.bundle import Bundle

PARTS: dict[str, Callable[[Bundle, Namespace, np.random.Generator], Iterable[Row]]] = {
    "endurance": lambda bundle, options, rng: endurance(bundle, options.steps),
    "clocks": lambda bundle, options, rng: clocks(bundle),
    "gaps": lambda bundle, options, rng: gaps(bundle, rng),
    "disks": lambda bundle, options, rng: disks(bundle),
    "damage": lambda bundle, options, rng: damage(bundle, options.flips, rng),
    "bundles": lambda bundle, options, rng: bundles(bundle, options.hostile),
    "messages": lambda bundle, options, rng: refusals(bundle, options.messages, rng),
    "recordings": lambda bundle, options, rng: recordings(bundle, options.messages, rng),
    "brokers": lambda bundle, options, rng: brokers(bundle, options.restarts, rng),
    "kills": lambda bundle, options, rng: kills(bundle, options.kills, options.intervals, rng),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite, write its page, and return 1 if anything failed."""
    command = Command("benchmarks.faults", __doc__, page="reliability")
    command.option("--bundle", None, "what to stream with; an untrained model by default", kind=Path)
    command.option("--only", tuple(PARTS), "parts; what --out has of others stays", choices=PARTS)
    command.option("--steps", 1_000_000, "of one stream", quick=3000)
    command.option("--messages", 100_000, "wrong ones, for each way that messages come", quick=400)
    command.option("--flips", 1000, "damaged copies of each file", quick=30)
    command.option("--hostile", len(KINDS), "bundles, for each ONNX Runtime", quick=6)
    command.option("--restarts", 50, "of the broker", quick=3)
    command.option("--kills", 500, "over all cases", quick=12)
    command.option("--intervals", 400, "of a replay that is killed", quick=60)
    command.option("--seed", 0, "of every choice")
    options, result = command.run(measure, report, arguments)
    return int(any(row["failures"] for part in options.only for row in result["parts"][part]["rows"]))


def measure(options: Namespace) -> dict[str, Any]:
    """Do the parts that were asked for; those of before that were not stay."""
    where = measured_on("paho-mqtt") | {"mosquitto": _mosquitto()}
    some = set(options.only) < PARTS.keys()
    measured = stored(options.out / "reliability.json").get("parts", {}) if some else {}
    with ExitStack() as stack:
        path = options.bundle or small_bundle(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        bundle = Bundle.load(path)
        for part in options.only:
            rng, begin = np.random.default_rng([options.seed, list(PARTS).index(part)]), time.monotonic()
            rows = guarded(part, lambda: PARTS[part](bundle, options, rng))  # noqa: B023
            seconds = round(time.monotonic() - begin)
            print(f"{part}: {seconds} s", flush=True)
            measured[part] = {"commit": where["commit"], "seconds": seconds, "rows": [asdict(row) for row in rows]}
    parts = {part: measured[part] for part in PARTS if part in measured}
    return {"environment": where, "seed": options.seed, "parts": parts}


def _mosquitto() -> str | None:
    """Return the version of the broker, if there is one."""
    try:
        said = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    return said.split()[2] if len(said.split()) > 2 else None


if __name__ == "__main__":
    sys.exit(main())
