"""Numbers as people read them: errors of any size, and spans from minutes to weeks."""

from __future__ import annotations

import math


def in_figures(number: float, decimals: int = 2) -> str:
    """Return a number of any size: with so many decimals from 1 on, and with one significant figure more below.

    A share of 0.0123 or an amount of 1e-7 would be 0.01 and 0.00 otherwise.
    """
    if not math.isfinite(number) or number == 0 or abs(number) >= 1:
        return f"{number:.{decimals}f}"
    return f"{number:#.{decimals + 1}g}"


def span_in_words(minutes: float) -> str:
    """Return a span in the largest unit of which it is a whole number, from six hours on: 90 min, 6 h, 3 d."""
    for of_unit, unit, least in ((24 * 60, "d", 1), (60, "h", 6)):
        if minutes >= least * of_unit and minutes % of_unit == 0:
            return f"{minutes / of_unit:g} {unit}"
    return f"{minutes:g} min"
