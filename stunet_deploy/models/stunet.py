"""ST-UNet: graph-convolutional GRUs in a U over space (pooled graphs) and time (dilated recurrence)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.contract import STATE, StateSpec, StepContract, TensorSpec
from stunet_deploy.errors import ConfigError
from stunet_deploy.graph import GraphHierarchy
from stunet_deploy.models.layers import GraphConvolution
from stunet_deploy.models.pooling import SpatialPool, SpatialUnpool
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.models.recurrent import DilatedGCGRU
from stunet_deploy.models.signal import ForecastDecoder, SignalEncoder

FILLED = "filled"


class StepInputs(NamedTuple):
    """Inputs of one interval, or of a sequence with a time axis after ``batch``.

    Attributes:
        values: [batch, node, feature] in physical units; anything, even NaN, where unobserved.
        observed: [batch, node, feature], 1 or 0.
        time_of_week: [batch, 1] seconds since Monday 00:00 in the local time of the training data.
    """

    values: Tensor
    observed: Tensor
    time_of_week: Tensor


class StepOutputs(NamedTuple):
    """Outputs of one interval: ``forecast`` [batch, horizon, node, target] in physical units."""

    forecast: Tensor


class STUNet(nn.Module):
    """The spatio-temporal U-network (Yu, Yin, Zhu 2019) with a direct residual decoder.

    Contracting side: a layer on the sensor graph, then per scale a pool and a dilated layer on the coarser graph.
    Expanding side: unpool, concatenate the same level's output of the contracting side, an undilated layer::

        level 0    contracting.0 ───────────────skip──────────────▶ expanding.0 ──▶ head
                        └─pool─▶                            ─unpool──┘
        level 1             contracting.1 (dilation s) ────┘

    Args:
        config: the architecture.
        hierarchy: the prepared graphs; ``hierarchy.levels`` has one more entry than ``config.scales``.
        signal: features, limits and normalisation.
        profile: the table of :class:`DailyProfile`, [slot, node, target]; just where ``config.profile`` is set.

    Raises:
        ConfigError: if ``config.profile`` is set without a table, or the other way round.
    """

    def __init__(
        self, config: STUNetConfig, hierarchy: GraphHierarchy, signal: Signal, profile: Tensor | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.hierarchy = hierarchy
        self.signal = signal
        bases = [torch.from_numpy(level.basis) for level in hierarchy.levels]
        width, dilations = config.hidden, [1, *(dilation for _, dilation in config.scales)]
        if config.profile != (profile is not None):
            found = "no table" if profile is None else "a table"
            raise ConfigError(
                f"model.profile = {config.profile} with {found}", "both or neither", "train the model again"
            )
        self.encoder = SignalEncoder(signal, config.fill, config.time_features, config.mask_channel)
        self.profile = None if profile is None else DailyProfile(profile, config.horizon)
        channels = self.encoder.channels + (0 if self.profile is None else self.profile.channels)
        self.contracting = nn.ModuleList(
            DilatedGCGRU(basis, width if level else channels, width, dilation, config.layer_norm)
            for level, (basis, dilation) in enumerate(zip(bases, dilations, strict=True))
        )
        merged = 2 * width if config.skip else width
        self.expanding = nn.ModuleList(DilatedGCGRU(basis, merged, width, 1, config.layer_norm) for basis in bases[:-1])
        self.pools = nn.ModuleList(SpatialPool(t, config.pooling) for t in hierarchy.transitions)
        self.unpools = nn.ModuleList(SpatialUnpool(t) for t in hierarchy.transitions)
        self.dropout = nn.Dropout(0.0)
        self.head = GraphConvolution(bases[0], width, config.horizon * len(signal.targets))
        nn.init.zeros_(self.head.weight)  # an untrained model forecasts persistence
        self.decoder = ForecastDecoder(signal, config.horizon)
        self.contract = self._contract()

    def initial_lines(self, batch: int) -> dict[str, Tensor]:
        """Return the lines of a fresh stream: zeros [delay, batch, node, channel] per state entry."""
        like = self.head.weight
        return {s.name: like.new_zeros((s.delay, *s.with_batch(batch))) for s in self.contract.states}

    def step(self, inputs: StepInputs, state: Mapping[str, Tensor]) -> tuple[StepOutputs, dict[str, Tensor]]:
        """Take one interval.

        Args:
            inputs: the interval's readings, without time axis.
            state: for every tap of the contract its tensor [batch, node, channel], by the tap's name.

        Returns:
            The forecast, and for every state entry the tensor to be read ``delay`` intervals later, by entry name.
        """
        next_state: dict[str, Tensor] = {}
        keep = self.config.fill == "last"
        last = state[STATE + FILLED] if keep else torch.zeros_like(inputs.values)
        filled = self.encoder.fill_step(inputs.values, inputs.observed, last)
        if keep:
            next_state[FILLED] = filled

        def layer(entry: str, module: DilatedGCGRU, projected: Tensor) -> Tensor:
            output, next_state[entry] = module.step(projected, state[STATE + entry])
            return output

        return StepOutputs(self._u_network(inputs, filled, layer, None)), next_state

    def forward(
        self, inputs: StepInputs, lines: Mapping[str, Tensor], profile: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch time horizon node target"], dict[str, Tensor]]:
        """Take a whole sequence at once: the same result as :meth:`step` interval by interval, faster.

        Args:
            inputs: readings with a time axis after ``batch``.
            lines: the states before the sequence, [delay, batch, node, channel] per entry, oldest first.
            profile: in training, what to take in place of the model's own profile: [batch, time, 1 + horizon, node,
                target], made without the day that a row is from.

        Returns:
            The forecast after every interval, and the lines after the last.
        """
        final: dict[str, Tensor] = {}
        keep = self.config.fill == "last"
        last = lines[FILLED][0] if keep else torch.zeros_like(inputs.values[:, 0])
        filled = self.encoder.fill_sequence(inputs.values, inputs.observed, last)
        if keep:
            final[FILLED] = filled[None, :, -1]

        def layer(entry: str, module: DilatedGCGRU, projected: Tensor) -> Tensor:
            output: Tensor
            output, final[entry] = module(projected, lines[entry])
            return output

        return self._u_network(inputs, filled, layer, profile), final

    def _u_network(
        self,
        inputs: StepInputs,
        filled: Tensor,
        layer: Callable[[str, DilatedGCGRU, Tensor], Tensor],
        profile: Tensor | None,
    ) -> Tensor:
        """Run the U; ``layer`` runs one recurrent layer for an interval or for a sequence and keeps its state."""
        x = self.encoder.channelise(filled, inputs.observed, inputs.time_of_week)
        if self.profile is not None:
            ahead = self.profile(inputs.time_of_week) if profile is None else profile
            departures = self.profile.departures(ahead, filled[..., self.signal.target_index])
            x = torch.cat([x, departures.flatten(-2)], dim=-1)
        skips: list[Tensor] = []
        for level, (entry, module) in enumerate(self._recurrent("contracting")):
            if level:
                x = self.pools[level - 1](x)
            x = self.dropout(layer(entry, module, module.cell.project(x)))
            skips.append(x)
        for level, (entry, module) in reversed(list(enumerate(self._recurrent("expanding")))):
            skip = skips[level] if self.config.skip else None
            unpool = cast(SpatialUnpool, self.unpools[level])
            x = self.dropout(layer(entry, module, unpool.project(module.cell, x, skip)))
        head = self.head(x)
        if self.profile is not None:
            head = head + (self.profile.blend * departures[..., 1:, :]).flatten(-2)
        forecast: Tensor = self.decoder(head, filled)
        return forecast

    def _recurrent(self, side: str) -> list[tuple[str, DilatedGCGRU]]:
        """Return (state entry, layer) of one side of the U, finest level first."""
        modules = cast(nn.ModuleList, getattr(self, side))
        return [(f"{side}.{level}.hidden", cast(DilatedGCGRU, module)) for level, module in enumerate(modules)]

    def _contract(self) -> StepContract:
        nodes, features = self.hierarchy.levels[0].basis.shape[-1], len(self.signal.features)
        reading = ("batch", "node", "feature"), (None, nodes, features)
        states = [StateSpec(FILLED, *reading)] if self.config.fill == "last" else []
        for entry, module in [*self._recurrent("contracting"), *self._recurrent("expanding")]:
            shape = (None, *module.state_shape)
            states.append(StateSpec(entry, ("batch", "node", "channel"), shape, delay=module.dilation))
        forecast_shape = (None, self.config.horizon, nodes, len(self.signal.targets))
        return StepContract(
            inputs=(
                TensorSpec("values", *reading),
                TensorSpec("observed", *reading),
                TensorSpec("time_of_week", ("batch", "second"), (None, 1)),
            ),
            outputs=(TensorSpec("forecast", ("batch", "horizon", "node", "target"), forecast_shape),),
            states=tuple(states),
        )


def unroll(
    model: STUNet, inputs: StepInputs, lines: Mapping[str, Tensor]
) -> tuple[Float[Tensor, "batch time horizon node target"], dict[str, Tensor]]:
    """Take a sequence step by step: what ``forward`` means, written as the runtime does it."""
    current, forecasts = dict(lines), []
    for interval in range(inputs.values.shape[1]):
        taps = {tap.name: current[tap.state.name][tap.state.delay - tap.age] for tap in model.contract.taps}
        outputs, written = model.step(StepInputs(*(tensor[:, interval] for tensor in inputs)), taps)
        current = {name: torch.cat([line, written[name][None]])[1:] for name, line in current.items()}
        forecasts.append(outputs.forecast)
    return torch.stack(forecasts, dim=1), current
