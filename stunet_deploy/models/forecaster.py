"""The interface of a model family to training, export and evaluation: a step by contract, and the same on sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from stunet_deploy.config import Signal, SRNNConfig, STUNetConfig
from stunet_deploy.contract import StateSpec, StepContract, TensorSpec
from stunet_deploy.models.fill import Fill
from stunet_deploy.models.memory import Looked
from stunet_deploy.models.profile import DailyProfile
from stunet_deploy.models.signal import ForecastOutput, targets_of, with_targets


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

    def at(self, intervals: int | slice) -> StepInputs:
        """Return one interval of a sequence, or some of them."""
        return StepInputs(*(tensor[:, intervals] for tensor in self))


class StepOutputs(NamedTuple):
    """Outputs of one interval: ``forecast`` [batch, horizon, node, target] in physical units."""

    forecast: Tensor


class Teacher(NamedTuple):
    """Labels that a recurrent decoder is fed in training instead of its own forecast.

    Attributes:
        labels: normalised, anything where unknown.
        known: which labels were observed; elsewhere the decoder is fed its own forecast.
        coins: whether the step of a horizon is fed the label of the horizon before; the first is fed nothing anyway.
    """

    labels: Float[Tensor, "*batch horizon node target"]
    known: Bool[Tensor, "*batch horizon node target"]
    coins: Bool[Tensor, " horizon"]

    def at(self, intervals: slice) -> Teacher:
        """Return the labels of some intervals of a sequence."""
        return self.mapped(lambda labels: labels[:, intervals])

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Teacher:
        """Return labels and known after a function."""
        return Teacher(function(self.labels), function(self.known), self.coins)

    def after(self, ahead: int, forecast: Float[Tensor, "*batch node target"]) -> Float[Tensor, "*batch node target"]:
        """Return the input of the step after ``ahead``: labels where they are known and its coin says so."""
        told = self.known[..., ahead, :, :] & self.coins[ahead + 1]
        return torch.where(told, self.labels[..., ahead, :, :], forecast)


class Forecaster(nn.Module, ABC):
    """A model family's base: everything beyond the models knows this and the contract, never a class below it.

    Attributes:
        family: name in checkpoints, bundles and on the command line.
        config: the architecture; has ``horizon``, ``window``, ``decoder`` and ``fill`` in every family.
        signal: features, targets, limits and normalisation.
        contract: inputs, outputs and state of one step.
        output: to and from physical units; only where the targets are input features.
        fill: the filling of unobserved readings.
        profile: the mean day of every sensor, where the model has it.
    """

    family: ClassVar[str]
    config: STUNetConfig | SRNNConfig
    signal: Signal
    contract: StepContract
    output: ForecastOutput
    fill: Fill
    profile: DailyProfile | None

    @classmethod
    @abstractmethod
    def restored(
        cls, config: Mapping[str, Any], signal: Signal, graph: Any, weights: Mapping[str, Tensor]
    ) -> Forecaster:
        """Return the model that :meth:`stored_graph`, its config and its weights describe, without the weights.

        Raises:
            StunetError: if they contradict one another.
        """

    @abstractmethod
    def stored_graph(self) -> dict[str, Tensor] | str:
        """Return the prepared graph as a checkpoint holds it: tensors by name, or JSON."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Return the architecture as JSON, for manifests and reports."""

    @abstractmethod
    def step(self, inputs: StepInputs, state: Mapping[str, Tensor]) -> tuple[StepOutputs, dict[str, Tensor]]:
        """Take one interval.

        Args:
            inputs: the interval's readings, without time axis.
            state: for every tap of the contract its tensor [batch, ...], by the tap's name.

        Returns:
            The forecast, and for every state entry the tensor to be read ``delay`` intervals later, by entry name.
        """

    @abstractmethod
    def forward(
        self,
        inputs: StepInputs,
        lines: Mapping[str, Tensor],
        profile: Tensor | None = None,
        issued: Int64[Tensor, " issue"] | None = None,
        teacher: Teacher | None = None,
        looked: Looked | None = None,
    ) -> tuple[Float[Tensor, "batch issue horizon node target"], dict[str, Tensor]]:
        """Take a whole sequence at once: the same result as :meth:`step` interval by interval, faster.

        Args:
            inputs: readings of at least one interval, with a time axis after ``batch``.
            lines: the states before the sequence, [delay, batch, ...] per entry, oldest first.
            profile: in training, replaces the model's own profile: [batch, time, 1 + horizon, node, target], made
                without the day that a row is from.
            issued: the intervals whose forecasts are wanted, ascending; all by default.
            teacher: in training, the labels that a recurrent decoder is fed, [batch, time, ...].
            looked: in training, with a fill other than ``forecast``, replaces what a memory of the week would look up
                at the wanted intervals.

        Returns:
            The forecast after every interval that is wanted, and the lines after the last interval.
        """

    def remembered(self, inputs: StepInputs, lines: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the lines of the contract's lasting entries after a sequence, without running the network.

        Args:
            inputs: readings with a time axis after ``batch``, in order, with gaps of any length.
            lines: the states before them.
        """
        return {}

    @property
    def sensors(self) -> int:
        """Length of the node axis."""
        return int(self.contract.inputs[0].shape[1] or 0)

    def initial_lines(self, batch: int) -> dict[str, Tensor]:
        """Return the lines of a fresh stream: zeros [delay, batch, ...] per state entry, not to be written into."""
        zero = next(self.parameters()).new_zeros(())  # one in memory: a week of many windows is large, and rarely read
        return {s.name: zero.expand(s.delay, *s.with_batch(batch)) for s in self.contract.states}

    def arranged(self, rows: Shaped[Tensor, "*batch node channel"]) -> Shaped[Tensor, "*batch row channel"]:
        """Return the rows of the sensors in the order that the network computes in; by default their own."""
        return rows

    def targets(self, readings: Float[Tensor, "*batch node feature"]) -> Float[Tensor, "*batch node target"]:
        """Return the target features of the readings."""
        return targets_of(readings, self.signal)

    def usual_day(
        self,
        time_of_week: Float[Tensor, "*batch 1"],
        profile: Float[Tensor, "*batch ahead node target"] | None,
    ) -> Float[Tensor, "*batch ahead node target"] | None:
        """Return the profile now and at every horizon, arranged; None for a model without profile.

        Args:
            time_of_week: of the present interval.
            profile: in training, replaces the model's own profile.
        """
        if self.profile is None:
            return None
        return self.arranged(self.profile(time_of_week) if profile is None else profile)

    def usual_reading(
        self, day: Float[Tensor, "*batch ahead node target"] | None, mean: Float[Tensor, "*batch node feature"]
    ) -> Float[Tensor, "*batch node feature"]:
        """Return the usual readings of the present interval: of targets the profile's, of the rest their mean.

        Args:
            day: see :meth:`usual_day`.
            mean: normalised mean readings.
        """
        return mean if day is None else with_targets(mean, day[..., 0, :, :], self.signal)

    def deviations(
        self,
        day: Float[Tensor, "*batch ahead node target"] | None,
        filled: Float[Tensor, "*batch node feature"],
    ) -> Float[Tensor, "*batch ahead node target"] | None:
        """Return the profile minus the present reading, now and at every horizon; None for a model without profile.

        Args:
            day: see :meth:`usual_day`.
            filled: the present reading, arranged and normalised.
        """
        return None if day is None else day - self.targets(filled).unsqueeze(-3)


def forecaster_contract(sensors: int, signal: Signal, horizon: int, states: tuple[StateSpec, ...]) -> StepContract:
    """Return the contract of a step that forecasts, the same in every family but for the states."""
    reading = ("batch", "node", "feature"), (None, sensors, len(signal.features))
    forecast = ("batch", "horizon", "node", "target"), (None, horizon, sensors, len(signal.targets))
    return StepContract(
        inputs=(
            TensorSpec("values", *reading),
            TensorSpec("observed", *reading),
            TensorSpec("time_of_week", ("batch", "second"), (None, 1)),
        ),
        outputs=(TensorSpec("forecast", *forecast),),
        states=states,
    )


def picked(
    sequence: Shaped[Tensor, "batch time *rest"], issued: Int64[Tensor, " issue"] | None
) -> Shaped[Tensor, "batch issue *rest"]:
    """Return the intervals of a sequence whose forecasts are wanted; all of them with None."""
    return sequence if issued is None else sequence.index_select(1, issued)


def unroll(
    model: Forecaster, inputs: StepInputs, lines: Mapping[str, Tensor]
) -> tuple[Float[Tensor, "batch time horizon node target"], dict[str, Tensor]]:
    """Take a sequence step by step, as the runtime does: the definition of ``forward``."""
    current, forecasts = dict(lines), []
    for interval in range(inputs.values.shape[1]):
        taps = {tap.name: current[tap.state.name][tap.state.delay - tap.age] for tap in model.contract.taps}
        outputs, written = model.step(inputs.at(interval), taps)
        current = {name: torch.cat([line, written[name][None]])[1:] for name, line in current.items()}
        forecasts.append(outputs.forecast)
    return torch.stack(forecasts, dim=1), current
