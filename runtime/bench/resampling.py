"""How sure a percentile is, and whether two runs differ: blocks of consecutive samples, drawn again and again.

Neighbouring forecasts take alike (a slow second of the machine slows them all), so samples are drawn in blocks; drawn
one by one they would seem to know more than they do (Künsch 1989, "The jackknife and the bootstrap for general
stationary observations").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.timing import Samples
from stunet_deploy.errors import DataError

#: Share of drawn percentiles that an interval beside a percentile holds.
CONFIDENCE = 0.95
#: Probability that a comparison of two alike runs finds no difference in any of its percentiles.
AGREEMENT = 0.99
REPETITIONS = 1000
COMPARED = (50.0, 99.0)
_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Difference:
    """One percentile of two runs.

    Attributes:
        case: what ran: backend, precision and threads.
        loop: ``closed_loop`` or ``open_loop``.
        percent: which percentile.
        a_us, b_us: in the two runs, in microseconds.
        low_us, high_us: interval of b - a.
    """

    case: str
    loop: str
    percent: float
    a_us: float
    b_us: float
    low_us: float
    high_us: float

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out zero."""
        return not self.low_us <= 0 <= self.high_us

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON."""
        return {**vars(self), "ratio": self.b_us / self.a_us, "differs": self.differs}


def block_length(count: int) -> int:
    """Return how many consecutive samples are drawn together: the square root of how many there are."""
    return max(1, math.isqrt(count))


def draw_blocks(count: int, repetitions: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices [repetition, sample] of samples drawn in blocks; after the end they go on at the beginning."""
    length = block_length(count)
    starts = rng.integers(0, count, (repetitions, -(-count // length), 1))
    drawn: NDArray[np.int64] = (starts + np.arange(length)).reshape(repetitions, -1)[:, :count] % count
    return drawn


def drawn_percentiles(
    runs: Sequence[NDArray[np.int64]], percents: Sequence[float], rng: np.random.Generator, repetitions: int
) -> list[NDArray[np.float64]]:
    """Return percentiles [repetition, percent] of samples drawn from each run, in microseconds, not interpolated.

    Runs of one length get the same draws: the forecast of an interval is compared with that of the same interval.
    """
    found: list[list[NDArray[np.int64]]] = [[] for _ in runs]
    longest = max(len(run) for run in runs)
    at_once = max(1, _VALUES_AT_ONCE // longest)
    for begin in range(0, repetitions, at_once):
        drawn: dict[int, NDArray[np.int64]] = {}
        for run, kept in zip(runs, found, strict=True):
            if len(run) not in drawn:
                drawn[len(run)] = draw_blocks(len(run), min(at_once, repetitions - begin), rng)
            # The rank that "inverted_cdf" takes: of the first value below which there are so many percent.
            ranks = [max(0, -(-round(len(run) * 10 * percent) // 1000) - 1) for percent in percents]
            kept.append(np.partition(run[drawn[len(run)]], ranks, axis=1)[:, ranks])
    return [np.concatenate(kept) / 1000 for kept in found]


def percentile_intervals(
    samples: Samples, percents: Sequence[float], rng: np.random.Generator, repetitions: int = REPETITIONS
) -> dict[float, tuple[float, float] | None]:
    """Return the interval of each percentile in microseconds, None where there are too few samples to know it."""
    known = [percent for percent in percents if samples.percentile(percent) is not None]
    intervals: dict[float, tuple[float, float] | None] = dict.fromkeys(percents)
    if known:
        (drawn,) = drawn_percentiles([samples.nanoseconds], known, rng, repetitions)
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(drawn, [tail, 100 - tail], axis=0, method="inverted_cdf")
        intervals |= {percent: (float(low[i]), float(high[i])) for i, percent in enumerate(known)}
    return intervals


def compare_samples(
    a: Mapping[tuple[str, str], Samples],
    b: Mapping[tuple[str, str], Samples],
    rng: np.random.Generator,
    repetitions: int = REPETITIONS,
) -> list[Difference]:
    """Compare the median and the 99th percentile of everything that two runs both measured.

    All intervals hold at once with the probability :data:`AGREEMENT`: the more is compared, the wider they are.

    Args:
        a, b: samples by (case, loop).
        rng: draws the blocks.
        repetitions: how often.

    Raises:
        DataError: if the two have no case and loop in common, or too few samples.
    """
    pairs = [
        (key, [percent for percent in COMPARED if None not in (a[key].percentile(percent), b[key].percentile(percent))])
        for key in a
        if key in b
    ]
    tests = sum(len(percents) for _, percents in pairs)
    if tests == 0:
        raise DataError(
            f"runs of {_cases(a)} and of {_cases(b)}",
            "runs that have a backend, precision and number of threads in common, with at least 20 forecasts each",
            "measure both with the same options",
        )
    # A tail as thin as this takes more repetitions to draw than to know by their standard deviation.
    widths = NormalDist().inv_cdf(1 - (1 - AGREEMENT) / (2 * tests))
    differences = []
    for (case, loop), percents in pairs:
        if not percents:
            continue
        one, other = a[case, loop], b[case, loop]
        drawn_a, drawn_b = drawn_percentiles([one.nanoseconds, other.nanoseconds], percents, rng, repetitions)
        margins = widths * np.std(drawn_b - drawn_a, axis=0)
        for percent, margin in zip(percents, margins.tolist(), strict=True):
            a_us, b_us = (float(samples.percentile(percent) or 0.0) for samples in (one, other))
            differences.append(Difference(case, loop, percent, a_us, b_us, b_us - a_us - margin, b_us - a_us + margin))
    return differences


def _cases(samples: Mapping[tuple[str, str], Samples]) -> str:
    return ", ".join(sorted({case for case, _ in samples})) or "nothing"
