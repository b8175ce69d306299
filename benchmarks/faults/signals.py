"""Signals: a service that is told to stop and to reload at random instants of its start, of a reload and of its stop.

A service of a process of its own replays the golden stream into a CSV file; a reload gives it another bundle of the
same network each time. As soon as its handlers stand, every stop must end it with exit code 0, whatever comes before
or after; its log must hold no traceback and no abort; after a stop in operation the newest snapshot must be of the last
interval in the CSV files. When the replay is over they must hold every interval, none twice by one bundle.
"""

from __future__ import annotations

import csv
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.faults.table import Row, differences
from benchmarks.harness.workbench import ROOT
from runtime.durable.recovery import SNAPSHOT
from runtime.snapshot import Snapshot
from stunet_deploy.bundle import Bundle
from stunet_deploy.cli import INTERRUPTED
from stunet_deploy.files import sha256
from stunet_deploy.manifest import MANIFEST
from stunet_deploy.precisions import STEP
from stunet_deploy.series.times import format_time

_TERM, _INT, _HUP = signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)
#: What comes, one after the other, from a random instant of each phase on.
PHASES = {
    "reload": [[_TERM], [_INT], [_HUP, _TERM], [_HUP, _HUP, _TERM], [_TERM, _TERM], [_TERM, _HUP]],
    "stop": [[_TERM], [_INT], [_TERM, _TERM], [_TERM, _INT, _TERM], [_TERM, _HUP]],
    "start": [[_TERM], [_INT], [_TERM, _TERM], [_HUP, _TERM], [_INT, _TERM]],
}
_PATIENCE_S = 60.0  # as long as systemd waits for a stop
_A_SECOND = 20  # intervals of the replay


def signals(bundle: Bundle, number: int, rng: np.random.Generator) -> Iterator[Row]:
    """Send so many series of signals to services in all; each phase gets a third."""
    took = {"start": 1.0, "reload": 1.5, "stop": 0.3}  # seconds, as measured by the last ones
    for index, phase in enumerate(PHASES):
        yield _in_phase(bundle, phase, (number + index) // len(PHASES), took, rng)


def _in_phase(bundle: Bundle, phase: str, number: int, took: dict[str, float], rng: np.random.Generator) -> Row:
    failures: list[str] = []
    early = replays = done = 0
    while done < number:
        replays += 1
        with tempfile.TemporaryDirectory() as scratch:
            service = _Service(bundle, Path(scratch))
            while service.replaying:
                series = PHASES[phase][int(rng.integers(len(PHASES[phase])))] if done < number else []
                done += bool(series)
                found = service.signalled(phase, series, took, rng)
                early += found is None
                failures += [f"{[each.name for each in series]}: {failure}" for failure in found or []]
            failures += service.missing()
    return Row(
        f"signals at random instants of the {phase}",
        done,
        failures,
        f"{early} before the handlers stood; a {phase} took {took[phase]:.2f} s; replays: {replays}",
    )


class _Service:
    """A service in a process that is started again until its replay is over."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.replaying = True
        self._bundles = [bundle.path, _twin(bundle, folder / "twin")]
        self._folder = folder
        self._expected = [format_time(int(stamp)) for stamp in bundle.golden().timestamps]
        self._speed = bundle.manifest.interval_s * _A_SECOND
        self._point()

    def signalled(
        self, phase: str, series: list[signal.Signals], took: dict[str, float], rng: np.random.Generator
    ) -> list[str] | None:
        """Run it, send it signals in a phase, and return what is wrong then; None if no handler stood yet.

        Without signals the phase is measured, and the replay goes on to its end.
        """
        log = self._folder / "log"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as err:
            command = [sys.executable, "-m", "stunet_deploy", "run", "--config", str(self._folder / "service.toml")]
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err
            )

        def said() -> str:
            return log.read_text(errors="replace")[before:]

        def time_to(text: str) -> float | None:
            begin = time.monotonic()
            while process.poll() is None and time.monotonic() < begin + _PATIENCE_S:
                if text in said():
                    return time.monotonic() - begin
                time.sleep(0.005)
            return None

        if phase != "start" or not series:
            took["start"] = time_to(" running: ") or took["start"]
        running = phase != "start" and process.poll() is None
        if phase == "reload" and running:
            self._point()
            process.send_signal(_HUP)
            if not series:
                took["reload"] = time_to("goes on with bundle") or took["reload"]
        handlers, asked = True, time.monotonic()
        for index, which in enumerate(series):
            until_s = took["stop"] if index else 0.5 if phase == "stop" else took[phase]
            time.sleep(rng.uniform(0, 1.2 * until_s))
            handlers = handlers and _caught(process.pid)
            asked = time.monotonic()
            process.send_signal(which)  # which does nothing if it has ended
        try:
            code = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return [f"still there after {_PATIENCE_S:g} s"]
        if len(series) == 1 and running:
            took["stop"] = time.monotonic() - asked
        self.replaying = bool(series) and len({stamp for _, stamp in self._issued()}) < len(self._expected)
        self._stay(said())
        if not handlers and code in (-_TERM, -_INT, -_HUP, INTERRUPTED, 1):  # 1: the interpreter was not up yet
            return None
        wrong = [f"exit code {code}: {said()[-300:]}"] if code else []
        wrong += [word for word in ("Traceback", "Fatal", "terminate called") if word in said()]
        return wrong + (self._unkept() if running and not code else [])

    def missing(self) -> list[str]:
        """Return which intervals the files lack, and which one of them has twice."""
        issued = self._issued()
        twice = [f"{stamp} {count} times in {name}" for (name, stamp), count in issued.items() if count > 1]
        found = {stamp for _, stamp in issued}
        return twice + differences(dict.fromkeys(found), dict.fromkeys(self._expected), "forecast")

    def _unkept(self) -> list[str]:
        """Return what is wrong if the newest snapshot is not of the last interval handed out."""
        handed_out = max((stamp for _, stamp in self._issued()), default="")
        kept = [Snapshot.load(path).last for path in self._folder.glob(f"state/*/*{SNAPSHOT}")]
        newest = max((format_time(last.issued_s) for last in kept if last is not None), default="")
        return [] if newest == handed_out else [f"snapshot of {newest}, forecast of {handed_out}"]

    def _issued(self) -> Counter[tuple[str, str]]:
        """Return how often each interval is in each CSV file: one a day and bundle."""
        found: Counter[tuple[str, str]] = Counter()
        for path in self._folder.glob("out/*.csv"):
            with path.open(newline="") as rows:
                stamps = [row["issued_at"] for row in csv.DictReader(rows)]
            found.update((path.name, stamp) for stamp, _ in groupby(stamps))
        return found

    def _stay(self, text: str) -> None:
        """Let the config name the bundle that served last, where that is not the new one."""
        served = re.findall(r": (?:goes on with )?bundle (\w{8})", text)
        if served and Bundle.load(self._bundles[0]).manifest.bundle_id[:8] != served[-1]:
            self._point()

    def _point(self) -> None:
        """Let the config name the bundle that it did not name before."""
        self._bundles.reverse()
        (self._folder / "service.toml").write_text(
            f'[[stream]]\nname = "ring"\nbundle = "{self._bundles[0]}"\nstate = "state"\nsnapshot_every = 7\n'
            f'[stream.source]\nkind = "replay"\npath = "{self._bundles[0] / "golden.npz"}"\nspeed = {self._speed}\n'
            '[[stream.sink]]\nkind = "csv"\nfolder = "out"\n'
        )


def _twin(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle of the same network and another identity: its step says one word more about itself."""
    import onnx

    shutil.copytree(bundle.path, folder)
    model = onnx.load(folder / STEP)
    model.metadata_props.add(key="stunet.twin", value="yes")
    step = model.SerializeToString()
    (folder / STEP).write_bytes(step)
    manifest = bundle.manifest
    files = {**manifest.files, STEP: sha256(step)}
    altered = replace(manifest, bundle_id=manifest.identity(step), files=files)
    (folder / MANIFEST).write_text(altered.to_json())
    return folder


def _caught(pid: int) -> bool:
    """Return whether a process has its handlers: that of SIGHUP is the last one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    found = re.search(r"^SigCgt:\s*(\w+)", status, re.M)
    return found is None or bool(int(found[1], 16) >> (_HUP - 1) & 1)
