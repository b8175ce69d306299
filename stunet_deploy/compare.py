"""A comparison of two recorded forecasts: a value that is true when it passes and says by how much, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stunet_deploy.errors import DataError


@dataclass(frozen=True)
class Comparison:
    """How far one array [interval, ...] is from another; true when the largest difference is within the tolerance.

    Attributes:
        intervals: number of intervals compared.
        max_abs_error: largest absolute difference; infinite where a number is not finite.
        mean_abs_error: mean absolute difference.
        tolerance: largest difference that passes.
        worst: index of the largest difference.
        block_max, block_mean: largest and mean difference in consecutive blocks of intervals, so that growth shows.
    """

    intervals: int
    max_abs_error: float
    mean_abs_error: float
    tolerance: float
    worst: tuple[int, ...]
    block_max: tuple[float, ...]
    block_mean: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether the largest difference is within the tolerance."""
        return self.max_abs_error <= self.tolerance

    def __bool__(self) -> bool:
        return self.passed

    @property
    def severity(self) -> float:
        """Largest difference as a multiple of the tolerance: up to 1 it passes."""
        if self.tolerance > 0:
            return self.max_abs_error / self.tolerance
        return math.inf if self.max_abs_error > 0 else 0.0

    @property
    def growth(self) -> float:
        """Mean difference in the second half of the blocks over that in the first; about 1 without drift."""
        half = len(self.block_mean) // 2
        if half == 0:
            return 1.0
        early, late = sum(self.block_mean[:half]) / half, sum(self.block_mean[-half:]) / half
        if early == late:
            return 1.0
        return late / early if early > 0 else math.inf


def compare(found: ArrayLike, expected: ArrayLike, tolerance: float, *, blocks: int = 10) -> Comparison:
    """Compare two arrays [interval, ...] in float64.

    Args:
        found: what was computed.
        expected: the reference.
        tolerance: largest absolute difference that passes, in the arrays' unit.
        blocks: number of consecutive blocks for the course over time; fewer where there are fewer intervals.

    Raises:
        DataError: if the shapes differ or there is nothing to compare.
    """
    left, right = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if left.shape != right.shape or left.size == 0:
        raise DataError(
            f"forecasts of shape {list(left.shape)} against {list(right.shape)}",
            "two arrays of one shape, not empty",
            "compare the same intervals of the same model",
        )
    with np.errstate(invalid="ignore"):
        error = np.abs(left - right)
    error[~np.isfinite(error)] = np.inf
    parts = np.array_split(error, min(blocks, len(error)))
    return Comparison(
        intervals=len(error),
        max_abs_error=float(error.max()),
        mean_abs_error=float(error.mean()),
        tolerance=float(tolerance),
        worst=tuple(int(index) for index in np.unravel_index(error.argmax(), error.shape)),
        block_max=tuple(float(part.max()) for part in parts),
        block_mean=tuple(float(part.mean()) for part in parts),
    )


def json_number(number: float) -> float | None:
    """Return a number that JSON can hold: None in place of NaN and infinities."""
    return number if math.isfinite(number) else None


def course(comparison: Comparison) -> dict[str, Any]:
    """Return the course of the difference over time as JSON."""
    return {
        "max": [json_number(error) for error in comparison.block_max],
        "mean": [json_number(error) for error in comparison.block_mean],
        "growth": json_number(comparison.growth),
    }
