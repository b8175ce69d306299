"""What a model without a state may know of a sensor at an issue row: the rows of a table for boosted trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stunet_deploy.graph.adjacency import Adjacency
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S, WEEK_S
from training.protocols import Split
from training.usual_days import UsualDays

#: A sensor is a number (a category), or described by quantiles of its training readings.
SensorForm = Literal["number", "quantiles"]
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
#: Intervals over which departures from the usual day are averaged, beside a quarter of a day. Not a day: the usual day
#: of yesterday's training rows holds a part of today's later ones.
SPANS = (1, 3, 12)

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """One target of a recording, by cells: a cell is a sensor at an issue row.

    Attributes:
        readings, departures: from the usual day, NaN where unobserved, [time, node].
        usual: the usual reading of every row, [time, node].
        present: the departure of the last reading up to every row, [time, node].
        share: of the present departure that is left at every horizon, [horizon].
        state: further features of every row, made of it and of earlier ones, [time, node, feature].
        quantiles: of a sensor's training readings, NaN without any, [node, quantile].
        timestamps, time_of_week: of every row, in seconds, [time].
        window: number of last readings that are features.
        interval_s: of the recording.
    """

    readings: Floats
    departures: Floats
    usual: Floats
    present: Floats
    share: Floats
    state: Floats
    quantiles: Floats
    timestamps: Rows
    time_of_week: Floats
    window: int
    interval_s: int

    @classmethod
    def of(
        cls, series: Series, split: Split, targets: Sequence[str] | None = None, adjacency: Adjacency | None = None
    ) -> list[Cells]:
        """Prepare every target of a recording.

        Args:
            series: the recording.
            split: usual days, shares and quantiles are made of its training rows.
            targets: features to forecast; None means all.
            adjacency: the departures of neighbours along its edges and against them are features; None for no such.

        Raises:
            DataError: a target is no feature of the series.
        """
        days = UsualDays.of(series, split.train_rows, targets)
        shares, present, time_of_week = days.damping(split), days.present(), series.time_of_week()
        spans = (*SPANS, max(1, DAY_S // 4 // series.interval_s))
        found = []
        for place, column in enumerate(series.site.feature_indices(targets)):
            observed, departure = series.observed[..., column], days.departure[..., place]
            readings = np.where(observed, series.values[..., column], np.float32(np.nan))
            others = [other for other in range(len(series.features)) if other != column]
            state = [
                _age(observed),
                *(_average(departure, observed, span) for span in spans),
                *(_around(departure, observed, span, adjacency) for span in SPANS),
                *(_average(series.values[..., other], series.observed[..., other], span)
                  for other in others for span in SPANS),
            ]  # fmt: skip
            found.append(
                cls(
                    readings,
                    np.where(observed, departure, np.float32(np.nan)),
                    days.of_row[..., place],
                    present[..., place],
                    shares[:, 0, place],
                    np.concatenate([part.reshape(*observed.shape, -1) for part in state], axis=-1),
                    _quantiles(readings[split.train_rows]),
                    series.timestamps,
                    time_of_week,
                    split.window,
                    series.interval_s,
                )
            )
        return found

    def start(self, rows: Rows, nodes: Rows, ahead: int) -> Floats:
        """Return the damped departure at a horizon, which the trees correct, [cell].

        Args:
            rows, nodes: issue row and sensor of every cell, [cell].
            ahead: the horizon, in intervals.
        """
        return np.asarray(self.usual[rows + ahead, nodes] + self.share[ahead - 1] * self.present[rows, nodes])

    def features(self, rows: Rows, nodes: Rows, ahead: int, sensor: SensorForm) -> Floats:
        """Return the table [cell, feature] of a horizon; a sensor's number, where it is one, is the first column.

        Args:
            rows, nodes, ahead: as in :meth:`start`.
            sensor: what tells the sensors apart.
        """
        back = rows[:, None] - np.arange(self.window)
        inside = back >= 0
        back = np.maximum(back, 0)
        usual = self.usual[rows + ahead, nodes]
        who = nodes[:, None] if sensor == "number" else self.quantiles[nodes]
        columns = [
            who.astype(np.float32),
            np.where(inside, self.readings[back, nodes[:, None]], np.float32(np.nan)),
            np.where(inside, self.departures[back, nodes[:, None]], np.float32(np.nan)),
            self.present[rows, nodes][:, None],
            self.usual[rows, nodes][:, None],
            usual[:, None],
            self._earlier(rows, nodes, ahead, DAY_S) - usual[:, None],
            self._earlier(rows, nodes, ahead, WEEK_S) - usual[:, None],
            (self.time_of_week[rows + ahead] % DAY_S)[:, None],
            (self.time_of_week[rows + ahead] // DAY_S)[:, None],
            self.state[rows, nodes],
        ]
        return np.concatenate(columns, axis=1)

    def _earlier(self, rows: Rows, nodes: Rows, ahead: int, before_s: int) -> Floats:
        """Return the readings around the time that is forecast a day or a week before, NaN without them, [cell, 3]."""
        times = self.timestamps[rows + ahead, None] - before_s + self.interval_s * np.arange(-1, 2)
        place = np.searchsorted(self.timestamps, times)
        # With a horizon as long as a day the same time of yesterday has not come yet.
        known = (self.timestamps[place] == times) & (place <= rows[:, None])
        return np.where(known, self.readings[place, nodes[:, None]], np.float32(np.nan))


def _age(observed: NDArray[np.bool_]) -> Floats:
    """Return the number of intervals since the last reading, NaN before the first, [time, node]."""
    row = np.arange(len(observed))[:, None]
    last = np.maximum.accumulate(np.where(observed, row, -1), axis=0)
    return np.where(last < 0, np.nan, row - last).astype(np.float32)


def _sums(values: Floats, observed: NDArray[np.bool_], span: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and the number of the readings of the last ``span`` rows, [time, node] each."""
    sums = []
    for array in (np.where(observed, values, 0), observed):
        running = np.cumsum(array, axis=0, dtype=np.float64)
        running[span:] -= running[:-span].copy()
        sums.append(running)
    return sums[0], sums[1]


def _average(values: Floats, observed: NDArray[np.bool_], span: int) -> Floats:
    """Return the mean reading of the last ``span`` rows, NaN without any, [time, node]."""
    return _ratio(*_sums(values, observed, span))


def _around(departure: Floats, observed: NDArray[np.bool_], span: int, adjacency: Adjacency | None) -> Floats:
    """Return mean departures of the last ``span`` rows: of all sensors and of the neighbours, [time, node, mean]."""
    total, count = _sums(departure, observed, span)
    everywhere = _ratio(total.sum(axis=1), count.sum(axis=1))
    means = [np.repeat(everywhere[:, None], observed.shape[1], axis=1)]
    if adjacency is not None:
        from scipy import sparse  # where the trees are, it is too; the room's other files do without

        edges = (adjacency.weight, (adjacency.source, adjacency.target))
        weights = sparse.csr_array(edges, shape=(len(adjacency), len(adjacency)))
        means += [_ratio((matrix @ total.T).T, (matrix @ count.T).T) for matrix in (weights, weights.T)]
    return np.stack(means, axis=-1)


def _ratio(total: NDArray[np.float64], count: NDArray[np.float64]) -> Floats:
    mean = np.full(total.shape, np.nan, np.float32)
    np.divide(total, count, out=mean, where=count > 0, casting="unsafe")
    return mean


def _quantiles(readings: Floats) -> Floats:
    """Return the quantiles of every sensor's readings, NaN for a sensor without any, [node, quantile]."""
    found = np.full((readings.shape[1], len(QUANTILES)), np.nan, np.float32)
    seen = ~np.isnan(readings).all(axis=0)
    found[seen] = np.nanquantile(readings[:, seen], QUANTILES, axis=0).T
    return found
