"""The memory of a week that a stream would have at any training row, without running through the week."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.models.memory import WeekMemory
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S, KINDS_OF_DAY, WORKING_DAYS, local_times
from training.usual_days import UsualDays


@dataclass(frozen=True)
class WeekBefore:
    """Mean departures by slot of the week, as they stood after every row; see :class:`WeekMemory`.

    For a chunk of a training day they are departures from that day's usual day, which holds neither the day itself nor
    the days that are looked up: as in operation, where the readings of those days are in no table. By how much the
    tables differ is taken as the mean over a slot, also where some of its readings miss.

    Attributes:
        model: whose memory it is.
        means: departures of the present slot so far from the table of all training days, normalised, after every row,
            [time, node, target].
        seen: the share of the slot's intervals so far that were observed, [time, node, target].
        day: of every row, counted from 1970, [time].
        changes: for every training day, the table of all training days minus the day's own, normalised, mean of each
            slot of the week, [slot, node, target].
        number: of the slot of every row, counted from the first row's, [time].
        last: the last row of every slot, -1 for one without, [slot].
        slot: of the week, of every row, [time].
    """

    model: STUNet
    means: Tensor
    seen: Tensor
    day: NDArray[np.int64]
    changes: Mapping[int, Tensor]
    number: NDArray[np.int64]
    last: NDArray[np.int64]
    slot: NDArray[np.int64]

    @classmethod
    def of(cls, model: STUNet, memory: WeekMemory, series: Series, days: UsualDays) -> WeekBefore:
        """Prepare a recording.

        Args:
            model: with a memory.
            memory: the model's.
            series: the recording.
            days: of its training span; a training row departs from a usual day that is made without it.
        """
        times = memory.times(torch.from_numpy(series.time_of_week()[:, None]))
        place, slot = times.place[:, 0].numpy(), times.slot[:, 0].numpy()
        number = local_times(series.timestamps, series.timezone) // int(memory.slot_s)
        number = np.maximum.accumulate(number - number[0])  # when clocks go back an hour comes twice
        scale = np.array(model.signal.target_scale, np.float32)
        departure = days.departures(days.table) / scale
        means, seen = (_so_far(array, place, slot) for array in (departure, days.observed.astype(np.float32)))
        changes = {
            int(day): torch.from_numpy(_by_slot(days.table - days.without(day), memory) / scale)
            for day in days.training
        }
        last = np.full(number[-1] + 1, -1)
        last[number] = np.arange(len(number))
        return cls(model, torch.from_numpy(means), torch.from_numpy(seen), days.day, changes, number, last, slot)

    def lines(
        self, first: Int64[Tensor, " batch"], remembers: Bool[Tensor, " batch"] | None = None
    ) -> dict[str, Tensor]:
        """Return the lines of the memory before the given rows; empty ones where nothing is remembered."""
        assert self.model.memory is not None
        slots = self.model.memory.slots
        before = first.cpu().numpy() - 1
        back = np.arange(slots)
        number = self.number[np.maximum(before, 0), None] - back
        row = np.where((number >= 0) & (before >= 0)[:, None], self.last[np.maximum(number, 0)], -1)
        row[:, 0] = before  # of the present slot, the rows so far
        if remembers is not None:
            row[~remembers.cpu().numpy()] = -1
        of_week = (self.slot[np.maximum(before, 0), None] - back) % slots
        known = torch.from_numpy(row >= 0)[..., None, None]
        at = torch.from_numpy(np.maximum(row, 0))
        found = self.means[at]
        for place, chunk in enumerate(first.tolist()):
            if (change := self.changes.get(int(self.day[chunk]))) is not None:
                found[place] += self.seen[at[place]] * change[torch.from_numpy(of_week[place])]
        found = torch.where(known, found, 0.0)
        ordered = torch.from_numpy(np.argsort(of_week, axis=1))
        by_slot = torch.gather(found, 1, ordered[..., None, None].expand_as(found)).movedim(1, -1)
        known_by_slot = torch.gather(known[..., 0, 0].to(found.dtype), 1, ordered)
        return self.model.week_lines(by_slot.to(first.device), known_by_slot.to(first.device))


def _so_far(rows: NDArray[np.float32], place: NDArray[np.float32], slot: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of the present slot's intervals up to every row, [time, node, target]; those missing count as 0.

    Args:
        rows: [time, node, target].
        place: of every row within its slot, in intervals.
        slot: of the week, of every row.
    """
    means = rows.copy()
    for row in range(1, len(means)):
        if place[row] > 0 and slot[row] == slot[row - 1]:
            means[row] = means[row - 1] + (means[row] - means[row - 1]) / (place[row] + 1)
        elif place[row] > 0:
            means[row] /= place[row] + 1
    return means


def _by_slot(table: NDArray[np.float32], memory: WeekMemory) -> NDArray[np.float32]:
    """Return the mean of a table [time of a day of each kind, node, target] in every slot of the week."""
    per_day = len(table) // KINDS_OF_DAY
    seconds = np.arange(7 * per_day) * (DAY_S / per_day)
    kind = seconds >= WORKING_DAYS * DAY_S
    slot = np.minimum(seconds // memory.slot_s, memory.slots - 1).astype(int)
    rows = table[np.arange(7 * per_day) % per_day + per_day * kind]
    sums = np.zeros((memory.slots, *table.shape[1:]), np.float32)
    np.add.at(sums, slot, rows)
    counts = np.maximum(np.bincount(slot, minlength=memory.slots), 1)
    return (sums / counts[:, None, None]).astype(np.float32)
