"""The training loop: epochs over random chunks, validated on a carried stream, resumable after a kill."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stunet_deploy.checkpoint import SCHEMA
from stunet_deploy.config import TrainingConfig
from stunet_deploy.errors import CheckpointError, ConfigError, DataError
from stunet_deploy.files import replacing
from stunet_deploy.models.forecaster import Forecaster, Teacher
from stunet_deploy.series.series import Series
from training.data import ChunkSampler, Recording
from training.evaluation import Regime, evaluate
from training.forecaster import ModelForecaster
from training.profile import ProfileTables
from training.protocols import Split
from training.sampling import sampling_decay, sampling_probability


@dataclass(frozen=True)
class Epoch:
    """One line of the training log; errors in the target's unit, averaged over the scored horizons."""

    epoch: int
    loss: float
    validation_mae: float
    learning_rate: float
    seconds: float


@dataclass
class Trainer:
    """Everything that changes during training, and the rules by which it does.

    Args:
        model: trained in place; holds the best weights after :meth:`run`.
        series, split: the recording and its split; only ``split.train_rows`` is trained on, and no label of the test
            is looked at.
        config: how to train.
        seed: of chunk choice, hidden cells and dropout.
        max_minutes: stop after this much training time, annealing the learning rate towards it; the result then
            depends on the machine's speed. None: all epochs, the same result on every run on one machine.
        clock: what training time is measured by, in seconds; with ``time.process_time`` and one thread a limit does not
            depend on what else the machine does.
        state_file: where training can be resumed from; written after every epoch.
        report: called after every epoch.
        tables: the profiles of the training days; just for a model that has one.
        origin: names the weights that the model starts with, where they are not the seed's.

    Raises:
        DataError: if the recording is too short to train or to validate on.
    """

    model: Forecaster
    series: Series
    split: Split
    config: TrainingConfig
    seed: int
    max_minutes: float | None = None
    state_file: Path | None = None
    report: Callable[[Epoch], None] = lambda epoch: None
    tables: ProfileTables | None = None
    origin: str = ""
    clock: Callable[[], float] = time.perf_counter
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = next(self.model.parameters()).device
        self.recording = Recording.of(self.series, self.model.signal, self.device)
        self.tables = None if self.tables is None else self.tables.to(self.device)
        self.generator = torch.Generator().manual_seed(self.seed)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = self.config.dropout
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        ema = get_ema_multi_avg_fn(self.config.average)
        self.average = AveragedModel(self.model, multi_avg_fn=ema) if self.config.average else None
        self.best = math.inf
        self.best_weights = self._weights()
        self.sampler = self._sampler()
        warm_up = self.split.window - 1 if self.config.regime == "window" else self.config.warm_up
        self.warm_up = min(warm_up, self.sampler.length - 1)
        self.validation = self._validation_split()
        self.identity = self._identity()

    def run(self) -> list[Epoch]:
        """Train until the epochs, the patience or the time are used up; leave the best weights in the model.

        Returns:
            The log, an entry per epoch, those before a resume included.

        Raises:
            DataError: if no label of the validation span was observed.
            ConfigError: if no epoch gave a finite validation error.
        """
        while not self._finished():
            torch.manual_seed(self.seed + len(self.history))  # of dropout
            self._epoch_started = self.clock()
            loss = self._epoch()
            error = self.validate()
            seconds = self.clock() - self._epoch_started
            rate = self.optimizer.param_groups[0]["lr"]
            self.history.append(Epoch(len(self.history) + 1, loss, error, rate, seconds))
            if error < self.best:
                self.best, self.best_weights = error, self._weights()
            self._save_state()
            self.report(self.history[-1])
        if not math.isfinite(self.best):
            raise ConfigError(
                f"a training that diverged at once (learning_rate = {self.config.learning_rate})",
                "a finite error after at least one epoch",
                "lower learning_rate in the config file",
            )
        self.model.load_state_dict(self.best_weights)
        self.model.eval()
        return self.history

    def validate(self) -> float:
        """Return the MAE on the validation span, in the regime of the training, averaged over the scored horizons.

        Raises:
            DataError: if no label of the validation span was observed.
        """
        forecaster = ModelForecaster(self._evaluated().eval())
        regime: Regime = "window" if self.config.regime == "window" else "stream"
        targets = self.model.signal.targets
        results = evaluate(self.series, self.validation, [forecaster], targets=targets, regimes=[regime])
        errors = [result.mae for result in results if result.count]
        if not errors:
            raise DataError(
                "a validation span without a reading", "readings to compare with", "give a longer recording"
            )
        mean = sum(errors) / len(errors)
        return mean if math.isfinite(mean) else math.inf  # NaN would compare as neither better nor worse

    def resume(self) -> None:
        """Continue from ``state_file``: the remaining epochs give what an uninterrupted run on this machine gives.

        Raises:
            CheckpointError: if the file is damaged or belongs to another model, config, seed or recording.
        """
        if self.state_file is None or not self.state_file.is_file():
            raise CheckpointError(
                f"nothing to resume from ({self.state_file})",
                "the training state written after each epoch",
                "train again without --resume",
            )
        try:
            state = torch.load(self.state_file, map_location=self.device, weights_only=True)
            identity = state["identity"]
        except Exception as error:  # torch raises many kinds for foreign and damaged files
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise CheckpointError(
                f"{self.state_file} cannot be read ({reason})",
                "the training state written after each epoch",
                "train again without --resume",
            ) from error
        if identity != self.identity:
            raise CheckpointError(
                f"{self.state_file} belongs to another run",
                "the same data, config, seed and version",
                "give those of the interrupted run, or train again without --resume",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.generator.set_state(state["generator"].cpu())
        self.best, self.best_weights = state["best"], state["best_weights"]
        self.history = [Epoch(**entry) for entry in json.loads(state["history"])]

    def _epoch(self) -> float:
        """Train one epoch and return its mean loss."""
        self.model.train()
        losses = []
        scored = self.sampler.length - self.warm_up
        updates = list(self.sampler.epoch(self.config.batch, scored, self.generator))
        for done, rows in enumerate(updates):
            epochs_done = len(self.history) + done / len(updates)
            self._set_learning_rate(epochs_done)
            loss = self._loss(rows.to(self.device), self._teacher_chance(epochs_done, len(updates)))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            losses.append(loss.item())
        return sum(losses) / len(losses)

    def _loss(self, rows: Tensor, teacher_chance: float = 0.0) -> Tensor:
        """Return the loss of a batch of chunks, in normalised units, over the observed labels past the warm-up.

        Args:
            rows: [batch, time].
            teacher_chance: how often a step of a recurrent decoder is fed the label; one coin per decoder step.
        """
        inputs = self.recording.inputs(rows)
        if self.config.time_jitter:
            shift = 60 * self.config.time_jitter * torch.randn((len(rows), 1, 1), generator=self.generator)
            inputs = inputs._replace(time_of_week=inputs.time_of_week + shift.to(self.device))
        inputs = inputs._replace(observed=self._hidden(inputs.observed))
        profile = None
        if self.tables is not None and self.model.profile is not None:
            profile = self.tables.at(rows, inputs.time_of_week, self.model.profile)
        labels, observed = self.recording.labels(rows, self.split.horizon)
        first = self.warm_up
        if self.config.loss_every > 1:
            spare = min(self.config.loss_every, rows.shape[1] - first)
            first += int(torch.randint(spare, (), generator=self.generator))
        issued = torch.arange(first, rows.shape[1], self.config.loss_every, device=self.device)
        teacher = None
        if self.model.config.decoder == "recurrent" and teacher_chance:
            coins = torch.rand(self.split.horizon, generator=self.generator) < teacher_chance
            teacher = Teacher(self.model.output.normalise(labels), observed, coins.to(self.device))
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
            forecast, _ = self.model(inputs, self.model.initial_lines(len(rows)), profile, issued, teacher)
        labels, observed = labels[:, issued], observed[:, issued]
        error = (forecast.float() - labels) / self.model.output.std
        error = torch.where(observed, error, 0.0)
        count = observed.sum().clamp(min=1)
        absolute = error.abs().sum() / count
        return absolute if self.config.loss == "mae" else (absolute + error.square().sum() / count) / 2

    def _hidden(self, observed: Tensor) -> Tensor:
        """Return what is left observed of [batch, time, node, feature] with readings and sensors hidden at random."""
        if self.config.hide:
            kept = torch.rand(observed.shape, generator=self.generator).to(self.device) >= self.config.hide
            observed = observed * kept
        if self.config.hide_sensors:
            batch, time, node, _ = observed.shape
            fails = torch.rand((batch, 1, node), generator=self.generator) < self.config.hide_sensors
            ends = time * torch.rand((2, batch, 1, node), generator=self.generator)
            now = torch.arange(time)[:, None]
            silent = fails & (now >= ends.amin(0)) & (now < ends.amax(0))
            observed = observed * ~silent[..., None].to(self.device)
        return observed

    def _sampler(self) -> ChunkSampler:
        if self.config.regime == "window":  # those of the split: under protocol B none across midnight
            return ChunkSampler(self.split.train - self.split.window + 1, self.split.window)
        train = self.split.train_rows
        runs = [slice(max(run.start, train.start), min(run.stop, train.stop)) for run in self.series.segments()]
        runs = [run for run in runs if run.stop > run.start]
        return ChunkSampler.of(runs, self.config.warm_up + self.config.chunk, self.split.horizon)

    def _validation_split(self) -> Split:
        """Return the split that scores the validation span, without the windows whose labels the test scores too."""
        split = self.split
        issue = split.validation[split.validation + split.horizon <= split.test[0]]
        if not len(issue):
            raise DataError(
                f"{len(split.validation)} validation windows, none before the labels of the test",
                f"more than {split.horizon - 1}",
                "give a longer recording",
            )
        return replace(split, test=issue, test_start=int(issue[0]) - split.window + 1)

    def _progress(self, epochs_done: float) -> float:
        """Return the share of the training that is done, by epochs or by time, whichever is further."""
        progress = epochs_done / self.config.epochs
        if self.max_minutes is not None:
            spent = self._spent() + self.clock() - self._epoch_started
            progress = max(progress, spent / (60 * self.max_minutes))
        return min(progress, 1.0)

    def _set_learning_rate(self, epochs_done: float) -> None:
        if self.config.schedule == "step":
            factor = self.config.decay ** (int(epochs_done) // self.config.decay_every)
        else:
            factor = (1 + math.cos(math.pi * self._progress(epochs_done))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor

    def _teacher_chance(self, epochs_done: float, updates_per_epoch: int) -> float:
        """Return how often a step of a recurrent decoder is fed the label."""
        if self.config.teacher_forcing != "scheduled":
            return float(self.config.teacher_forcing == "always")
        if self.config.sampling_decay:
            return sampling_probability(epochs_done * updates_per_epoch, self.config.sampling_decay)
        planned = self.config.epochs * updates_per_epoch
        return sampling_probability(self._progress(epochs_done) * planned, sampling_decay(planned))

    def _spent(self) -> float:
        return sum((epoch.seconds for epoch in self.history), 0.0)

    def _finished(self) -> bool:
        """Return whether the epochs, the patience or the time are used up; the time to the nearest epoch."""
        if not self.history:
            return False
        errors = [epoch.validation_mae for epoch in self.history]
        without_gain = len(errors) - 1 - errors.index(min(errors))
        if len(errors) >= self.config.epochs or without_gain >= self.config.patience:
            return True
        return self.max_minutes is not None and self._spent() + self.history[-1].seconds / 2 > 60 * self.max_minutes

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._evaluated().state_dict().items()}

    def _evaluated(self) -> Forecaster:
        """Return the weights that are validated and kept: the moving average where there is one."""
        return self.model if self.average is None else cast(Forecaster, self.average.module)

    def _identity(self) -> str:
        """Return what must be the same for a resumed run to end as an uninterrupted one."""
        recording = (self.series.timestamps, self.series.values, self.series.observed)
        hashed = hashlib.sha256()
        for array in (*recording, self.split.train, self.split.validation):
            hashed.update(array.tobytes())
        graph = self.model.stored_graph()
        for part in (
            [graph.encode()] if isinstance(graph, str) else [array.numpy().tobytes() for array in graph.values()]
        ):
            hashed.update(part)
        parts = {
            "schema": SCHEMA,
            "model": self.model.family,
            "config": asdict(self.model.config),
            "signal": asdict(self.model.signal),
            "training": asdict(self.config),
            "seed": self.seed,
            "sensors": self.series.sensor_ids,
            "data": hashed.hexdigest(),
        }
        if self.origin:
            parts["origin"] = self.origin
        return json.dumps(parts, sort_keys=True)

    def _save_state(self) -> None:
        if self.state_file is None:
            return
        state: dict[str, Any] = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "generator": self.generator.get_state(),
            "best": self.best,
            "best_weights": self.best_weights,
            "history": json.dumps([asdict(epoch) for epoch in self.history]),
        }
        # torch opens files by itself only with errors of its own, not OSError.
        with replacing(self.state_file) as temporary, temporary.open("wb") as handle:
            torch.save(state, handle)
