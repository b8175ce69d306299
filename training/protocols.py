"""Splits of DCRNN (protocol A) and STGCN (protocol B) into training, validation and test, and their normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.config import SplitChoice
from stunet_deploy.errors import ConfigError, DataError
from stunet_deploy.series.series import Series, runs
from stunet_deploy.series.wall_clock import DAY_S, local_times


@dataclass(frozen=True, eq=False)
class Split:
    """Issue times of training, validation and test, in order.

    A forecast issued at row t reads rows ``t - window + 1 … t`` and is scored on ``t + 1 … t + horizon``.
    """

    protocol: Literal["a", "b"]
    window: int
    """Intervals a forecast reads in the window regime."""
    horizon: int
    """Intervals a forecast reaches ahead."""
    train: NDArray[np.int64]
    """Issue rows of the training windows, ascending."""
    validation: NDArray[np.int64]
    """Issue rows of the validation windows, ascending."""
    test: NDArray[np.int64]
    """Issue rows that are scored, ascending."""
    train_rows: slice
    """Rows that training may look at: the inputs and labels of the training windows."""
    test_start: int
    """First row of the test span; a reference stream ends before it."""


def protocol_a(series: Series, window: int = 12, horizon: int = 12) -> Split:
    """Protocol A (DCRNN): windows over the whole series at stride 1, then 70/10/20 of the windows in order.

    The two outer shares are rounded as DCRNN's ``generate_training_data.py`` rounds them, the validation
    takes the rest: 34,272 rows give 23,974 / 3,425 / 6,850 windows. Windows across a break are left out.

    Source: Li et al., "Diffusion Convolutional Recurrent Neural Network" (2018), and its code.

    Raises:
        ConfigError: window or horizon below 1.
        DataError: the series is too short for one window in each span.
    """
    issue = _issue_rows(series.segments(), window, horizon)
    test = round(len(issue) * 0.2)
    train = round(len(issue) * 0.7)
    if min(train, test, len(issue) - train - test) < 1:
        raise DataError(
            f"{len(series.timestamps)} rows, {len(issue)} windows of {window} + {horizon}",
            "enough rows for training, validation and test windows",
            "give a longer recording",
        )
    last_test = len(issue) - test
    return Split(
        "a",
        window,
        horizon,
        train=issue[:train],
        validation=issue[train:last_test],
        test=issue[last_test:],
        train_rows=slice(int(issue[0]) - window + 1, int(issue[train - 1]) + horizon + 1),
        test_start=int(issue[last_test]) - window + 1,
    )


def protocol_b(series: Series, days: tuple[int, int, int] | None = None, window: int = 12, horizon: int = 12) -> Split:
    """Protocol B (STGCN): split by local day, windows within one day; 265 windows in a day of 288 intervals.

    Args:
        series: at best of whole days; a day too short for a window is left out.
        days: training, validation and test days in order; None means STGCN's 34 of 44 / 5 / 5 and the same
            shares of any other number of days (5 / 1 / 1 of a week).
        window: intervals a forecast reads.
        horizon: intervals a forecast reaches ahead.

    Source: Yu, Yin, Zhu, "Spatio-Temporal Graph Convolutional Networks" (2018), and its code.

    Raises:
        ConfigError: window or horizon below 1, or a span without days.
        DataError: the series has fewer days.
    """
    per_day = [rows for rows in _days(series) if rows.stop - rows.start >= window + horizon]
    if days is None:
        tail = max(1, round(len(per_day) * 5 / 44))
        days = (max(1, len(per_day) - 2 * tail), tail, tail)
    if min(days) < 1:
        raise ConfigError(f"days {days}", "at least one day in each span", "choose other days")
    if sum(days) > len(per_day):
        raise DataError(
            f"{len(per_day)} days long enough for a window of {window} + {horizon}",
            f"{sum(days)} days ({days[0]} training, {days[1]} validation, {days[2]} test)",
            "give a longer recording",
        )
    first, second, third = days[0], days[0] + days[1], sum(days)
    return Split(
        "b",
        window,
        horizon,
        train=_issue_rows(per_day[:first], window, horizon),
        validation=_issue_rows(per_day[first:second], window, horizon),
        test=_issue_rows(per_day[second:third], window, horizon),
        train_rows=slice(per_day[0].start, per_day[first - 1].stop),
        test_start=per_day[second].start,
    )


def choose_protocol(series: Series, name: SplitChoice = "auto", window: int = 12, horizon: int = 12) -> Split:
    """Return the split of a named protocol; ``auto`` takes B for recordings broken between days, otherwise A.

    A weekday recording such as PeMSD7 breaks from one midnight to another; B's windows stay within a day.

    Raises:
        ConfigError: an unknown name.
        DataError: the series is too short.
    """
    if name not in get_args(SplitChoice):
        raise ConfigError(f"protocol {name!r}", "auto, a or b", "choose one of them")
    if name == "auto":
        starts = [segment.start for segment in series.segments()[1:]]
        midnight = local_times(series.timestamps[starts], series.timezone) % DAY_S == 0
        name = "b" if starts and midnight.all() else "a"
    if name == "b":
        return protocol_b(series, window=window, horizon=horizon)
    return protocol_a(series, window, horizon)


def normalisation(
    series: Series, split: Split, *, literature: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation ``[feature]`` over the training windows, a row counted once per window.

    Protocol A takes the windows' inputs (DCRNN), protocol B inputs and labels (STGCN's window tensor).

    Args:
        series: the recording the split was made from.
        split: whose training windows count.
        literature: count unobserved cells as the zeros of the public files, as the papers do; otherwise
            only observed cells count.

    Raises:
        DataError: a feature was never observed in the training windows.
    """
    reach = split.horizon if split.protocol == "b" else 0
    edges = np.zeros(len(series.timestamps) + 1)
    np.add.at(edges, split.train - split.window + 1, 1)
    np.add.at(edges, split.train + reach + 1, -1)
    weight = np.cumsum(edges)[:-1]

    observed = np.ones_like(series.observed) if literature else series.observed
    values = np.where(series.observed, series.values, 0).astype(np.float64)
    cells = np.einsum("t,tnf->f", weight, observed.astype(np.float64))
    if (cells == 0).any():
        name = series.features[int(cells.argmin())]
        raise DataError(
            f"no reading of {name!r} in the training span", "readings to train on", "give a longer recording"
        )
    mean = np.einsum("t,tnf->f", weight, values) / cells
    deviation = values  # in its place: a recording may be large
    deviation -= mean
    deviation[~observed] = 0
    std = np.sqrt(np.einsum("t,tnf,tnf->f", weight, deviation, deviation) / cells)
    # A feature that never changes carries nothing; dividing by 1 keeps it finite.
    return mean, np.where(std > 0, std, 1.0)


def _issue_rows(runs: list[slice], window: int, horizon: int) -> NDArray[np.int64]:
    """Return the rows t whose window and horizon lie within one run of rows."""
    if window < 1 or horizon < 1:
        raise ConfigError(f"window {window} and horizon {horizon}", "at least one interval each", "choose longer ones")
    return np.concatenate(
        [np.arange(rows.start + window - 1, max(rows.start + window - 1, rows.stop - horizon)) for rows in runs]
    ).astype(np.int64)


def _days(series: Series) -> list[slice]:
    """Return the runs of consecutive intervals within one local day."""
    day = local_times(series.timestamps, series.timezone) // DAY_S
    return runs((np.diff(day) != 0) | (np.diff(series.timestamps) != series.interval_s))
