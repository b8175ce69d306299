"""A month in fast forward: a service whose clock is driven by what it is sent, while its surroundings come and go.

Once one process lives all the time: single readings come, the broker is away for a while each day, and every other day
another bundle of the network is taken over and back. Once the service is restarted or killed each day, too. Every
forecast must be that of an uninterrupted run, to the last bit. The process that lives all the time may keep neither
memory, nor descriptors, nor threads: judged is how far the least memory of each day moves after the first days, in
which it fills its history of a day.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from benchmarks.faults.driven import PATIENCE_S
from benchmarks.faults.network import Mode
from benchmarks.faults.roadside import Roadside
from benchmarks.faults.table import Row
from stunet_deploy.bundle import Bundle

MOST_MB = 2.0
WARM_UP = 3  # days
FEWEST = 3 * WARM_UP  # days; fewer are no measurement of memory
_EVERY = 12  # intervals between two snapshots: a window, so that a new bundle is warm
_AWAY = 6  # most intervals that are sent while the broker or the service is away
_LONGEST_RELOAD = 2000  # intervals until a bundle must have been taken over
_HOUR_S = 3600
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def month(bundle: Bundle, other: Bundle | None, days: float, rng: np.random.Generator) -> Iterator[Row]:
    """Let so many days pass, once with one process and once with many.

    Args:
        bundle: the model.
        other: another one of the same network; without it, none is taken over.
        days: how many.
        rng: of every choice.
    """
    name = f"{days:g} days in fast forward"
    if shutil.which("mosquitto") is None:
        yield Row(name, 0, [], "", skipped="mosquitto is not installed")
        return
    bundles = [bundle] if other is None else [bundle, other]
    yield passed(f"{name}, one process", days, bundles, "window", rng, single=True, restarts=False)
    yield passed(f"{name}, restarts", days, [bundle], "carry", rng, single=False, restarts=True)


def passed(
    name: str, days: float, bundles: list[Bundle], mode: Mode, rng: np.random.Generator, *, single: bool, restarts: bool
) -> Row:
    """Let so many days pass for a service; return the row."""
    failures, least = [], []
    with tempfile.TemporaryDirectory() as scratch:
        roadside = Roadside(Path(scratch), bundles, mode, single=single, every=_EVERY)
        around = Surroundings(roadside, bundles, rng)
        hours = max(1, round(24 * days))
        try:
            for day, first in enumerate(range(0, hours, 24)):
                least.append(around.day(day, min(24, hours - first), restarts=restarts))
                print(f"  day {day + 1}: {least[-1][0]:.2f} MB", file=sys.stderr, flush=True)
        except (TimeoutError, OSError) as error:
            failures.append(f"broken off on day {len(least) + 1}: {type(error).__name__}: {error}")
        failures += roadside.judge()
        seen = ", ".join(f"{what} {number} times" for what, number in around.done.items() if number)
        seen += f"; {len(roadside.feed.expected):,} forecasts, copies by QoS 1: {roadside.copies}"
        roadside.close()
    if not restarts and len(least) >= FEWEST:
        memory, descriptors, threads = np.array(least[WARM_UP:]).T
        seen += f"; memory within {np.ptp(memory):.2f} MB, {memory[-1]:.1f} at last"
        if np.ptp(memory) > MOST_MB:
            failures.append(f"memory moved by {np.ptp(memory):.2f} MB after {WARM_UP} days")
        for what, counts in (("descriptors", descriptors), ("threads", threads)):
            if counts.max() > counts[0]:
                failures.append(f"{counts.max():.0f} {what} instead of {counts[0]:.0f}")
    return Row(name, around.done.total(), failures, seen, data={"least_of_each_day": least})


class Surroundings:
    """What happens around a service.

    Args:
        roadside: with the service.
        bundles: models that take over from one another.
        rng: of every choice.

    Attributes:
        done: how often what has happened.
    """

    def __init__(self, roadside: Roadside, bundles: list[Bundle], rng: np.random.Generator) -> None:
        self.done = Counter[str]()
        self._roadside = roadside
        self._bundles = bundles
        self._rng = rng
        self._per_hour = _HOUR_S // bundles[0].manifest.interval_s

    def day(self, number: int, hours: int, *, restarts: bool) -> tuple[float, int, int]:
        """Let a day pass, or some hours of one; return the least memory in MB, descriptors and threads.

        Raises:
            TimeoutError, OSError: if the service does not go on.
        """
        happens = [self._lose_broker]
        if restarts:
            happens.append(self._restart)
        elif number % 2 == 0 and len(self._bundles) > 1:
            happens.append(self._reload)
        when = self._rng.integers(hours, size=len(happens))
        samples = []
        for hour in range(hours):
            for moment, happen in zip(when, happens, strict=True):
                if moment == hour:
                    happen()
            self._roadside.run(self._per_hour)
            self._look()
            samples.append(_sample(self._roadside.service.pid))
        memory, descriptors, threads = zip(*samples, strict=True)
        return min(memory), min(descriptors), min(threads)

    def _lose_broker(self) -> None:
        self.done["broker away"] += 1
        self._roadside.stop_broker()
        self._roadside.go_on(int(self._rng.integers(1, _AWAY + 1)))
        self._roadside.broker.start()

    def _restart(self) -> None:
        service = self._roadside.service
        if self._rng.random() < 0.5:
            self.done["killed"] += 1
            service.kill()
        else:
            self.done["stopped"] += 1
            code = service.stop()
            if code:
                raise OSError(f"exit code {code}")
        self._roadside.go_on(int(self._rng.integers(_AWAY + 1)))
        service.start()

    def _reload(self) -> None:
        """Let the service take over the bundle that it does not run, while intervals come."""
        self.done["other bundle"] += 1
        wanted = self._bundles[self.done["other bundle"] % len(self._bundles)]
        self._roadside.configure(wanted)
        self._roadside.service.reload()
        for _ in range(_LONGEST_RELOAD):
            self._roadside.run(1)
            if self._roadside.service.status()["bundle_id"] == wanted.manifest.bundle_id:
                return
        raise TimeoutError(f"the bundle is not taken: {self._roadside.service.log[-500:]}")

    def _look(self) -> None:
        """Look at the status page as a person and a monitor do."""
        for path in ("", "api/streams", "api/values", "metrics"):
            with urlopen(self._roadside.service.status()["url"] + path, timeout=PATIENCE_S) as answer:
                answer.read()


def _sample(pid: int) -> tuple[float, int, int]:
    """Return the resident memory of a process in MB, its descriptors and its threads."""
    process = Path(f"/proc/{pid}")
    memory = int((process / "statm").read_text().split()[1]) * _PAGE_MB
    return memory, len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))
