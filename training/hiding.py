"""Evaluation with hidden readings: forecasts scored at all sensors against the true values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.errors import ConfigError
from stunet_deploy.series.series import Series
from training.evaluation import Predictor, Regime, Result, evaluate
from training.protocols import Split

_HOUR_S = 3600


def hide(
    series: Series,
    share: float,
    generator: np.random.Generator,
    *,
    block_hours: float | None = None,
    first_row: int = 0,
) -> Series:
    """Return the series with a share of its readings hidden: unobserved, and 0 underneath.

    Generators of one seed hide nested sets: the readings hidden at a share of 0.1 are also hidden at 0.3.

    Args:
        series: the recording; it is not changed.
        share: of the readings from ``first_row`` on, in [0, 1); readings before it stay.
        generator: which readings.
        block_hours: None hides single readings, exactly the share of the observed ones. A number hides whole sensors,
            all features, for that many hours at a time: each sensor's time is cut into blocks from a random offset, and
            the share of all blocks is hidden. Neighbouring blocks make longer outages.
        first_row: first row that may be hidden.

    Raises:
        ConfigError: if the share is out of range, or a block is shorter than an interval.
    """
    _check(series, share, block_hours)
    observed = series.observed.copy()
    span = observed[first_row:]
    if block_hours is None:
        cells = np.flatnonzero(span)
        span.flat[generator.permutation(cells)[: round(share * len(cells))]] = False
    else:
        span &= ~_blocks(series.timestamps[first_row:], span.shape[1], share, round(block_hours * _HOUR_S), generator)
    return replace(series, observed=observed, values=np.where(observed, series.values, np.float32(0)))


def evaluate_hidden(
    series: Series,
    split: Split,
    predictors: Callable[[Series], Iterable[Predictor]],
    shares: Sequence[float],
    *,
    targets: Sequence[str] | None = None,
    regimes: Sequence[Regime] = ("window", "stream"),
    block_hours: float | None = None,
    seed: int = 0,
) -> list[Result]:
    """Score predictors that see only part of the readings, at every sensor, against the whole recording.

    Readings are hidden from the end of the training span on: the baselines are fitted on all of it.

    Args:
        series, split: the recording and its split.
        predictors: makes the predictors from the series with hidden readings.
        shares: of the readings that are hidden, a set of results for each; 0 hides nothing.
        targets, regimes: see :func:`training.evaluation.evaluate`.
        block_hours: see :func:`hide`.
        seed: of the choice of hidden readings.

    Raises:
        ConfigError, DataError: see :func:`hide` and :func:`training.evaluation.evaluate`.
    """
    if seed < 0:
        raise ConfigError(f"seed {seed}", "0 or more", "choose another seed")
    for share in shares:  # before hours of scoring
        _check(series, share, block_hours)
    first_row = min(split.train_rows.stop, split.test_start)
    results = []
    for share in shares:
        generator = np.random.default_rng(seed)
        seen = hide(series, share, generator, block_hours=block_hours, first_row=first_row)
        scored = evaluate(series, split, predictors(seen), targets=targets, regimes=regimes, inputs=seen)
        results += [replace(result, hidden=share) for result in scored]
    return results


def _check(series: Series, share: float, block_hours: float | None) -> None:
    if not 0 <= share < 1:
        raise ConfigError(f"a hidden share of {share:g}", "a share in [0, 1)", "choose shares such as 0.1 0.3 0.5")
    if block_hours is not None and not series.interval_s <= block_hours * _HOUR_S < np.inf:
        raise ConfigError(
            f"blocks of {block_hours:g} hours", f"at least one interval of {series.interval_s} s", "choose longer ones"
        )


def _blocks(
    timestamps: NDArray[np.int64], nodes: int, share: float, block_s: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a mask of the silent sensors, ``[time, node, 1]``."""
    offset = generator.integers(block_s, size=nodes)
    block = (timestamps[:, None] - timestamps[0] + offset) // block_s
    # Only blocks that hold an interval count: a recording may break between days.
    used, index = np.unique(np.arange(nodes) * (block.max() + 1) + block, return_inverse=True)
    rank = generator.permutation(len(used))
    return (rank < round(share * len(used)))[index.reshape(block.shape)][..., None]
