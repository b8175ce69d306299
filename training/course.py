"""What a sensor network contributes to a training: its chunks, its loss and its validation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stunet_deploy.config import TrainingConfig
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.series.series import Series
from training.data import ChunkSampler, TensorSeries
from training.objective import Objective
from training.protocols import Split
from training.validation import Validation
from training.week_before import WeekBefore


@dataclass(frozen=True)
class Network:
    """A sensor network with a model of its own, before training; the weights may be those of another one's model.

    Attributes:
        model: on the device of the training.
        series, split: the recording and its split.
        usual, week_before: for a model that has a profile or a memory, see :class:`training.objective.Objective`.
        yardstick: an error in the target's unit, by which that of the model is divided where networks are compared.
    """

    model: Forecaster
    series: Series
    split: Split
    usual: Tensor | None = None
    week_before: WeekBefore | None = None
    yardstick: float = 1.0


@dataclass(frozen=True)
class Course:
    """A network in training.

    Attributes:
        sampler: its chunks.
        objective: the loss of its model.
        validation: of its model.
        yardstick: see :class:`Network`.
    """

    sampler: ChunkSampler
    objective: Objective
    validation: Validation
    yardstick: float

    @classmethod
    def of(cls, network: Network, config: TrainingConfig, generator: torch.Generator) -> Course:
        """Prepare the training of a network.

        Args:
            network: trained on ``split.train_rows`` alone.
            config: how to train.
            generator: source of randomness.

        Raises:
            DataError: if the recording is too short to train or to validate on.
        """
        model, series, split = network.model, network.series, network.split
        device = next(model.parameters()).device
        sampler = _sampler(series, split, config)
        warm_up = split.window - 1 if config.regime == "window" else config.warm_up
        objective = Objective(
            model,
            TensorSeries.of(series, model.signal, device),
            split.horizon,
            min(warm_up, sampler.length - 1),
            config,
            generator,
            None if network.usual is None else network.usual.to(device),
            network.week_before,
        )
        # A window alone has nothing to remember.
        regime = "stream" if model.contract.lasting else config.regime
        return cls(sampler, objective, Validation.of(series, split, regime), network.yardstick)

    @property
    def scored(self) -> int:
        """Rows of a chunk that count."""
        return self.sampler.length - self.objective.warm_up


def _sampler(series: Series, split: Split, config: TrainingConfig) -> ChunkSampler:
    if config.regime == "window":  # those of the split: under protocol B none of them crosses midnight
        return ChunkSampler(split.train - split.window + 1, split.window)
    train = split.train_rows
    runs = [slice(max(run.start, train.start), min(run.stop, train.stop)) for run in series.segments()]
    runs = [run for run in runs if run.stop > run.start]
    return ChunkSampler.of(runs, config.warm_up + config.chunk, split.horizon)
