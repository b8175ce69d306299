"""The objective of a training: the loss of a batch of chunks, with its random changes of the inputs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stunet_deploy.config import TrainingConfig
from stunet_deploy.models.forecaster import Forecaster, Teacher
from training.data import TensorSeries
from training.week_before import WeekBefore

#: Share of chunks that begin without memory, as a new stream does.
NEW_STREAMS = 0.1


@dataclass(frozen=True)
class Draw:
    """A batch of chunks and what is random about it, drawn once for the whole, whatever parts it is computed in.

    Attributes:
        rows: consecutive rows of each chunk.
        observed: mask of the inputs, with readings and sensors hidden at random.
        shift: seconds by which the time of week of a chunk is shifted; None for none.
        issued: intervals of a chunk with a loss.
        coins: which steps of a recurrent decoder are fed the label; None for no step.
        remembers: chunks that begin with the memory of the week before; None for a model without memory.
    """

    rows: Int64[Tensor, "batch time"]
    observed: Float[Tensor, "batch time node feature"]
    shift: Float[Tensor, "batch 1 1"] | None
    issued: Int64[Tensor, " issue"]
    coins: Bool[Tensor, " horizon"] | None
    remembers: Bool[Tensor, " batch"] | None

    def parts(self, count: int) -> list[Draw]:
        """Return the batch cut into so many parts of nearly equal size, in order; some are empty if it is small."""
        every = (self.rows, self.observed, self.shift, self.remembers)
        cut = ([None] * count if tensor is None else tensor.tensor_split(count) for tensor in every)
        return [
            replace(self, rows=rows, observed=observed, shift=shift, remembers=remembers)
            for rows, observed, shift, remembers in zip(*cut, strict=True)
        ]


@dataclass(frozen=True)
class Objective:
    """Mean error over the observed labels of chunks, in normalised units.

    Attributes:
        model: forecasts in its present mode, training or evaluation.
        series: on the device of the model.
        horizon: intervals forecast.
        warm_up: rows of a chunk before its first loss.
        config: which loss, and how the inputs are changed at random.
        generator: source of randomness.
        usual: for a model that has a profile, the normalised one at the time of every row, that of a training row made
            without its day, [time, node, target], on the device of the model.
        week_before: for a model with a memory of the last week, what it looks up at every row.
    """

    model: Forecaster
    series: TensorSeries
    horizon: int
    warm_up: int
    config: TrainingConfig
    generator: torch.Generator
    usual: Float[Tensor, "time node target"] | None = None
    week_before: WeekBefore | None = None

    def loss(self, rows: Int64[Tensor, "batch time"], teacher_chance: float = 0.0) -> Float[Tensor, ""]:
        """Return the loss of the given rows; see :meth:`draw`."""
        draw = self.draw(rows, teacher_chance)
        return self.part_loss(draw, self.labels(draw))

    def draw(self, rows: Int64[Tensor, "batch time"], teacher_chance: float = 0.0) -> Draw:
        """Return a batch with everything that is random about it.

        Args:
            rows: consecutive rows of each chunk, on the device of the model.
            teacher_chance: probability that a step of a recurrent decoder is fed the label; one coin per step.
        """
        shift = None
        if self.config.time_jitter:
            shift = 60 * self.config.time_jitter * torch.randn((len(rows), 1, 1), generator=self.generator)
            shift = shift.to(rows.device)
        observed = self.hidden(self.series.observed[rows])
        first = self.warm_up
        if self.config.loss_every > 1:
            spare = min(self.config.loss_every, rows.shape[1] - first)
            first += int(torch.randint(spare, (), generator=self.generator))
        issued = torch.arange(first, rows.shape[1], self.config.loss_every, device=rows.device)
        coins = None
        if self.model.config.decoder == "recurrent" and teacher_chance:
            coins = torch.rand(self.horizon, generator=self.generator) < teacher_chance
            coins = coins.to(rows.device)
        remembers = None
        if self.week_before is not None:
            remembers = torch.rand(len(rows), generator=self.generator).to(rows.device) >= NEW_STREAMS
        return Draw(rows, observed, shift, issued, coins, remembers)

    def labels(self, draw: Draw) -> Int64[Tensor, ""]:
        """Return the number of observed labels of a batch."""
        return self.series.observed_labels(draw.rows[:, draw.issued], self.horizon).sum()

    def part_loss(self, draw: Draw, labels: Int64[Tensor, ""]) -> Float[Tensor, ""]:
        """Return what a part of a batch adds to the loss of the whole: the losses of all parts sum up to it.

        Args:
            draw: the part.
            labels: observed ones of the whole batch.
        """
        inputs = self.series.inputs(draw.rows)._replace(observed=draw.observed)
        if draw.shift is not None:
            inputs = inputs._replace(time_of_week=inputs.time_of_week + draw.shift)
        rows, issued = draw.rows, draw.issued
        profile = None
        if self.usual is not None:
            profile = self.usual[rows[..., None] + torch.arange(self.horizon + 1, device=rows.device)]
        labelled, observed = self.series.labels(rows[:, issued], self.horizon)
        teacher = None
        if draw.coins is not None:
            fed, known = self.series.labels(rows, self.horizon)
            teacher = Teacher(self.model.output.normalise(fed), known, draw.coins)
        lines, looked = self.model.initial_lines(len(rows)), None
        if self.week_before is not None:
            looked = self.week_before.looked(rows[:, issued], draw.remembers)
        bf16 = self.config.precision == "bf16"
        with torch.autocast(rows.device.type, torch.bfloat16) if bf16 else nullcontext():
            forecast, _ = self.model(inputs, lines, profile, issued, teacher, looked)
        error = torch.where(observed, (forecast.float() - labelled) / self.model.output.std, 0.0)
        count = labels.clamp(min=1)
        absolute = error.abs().sum() / count
        return absolute if self.config.loss == "mae" else (absolute + error.square().sum() / count) / 2

    def hidden(self, observed: Float[Tensor, "batch time node feature"]) -> Float[Tensor, "batch time node feature"]:
        """Return the mask with readings and sensors hidden at random; the labels are not touched."""
        if self.config.hide:
            kept = torch.rand(observed.shape, generator=self.generator).to(observed.device) >= self.config.hide
            observed = observed * kept
        if self.config.hide_sensors:
            batch, time, node, _ = observed.shape
            fails = torch.rand((batch, 1, node), generator=self.generator) < self.config.hide_sensors
            ends = time * torch.rand((2, batch, 1, node), generator=self.generator)
            now = torch.arange(time)[:, None]
            silent = fails & (now >= ends.amin(0)) & (now < ends.amax(0))
            observed = observed * ~silent[..., None].to(observed.device)
        return observed
