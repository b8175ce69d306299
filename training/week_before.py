"""The memory of a week that a stream would have at any training row, without running through the week."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from numpy.typing import NDArray
from torch import Tensor

from stunet_deploy.models.memory import WeekMemory
from stunet_deploy.models.stunet.model import STUNet
from stunet_deploy.series.series import Series
from stunet_deploy.series.wall_clock import local_times
from training.usual_days import UsualDays


@dataclass(frozen=True)
class WeekBefore:
    """Mean departures by slot of the week, as they stood after every row; see :class:`WeekMemory`.

    Attributes:
        model: whose memory it is.
        means: departures of the present slot so far, normalised, after every row, [time, node, target].
        number: of the slot of every row, counted from the first row's, [time].
        last: the last row of every slot, -1 for one without, [slot].
        slot: of the week, of every row, [time].
    """

    model: STUNet
    means: Tensor
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
        means = (days.departure / np.array(model.signal.target_scale, np.float32)).astype(np.float32)
        for row in range(1, len(means)):
            if place[row] > 0 and slot[row] == slot[row - 1]:
                means[row] = means[row - 1] + (means[row] - means[row - 1]) / (place[row] + 1)
            elif place[row] > 0:
                means[row] /= place[row] + 1
        last = np.full(number[-1] + 1, -1)
        last[number] = np.arange(len(number))
        return cls(model, torch.from_numpy(means), number, last, slot)

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
        found = torch.where(known, self.means[torch.from_numpy(np.maximum(row, 0))], 0.0)
        ordered = torch.from_numpy(np.argsort(of_week, axis=1))
        by_slot = torch.gather(found, 1, ordered[..., None, None].expand_as(found)).movedim(1, -1)
        known_by_slot = torch.gather(known[..., 0, 0].to(found.dtype), 1, ordered)
        return self.model.week_lines(by_slot.to(first.device), known_by_slot.to(first.device))
