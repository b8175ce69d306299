"""The objective of a training: the loss of a batch of chunks, with its random changes of the inputs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stunet_deploy.config import TrainingConfig
from stunet_deploy.models.forecaster import Forecaster, Teacher
from training.data import TensorSeries


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
    """

    model: Forecaster
    series: TensorSeries
    horizon: int
    warm_up: int
    config: TrainingConfig
    generator: torch.Generator
    usual: Float[Tensor, "time node target"] | None = None

    def loss(self, rows: Int64[Tensor, "batch time"], teacher_chance: float = 0.0) -> Float[Tensor, ""]:
        """Return the loss of the given rows.

        Args:
            rows: consecutive rows of each chunk, on the device of the model.
            teacher_chance: probability that a step of a recurrent decoder is fed the label; one coin per step.
        """
        inputs = self.series.inputs(rows)
        if self.config.time_jitter:
            shift = 60 * self.config.time_jitter * torch.randn((len(rows), 1, 1), generator=self.generator)
            inputs = inputs._replace(time_of_week=inputs.time_of_week + shift.to(rows.device))
        inputs = inputs._replace(observed=self.hidden(inputs.observed))
        profile = None
        if self.usual is not None:
            profile = self.usual[rows[..., None] + torch.arange(self.horizon + 1, device=rows.device)]
        labels, observed = self.series.labels(rows, self.horizon)
        first = self.warm_up
        if self.config.loss_every > 1:
            spare = min(self.config.loss_every, rows.shape[1] - first)
            first += int(torch.randint(spare, (), generator=self.generator))
        issued = torch.arange(first, rows.shape[1], self.config.loss_every, device=rows.device)
        teacher = None
        if self.model.config.decoder == "recurrent" and teacher_chance:
            coins = torch.rand(self.horizon, generator=self.generator) < teacher_chance
            teacher = Teacher(self.model.output.normalise(labels), observed, coins.to(rows.device))
        bf16 = self.config.precision == "bf16"
        with torch.autocast(rows.device.type, torch.bfloat16) if bf16 else nullcontext():
            forecast, _ = self.model(inputs, self.model.initial_lines(len(rows)), profile, issued, teacher)
        labels, observed = labels[:, issued], observed[:, issued]
        error = (forecast.float() - labels) / self.model.output.std
        error = torch.where(observed, error, 0.0)
        count = observed.sum().clamp(min=1)
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
