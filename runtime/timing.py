"""The one timing harness: raw samples, percentiles without interpolation, ratios within one run."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import ConfigError

PERCENTILES = (90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class Samples:
    """Durations of repeated calls of one thing.

    Attributes:
        nanoseconds: [call] in the order of the calls.
    """

    nanoseconds: NDArray[np.int64]

    def percentile(self, percent: float) -> float | None:
        """Return a duration in microseconds that was measured, or None where n < 10 / (1 - p): too few to know."""
        # An integer comparison: 1 - 0.9 in floating point is not quite a tenth.
        if len(self.nanoseconds) * round(1000 - 10 * percent) < 10_000:
            return None
        return self._rank(percent)

    def _rank(self, percent: float) -> float:
        return float(np.percentile(self.nanoseconds, percent, method="inverted_cdf")) / 1000

    @property
    def median_us(self) -> float:
        """Median duration in microseconds."""
        return self._rank(50)

    def summary(self) -> dict[str, float | int | None]:
        """Return count, extremes, mean, percentiles and jitter (p99 - median), in microseconds."""
        tail = {f"p{percent:g}_us": self.percentile(percent) for percent in PERCENTILES}
        p99 = tail["p99_us"]
        return {
            "count": len(self.nanoseconds),
            "min_us": float(self.nanoseconds.min()) / 1000,
            "median_us": self.median_us,
            "mean_us": float(self.nanoseconds.mean()) / 1000,
            "max_us": float(self.nanoseconds.max()) / 1000,
            **tail,
            "jitter_us": None if p99 is None else p99 - self.median_us,
        }


def measure(call: Callable[[], object], *, warm_up: int, repeats: int) -> Samples:
    """Time a call again and again, one after the other.

    Args:
        call: what to time.
        warm_up: calls before the first that counts.
        repeats: calls that count.

    Raises:
        ConfigError: if there is nothing to measure.
    """
    return interleave({"call": call}, repeats, warm_up=warm_up)["call"]


def interleave(calls: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = 3) -> dict[str, Samples]:
    """Time several calls in turn, A B A B …, so that a slower minute of the machine meets all of them alike.

    Args:
        calls: what to time, by name.
        rounds: how often each is timed.
        warm_up: rounds before the first that counts.

    Raises:
        ConfigError: if there is nothing to measure.
    """
    if rounds < 1 or warm_up < 0 or not calls:
        raise ConfigError(
            f"{rounds} rounds of {len(calls)} calls after {warm_up}", "at least one", "ask for more rounds"
        )
    samples = {name: np.empty(rounds, np.int64) for name in calls}
    clock = time.perf_counter_ns
    for number in range(-warm_up, rounds):
        for name, call in calls.items():
            begin = clock()
            call()
            duration = clock() - begin
            if number >= 0:
                samples[name][number] = duration
    return {name: Samples(nanoseconds) for name, nanoseconds in samples.items()}


def paired_ratio(slower: Samples, faster: Samples) -> float:
    """Return the median over rounds of how many times longer ``slower`` took than ``faster`` in the same round.

    Raises:
        ConfigError: if the two were not timed in the same rounds.
    """
    if len(slower.nanoseconds) != len(faster.nanoseconds):
        raise ConfigError(
            f"{len(slower.nanoseconds)} and {len(faster.nanoseconds)} samples",
            "samples of the same rounds",
            "time both in one call of interleave",
        )
    # A clock too coarse for the call reads 0.
    return float(np.median(slower.nanoseconds / np.maximum(faster.nanoseconds, 1)))


def rss_mb() -> float | None:
    """Return the memory that this process holds (resident set) in MB of 10^6 bytes; None where it cannot be read."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def environment() -> dict[str, Any]:
    """Return the circumstances of a measurement: machine, clock governor, versions and the project's commit."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "governor": read_system_file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": installed_version("onnxruntime") or installed_version("onnxruntime-gpu"),
        "commit": _commit(),
    }


def _cpu_model() -> str:
    for line in (read_system_file("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_system_file(path: str | Path) -> str | None:
    """Return the text of a small file of the system, or None if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout that this file lies in, with a plus where it was changed since."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
