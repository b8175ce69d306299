"""Structural-RNN: the factors of an st-graph as recurrent networks that nodes and edges of a type share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from stunet_deploy.config import Signal, SRNNConfig
from stunet_deploy.config_mapping import from_mapping
from stunet_deploy.contract import STATE, StateSpec
from stunet_deploy.errors import ConfigError
from stunet_deploy.models.fill import UNMARKED, Fill
from stunet_deploy.models.forecaster import (
    Forecaster,
    StepInputs,
    StepOutputs,
    Teacher,
    forecaster_contract,
    picked,
)
from stunet_deploy.models.memory import Looked
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.models.signal import SignalInput, with_targets
from stunet_deploy.models.srnn.cells import CellState, Factor, renewed, run_cell
from stunet_deploy.models.srnn.edges import ByType
from stunet_deploy.models.srnn.factors import Frame, STNetwork
from stunet_deploy.models.srnn.heads import Emitted, ValueHead, make_head
from stunet_deploy.st_graph.st_graph import STGraph

#: State entries: the features of the interval before, and who was present in it.
PREVIOUS, PRESENCE = "previous.features", "presence"


class StructuralRNN(Forecaster):
    """Structural-RNN (Jain, Zamir, Savarese, Saxena 2016) on one st-graph.

    Per interval and node v of type τ, with all nodes of a type as one axis::

        x_v, x_u of its edges of type e ──sum──▶ edgeRNN_e ──▶ h_(v,e) ─┐
        x_v now and one interval ago ──────────▶ edgeRNN_τ ──▶ h_(v,v) ─┼─▶ nodeRNN_τ ──▶ head_τ ──▶ forecast
        x_v, time ──▶ embedding ────────────────────────────────────────┘

    Weights belong to types, so their number does not depend on the number of nodes.

    Args:
        config: the architecture.
        graph: the st-graph; its channels are the cells of a reading [sensor, feature], row by row.
        signal: features, targets, limits and normalisation.
        profile: the table of :class:`DailyProfile`, [time of day, node, target], if ``config.profile`` is set.

    Raises:
        ConfigError: if config, graph, signal and profile do not fit together.
    """

    family = "srnn"
    config: SRNNConfig

    def __init__(self, config: SRNNConfig, graph: STGraph, signal: Signal, profile: Tensor | None = None) -> None:
        super().__init__()
        self.config, self.graph, self.signal = config, graph, signal
        features = len(signal.features)
        sensors = -(-graph.channels // features)
        masked = config.mask_channel and config.fill != UNMARKED and not config.presence
        self.input = SignalInput(signal, config.time_features, masked)
        self.fill = Fill(config.fill, self.input, horizon=config.horizon)
        self.profile = DailyProfile.of(config, profile)
        if self.profile is not None:
            _require_sensors(graph, features)
        copies = 2 if self.input.mask_channel else 1
        context = self.input.time.width + (0 if self.profile is None else self.profile.channels)
        self.network = STNetwork(config, graph, features, copies, sensors, context)
        self.dropout = nn.Dropout(0.0)
        self.head = make_head(graph, config, signal, sensors)
        if isinstance(self.head, ValueHead):
            self.output = self.head.output
        self.contract = forecaster_contract(sensors, signal, config.horizon, tuple(self._states(sensors, copies)))

    @classmethod
    def restored(
        cls, config: Mapping[str, Any], signal: Signal, graph: Any, weights: Mapping[str, Tensor]
    ) -> StructuralRNN:
        """Return the model that a checkpoint describes, without its weights."""
        return cls(from_mapping(SRNNConfig, config), STGraph.from_json(graph), signal, weights.get("profile.table"))

    def stored_graph(self) -> str:
        """Return the st-graph as JSON."""
        return self.graph.to_json()

    def description(self) -> dict[str, Any]:
        """Return config and st-graph as JSON."""
        return asdict(self.config) | {"st_graph": self.graph.to_json()}

    def step(self, inputs: StepInputs, state: Mapping[str, Tensor]) -> tuple[StepOutputs, dict[str, Tensor]]:
        """Take one interval."""
        usual = self._usual(inputs, None)
        filled = self.fill.step(inputs.values, inputs.observed, state, usual)
        before = state[STATE + PRESENCE] if self.config.presence else None
        frame = self._frame(inputs, filled, state[STATE + PREVIOUS], before, None)
        lines = {name.removeprefix(STATE): tensor for name, tensor in state.items()}
        hidden, written = self._interval(frame, lines)
        written |= self._remembered(frame, filled, usual)
        return StepOutputs(self._decode(hidden, written, frame, filled, inputs, None, None)), written

    def forward(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None = None,
        issued: Int64[Tensor, " issue"] | None = None,
        teacher: Teacher | None = None,
        looked: Looked | None = None,
    ) -> tuple[Float[Tensor, "batch issue horizon node target"], dict[str, Tensor]]:
        """Take a whole sequence at once: only the cells' recurrences go interval by interval."""
        usual = self._usual(inputs, profile)
        filled = self.fill.sequence(inputs.values, inputs.observed, lines, usual)
        features = self.input.mark(filled, inputs.observed)
        previous = torch.cat([lines[PREVIOUS][0].unsqueeze(1), features[:, :-1]], dim=1)
        before = None
        if self.config.presence:
            earlier = self.network.present(inputs.observed)[:, :-1]
            before = torch.cat([lines[PRESENCE][0].unsqueeze(1), earlier], dim=1)
        frame = self._frame(inputs, filled, previous, before, profile)
        final: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}

        def pick(sequence: Tensor) -> Tensor:
            return picked(sequence, issued)

        def run(name: str, factor: Factor, projected: Tensor, fresh: Tensor | None) -> Tensor:
            names = [f"{name}.{part}" for part in factor.cell.parts]
            states = run_cell(factor.cell, projected, tuple(lines[entry][0] for entry in names), fresh)
            parts = [torch.stack(part, dim=1) for part in zip(*states, strict=True)]
            final.update({entry: part[None, :, -1] for entry, part in zip(names, parts, strict=True)})
            if self.config.decoder == "recurrent":
                kept.update({entry: pick(part) for entry, part in zip(names, parts, strict=True)})
            return parts[0]

        hidden = {name: pick(states) for name, states in self.network(frame, run).items()}
        final |= {name: tensor[None, :, -1] for name, tensor in self._remembered(frame, filled, usual).items()}
        some = StepInputs(*map(pick, inputs))
        ahead = None if profile is None else pick(profile)
        told = None if teacher is None else teacher.mapped(pick)
        return self._decode(hidden, kept, frame.mapped(pick), pick(filled), some, ahead, told), final

    def _interval(self, frame: Frame, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the states of the nodeRNNs by node type, and all states after an interval by entry."""
        written: dict[str, Tensor] = {}

        def run(name: str, factor: Factor, projected: Tensor, fresh: Tensor | None) -> Tensor:
            names = [f"{name}.{part}" for part in factor.cell.parts]
            before: CellState = tuple(state[entry] for entry in names)
            after = factor.cell.update(projected, renewed(before, fresh))
            written.update(zip(names, after, strict=True))
            return after[0]

        return self.network(frame, run), written

    def targets(self, readings: Float[Tensor, "*batch node feature"]) -> Float[Tensor, "*batch node target"]:
        """Return the target features of the readings."""
        # Indexed even where every feature is a target, as in all bundles made so far: equal models, equal bytes.
        return readings[..., list(self.signal.target_index)]

    def _decode(
        self,
        hidden: ByType,
        state: Mapping[str, Tensor],
        frame: Frame,
        filled: Tensor,
        inputs: StepInputs,
        profile: Tensor | None,
        teacher: Teacher | None,
    ) -> Tensor:
        """Return the forecast of every horizon, [*batch, horizon, node, target]."""
        if self.config.decoder == "direct":
            return self._emit(hidden, filled, self._base(filled, inputs, profile)).forecast
        forecasts = []
        for ahead in range(self.config.horizon):
            emitted = self._emit(hidden, filled, filled.unsqueeze(-3) if self.config.residual else None)
            forecasts.append(emitted.forecast)
            if ahead + 1 == self.config.horizon or emitted.ahead is None:
                break
            filled = emitted.ahead.squeeze(-3)
            if teacher is not None:
                filled = with_targets(filled, teacher.after(ahead, self.targets(filled)), self.signal)
            features = self.input.mark(filled, torch.ones_like(filled))  # as if it had been observed
            frame = Frame(features, frame.features, frame.context, frame.present)
            hidden, state = self._interval(frame, state)
        return torch.cat(forecasts, dim=-3)

    def _emit(self, hidden: ByType, filled: Tensor, base: Tensor | None) -> Emitted:
        emitted: Emitted = self.head({name: self.dropout(states) for name, states in hidden.items()}, filled, base)
        return emitted

    def _base(self, filled: Tensor, inputs: StepInputs, profile: Tensor | None) -> Tensor | None:
        """Return the start of residual direct forecasts, [*batch, ahead, node, feature]."""
        base = filled.unsqueeze(-3) if self.config.residual else None
        deviations = self.deviations(self.usual_day(inputs.time_of_week, profile), filled)
        if base is None or self.profile is None or deviations is None:
            return base
        start = self.profile.start(self.targets(base), deviations)
        return with_targets(base.expand(*start.shape[:-1], base.shape[-1]), start, self.signal)

    def _frame(
        self, inputs: StepInputs, filled: Tensor, previous: Tensor, before: Tensor | None, profile: Tensor | None
    ) -> Frame:
        features = self.input.mark(filled, inputs.observed)
        time = self.input.time(inputs.time_of_week).unsqueeze(-2)
        context = {
            name: time.expand(*time.shape[:-2], size, time.shape[-1]) for name, size in self.network.sizes.items()
        }
        deviations = self.deviations(self.usual_day(inputs.time_of_week, profile), filled)
        if deviations is not None:
            of_type = self.network.by_type(deviations.movedim(-3, -2).flatten(-2))
            context = {name: torch.cat([part, of_type[name]], dim=-1) for name, part in context.items()}
        present = joined = None
        if before is not None:
            present = self.network.present(inputs.observed)
            joined = torch.where(before > 0.5, 0.0, present)
        return Frame(features, previous, context, present, joined)

    def _usual(self, inputs: StepInputs, profile: Tensor | None) -> Tensor:
        """Return the usual readings, [*batch, sensor, feature]; the mean is that of all sensors."""
        return self.usual_reading(self.usual_day(inputs.time_of_week, profile), torch.zeros_like(inputs.values))

    def _remembered(self, frame: Frame, filled: Tensor, usual: Tensor) -> dict[str, Tensor]:
        """Return the states that no factor writes."""
        remembered = {PREVIOUS: frame.features} | self.fill.written(filled, usual)
        if frame.present is not None:
            remembered[PRESENCE] = frame.present
        return remembered

    def _states(self, sensors: int, copies: int) -> Iterator[StateSpec]:
        yield from self.fill.states(sensors)
        yield StateSpec(PREVIOUS, ("batch", "node", "channel"), (None, sensors, len(self.signal.features) * copies))
        if self.config.presence:
            yield StateSpec(PRESENCE, ("batch", "node"), (None, len(self.graph.nodes)))
        for name, (factor, rows) in self.network.rows().items():
            for part in factor.cell.parts:
                yield StateSpec(f"{name}.{part}", ("batch", "row", "hidden"), (None, rows, factor.cell.hidden))


def _require_sensors(graph: STGraph, features: int) -> None:
    if [node.slice for node in graph.nodes] != [(n * features, (n + 1) * features) for n in range(len(graph.nodes))]:
        raise ConfigError("model.profile with nodes that are no sensors", "a node per sensor", "set profile to false")
