"""Faults: what a controller meets in years, done to a stream in an hour; ``make faults`` runs all of it.

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
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.broker_kills import broker_kills
from benchmarks.faults.brokers import brokers
from benchmarks.faults.bundles import KINDS, bundles
from benchmarks.faults.clients import clients
from benchmarks.faults.clocks import clocks
from benchmarks.faults.damage import damage
from benchmarks.faults.disks import disks
from benchmarks.faults.endurance import endurance
from benchmarks.faults.file_sinks import file_sinks
from benchmarks.faults.gaps import gaps
from benchmarks.faults.hostile_brokers import hostile_brokers
from benchmarks.faults.kills import kills
from benchmarks.faults.manifests import manifests
from benchmarks.faults.month import month
from benchmarks.faults.network import small_bundle
from benchmarks.faults.outages import outages
from benchmarks.faults.receivers import receivers
from benchmarks.faults.recordings import recordings
from benchmarks.faults.refusals import refusals
from benchmarks.faults.signals import signals
from benchmarks.faults.signatures import signatures
from benchmarks.faults.table import Row, guarded, report
from benchmarks.harness.command import Command
from benchmarks.harness.page import measured_on, stored
from stunet_deploy.bundle import Bundle

PARTS: dict[str, Callable[[Bundle, Namespace, np.random.Generator], Iterable[Row]]] = {
    "endurance": lambda bundle, options, rng: endurance(bundle, options.steps),
    "clocks": lambda bundle, options, rng: clocks(bundle),
    "gaps": lambda bundle, options, rng: gaps(bundle, rng),
    "disks": lambda bundle, options, rng: chain(disks(bundle), file_sinks(bundle)),
    "damage": lambda bundle, options, rng: damage(bundle, options.flips, rng),
    "bundles": lambda bundle, options, rng: bundles(bundle, options.hostile),
    "messages": lambda bundle, options, rng: refusals(bundle, options.messages, rng),
    "recordings": lambda bundle, options, rng: recordings(bundle, options.messages, rng),
    "brokers": lambda bundle, options, rng: brokers(bundle, options.restarts, rng),
    "receivers": lambda bundle, options, rng: receivers(bundle, options.posted),
    "clients": lambda bundle, options, rng: clients(bundle, options.posted),
    "outages": lambda bundle, options, rng: outages(bundle, options.outages, rng),
    "kills": lambda bundle, options, rng: kills(bundle, options.kills, options.intervals, rng),
    "signatures": lambda bundle, options, rng: signatures(bundle, options.forgeries, rng),
    "manifests": lambda bundle, options, rng: manifests(bundle, options.manifests, rng),
    "broker kills": lambda bundle, options, rng: broker_kills(bundle, options.broker_kills, rng),
    "month": lambda bundle, options, rng: month(
        bundle, options.other and Bundle.load(options.other.resolve()), options.days, rng
    ),
    "hostile-brokers": lambda bundle, options, rng: hostile_brokers(bundle, options.cases, rng),
    "signals": lambda bundle, options, rng: signals(bundle, options.signals, rng),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite, write its page, and return 1 if anything failed."""
    command = Command("benchmarks.faults", __doc__, page="reliability")
    command.option("--bundle", None, "what to stream with; an untrained model by default", kind=Path)
    command.option("--other", None, "a second bundle of its network, to take over from it in the month", kind=Path)
    command.option("--only", tuple(PARTS), "parts; what --out has of others stays", choices=PARTS)
    command.option("--steps", 1_000_000, "of one stream", quick=3000)
    command.option("--messages", 100_000, "wrong ones, for each way that messages come", quick=400)
    command.option("--manifests", 10_000, "altered at random", quick=40)
    command.option("--flips", 1000, "damaged copies of each file", quick=30)
    command.option("--forgeries", 500, "of a signed bundle, in each of four ways", quick=20)
    command.option("--hostile", len(KINDS), "bundles, for each ONNX Runtime", quick=6)
    command.option("--restarts", 50, "of the broker", quick=3)
    command.option("--posted", 40, "intervals, for each kind of receiver and client", quick=6)
    command.option("--cases", 1000, "of hostile brokers, at most", quick=12)
    command.option("--outages", 100, "of the service, its connection, its broker or its sink", quick=4)
    command.option("--signals", 210, "series of them, over all phases", quick=6)
    command.option("--kills", 500, "over all cases", quick=12)
    command.option("--intervals", 400, "of a replay that is killed", quick=60)
    command.option("--broker-kills", 500, "over all cases", quick=8)
    command.option("--days", 30.0, "in fast forward", quick=0.2)
    command.option("--seed", 0, "of every choice")
    options, result = command.run(measure, report, arguments)
    return int(any(row["failures"] for part in options.only for row in result["parts"][part]["rows"]))


def measure(options: Namespace) -> dict[str, Any]:
    """Do the parts that were asked for; those of before that were not stay."""
    where = measured_on("paho-mqtt") | {"mosquitto": _mosquitto()}
    some = set(options.only) < PARTS.keys()
    measured = stored(options.out / "reliability.json").get("parts", {}) if some else {}
    with ExitStack() as stack:
        if options.bundle is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            options.bundle = small_bundle(folder)
            options.other = options.other or (small_bundle(folder, "other", 6) if "month" in options.only else None)
        bundle = Bundle.load(options.bundle.resolve())  # configs in other folders name it
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
