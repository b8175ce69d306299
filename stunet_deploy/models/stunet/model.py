"""ST-UNet: graph-convolutional GRUs in a U over space (pooled graphs) and time (dilated recurrence)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.contract import STATE, StateSpec, StepContract
from stunet_deploy.errors import CheckpointError, ConfigError
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.forecaster import SUBSTITUTE, Forecaster, Teacher, forecaster_contract, with_targets
from stunet_deploy.models.forecaster import StepInputs as StepInputs
from stunet_deploy.models.forecaster import StepOutputs as StepOutputs
from stunet_deploy.models.forecaster import unroll as unroll
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.models.signal import REMEMBERING, ForecastOutput, SignalInput
from stunet_deploy.models.stunet.decoders import DirectDecoder, Recent, RecurrentDecoder
from stunet_deploy.models.stunet.dilated import DilatedGCGRU, final_line, recent_states
from stunet_deploy.models.stunet.propagation import NodeOrder
from stunet_deploy.models.stunet.unet import RecurrentUNet

#: Prefix of the encoder's state entries and of its parameters.
ENCODER = "encoder."


class STUNet(Forecaster):
    """The spatio-temporal U-network (Yu, Yin, Zhu 2019): an encoder in a U, and a direct or a recurrent decoder.

    Args:
        config: the architecture.
        hierarchy: the prepared graphs; ``hierarchy.levels`` has one more entry than ``config.scales``.
        signal: features, limits and normalisation.
        profile: the table of :class:`DailyProfile`, [slot, node, target]; just where ``config.profile`` is set.
        usual: normalised mean reading of every sensor, [node, feature], to which the fill ``forecast`` returns; by
            default zeros, the mean of all sensors.

    Raises:
        ConfigError: if ``config.profile`` is set without a table, or the other way round.
    """

    family = "stunet"
    config: STUNetConfig
    usual: Tensor

    def __init__(
        self,
        config: STUNetConfig,
        hierarchy: GraphHierarchy,
        signal: Signal,
        profile: Tensor | None = None,
        usual: Tensor | None = None,
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
        self.order = NodeOrder(hierarchy.levels[0].slots)
        mean_of_all = torch.zeros(len(hierarchy.levels[0].adjacency), len(signal.features))
        self.register_buffer("usual", mean_of_all if usual is None else usual)
        self.all_targets = signal.targets == signal.features
        self.contract = self._contract()

    @classmethod
    def restored(cls, config: Mapping[str, Any], signal: Signal, graph: Any, weights: Mapping[str, Tensor]) -> STUNet:
        """Return the model that a checkpoint describes, without its weights."""
        hierarchy = GraphHierarchy.from_arrays({name: tensor.numpy() for name, tensor in graph.items()})
        settings = from_mapping(STUNetConfig, config)
        polynomials = 1 + hierarchy.levels[0].polynomials
        if settings.chebyshev_order != polynomials:
            raise CheckpointError(
                f"{settings.chebyshev_order} Chebyshev polynomials",
                f"{polynomials} as in the graph",
                "train again",
            )
        return cls(settings, hierarchy, signal, weights.get("profile.table"))

    def stored_graph(self) -> dict[str, Tensor]:
        """Return the prepared hierarchy by array name."""
        return {name: torch.from_numpy(array) for name, array in self.hierarchy.to_arrays().items()}

    def description(self) -> dict[str, Any]:
        """Return the config as JSON."""
        return asdict(self.config)

    def step(self, inputs: StepInputs, state: Mapping[str, Tensor]) -> tuple[StepOutputs, dict[str, Tensor]]:
        """Take one interval."""
        inputs = self._arranged(inputs)
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
            written[SUBSTITUTE] = filled if last else self._following(filled, inputs.observed, forecast, departures)
        return StepOutputs(self.output(self.order.back(forecast))), written

    def forward(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None = None,
        issued: Int64[Tensor, " issue"] | None = None,
        teacher: Teacher | None = None,
    ) -> tuple[Float[Tensor, "batch issue horizon node target"], dict[str, Tensor]]:
        """Take a whole sequence at once; with ``fill = "forecast"`` cut at every interval that misses something."""
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
        inputs = self._arranged(inputs)
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
            None
            if teacher is None
            else Teacher(self.order(pick(teacher.labels)), self.order(pick(teacher.known)), teacher.coins),
        )
        if self.config.fill == "last":
            final[SUBSTITUTE] = filled[None, :, -1]
        elif keep:
            latest = None if departures is None else departures[:, -1]
            final[SUBSTITUTE] = self._following(filled[:, -1], inputs.observed[:, -1], forecast[:, -1], latest)[None]
        wanted = forecast if issued is None else forecast[:, : len(issued)]
        return self.output(self.order.back(wanted)), final

    def _arranged(self, inputs: StepInputs) -> StepInputs:
        """Return the readings in the order that the network computes in."""
        return StepInputs(self.order(inputs.values), self.order(inputs.observed), inputs.time_of_week)

    def _departures(self, inputs: StepInputs, filled: Tensor, profile: Tensor | None) -> Tensor | None:
        """Return how far the profile, now and ahead, lies from the readings: [*batch, 1 + horizon, node, target]."""
        if self.profile is None:
            return None
        ahead = self.profile(inputs.time_of_week) if profile is None else profile
        return self.profile.departures(self.order(ahead), self._targets(filled))

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

    def _following(self, filled: Tensor, observed: Tensor, forecast: Tensor, departures: Tensor | None) -> Tensor:
        """Return what stands for a reading missing at the next interval with the fill ``forecast``.

        It is the forecast for it, and the filled value of features that have none. Where this interval misses the
        reading too, it goes a part of the way back to the sensor's usual day (to its mean, without a profile or a
        forecast): a model that is fed its own forecasts for longer than it was trained to forecast goes astray. The
        part, 2 / (1 + horizon), is that of an exponential moving average with a span of the horizon.

        Shapes: filled and observed [batch, node, feature], forecast [batch, horizon, node, target], departures [batch,
        1 + horizon, node, target], returned like ``filled``.
        """
        following = with_targets(filled, self.output.clip(forecast[..., 0, :, :]), self.signal)
        usual = self.order(self.usual).expand_as(filled)
        if departures is not None:
            usual = with_targets(usual, departures[..., 1, :, :] + self._targets(filled), self.signal)
        part = 2 / (1 + self.config.horizon)
        return torch.where(observed > 0.5, following, following + part * (usual - following))

    def _contract(self) -> StepContract:
        level, features = self.hierarchy.levels[0], len(self.signal.features)
        reading = ("batch", "node", "feature"), (None, len(level.slots.nodes), features)
        states = [StateSpec(SUBSTITUTE, *reading)] if self.config.fill in REMEMBERING else []
        for name, layer in self.encoder.layers.items():
            axes, shape = ("batch", "node", "channel"), (None, *layer.state_shape)
            taps = tuple(range(layer.dilation, 0, -1)) if self.config.decoder == "recurrent" else ()
            states.append(StateSpec(ENCODER + name, axes, shape, delay=layer.dilation, taps=taps))
        return forecaster_contract(len(level.adjacency), self.signal, self.config.horizon, tuple(states))
