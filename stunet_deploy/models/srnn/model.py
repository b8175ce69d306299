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
from stunet_deploy.models.forecaster import (
    SUBSTITUTE,
    Forecaster,
    StepInputs,
    StepOutputs,
    Teacher,
    forecaster_contract,
    with_targets,
)
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.models.signal import REMEMBERING, SignalInput
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
        profile: the table of :class:`DailyProfile`, [slot, node, target]; just where ``config.profile`` is set.

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
        self.input = SignalInput(signal, config.fill, config.time_features, config.mask_channel and not config.presence)
        self.profile = _profile(config, graph, features, profile)
        copies = 2 if self.input.mask_channel else 1
        context = len(self.input.period) + (0 if self.profile is None else self.profile.channels)
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
        substitute = state[STATE + SUBSTITUTE] if self.config.fill in REMEMBERING else self.input.constant()
        filled = self.input.fill_step(inputs.values, inputs.observed, substitute)
        before = state[STATE + PRESENCE] if self.config.presence else None
        frame = self._frame(inputs, filled, state[STATE + PREVIOUS], before, None)
        lines = {name.removeprefix(STATE): tensor for name, tensor in state.items()}
        hidden, written = self._interval(frame, lines)
        written |= self._remembered(frame, filled)
        return StepOutputs(self._decode(hidden, written, frame, filled, inputs, None, None)), written

    def forward(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None = None,
        issued: Int64[Tensor, " issue"] | None = None,
        teacher: Teacher | None = None,
    ) -> tuple[Float[Tensor, "batch issue horizon node target"], dict[str, Tensor]]:
        """Take a whole sequence at once: only the cells' recurrences go interval by interval."""
        substitute = lines[SUBSTITUTE][0] if self.config.fill in REMEMBERING else self.input.constant()
        filled = self.input.fill_sequence(inputs.values, inputs.observed, substitute)
        features = self.input.mark(filled, inputs.observed)
        previous = torch.cat([lines[PREVIOUS][0].unsqueeze(1), features[:, :-1]], dim=1)
        before = None
        if self.config.presence:
            earlier = self.network.present(inputs.observed)[:, :-1]
            before = torch.cat([lines[PRESENCE][0].unsqueeze(1), earlier], dim=1)
        frame = self._frame(inputs, filled, previous, before, profile)

        def pick(sequence: Tensor) -> Tensor:
            return sequence if issued is None else sequence.index_select(1, issued)

        final: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}

        def run(name: str, factor: Factor, projected: Tensor, fresh: Tensor | None) -> Tensor:
            names = [f"{name}.{part}" for part in factor.cell.parts]
            states = run_cell(factor.cell, projected, tuple(lines[entry][0] for entry in names), fresh)
            parts = [torch.stack(part, dim=1) for part in zip(*states, strict=True)]
            final.update({entry: part[None, :, -1] for entry, part in zip(names, parts, strict=True)})
            if self.config.decoder == "recurrent":
                kept.update({entry: pick(part) for entry, part in zip(names, parts, strict=True)})
            return parts[0]

        hidden = {name: pick(states) for name, states in self.network(frame, run).items()}
        final |= {name: tensor[None, :, -1] for name, tensor in self._remembered(frame, filled).items()}
        picked = Frame(
            pick(frame.features),
            pick(frame.previous),
            {name: pick(context) for name, context in frame.context.items()},
            None if frame.present is None else pick(frame.present),
        )
        some = StepInputs(*map(pick, inputs))
        if teacher is not None:
            teacher = Teacher(pick(teacher.labels), pick(teacher.known), teacher.coins)
        ahead = None if profile is None else pick(profile)
        return self._decode(hidden, kept, picked, pick(filled), some, ahead, teacher), final

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
                told = teacher.known[..., ahead, :, :] & teacher.coins[ahead + 1]
                labels = torch.where(told, teacher.labels[..., ahead, :, :], self._targets(filled))
                filled = with_targets(filled, labels, self.signal)
            features = self.input.mark(filled, torch.ones_like(filled))  # as if it had been observed
            frame = Frame(features, frame.features, frame.context, frame.present)
            hidden, state = self._interval(frame, state)
        return torch.cat(forecasts, dim=-3)

    def _emit(self, hidden: ByType, filled: Tensor, base: Tensor | None) -> Emitted:
        emitted: Emitted = self.head({name: self.dropout(states) for name, states in hidden.items()}, filled, base)
        return emitted

    def _base(self, filled: Tensor, inputs: StepInputs, profile: Tensor | None) -> Tensor | None:
        """Return what direct forecasts are differences to, [*batch, ahead, node, feature]."""
        base = filled.unsqueeze(-3) if self.config.residual else None
        departures = self._departures(inputs, filled, profile)
        if base is None or self.profile is None or departures is None:
            return base
        start = self.profile.start(self._targets(base), departures[..., 1:, :, :])
        return with_targets(base.expand(*start.shape[:-1], base.shape[-1]), start, self.signal)

    def _departures(self, inputs: StepInputs, filled: Tensor, profile: Tensor | None) -> Tensor | None:
        """Return how far the profile, now and ahead, lies from the readings: [*batch, 1 + horizon, node, target]."""
        if self.profile is None:
            return None
        ahead = self.profile(inputs.time_of_week) if profile is None else profile
        return self.profile.departures(ahead, self._targets(filled))

    def _targets(self, filled: Tensor) -> Tensor:
        """Return the target features of [*batch, node, feature]."""
        return filled[..., list(self.signal.target_index)]

    def _frame(
        self, inputs: StepInputs, filled: Tensor, previous: Tensor, before: Tensor | None, profile: Tensor | None
    ) -> Frame:
        features = self.input.mark(filled, inputs.observed)
        time = self.input.time_channels(inputs.time_of_week).unsqueeze(-2)
        context = {
            name: time.expand(*time.shape[:-2], size, time.shape[-1]) for name, size in self.network.sizes.items()
        }
        departures = self._departures(inputs, filled, profile)
        if departures is not None:
            by_node = departures.movedim(-3, -2).flatten(-2)
            of_type = self.network.by_type(by_node)
            context = {name: torch.cat([part, of_type[name]], dim=-1) for name, part in context.items()}
        if before is None:
            return Frame(features, previous, context)
        present = self.network.present(inputs.observed)
        return Frame(features, previous, context, present, torch.where(before > 0.5, 0.0, present))

    def _remembered(self, frame: Frame, filled: Tensor) -> dict[str, Tensor]:
        """Return the states that no factor writes."""
        remembered = {PREVIOUS: frame.features}
        if frame.present is not None:
            remembered[PRESENCE] = frame.present
        if self.config.fill in REMEMBERING:
            remembered[SUBSTITUTE] = filled
        return remembered

    def _states(self, sensors: int, copies: int) -> Iterator[StateSpec]:
        reading = ("batch", "node", "feature"), (None, sensors, len(self.signal.features))
        if self.config.fill in REMEMBERING:
            yield StateSpec(SUBSTITUTE, *reading)
        yield StateSpec(PREVIOUS, ("batch", "node", "channel"), (None, sensors, len(self.signal.features) * copies))
        if self.config.presence:
            yield StateSpec(PRESENCE, ("batch", "node"), (None, len(self.graph.nodes)))
        for name, (factor, rows) in self.network.rows().items():
            for part in factor.cell.parts:
                yield StateSpec(f"{name}.{part}", ("batch", "row", "hidden"), (None, rows, factor.cell.hidden))


def _profile(config: SRNNConfig, graph: STGraph, features: int, table: Tensor | None) -> DailyProfile | None:
    if config.profile != (table is not None):
        found = "no table" if table is None else "a table"
        raise ConfigError(f"model.profile = {config.profile} with {found}", "both or neither", "train the model again")
    if table is None:
        return None
    if [node.slice for node in graph.nodes] != [(n * features, (n + 1) * features) for n in range(len(graph.nodes))]:
        raise ConfigError("model.profile with nodes that are no sensors", "a node per sensor", "set profile to false")
    return DailyProfile(table, config.horizon, config.residual)
