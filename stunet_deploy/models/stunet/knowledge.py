"""What is known of every sensor by itself: the channels of the perceptron, and the states that they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stunet_deploy.config import STUNetConfig
from stunet_deploy.contract import STATE, StateSpec
from stunet_deploy.models.forecaster import picked
from stunet_deploy.models.lags import LAGS, LAGS_READINGS, LAGS_SEEN, Lags
from stunet_deploy.models.memory import Looked, WeekMemory
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.models.sensors import STATIC_FEATURES
from stunet_deploy.models.signal import SignalInput, TimeChannels
from stunet_deploy.models.stunet.decoders import Known, PerceptronInputs
from stunet_deploy.models.stunet.propagation import NodeOrder
from stunet_deploy.series.wall_clock import DAY_S


class Present(NamedTuple):
    """An interval of every sensor, normalised; all but the level in units of the sensors' own.

    Attributes:
        departed: departure from the profile; without one, the reading.
        seen: 1 where the reading was observed, otherwise 0.
        reading: filled where it was not.
        level: the same, in the unit of all sensors.
    """

    departed: Float[Tensor, "*batch node target"]
    seen: Float[Tensor, "*batch node target"]
    reading: Float[Tensor, "*batch node target"]
    level: Float[Tensor, "*batch node target"]

    def at(self, issued: Int64[Tensor, " issue"] | None) -> Present:
        """Return some intervals of a sequence; all for None."""
        return Present(*(picked(part, issued) for part in self))

    @property
    def observed(self) -> Float[Tensor, "*batch node target"]:
        """The departures that were observed, and 0 for others."""
        return self.departed * self.seen


class Knowledge(nn.Module):
    """Window of the last intervals, memory of the last week and time, as channels; none of it has weights.

    Args:
        config: of the model; it has lags.
        source: of the model: which readings are marked as observed.
        profile: of the model, if it has one.
        order: of the rows.
        targets: number of forecast features.

    Attributes:
        memory: of the last week; None without one.
    """

    def __init__(
        self, config: STUNetConfig, source: SignalInput, profile: DailyProfile | None, order: NodeOrder, targets: int
    ) -> None:
        super().__init__()
        self.targets, self.order = targets, order
        # Without a profile a difference of two lags is a change already.
        self.changes = config.changes and profile is not None and config.lags > 1
        self.level = config.static_features and profile is not None
        kept = [LAGS, *([LAGS_SEEN] if source.mask_channel else []), *([LAGS_READINGS] if self.changes else [])]
        #: By state entry: one window of each kind, since engines are slow to pick every third channel of one.
        self.windows = {name: Lags(config.lags, targets, name) for name in kept}
        self.memory: WeekMemory | None = None
        if config.memory and profile is not None:
            self.memory = WeekMemory(DAY_S / profile.per_day, config.horizon, targets)
        self.time = TimeChannels(config.time_features, config.harmonics) if config.common else None
        window, seen = targets * config.lags, targets * config.lags * source.mask_channel
        ahead = 0 if profile is None else profile.channels
        self.inputs = PerceptronInputs(
            own=window + targets * ((config.lags - 1) * self.changes + self.level) + ahead,
            seen=seen,
            encoded=config.hidden,
            static=STATIC_FEATURES * targets if config.static_features else 0,
            common=0 if self.time is None else window + seen + self.time.width,
            looked=0 if self.memory is None else self.memory.width,
            compress=config.compress,
        )

    def states(self, nodes: int) -> tuple[StateSpec, ...]:
        """Return the state entries, for a node axis of this length."""
        specs = [spec for lags in self.windows.values() for spec in lags.states(nodes)]
        return (*specs, *(() if self.memory is None else self.memory.states(nodes)))

    def step(
        self,
        present: Present,
        ahead: Float[Tensor, "*batch node ahead"] | None,
        time_of_week: Float[Tensor, "*batch 1"],
        state: Mapping[str, Tensor],
    ) -> tuple[Known, dict[str, Tensor]]:
        """Return what is known at an interval, and the state entries after it by name.

        Args:
            present: the interval.
            ahead: the profile minus the reading, now and at every horizon side by side, in units of the sensors' own;
                None without a profile.
            time_of_week: in seconds.
            state: by tap.
        """
        windows, written, looked = dict[str, Tensor](), dict[str, Tensor](), None
        for name, now in self._noted(present).items():
            windows[name], after = self.windows[name].step(now, state.get(STATE + name))
            written |= after
        if self.memory is not None:
            week = {spec.name: state[STATE + spec.name] for spec in self.memory.states(0)}
            looked, week = self.memory.step(present.observed, time_of_week, week)
            written |= week
        return self._known(present, ahead, windows, time_of_week, looked), written

    def sequence(
        self,
        present: Present,
        ahead: Float[Tensor, "batch issue node ahead"] | None,
        time_of_week: Float[Tensor, "batch time 1"],
        lines: Mapping[str, Tensor],
        issued: Int64[Tensor, " issue"] | None,
        looked: Looked | None = None,
    ) -> tuple[Known, dict[str, Tensor]]:
        """Return what is known at the issued intervals of a sequence, and the lines after it by name.

        Args:
            present: the intervals.
            ahead: as in :meth:`step`, at the issued intervals.
            time_of_week: in seconds.
            lines: by name.
            issued: the intervals whose forecasts are wanted; None for all.
            looked: in training, what the memory would give, in units of the sensors' own; the memory stays empty then.
        """
        windows, written = dict[str, Tensor](), dict[str, Tensor]()
        for name, now in self._noted(present).items():
            earlier = lines[name][0] if name in lines else None
            windows[name], after = self.windows[name].sequence(now, earlier, issued)
            written |= after
        if self.memory is not None and looked is None:
            week = {spec.name: lines[spec.name][0] for spec in self.memory.states(0)}
            looked, week = self.memory.sequence(present.observed, time_of_week, week, issued)
            written |= week
        known = self._known(present.at(issued), ahead, windows, picked(time_of_week, issued), looked)
        return known, {name: tensor[None] for name, tensor in written.items()}

    def _noted(self, present: Present) -> dict[str, Float[Tensor, "*batch node target"]]:
        """Return what the windows keep of an interval."""
        noted = {LAGS: present.departed, LAGS_SEEN: present.seen, LAGS_READINGS: present.reading}
        return {name: noted[name] for name in self.windows}

    def _known(
        self,
        present: Present,
        ahead: Tensor | None,
        windows: Mapping[str, Tensor],
        time_of_week: Float[Tensor, "*batch 1"],
        looked: Looked | None,
    ) -> Known:
        own, seen = [windows[LAGS]], windows.get(LAGS_SEEN)
        if self.changes:
            earlier = slice(self.targets, None)
            length = self.windows[LAGS].length - 1
            now = present.reading if self.targets == 1 else torch.cat([present.reading] * length, dim=-1)
            change = windows[LAGS_READINGS][..., earlier] - now
            # Nothing is known of an interval without a reading.
            own.append(change if seen is None else change * seen[..., earlier])
        if ahead is not None:
            own.append(ahead)
        if self.level:
            # Beside what is usual for a sensor, a reading by itself says how far it is from the sensor's limits.
            own.append(present.level)
        common = None
        if self.time is not None:
            shared = windows[LAGS] if seen is None else torch.cat([windows[LAGS], seen], dim=-1)
            common = self._common(shared, self.time(time_of_week))
        return Known(torch.cat(own, dim=-1), seen, common, None if looked is None else looked.channels())

    def _common(
        self, window: Float[Tensor, "*batch node window"], time: Float[Tensor, "*batch wave"]
    ) -> Float[Tensor, "*batch 1 common"]:
        """Return what all sensors have in common: their mean in the window of lags, and the time."""
        rows = self.order.back(window)
        # As a product, for which inference engines are made: a mean over the nodes takes them longer.
        mean = torch.full((1, rows.shape[-2]), 1 / rows.shape[-2], dtype=rows.dtype, device=rows.device) @ rows
        return torch.cat([mean, time[..., None, :]], dim=-1)
