"""ST-UNet: graph-convolutional GRUs in a U over space (pooled graphs) and time (dilated recurrence)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.contract import STATE, StateSpec, StepContract, TensorSpec
from stunet_deploy.errors import ConfigError
from stunet_deploy.graph import GraphHierarchy
from stunet_deploy.models.decoders import DirectDecoder, Recent, RecurrentDecoder, Teacher
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.models.recurrent import DilatedGCGRU, final_line, recent_states
from stunet_deploy.models.signal import REMEMBERING, ForecastOutput, SignalInput
from stunet_deploy.models.unet import RecurrentUNet

#: State entry: what stands for an unobserved reading at the next interval, in normalised units.
SUBSTITUTE = "substitute"
#: Prefix of the encoder's state entries and of its parameters.
ENCODER = "encoder."


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
    """The spatio-temporal U-network (Yu, Yin, Zhu 2019): an encoder in a U, and a direct or a recurrent decoder.

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
        if config.profile != (profile is not None):
            found = "no table" if profile is None else "a table"
            raise ConfigError(
                f"model.profile = {config.profile} with {found}", "both or neither", "train the model again"
            )
        self.config = config
        self.hierarchy = hierarchy
        self.signal = signal
        targets = len(signal.targets)
        self.input = SignalInput(signal, config.fill, config.time_features, config.mask_channel)
        self.profile = None if profile is None else DailyProfile(profile, config.horizon, config.residual)
        departures = 0 if self.profile is None else self.profile.channels
        direct = config.decoder == "direct"
        self.encoder = RecurrentUNet(config, hierarchy, self.input.channels + departures, output_read=direct)
        self.decoder: DirectDecoder | RecurrentDecoder
        if direct:
            self.decoder = DirectDecoder(config, hierarchy, targets)
        else:
            self.decoder = RecurrentDecoder(config, hierarchy, targets, 0 if self.profile is None else targets)
        self.output = ForecastOutput(signal)
        self.all_targets = signal.targets == signal.features
        self.contract = self._contract()

    def initial_lines(self, batch: int) -> dict[str, Tensor]:
        """Return the lines of a fresh stream: zeros [delay, batch, node, channel] per state entry."""
        like = self.decoder.head.weight
        return {s.name: like.new_zeros((s.delay, *s.with_batch(batch))) for s in self.contract.states}

    def step(self, inputs: StepInputs, state: Mapping[str, Tensor]) -> tuple[StepOutputs, dict[str, Tensor]]:
        """Take one interval.

        Args:
            inputs: the interval's readings, without time axis.
            state: for every tap of the contract its tensor [batch, node, channel], by the tap's name.

        Returns:
            The forecast, and for every state entry the tensor to be read ``delay`` intervals later, by entry name.
        """
        keep = self.config.fill in REMEMBERING
        substitute = state[STATE + SUBSTITUTE] if keep else self.input.constant()
        filled = self.input.fill_step(inputs.values, inputs.observed, substitute)
        written: dict[str, Tensor] = {}

        def run_layer(name: str, layer: DilatedGCGRU, projected: Tensor) -> Tensor:
            output, written[ENCODER + name] = layer.step(projected, state[STATE + ENCODER + name])
            return output

        departures = self._departures(inputs, filled, None)
        encoded = self.encoder(self._channels(inputs, filled, departures), run_layer)
        recent: Recent = {}
        if isinstance(self.decoder, RecurrentDecoder):
            taps = {(tap.state.name, tap.age): state[tap.name] for tap in self.contract.taps}
            recent = {
                name: [
                    *(taps[ENCODER + name, age] for age in range(layer.dilation - 1, 0, -1)),
                    written[ENCODER + name],
                ]
                for name, layer in self.encoder.layers.items()
            }
        forecast = self._decode(encoded, recent, filled, departures, None)
        if keep:
            last = self.config.fill == "last"
            written[SUBSTITUTE] = filled if last else self._forecast_substitute(filled, forecast)
        return StepOutputs(self.output(forecast)), written

    def forward(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None = None,
        issued: Int64[Tensor, " issue"] | None = None,
        teacher: Teacher | None = None,
    ) -> tuple[Float[Tensor, "batch issue horizon node target"], dict[str, Tensor]]:
        """Take a whole sequence at once: the same result as :meth:`step` interval by interval, faster.

        Args:
            inputs: readings of at least one interval, with a time axis after ``batch``.
            lines: the states before the sequence, [delay, batch, node, channel] per entry, oldest first.
            profile: in training, what to take in place of the model's own profile: [batch, time, 1 + horizon, node,
                target], made without the day that a row is from.
            issued: the intervals whose forecasts are wanted, ascending; all by default.
            teacher: in training, what a recurrent decoder is fed, [batch, time, ...].

        Returns:
            The forecast after every interval that is wanted, and the lines after the last interval.
        """
        if self.config.fill != "forecast":
            return self._sequence(inputs, lines, profile, issued, teacher)
        time = inputs.values.shape[1]
        wanted = torch.arange(time, device=inputs.values.device) if issued is None else issued
        # What stands for a missing reading depends on the forecast before it: cut the sequence at each of those.
        missing = (~(inputs.observed > 0.5)).flatten(2).any(2).any(0)
        missing[0] = True
        borders = [*torch.nonzero(missing).flatten().tolist(), time]
        current, forecasts = dict(lines), []
        for first, after in pairwise(borders):
            rows = slice(first, after)
            some = wanted[(wanted >= first) & (wanted < after)] - first
            forecast, current = self._sequence(
                StepInputs(*(tensor[:, rows] for tensor in inputs)),
                current,
                None if profile is None else profile[:, rows],
                some,
                None if teacher is None else Teacher(teacher.labels[:, rows], teacher.known[:, rows], teacher.coins),
            )
            forecasts.append(forecast)
        return torch.cat(forecasts, dim=1), current

    def _sequence(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None,
        issued: Tensor | None,
        teacher: Teacher | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take a sequence in which no substitute depends on a forecast made within it."""
        keep = self.config.fill in REMEMBERING
        time, device = inputs.values.shape[1], inputs.values.device
        substitute = lines[SUBSTITUTE][0] if keep else self.input.constant()
        filled = self.input.fill_sequence(inputs.values, inputs.observed, substitute)
        final: dict[str, Tensor] = {}
        recent: dict[str, list[Tensor]] = {}
        decoded = issued
        if issued is not None and self.config.fill == "forecast" and time - 1 not in issued[-1:]:
            # The substitute after the sequence is made of the last forecast, wanted or not.
            decoded = torch.cat([issued, torch.tensor([time - 1], device=device)])

        def pick(sequence: Tensor) -> Tensor:
            return sequence if decoded is None else sequence.index_select(1, decoded)

        def run_layer(name: str, layer: DilatedGCGRU, projected: Tensor) -> Tensor:
            line = lines[ENCODER + name]
            output, states = layer(projected, line)
            final[ENCODER + name] = final_line(line, states)
            if isinstance(self.decoder, RecurrentDecoder):
                recent[name] = [pick(aged) for aged in recent_states(line, states)]
            result: Tensor = output
            return result

        departures = self._departures(inputs, filled, profile)
        encoded = self.encoder(self._channels(inputs, filled, departures), run_layer)
        forecast = self._decode(
            pick(encoded),
            recent,
            pick(filled),
            None if departures is None else pick(departures),
            None if teacher is None else Teacher(pick(teacher.labels), pick(teacher.known), teacher.coins),
        )
        if self.config.fill == "last":
            final[SUBSTITUTE] = filled[None, :, -1]
        elif keep:
            final[SUBSTITUTE] = self._forecast_substitute(filled[:, -1], forecast[:, -1])[None]
        return self.output(forecast if issued is None else forecast[:, : len(issued)]), final

    def _departures(self, inputs: StepInputs, filled: Tensor, profile: Tensor | None) -> Tensor | None:
        """Return how far the profile, now and ahead, lies from the readings: [*batch, 1 + horizon, node, target]."""
        if self.profile is None:
            return None
        ahead = self.profile(inputs.time_of_week) if profile is None else profile
        return self.profile.departures(ahead, self._targets(filled))

    def _channels(self, inputs: StepInputs, filled: Tensor, departures: Tensor | None) -> Tensor:
        """Return the encoder's input, [*batch, node, channel]."""
        x = self.input.channelise(filled, inputs.observed, inputs.time_of_week)
        return x if departures is None else torch.cat([x, departures.movedim(-3, -2).flatten(-2)], dim=-1)

    def _decode(
        self, encoded: Tensor, recent: Recent, filled: Tensor, departures: Tensor | None, teacher: Teacher | None
    ) -> Tensor:
        """Return the normalised forecast [*batch, horizon, node, target]."""
        targets = self._targets(filled)
        base = targets.unsqueeze(-3) if self.config.residual else None
        ahead = None if departures is None else departures[..., 1:, :, :]
        if base is not None and ahead is not None and self.profile is not None:
            base = self.profile.start(base, ahead)
        if isinstance(self.decoder, DirectDecoder):
            forecast: Tensor = self.decoder(encoded, base)
        else:
            forecast = self.decoder(recent, torch.zeros_like(targets), base, ahead, teacher)
        return forecast

    def _targets(self, filled: Tensor) -> Tensor:
        """Return the target features of [*batch, node, feature]."""
        return filled if self.all_targets else filled[..., list(self.signal.target_index)]

    def _forecast_substitute(self, filled: Tensor, forecast: Tensor) -> Tensor:
        """Return the next interval's forecast, and the filled value of features that have none.

        Shapes: filled [batch, node, feature], forecast [batch, horizon, node, target], returned like ``filled``.
        """
        next_targets = self.output.clip(forecast[..., 0, :, :])
        if self.all_targets:
            return next_targets
        columns = list(filled.unbind(-1))
        for position, feature in enumerate(self.signal.target_index):
            columns[feature] = next_targets[..., position]
        return torch.stack(columns, dim=-1)

    def _contract(self) -> StepContract:
        nodes, features = self.hierarchy.levels[0].basis.shape[-1], len(self.signal.features)
        reading = ("batch", "node", "feature"), (None, nodes, features)
        states = [StateSpec(SUBSTITUTE, *reading)] if self.config.fill in REMEMBERING else []
        for name, layer in self.encoder.layers.items():
            axes, shape = ("batch", "node", "channel"), (None, *layer.state_shape)
            taps = tuple(range(layer.dilation, 0, -1)) if self.config.decoder == "recurrent" else ()
            states.append(StateSpec(ENCODER + name, axes, shape, delay=layer.dilation, taps=taps))
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
