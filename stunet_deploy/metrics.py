"""Forecast errors over the cells that were really measured: MAE, WAPE, MAPE and RMSE for each horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stunet_deploy.errors import DataError

STGCN_EPSILON = 1e-5
"""The constant that STGCN adds to a label before it divides by it (protocol B)."""
SMALL = 0.05
"""A label below this share of the mean label is too near zero for a percentage of it to mean much."""
FEW = 0.01
"""MAPE is told where less than this share of the labels is small."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Errors per horizon and target, each ``[horizon, target]``; NaN where no cell counted."""

    mae: NDArray[np.float64]
    """Mean absolute error, in the target's unit."""
    wape: NDArray[np.float64]
    """Sum of absolute errors over the sum of absolute labels, in percent; NaN where all labels are 0."""
    mape: NDArray[np.float64]
    """Mean absolute percentage error, in percent."""
    rmse: NDArray[np.float64]
    """Root of the mean squared error, in the target's unit."""
    count: NDArray[np.int64]
    """Cells that counted."""


class ErrorSums:
    """Running sums of errors, so that a long evaluation needs no array of all its forecasts.

    Every cell weighs the same, however the forecasts come in pieces: the result is never a mean of means.

    Args:
        epsilon: added to the label under the fraction of MAPE. With 0 (DCRNN, protocol A) labels of 0 are
            left out of MAPE alone; STGCN and protocol B take :data:`STGCN_EPSILON`.
    """

    def __init__(self, epsilon: float = 0.0) -> None:
        self._epsilon = epsilon
        self._sums: NDArray[np.float64] | None = None

    def add(self, forecast: ArrayLike, label: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Add forecasts ``[issue, horizon, node, target]`` with their labels in physical units.

        Args:
            forecast: forecasts; one that is NaN makes its horizon's scores NaN rather than vanish.
            label: raw labels; where the mask is False they may hold anything.
            mask: which labels were measured; None takes :func:`label_mask` of the labels.

        Raises:
            DataError: the shapes differ.
        """
        predicted, actual = np.asarray(forecast, np.float64), np.asarray(label, np.float64)
        counted = label_mask(actual) if mask is None else np.asarray(mask, np.bool_)
        if predicted.ndim != 4 or not predicted.shape == actual.shape == counted.shape:
            raise DataError(
                f"forecast {predicted.shape}, label {actual.shape}, mask {counted.shape}",
                "three arrays of one shape [issue, horizon, node, target]",
                "cut them to the same issue times, horizons, sensors and targets",
            )
        actual = np.where(counted, actual, 0.0)
        absolute = np.where(counted, np.abs(predicted - actual), 0.0)
        divisor = np.abs(actual + self._epsilon)
        divisible = counted & (divisor > 0)
        relative = np.divide(absolute, divisor, out=np.zeros_like(absolute), where=divisible)
        cells = (absolute, absolute**2, relative, counted, divisible, np.abs(actual))
        sums = np.stack([cell.sum(axis=0, dtype=np.float64) for cell in cells])
        self._sums = sums if self._sums is None else self._sums + sums

    def scores(self, nodes: NDArray[np.bool_] | None = None) -> Scores:
        """The errors over everything added so far.

        Args:
            nodes: which sensors count for which target, ``[node, target]``; None for all.

        Raises:
            DataError: nothing was added.
        """
        if self._sums is None:
            raise DataError("no forecasts", "at least one forecast to score", "choose a longer test span")
        sums = self._sums if nodes is None else np.where(nodes, self._sums, 0)
        absolute, squared, relative, count, divisible, labels = sums.sum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 where no cell counted
            return Scores(
                mae=absolute / count,
                wape=np.where(labels > 0, 100.0 * absolute / labels, np.nan),
                mape=100.0 * relative / divisible,
                rmse=np.sqrt(squared / count),
                count=count.astype(np.int64),
            )


def score(forecast: ArrayLike, label: ArrayLike, mask: ArrayLike | None = None, *, epsilon: float = 0.0) -> Scores:
    """Errors of forecasts ``[issue, horizon, node, target]``; see :meth:`ErrorSums.add`."""
    sums = ErrorSums(epsilon)
    sums.add(forecast, label, mask)
    return sums.scores()


def scored_horizons(horizon: int) -> tuple[int, ...]:
    """The horizons that tables show, in intervals: a quarter, half and all of the reach (3, 6, 12 of 12)."""
    return tuple(sorted({math.ceil(horizon / 4), math.ceil(horizon / 2), horizon}))


def far_from_zero(label: ArrayLike, mask: ArrayLike) -> bool:
    """Return whether labels are so far from zero that MAPE, a mean of percentages of them, says something.

    A single label near zero makes a percentage of thousands, and then the mean is about it alone. Fewer than
    :data:`FEW` of the labels may be smaller than :data:`SMALL` of their mean, all without their signs.

    Args:
        label: raw labels of one target, of any shape.
        mask: which of them count; where none does, or all are 0, the answer is no.
    """
    sizes = np.abs(np.asarray(label, np.float64)[np.asarray(mask, np.bool_)])
    return bool(sizes.any()) and bool((sizes < SMALL * sizes.mean()).mean() < FEW)


def label_mask(label: ArrayLike) -> NDArray[np.bool_]:
    """Which raw labels count where no mask is known: finite and not 0, as DCRNN has it for METR-LA.

    Only labels in physical units tell: after z-scoring a missing 0 is a number like any other.
    """
    values = np.asarray(label)
    mask: NDArray[np.bool_] = np.isfinite(values) & (values != 0)
    return mask
