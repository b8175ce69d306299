"""The departures of the last week by time of the week, as a state: what was unusual yesterday and a week ago."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stunet_deploy.contract import StateSpec
from stunet_deploy.models.signal import within_week
from stunet_deploy.series.wall_clock import DAY_S, WEEK_S

#: State entries: the mean departure in every slot of the week, when it was last that time, and whether it ever was.
WEEK, WEEK_KNOWN = "week", "week.known"
#: Days between what is looked up and what is forecast: it was yesterday, and a week ago.
DAYS_BEFORE = (1, 7)
#: Seconds that a slot lasts at least: what was unusual in a single interval of some minutes is mostly noise.
SHORTEST_SLOT_S = 1200
#: Seconds from one time that is looked up to the next, at least.
SHORTEST_STEP_S = 600


class Looked(NamedTuple):
    """What is looked up at an interval: on each of :data:`DAYS_BEFORE`, from now to past the last horizon.

    Attributes:
        departures: mean departures, 0 where none is known.
        known: 1 where a departure is known, otherwise 0.
    """

    departures: Float[Tensor, "*batch node target look"]
    known: Float[Tensor, "*batch look"]

    def channels(self) -> Float[Tensor, "*batch node width"]:
        """Return the channels of every node: the departures, and of every day before the share that is known."""
        departures = self.departures.flatten(-2)
        share = self.known.unflatten(-1, (len(DAYS_BEFORE), -1)).mean(dim=-1)[..., None, :]
        return torch.cat([departures, share.expand(*departures.shape[:-1], share.shape[-1])], dim=-1)


class _Times(NamedTuple):
    """Where an interval reads and writes: its slot, its place within the slot, and the slots that are looked up."""

    slot: Int64[Tensor, "*batch 1"]
    place: Float[Tensor, "*batch 1"]
    looked: Int64[Tensor, "*batch look"]


class WeekMemory:
    """Remember mean departures by slot of the week, and look up those of a day and of a week before what is forecast.

    Beside the departures is whether they are known: a stream begins without them.

    A slot is twenty minutes, or the next longer multiple of the interval. Its mean is over the intervals of its last
    occurrence so far. What is looked up begins now and ends one interval or more past the last horizon, since what
    comes around the time that is forecast may come a little earlier or later.

    Args:
        interval_s: of the recording, at most a day.
        horizon: intervals forecast.
        targets: departures of a node.

    Attributes:
        slot_s: seconds of a slot.
        slots: in a week.
        step_s, ahead: seconds between, and number of, the times that are looked up on each of the days before.
    """

    def __init__(self, interval_s: float, horizon: int, targets: int) -> None:
        self.interval_s, self.horizon, self.targets = interval_s, horizon, targets
        self.slot_s, self.step_s = (
            interval_s * max(1, math.ceil(shortest / interval_s)) for shortest in (SHORTEST_SLOT_S, SHORTEST_STEP_S)
        )
        self.slots = max(1, int(WEEK_S // self.slot_s))
        self.ahead = 1 + math.ceil((horizon + 1) * interval_s / self.step_s)

    @property
    def looks(self) -> int:
        """Number of times that are looked up."""
        return len(DAYS_BEFORE) * self.ahead

    @property
    def width(self) -> int:
        """Number of channels of what is looked up."""
        return self.looks * self.targets + len(DAYS_BEFORE)

    def states(self, nodes: int) -> tuple[StateSpec, ...]:
        """Return the state entries, for a node axis of this length."""
        shape = (None, nodes, self.targets * self.slots)
        return (
            StateSpec(WEEK, ("batch", "node", "channel"), shape, lasting=True),
            StateSpec(WEEK_KNOWN, ("batch", "slot"), (None, self.slots), lasting=True),
        )

    def times(self, time_of_week: Float[Tensor, "*batch 1"]) -> _Times:
        """Return where intervals read and write; valid for any time."""
        week = within_week(time_of_week)
        slot = self._slot(week)
        place = torch.floor((week - slot * self.slot_s) / self.interval_s)
        around = week + self.step_s * torch.arange(self.ahead, device=week.device)
        earlier = torch.cat([within_week(around + (WEEK_S - days * DAY_S)) for days in DAYS_BEFORE], dim=-1)
        return _Times(slot.long(), place, self._slot(earlier).long())

    def step(
        self,
        departed: Float[Tensor, "*batch node target"],
        time_of_week: Float[Tensor, "*batch 1"],
        earlier: Mapping[str, Tensor],
    ) -> tuple[Looked, dict[str, Tensor]]:
        """Return what is looked up at an interval, before it is written, and the state entries by name.

        Args:
            departed: departures from the usual day, 0 where nothing was observed.
            time_of_week: in seconds.
            earlier: the state entries by name.
        """
        times = self.times(time_of_week)
        memory, known = earlier[WEEK], earlier[WEEK_KNOWN]
        looked = self._look_up(memory, known, times)
        place, mean = self._mean(departed, times, memory)
        return looked, {WEEK: memory.scatter(-1, place, mean), WEEK_KNOWN: known.scatter(-1, times.slot, 1.0)}

    @torch.no_grad()  # nothing here is learnt
    def sequence(
        self,
        departed: Float[Tensor, "batch time node target"],
        time_of_week: Float[Tensor, "batch time 1"],
        earlier: Mapping[str, Tensor],
        issued: Int64[Tensor, " issue"] | None = None,
    ) -> tuple[Looked, dict[str, Tensor]]:
        """Return what is looked up at the issued intervals of a sequence, and the state entries after the last."""
        memory, known = earlier[WEEK].clone(), earlier[WEEK_KNOWN].clone()
        times = self.times(time_of_week)
        batch, time, nodes = departed.shape[:3]
        wanted = range(time) if issued is None else issued.tolist()
        departures = departed.new_zeros(batch, len(wanted), nodes, self.targets, self.looks)
        flags = departed.new_zeros(batch, len(wanted), self.looks)
        places = {row: place for place, row in enumerate(wanted)}
        for t in range(time):
            now = _Times(*(part[:, t] for part in times))
            if t in places:
                departures[:, places[t]], flags[:, places[t]] = self._look_up(memory, known, now)
            memory.scatter_(-1, *self._mean(departed[:, t], now, memory))
            known.scatter_(-1, now.slot, 1.0)
        return Looked(departures, flags), {WEEK: memory, WEEK_KNOWN: known}

    def _mean(self, departed: Tensor, times: _Times, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean departures of the present slot with the present interval, and before them their channels."""
        channels = self._channels(times.slot, memory)
        place = times.place[..., None]
        before = torch.where(place > 0, torch.gather(memory, -1, channels), 0.0)
        return channels, before + (departed - before) / (place + 1)

    def _look_up(self, memory: Tensor, known: Tensor, times: _Times) -> Looked:
        departures = torch.gather(memory, -1, self._channels(times.looked, memory))
        by_target = torch.unflatten(departures, -1, (self.targets, self.looks))
        return Looked(by_target, torch.gather(known, -1, times.looked))

    def _channels(self, slots: Int64[Tensor, "*batch slot"], memory: Tensor) -> Int64[Tensor, "*batch node channel"]:
        """Return the channels of slots, of every target one after the other, at every node."""
        # Not the memory with an axis for the targets: an engine would copy the whole of it to and fro.
        by_target = torch.cat([slots + target * self.slots for target in range(self.targets)], dim=-1)[..., None, :]
        return by_target.expand(*memory.shape[:-1], by_target.shape[-1])

    def _slot(self, week: Tensor) -> Tensor:
        return torch.clamp(torch.floor(week / self.slot_s), max=self.slots - 1)
