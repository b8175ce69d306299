"""The training loop: epochs over random chunks, each validated, resumable after every one."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import cycle
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stunet_deploy.config import TrainingConfig
from stunet_deploy.errors import CheckpointError, ConfigError
from stunet_deploy.models.forecaster import Forecaster
from stunet_deploy.series.series import Series
from training.course import Course, Network
from training.data import ChunkSampler
from training.history import Epoch, seconds_spent
from training.objective import Draw, Objective
from training.processes import Processes, check_shares
from training.protocols import Split
from training.resume import StateFile
from training.schedule import Schedule
from training.validation import Validation
from training.week_before import WeekBefore

#: Epochs of a training whose length is given in updates: as often it is validated, which may take longer than a pass.
VALIDATIONS = 20
#: Between the seeds of two processes.
_APART = 1_000_003


@dataclass
class Trainer:
    """A training in progress.

    Args:
        model: trained in place; holds the best weights after :meth:`run`.
        series, split: the recording and its split; only ``split.train_rows`` is trained on, and the labels of the test
            are not used.
        config: how to train.
        seed: of chunk choice, hidden cells and dropout.
        max_minutes: stop after this much training time, annealing the learning rate towards it; the last epoch ends
            early enough to be validated. The result then depends on the machine's speed. None: all epochs, the same
            result on every run on one machine.
        clock: measures training time, in seconds; with ``time.process_time`` and one thread a limit does not depend on
            other work of the machine.
        state_file: written after every epoch, for :meth:`resume`.
        report: called after every epoch.
        usual: for a model that has a profile, see :class:`training.objective.Objective`.
        spent: seconds of ``max_minutes`` that were used before.
        week_before: for a model with a memory, see :class:`training.objective.Objective`.
        yardstick: divides the validation error; see :class:`training.course.Network`.
        others: further networks, whose models share weights with ``model`` and are trained with it: updates take turns
            between the networks, and the validation error is the mean over them, each by its yardstick.

    Of several processes (:class:`training.processes.Processes`), each computes its share of every batch; the first
    measures the time, validates, reports and writes.

    Raises:
        DataError: if the recording is too short to train or to validate on.
        ConfigError: a batch has fewer chunks than there are processes.
    """

    model: Forecaster
    series: Series
    split: Split
    config: TrainingConfig
    seed: int
    max_minutes: float | None = None
    state_file: StateFile | None = None
    report: Callable[[Epoch], None] = lambda epoch: None
    usual: Tensor | None = None
    clock: Callable[[], float] = time.perf_counter
    spent: float = 0.0
    week_before: WeekBefore | None = None
    yardstick: float = 1.0
    others: Sequence[Network] = ()
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processes = Processes.present()
        self.chunks = self.config.batch * self.config.accumulate
        check_shares(self.config, self.processes.count)
        first = Network(self.model, self.series, self.split, self.usual, self.week_before, self.yardstick)
        networks = (first, *self.others)
        self.models = nn.ModuleList(network.model for network in networks)
        self.processes.equalise(self.models)
        self.device = next(self.model.parameters()).device
        self.generator = torch.Generator().manual_seed(self.seed)
        for module in self.models.modules():
            if isinstance(module, nn.Dropout):
                module.p = self.config.dropout
        self.optimizer = torch.optim.AdamW(
            self.models.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        ema = get_ema_multi_avg_fn(self.config.average)
        self.average = AveragedModel(self.models, multi_avg_fn=ema) if self.config.average else None
        self.best, self.best_weights = math.inf, self._weights()
        self.courses = [Course.of(network, self.config, self.generator) for network in networks]
        if self.config.updates:
            self.config = replace(self.config, epochs=-(-self.config.updates // self.updates_per_epoch))
        self._plan()

    def run(self) -> list[Epoch]:
        """Train until the epochs, the patience or the time are used up; leave the best weights in the model.

        Returns:
            The log, an entry per epoch, those before a resume included.

        Raises:
            DataError: no label of the validation span was observed.
            ConfigError: no epoch gave a finite validation error.
        """
        while not self.schedule.finished(self.history):
            # Of dropout, which no two processes share.
            torch.manual_seed(self.seed + len(self.history) + _APART * self.processes.rank)
            started = self.clock()
            if not self.history:
                self._reserve(self._expected_seconds)
            loss = self._epoch(started)
            updated = self.clock()
            error = self.processes.of_first(self.validate)
            self._reserve(partial(self._since, updated))
            rate = self.optimizer.param_groups[0]["lr"]
            seconds = self.processes.of_first(partial(self._since, started))
            self.history.append(Epoch(len(self.history) + 1, loss, error, rate, seconds))
            if error < self.best:
                self.best, self.best_weights = error, self._weights()
            if self.processes.first:
                self._save()
                self.report(self.history[-1])
        if not math.isfinite(self.best):
            raise ConfigError(
                f"a training that diverged at once (learning_rate = {self.config.learning_rate})",
                "a finite error after at least one epoch",
                "lower learning_rate in the config file",
            )
        self.models.load_state_dict(self.best_weights)
        self.models.eval()
        return self.history

    def validate(self) -> float:
        """Return the validation error of the present weights; see :meth:`training.validation.Validation.mae`."""
        found = zip(self.courses, self._evaluated(), strict=True)
        errors = [course.validation.mae(model) / course.yardstick for course, model in found]
        return sum(errors) / len(errors)

    def keep(self) -> None:
        """Validate the present weights, which costs training time, and keep them unless an epoch is better."""
        began = self.clock()
        error = self.processes.of_first(self.validate)
        if error < self.best:
            self.best, self.best_weights = error, self._weights()
        self.spent += self.processes.of_first(partial(self._since, began))
        self._plan()

    def resume(self) -> None:
        """Continue from ``state_file``: the remaining epochs give the result of an uninterrupted run on this machine.

        Raises:
            CheckpointError: the file is missing, damaged or of another model, config, seed or recording.
        """
        if self.state_file is None:
            raise CheckpointError(
                "nothing to resume from", "a state_file of the interrupted run", "name it, or train without resume"
            )
        state_file = self.state_file
        state = self.processes.of_first(lambda: state_file.read(self.device))
        self.models.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.generator.set_state(state["generator"].cpu())
        self.best, self.best_weights = state["best"], state["best_weights"]
        self.history = [Epoch(**entry) for entry in json.loads(state["history"])]
        self.spent = state["spent"]
        self._plan(state["reserve"])

    def _epoch(self, started: float) -> float:
        """Train one epoch, or what there is time for, at least one update; return its mean loss."""
        self.models.train()
        losses = list[float]()
        updates = list(zip(range(self.updates_per_epoch), cycle(self.courses), strict=False))
        chosen = [course.sampler.draw(self.chunks, self.generator) for _, course in updates]
        for (done, course), rows in zip(updates, chosen, strict=True):
            seconds = self._seconds(started)
            if losses and self.schedule.time_is_up(seconds):
                break
            epochs_done = len(self.history) + done / len(updates)
            progress = self.schedule.progress(epochs_done, seconds)
            chance = self.schedule.teacher_chance(epochs_done, progress, len(updates))
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule.learning_rate(epochs_done, progress)
            losses.append(self.update(course.objective.draw(rows.to(self.device), chance), course.objective))
        return sum(losses) / len(losses)

    def update(self, draw: Draw, objective: Objective | None = None) -> float:
        """Take a step of the optimizer on a batch and return its loss.

        Args:
            draw: the batch.
            objective: of its network; by default the first one's.
        """
        objective = objective or self.objective
        share = draw.parts(self.processes.count)[self.processes.rank]
        parts = [part for part in share.parts(self.config.accumulate) if len(part.rows)]
        labels = torch.stack([objective.labels(part) for part in parts]).sum()
        self.processes.sum([labels])
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        for part in parts:
            part_loss = objective.part_loss(part, labels)
            part_loss.backward()
            loss += part_loss.detach()
        gradients = [parameter.grad for parameter in self.models.parameters() if parameter.grad is not None]
        self.processes.sum([loss, *gradients])
        torch.nn.utils.clip_grad_norm_(self.models.parameters(), self.config.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.models)
        return loss.item()

    def _since(self, began: float) -> float:
        return self.clock() - began

    def _seconds(self, started: float) -> float:
        """Return the training time, with the present epoch's since ``started``; where it decides, that of the first."""
        if self.max_minutes is None:
            return 0.0
        return seconds_spent(self.history) + self.processes.of_first(partial(self._since, started))

    def _plan(self, reserve: float = 0.0) -> None:
        minutes = None if self.max_minutes is None else max(self.max_minutes - self.spent / 60, 1e-3)
        self.schedule = Schedule(self.config, minutes, reserve)

    def _reserve(self, seconds: Callable[[], float]) -> None:
        """Leave so much of a limited time for the next validation."""
        if self.max_minutes is not None:
            self.schedule = replace(self.schedule, reserve=self.processes.of_first(seconds))

    def _expected_seconds(self) -> float:
        """Return about how long a validation takes."""
        found = zip(self.courses, self._evaluated(), strict=True)
        return sum(course.validation.expected_seconds(model, self.clock) for course, model in found)

    @property
    def updates_per_epoch(self) -> int:
        """As many updates as a pass over each network has, or a part of ``updates``; the same number of each."""
        draws = [course.sampler.draws(self.chunks, course.scored) for course in self.courses]
        wanted = -(-self.config.updates // VALIDATIONS) or sum(draws)
        return len(draws) * -(-wanted // len(draws))

    @property
    def sampler(self) -> ChunkSampler:
        """The chunks of the first network."""
        return self.courses[0].sampler

    @property
    def objective(self) -> Objective:
        """The loss of the first network."""
        return self.courses[0].objective

    @property
    def validation(self) -> Validation:
        """The validation of the first network."""
        return self.courses[0].validation

    def _evaluated(self) -> list[Forecaster]:
        """Return the models that are validated and kept: with averaged weights where there is an average."""
        return cast(list[Forecaster], list(self._kept()))

    def _kept(self) -> nn.ModuleList:
        return self.models if self.average is None else cast(nn.ModuleList, self.average.module)

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._kept().state_dict().items()}

    def _save(self) -> None:
        if self.state_file is not None:
            self.state_file.write(
                {
                    "model": self.models.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "average": None if self.average is None else self.average.state_dict(),
                    "generator": self.generator.get_state(),
                    "best": self.best,
                    "best_weights": self.best_weights,
                    "spent": self.spent,
                    "reserve": self.schedule.reserve,
                    "history": json.dumps([asdict(epoch) for epoch in self.history]),
                }
            )
