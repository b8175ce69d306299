"""ST-UNet: graph-convolutional GRUs in a U over space (pooled graphs) and time (dilated recurrence)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from stunet_deploy.config import Signal, STUNetConfig
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.contract import STATE, StateSpec, StepContract
from stunet_deploy.errors import CheckpointError
from stunet_deploy.graph.hierarchy import GraphHierarchy
from stunet_deploy.models.fill import UNMARKED, Fill, Outlook
from stunet_deploy.models.forecaster import (
    Forecaster,
    StepInputs,
    StepOutputs,
    Teacher,
    forecaster_contract,
    picked,
)
from stunet_deploy.models.memory import Looked, WeekMemory
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.models.sensors import SensorStatistics
from stunet_deploy.models.signal import ForecastOutput, SignalInput
from stunet_deploy.models.stunet.decoders import DirectDecoder, Known, Recent, RecurrentDecoder
from stunet_deploy.models.stunet.dilated import DilatedGCGRU, final_line, recent_states
from stunet_deploy.models.stunet.knowledge import Knowledge, Present
from stunet_deploy.models.stunet.propagation import NodeOrder
from stunet_deploy.models.stunet.unet import RecurrentUNet, RunLayer

#: Prefix of the encoder's state entries and of its parameters.
ENCODER = "encoder."


class STUNet(Forecaster):
    """The spatio-temporal U-network (Yu, Yin, Zhu 2019): an encoder in a U, and a direct or a recurrent decoder.

    Args:
        config: the architecture.
        hierarchy: the prepared graphs; ``hierarchy.levels`` has one more entry than ``config.scales``.
        signal: features, limits and normalisation.
        profile: the table of :class:`DailyProfile`, [time of day, node, target], if ``config.profile`` is set.
        sensors: statistics of every sensor; by default all are alike. To their mean two fills return.

    Raises:
        ConfigError: if ``config.profile`` is set without a table, or the other way round.
    """

    family = "stunet"
    config: STUNetConfig
    usual: Tensor
    static: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        config: STUNetConfig,
        hierarchy: GraphHierarchy,
        signal: Signal,
        profile: Tensor | None = None,
        sensors: SensorStatistics | None = None,
    ) -> None:
        super().__init__()
        self.config, self.hierarchy, self.signal = config, hierarchy, signal
        targets = len(signal.targets)
        self.input = SignalInput(signal, config.time_features, config.mask_channel and config.fill != UNMARKED)
        self.profile = DailyProfile.of(config, profile)
        direct = config.decoder == "direct"
        self.order = NodeOrder(hierarchy.levels[0].slots)
        self.knowledge: Knowledge | None = None
        if direct and config.lags:
            self.knowledge = Knowledge(config, self.input, self.profile, self.order, targets)
        channels = self.input.channels
        if self.profile is not None:
            channels += self.profile.channels if self._told_ahead else targets
        self.encoder: RecurrentUNet | None = None
        if config.hidden:
            self.encoder = RecurrentUNet(config, hierarchy, channels, output_read=direct)
        self.decoder: DirectDecoder | RecurrentDecoder
        if direct:
            inputs = None if self.knowledge is None else self.knowledge.inputs
            self.decoder = DirectDecoder(config, hierarchy, targets, inputs)
        else:
            self.decoder = RecurrentDecoder(config, hierarchy, targets, 0 if self.profile is None else targets)
        self.output = ForecastOutput(signal)
        self.fill = Fill(config.fill, self.input, self.output, config.horizon)
        nodes = len(hierarchy.levels[0].adjacency)
        known = sensors or SensorStatistics.neutral(nodes, len(signal.features), targets)
        # Its name in checkpoints and step graphs is older than that of `sensor_mean`, and stays.
        self.register_buffer("usual", known.mean)
        self.register_buffer("static", known.static if self.knowledge is not None and config.static_features else None)
        self.register_buffer("scale", known.scale if direct and config.residual and config.sensor_scale else None)
        self.contract = self._contract()

    @property
    def sensor_mean(self) -> Float[Tensor, "node feature"]:
        """Normalised mean reading of every sensor."""
        return self.usual

    @property
    def memory(self) -> WeekMemory | None:
        """What is remembered of the last week; None for a model without."""
        return None if self.knowledge is None else self.knowledge.memory

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

    def alone(self, member: int = 0) -> STUNet | None:
        """Return the network of one perceptron without encoder; None where there is no encoder to leave out.

        It shares the weights of that perceptron, the profile and the tables.
        """
        if self.encoder is None or not isinstance(self.decoder, DirectDecoder) or not self.decoder.members:
            return None
        table = None if self.profile is None else self.profile.table
        other = STUNet(replace(self.config, hidden=0, members=1), self.hierarchy, self.signal, table)
        other.usual, other.static, other.scale = self.usual, self.static, self.scale
        other.profile = self.profile
        assert isinstance(other.decoder, DirectDecoder)
        assert other.decoder.perceptron is not None
        other.decoder.perceptron.share(self.decoder.members[member])
        return other

    def stored_graph(self) -> dict[str, Tensor]:
        """Return the prepared hierarchy by array name."""
        return {name: torch.from_numpy(array) for name, array in self.hierarchy.to_arrays().items()}

    def description(self) -> dict[str, Any]:
        """Return the config as JSON."""
        return asdict(self.config)

    def step(self, inputs: StepInputs, state: Mapping[str, Tensor]) -> tuple[StepOutputs, dict[str, Tensor]]:
        """Take one interval."""
        inputs = self._arranged(inputs)
        day = self.usual_day(inputs.time_of_week, None)
        usual = self.usual_reading(day, self.arranged(self.sensor_mean).expand_as(inputs.values))
        filled = self.fill.step(inputs.values, inputs.observed, state, usual)
        written: dict[str, Tensor] = {}

        def run_layer(name: str, layer: DilatedGCGRU, projected: Tensor) -> Tensor:
            output, written[ENCODER + name] = layer.step(projected, state[STATE + ENCODER + name])
            return output

        deviations = self.deviations(day, filled)
        encoded = self._encode(inputs, filled, self._told(deviations), run_layer)
        recent: Recent = {}
        if isinstance(self.decoder, RecurrentDecoder):
            assert self.encoder is not None
            taps = {(tap.state.name, tap.age): state[tap.name] for tap in self.contract.taps}
            recent = {
                name: [
                    *(taps[ENCODER + name, age] for age in range(layer.dilation - 1, 0, -1)),
                    written[ENCODER + name],
                ]
                for name, layer in self.encoder.layers.items()
            }
        known: Known | None = None
        if self.knowledge is not None:
            present, ahead = self._present(inputs.observed, filled, deviations), self._as_channels(deviations)
            known, noted = self.knowledge.step(present, ahead, inputs.time_of_week, state)
            written |= noted
        forecast = self._decode(encoded, recent, filled, deviations, known)
        written |= self.fill.written(filled, usual, self._outlook(inputs.observed, forecast, deviations))
        return StepOutputs(self.output(self.order.back(forecast))), written

    def forward(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None = None,
        issued: Int64[Tensor, " issue"] | None = None,
        teacher: Teacher | None = None,
        looked: Looked | None = None,
    ) -> tuple[Float[Tensor, "batch issue horizon node target"], dict[str, Tensor]]:
        """Take a whole sequence at once, or in the pieces that its fill allows."""
        current, forecasts = dict(lines), list[Tensor]()
        for rows, decoded, wanted in self.fill.pieces(inputs.observed, issued):
            forecast, current = self._piece(
                inputs.at(rows),
                current,
                None if profile is None else profile[:, rows],
                decoded,
                None if teacher is None else teacher.at(rows),
                looked,
            )
            forecasts.append(forecast[:, :wanted])
        return torch.cat(forecasts, dim=1), current

    def _piece(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None,
        issued: Tensor | None,
        teacher: Teacher | None,
        looked: Looked | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take a sequence in which no substitute depends on a forecast made within it; see :meth:`forward`."""
        inputs = self._arranged(inputs)
        day = self.usual_day(inputs.time_of_week, profile)
        usual = self.usual_reading(day, self.arranged(self.sensor_mean).expand_as(inputs.values))
        filled = self.fill.sequence(inputs.values, inputs.observed, lines, usual)
        final: dict[str, Tensor] = {}
        recent: dict[str, list[Tensor]] = {}

        def run_layer(name: str, layer: DilatedGCGRU, projected: Tensor) -> Tensor:
            line = lines[ENCODER + name]
            output, states = layer(projected, line)
            final[ENCODER + name] = final_line(line, states)
            if isinstance(self.decoder, RecurrentDecoder):
                recent[name] = [picked(aged, issued) for aged in recent_states(line, states)]
            result: Tensor = output
            return result

        told = self.deviations(self._told(day), filled)
        encoded = self._encode(inputs, filled, told, run_layer)
        # The whole way ahead only where it is wanted: of a window that is one interval of twelve.
        issued_day, issued_filled = None if day is None else picked(day, issued), picked(filled, issued)
        deviations = self.deviations(issued_day, issued_filled)
        known: Known | None = None
        if self.knowledge is not None:
            if looked is not None:
                looked = Looked(self._in_own_units(looked.departures), looked.known)
            present, ahead = self._present(inputs.observed, filled, told), self._as_channels(deviations)
            known, noted = self.knowledge.sequence(present, ahead, inputs.time_of_week, lines, issued, looked)
            final |= noted
        forecast = self._decode(
            None if encoded is None else picked(encoded, issued),
            recent,
            issued_filled,
            deviations,
            known,
            None if teacher is None else teacher.mapped(lambda labels: self.arranged(picked(labels, issued))),
        )
        last = slice(-1, None)
        outlook = self._outlook(
            inputs.observed[:, last], forecast[:, last], None if deviations is None else deviations[:, last]
        )
        for name, tensor in self.fill.written(filled[:, last], usual[:, last], outlook).items():
            final[name] = tensor.transpose(0, 1)
        return self.output(self.order.back(forecast)), final

    def arranged(self, rows: Shaped[Tensor, "*batch node channel"]) -> Shaped[Tensor, "*batch row channel"]:
        """Return the rows of the sensors in the order that the network computes in."""
        ordered: Tensor = self.order(rows)
        return ordered

    def remembered(self, inputs: StepInputs, lines: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the lasting lines after a sequence, without running the network."""
        if self.memory is None:
            return {}
        inputs = self._arranged(inputs)
        readings = torch.where(inputs.observed > 0.5, self.input.normalise(inputs.values), 0.0)
        told = self.deviations(self._told(self.usual_day(inputs.time_of_week, None)), readings)
        departed = self._present(inputs.observed, readings, told).observed
        none = torch.empty(0, dtype=torch.long)
        before = {name: lines[name][0] for name in self.contract.lasting}
        _, week = self.memory.sequence(departed, inputs.time_of_week, before, none)
        return {name: tensor[None] for name, tensor in week.items()}

    @property
    def _told_ahead(self) -> bool:
        """Whether the encoder receives the profile ahead: without a perceptron nothing else does."""
        return self.config.profile_ahead or self.knowledge is None

    def _arranged(self, inputs: StepInputs) -> StepInputs:
        return StepInputs(self.order(inputs.values), self.order(inputs.observed), inputs.time_of_week)

    def _told(self, ahead: Tensor | None) -> Tensor | None:
        """Return the part of a profile, or of deviations from it, that the encoder receives; the first is of now."""
        return ahead if ahead is None or self._told_ahead else ahead[..., :1, :, :]

    def _encode(self, inputs: StepInputs, filled: Tensor, told: Tensor | None, run_layer: RunLayer) -> Tensor | None:
        """Return the encoder's output, [*batch, node, hidden]; None for a network without encoder."""
        if self.encoder is None:
            return None
        x = self.input.channelise(filled, inputs.observed, inputs.time_of_week)
        channels = self._as_channels(told)
        if channels is not None:
            x = torch.cat([x, channels], dim=-1)
        encoded: Tensor = self.encoder(x, run_layer)
        return encoded

    def _scaled(self, departures: Float[Tensor, "*batch node target"]) -> Float[Tensor, "*batch node target"]:
        """Return departures in units of the sensors' own."""
        return departures if self.scale is None else departures / self.arranged(self.scale)

    def _in_own_units(
        self, looked: Float[Tensor, "batch issue node target look"]
    ) -> Float[Tensor, "batch issue row target look"]:
        """Return what was looked up for the sensors, in the order of the rows and in units of the sensors' own."""
        scaled = looked if self.scale is None else looked / self.scale[..., None]
        return torch.unflatten(self.arranged(scaled.flatten(-2)), -1, looked.shape[-2:])

    def _as_channels(
        self, deviations: Float[Tensor, "*batch ahead node target"] | None
    ) -> Float[Tensor, "*batch node own"] | None:
        """Return the deviations of every node side by side, in units of its own; None for a model without profile."""
        return None if deviations is None else self._scaled(deviations).movedim(-3, -2).flatten(-2)

    def _present(self, observed: Tensor, filled: Tensor, deviations: Tensor | None) -> Present:
        """Return an interval, or several, as the perceptron is told of it; the first deviation is that of now."""
        level = self.targets(filled)
        reading = self._scaled(level)
        departed = reading if deviations is None else self._scaled(-deviations[..., 0, :, :])
        seen = (self.targets(observed) > 0.5).to(departed.dtype)
        return Present(departed, seen, reading, level)

    def _decode(
        self,
        encoded: Tensor | None,
        recent: Recent,
        filled: Tensor,
        deviations: Tensor | None,
        known: Known | None,
        teacher: Teacher | None = None,
    ) -> Tensor:
        """Return the normalised forecast [*batch, horizon, node, target]."""
        targets = self.targets(filled)
        base = targets.unsqueeze(-3) if self.config.residual else None
        if base is not None and deviations is not None and self.profile is not None:
            base = self.profile.start(base, deviations)
        if isinstance(self.decoder, DirectDecoder):
            static, scale = (None if table is None else self.arranged(table) for table in (self.static, self.scale))
            forecast: Tensor = self.decoder(encoded, base, known, static, scale)
        else:
            ahead = None if deviations is None else deviations[..., 1:, :, :]
            forecast = self.decoder(recent, torch.zeros_like(targets), base, ahead, teacher)
        return forecast

    def _outlook(self, observed: Tensor, forecast: Tensor, deviations: Tensor | None) -> Outlook:
        return Outlook(observed, forecast, deviations, lambda: self.arranged(self.sensor_mean))

    def _contract(self) -> StepContract:
        level = self.hierarchy.levels[0]
        states = list(self.fill.states(len(level.slots.nodes)))
        states += [] if self.knowledge is None else self.knowledge.states(len(level.slots.nodes))
        for name, layer in ({} if self.encoder is None else self.encoder.layers).items():
            axes, shape = ("batch", "node", "channel"), (None, *layer.state_shape)
            taps = tuple(range(layer.dilation, 0, -1)) if self.config.decoder == "recurrent" else ()
            states.append(StateSpec(ENCODER + name, axes, shape, delay=layer.dilation, taps=taps))
        return forecaster_contract(len(level.adjacency), self.signal, self.config.horizon, tuple(states))
