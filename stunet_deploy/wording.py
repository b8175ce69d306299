"""Numbers as people read them: errors of any size, shares, and spans from minutes to weeks."""

from __future__ import annotations

import math
import struct
from decimal import Decimal


def in_figures(number: float, decimals: int = 2) -> str:
    """Return a number of any size: with so many decimals from 1 on, and with one significant figure more below.

    A share of 0.0123 or an amount of 1e-7 would be 0.01 and 0.00 otherwise.
    """
    if not math.isfinite(number) or number == 0 or abs(number) >= 1:
        return f"{number:.{decimals}f}"
    return f"{number:#.{decimals + 1}g}"


def exactly(number: float) -> str:
    """Return the shortest decimal, without an exponent, that is this very number as a reading is kept (float32)."""
    for digits in range(1, 10):
        text = f"{number:.{digits}g}"
        if struct.pack("<f", float(text)) == struct.pack("<f", number):
            return f"{Decimal(text):f}"
    return f"{Decimal(repr(number)):f}"


def span_in_words(minutes: float) -> str:
    """Return a span in the largest unit of which it is a whole number, from six hours on: 90 min, 6 h, 3 d."""
    for of_unit, unit, least in ((24 * 60, "d", 1), (60, "h", 6)):
        if minutes >= least * of_unit and minutes % of_unit == 0:
            return f"{minutes / of_unit:g} {unit}"
    return f"{minutes:g} min"


def about(minutes: float) -> str:
    """Return a span of any length in three figures: 45 min, 26.1 h, 12.5 d."""
    if minutes < 60:
        return f"{minutes:.3g} min"
    return f"{minutes / 60:.3g} h" if minutes < 72 * 60 else f"{minutes / 24 / 60:.3g} d"


def in_share(share: float) -> str:
    """Return a share in percent that says none only of nothing."""
    if not share:
        return "none"
    return "under 0.1 %" if share < 0.001 else f"{share * 100:.1f} %"
