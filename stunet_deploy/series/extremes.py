"""The range that readings can have: what is a code for no data at its end, and what is beyond any reading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A code is repeated at least this often; a single wrong reading hardly is.
_REPEATED = 5
#: Recorders have few codes, as 2045 and 2046.
_CODES = 3
#: What has fewer values than this is no quantity with a range of its own.
_VALUES = 10
#: A code this many times as far from all else as all else is wide is one for certain.
_CERTAIN = 5
#: A reading this many times as far from the median as all but a thousandth of the readings is none. A crowd at the
#: doors of a stadium is ten times as large as any other; nothing is a hundred times.
_FAR = 100
#: Physical limits lie this factor beyond the credible extremes.
HEADROOM = 1.2
#: The share of the readings that says how far they go.
_BULK = 0.999
_SAMPLE = 4_000_000


@dataclass(frozen=True)
class Code:
    """A number at the end of the range of the readings that looks like a code for no data.

    Attributes:
        value: the number.
        count: how often it occurs among the readings that were looked at.
        nearest: the reading nearest to it that looks like one.
        certain: whether it is so far from all readings that it is none.
    """

    value: float
    count: int
    nearest: float
    certain: bool


def sampled(readings: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return at most some millions of readings, evenly spread."""
    return readings[:: readings.size // _SAMPLE + 1]


def find_codes(readings: NDArray[np.floating]) -> list[Code]:
    """Return the numbers that are repeated exactly and lie farther from all other readings than these from each other.

    Args:
        readings: of one feature, ``[reading]``, all of them observed.
    """
    values, counts = np.unique(readings, return_counts=True)
    return [*_at_the_top(values, counts), *_at_the_top(values[::-1], counts[::-1])]


def _at_the_top(values: NDArray[np.floating], counts: NDArray[np.int64]) -> list[Code]:
    """Return the codes at the last values, ordered towards them, ``[value]``."""
    for number in range(1, min(_CODES, len(values) - _VALUES) + 1):
        rest = values[:-number].astype(np.float64)
        apart, wide = abs(float(values[-number]) - rest[-1]), abs(rest[-1] - rest[0])
        if apart > wide and (counts[-number:] >= _REPEATED).all():
            found = zip(values[-number:].tolist(), counts[-number:].tolist(), strict=True)
            return [Code(value, count, float(rest[-1]), bool(apart > _CERTAIN * wide)) for value, count in found]
    return []


def credible_range(values: NDArray[np.float32], observed: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the smallest and the largest reading that is neither a code for certain nor far beyond every other.

    Far is what lies, from the median of its own sensor, a hundred times as far as 99.9 % of that sensor's readings, and
    of all sensors' readings. In a recording without such readings these are its minimum and its maximum.

    Args:
        values: of one feature, ``[time, node]``.
        observed: whether they were measured, ``[time, node]``; at least one was.
    """
    found = find_codes(sampled(values[observed]))
    codes = np.array([code.value for code in found if code.certain], np.float32)
    known = observed & ~np.isin(values, codes) if len(codes) else observed
    readings = values[known]
    low, high = float(readings.min()), float(readings.max())
    readings = sampled(readings)
    median = float(np.median(readings))
    spread = float(np.quantile(np.abs(readings - median), _BULK, method="lower"))
    if spread and max(high - median, median - low) > _FAR * spread:
        low, high = _range_by_sensor(values, known, spread)
    return low, high


def physical_limits(low: float, high: float) -> tuple[float, float]:
    """Return limits with room around credible extremes; negative readings are possible where there are some."""
    return (HEADROOM * low if low < 0 else 0.0), high + (HEADROOM - 1) * abs(high)


def _range_by_sensor(values: NDArray[np.float32], known: NDArray[np.bool_], spread: float) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for node in np.flatnonzero(known.any(axis=0)):
        own = values[known[:, node], node].astype(np.float64)
        median = np.median(own)
        far = _FAR * max(spread, float(np.quantile(np.abs(own - median), _BULK, method="lower")))
        credible = own[np.abs(own - median) <= far]
        low, high = min(low, credible.min()), max(high, credible.max())
    return float(low), float(high)
