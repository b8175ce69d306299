"""What a stream would look up in its memory of the week at any training row, without running through the week."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.config import Signal
from stunet_deploy.models.memory import Looked, WeekMemory
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import DAY_S, KINDS_OF_DAY, WORKING_DAYS
from training.usual_days import UsualDays


@dataclass(frozen=True)
class WeekBefore:
    """Mean departures by slot of the week, as they stood after every row; see :class:`WeekMemory`.

    On a training day they are departures from that day's usual day, which holds neither the day itself nor the days
    that are looked up: as in operation, where the readings of those days are in no table. By how much the tables differ
    is taken as the mean over a slot, also where some of its readings miss.

    Attributes:
        memory: of the model.
        means: departures of the present slot so far from the table of all training days, normalised, after every row,
            [time, node, target].
        seen: the share of the slot's intervals so far that were observed, [time, node, target].
        day: of every row, counted from 1970, [time].
        changes: for every training day, the table of all training days minus the day's own, normalised, mean of each
            slot of the week, [slot, node, target].
        time_of_week: of every row, in seconds, [time].
        ends: last rows of all occurrences of a slot so far, as slot · time + row, ascending, [occurrence].
        begins: their first rows, [occurrence].
    """

    memory: WeekMemory
    means: Tensor
    seen: Tensor
    day: NDArray[np.int64]
    changes: Mapping[int, Tensor]
    time_of_week: Tensor
    ends: NDArray[np.int64]
    begins: NDArray[np.int64]

    @classmethod
    def of(cls, memory: WeekMemory, signal: Signal, series: Series, days: UsualDays) -> WeekBefore:
        """Prepare a recording.

        Args:
            memory: of the model.
            signal: normalises.
            series: the recording.
            days: of its training span, made without the days that the memory looks up.
        """
        time_of_week = torch.from_numpy(series.time_of_week()).float()[:, None]
        times = memory.times(time_of_week)
        place, slot = times.place[:, 0].numpy(), times.slot[:, 0].numpy()
        scale = np.array(signal.target_scale, np.float32)
        departure = days.departures(days.table) / scale
        means, seen = (_so_far(array, place, slot) for array in (departure, days.observed.astype(np.float32)))
        changes = {
            int(day): torch.from_numpy(_by_slot(days.table - days.without(day), memory) / scale)
            for day in days.training
        }
        begins = np.flatnonzero((np.diff(slot, prepend=-1) != 0) | (np.diff(place, prepend=-1) <= 0))
        keys = slot[begins] * len(slot) + begins
        order = np.argsort(keys)
        ends = np.append(begins[1:], len(slot)) - 1
        return cls(
            memory,
            torch.from_numpy(means),
            torch.from_numpy(seen),
            days.day,
            changes,
            time_of_week,
            ends[order],
            keys[order],
        )

    def looked(self, issued: Int64[Tensor, "batch issue"], remembers: Bool[Tensor, " batch"] | None = None) -> Looked:
        """Return what is looked up at the given rows; nothing for chunks that remember nothing."""
        slots = self.memory.times(self.time_of_week[issued.cpu()]).looked
        now = issued.cpu().numpy()[..., None]
        wanted = slots.numpy() * len(self.day)
        found = np.searchsorted(self.begins, wanted + now, side="left") - 1  # the last that began before
        known = (found >= 0) & (self.begins[np.maximum(found, 0)] >= wanted)
        if remembers is not None:
            known &= remembers.cpu().numpy()[:, None, None]
        row = torch.from_numpy(np.clip(self.ends[np.maximum(found, 0)], 0, np.maximum(now - 1, 0)))
        departures = self.means[row]
        for place in np.ndindex(*issued.shape):
            if (change := self.changes.get(int(self.day[now[place]][0]))) is not None:
                departures[place] += self.seen[row[place]] * change[slots[place]]
        flags = torch.from_numpy(known)
        departures = torch.where(flags[..., None, None], departures, 0.0).movedim(-3, -1)
        return Looked(departures.to(issued.device), flags.to(departures.dtype).to(issued.device))


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
    interval = np.arange(7 * per_day)
    seconds = interval * (DAY_S / per_day)
    slot = np.minimum(seconds // memory.slot_s, memory.slots - 1).astype(int)
    sums = np.zeros((memory.slots, *table.shape[1:]), np.float32)
    np.add.at(sums, slot, table[interval % per_day + per_day * (seconds >= WORKING_DAYS * DAY_S)])
    counts = np.maximum(np.bincount(slot, minlength=memory.slots), 1)
    return (sums / counts[:, None, None]).astype(np.float32)
