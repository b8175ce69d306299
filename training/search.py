"""A search for settings: trainings of limited CPU time, compared on the validation span; stopped, it can go on."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from stunet_deploy.config import RunConfig
from stunet_deploy.errors import ConfigError
from stunet_deploy.files import replacing
from stunet_deploy.graph.files import SensorGraph
from stunet_deploy.series.series import Series
from training.history import Epoch
from training.protocols import choose_protocol
from training.run import TrainingRun
from training.validation import Validation

#: What is searched: a setting by table and name, and the values that it may take. Those of the presets are among them.
SPACE: Mapping[str, BaseDistribution] = {
    "model.hidden": IntDistribution(4, 64, log=True),
    "model.head": IntDistribution(16, 128, log=True),
    "model.time_features": CategoricalDistribution(("none", "day", "week")),
    "model.static_features": CategoricalDistribution((False, True)),
    "model.common": CategoricalDistribution((False, True)),
    "model.compress": CategoricalDistribution((False, True)),
    "model.sensor_scale": CategoricalDistribution((False, True)),
    "model.memory": CategoricalDistribution((False, True)),
    "training.learning_rate": FloatDistribution(3e-4, 3e-2, log=True),
    "training.weight_decay": FloatDistribution(1e-4, 1e-1, log=True),
    "training.dropout": FloatDistribution(0.0, 0.4),
    "training.hide": FloatDistribution(0.0, 0.2),
    "training.chunk": IntDistribution(12, 96, step=12),
    "training.alone": IntDistribution(0, 6000, step=500),
}
#: The memory is searched for recordings of so many days; it cannot be trained on a few.
MEMORY_DAYS = 8
#: Files of a study.
JOURNAL, BEST, TABLE = "study.journal", "best.toml", "trials.csv"
#: Trials before the first may be pruned, and tenths of a training that none is pruned in.
START_UP, UNPRUNED = 5, 3
_STUDY, _IDENTITY = "search", "identity"
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Search:
    """A search of settings for one recording, kept in a folder.

    The first trial has the settings of ``base``, the next are drawn at random, and later ones by the tree-structured
    Parzen estimator. A trial that is worse than the median of the others after the same tenth of its time is pruned,
    and so is one that diverges. The readings of the test span are taken out before anything is trained.

    Source: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework" (2019).

    Attributes:
        series: the whole recording.
        graph: of the same sensors in the same order.
        base: settings that are not searched, and those of the first trial.
        minutes_each: CPU time of a training, on one thread.
        seed: of the choice of settings, and of every training.
        folder: of the study; made if it does not exist.
        report: called after every trial.
    """

    series: Series
    graph: SensorGraph
    base: RunConfig
    minutes_each: float
    seed: int
    folder: Path
    report: Callable[[FrozenTrial], None] = lambda trial: None

    def run(self, trials: int) -> optuna.Study:
        """Go on until the study has so many finished trials; write the best settings and the table after each.

        Raises:
            DataError: the recording is too short, or the graph has other sensors.
            ConfigError: the folder holds a study of other data or settings, or something else.
        """
        seen = self._seen
        study = self._opened()
        for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # of a process that was killed
            self._give_back(study, left.number, left.params)
        while len(done := study.get_trials(deepcopy=False, states=_DONE)) < trials:
            # A sampler of its own for every trial, so that a study that goes on repeats no draw of the one before.
            study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(done))
            trial = study.ask(dict(self.space))
            try:
                self._try(seen, study, trial)
            except BaseException:
                self._give_back(study, trial.number, trial.params)
                raise
            self._write(study)
            self.report(study.get_trials(deepcopy=False)[trial.number])
        self._write(study)
        return study

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """The settings that are searched for this recording."""
        remembers = self.series.days >= MEMORY_DAYS
        return {name: values for name, values in SPACE.items() if remembers or name != "model.memory"}

    @property
    def first(self) -> dict[str, Any]:
        """The settings of the first trial: those of the base."""
        return {name: _setting(self.base, name) for name in self.space}

    def configured(self, settings: Mapping[str, Any]) -> RunConfig:
        """Return the base with other settings, by table and name."""
        tables: dict[str, dict[str, Any]] = {"model": {}, "training": {}}
        for name, value in settings.items():
            table, _, field = name.partition(".")
            tables[table][field] = value
        model, training = replace(self.base.model, **tables["model"]), replace(self.base.training, **tables["training"])
        return replace(self.base, model=model, training=training)

    @cached_property
    def _seen(self) -> Series:
        """The recording without the readings of the test span, those that the validation scores excepted."""
        series, model = self.series, self.base.model
        split = choose_protocol(series, self.base.protocol, model.window, model.horizon)
        validation = Validation.of(series, split, "stream").split
        after = int(validation.test[-1]) + validation.horizon + 1
        observed, values = series.observed.copy(), series.values.copy()
        observed[after:], values[after:] = False, 0
        return replace(series, observed=observed, values=values)

    @property
    def _identity(self) -> dict[str, Any]:
        """What must not change between two calls, by the name that an error gives it."""
        series, edges = self._seen, self.graph.adjacency
        base = json.loads(json.dumps(asdict(self.base)))
        return {
            "data": _hash(series.timestamps, np.where(series.observed, series.values, 0), series.observed),
            "sensors": list(series.sensor_ids),
            "graph": _hash(edges.source, edges.target, edges.weight),
            "settings of the preset or targets": base,
            "search space": {name: json.loads(distribution_to_json(values)) for name, values in self.space.items()},
            "--minutes-each": self.minutes_each,
            "--seed": self.seed,
        }

    def _opened(self) -> optuna.Study:
        """Return the study of the folder, begun with the settings of the base if there is none."""
        journal, identity = self.folder / JOURNAL, self._identity
        if self.folder.exists() and not journal.is_file() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ConfigError(
                f"--out {self.folder}, which holds something else",
                "a new folder, an empty one or that of a study",
                "choose another --out",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=START_UP, n_warmup_steps=UNPRUNED)
        try:
            storage = JournalStorage(JournalFileBackend(str(journal)))
            if _STUDY in optuna.get_all_study_names(storage):  # loaded, it is not written to before it is known
                study = optuna.load_study(study_name=_STUDY, storage=storage, pruner=pruner)
            else:
                study = optuna.create_study(study_name=_STUDY, storage=storage, pruner=pruner, direction="minimize")
        except (ValueError, KeyError, TypeError) as error:  # what a damaged journal makes of the reader
            raise ConfigError(
                f"{journal} cannot be read ({error})", "the journal of a study", "choose another --out"
            ) from error
        known = study.user_attrs.get(_IDENTITY)
        if known is None:
            if not study.get_trials(deepcopy=False):
                study.enqueue_trial(self.first)
            study.set_user_attr(_IDENTITY, identity)
        elif others := [name for name, value in identity.items() if known.get(name) != value]:
            raise ConfigError(
                f"the study in {self.folder} has other {' and '.join(others)}",
                "what it was begun with",
                "give the same again, or another --out for a new study",
            )
        return study

    def _try(self, series: Series, study: optuna.Study, trial: optuna.Trial) -> None:
        """Train with the settings of a trial and tell the study what came out."""
        config = self.configured(trial.params)
        config = replace(config, training=replace(config.training, threads=1))
        limit, began = 60 * self.minutes_each, time.process_time()
        told = -1

        def watch(epoch: Epoch) -> None:
            nonlocal told
            tenth = int(10 * (time.process_time() - began) / limit)
            if tenth > told:
                told = tenth
                trial.report(epoch.validation_mae, tenth)
                if trial.should_prune():
                    raise optuna.TrialPruned

        training = TrainingRun(
            series,
            self.graph,
            config,
            seed=self.seed,
            max_minutes=self.minutes_each,
            report=watch,
            clock=time.process_time,
        )
        prepared = training.prepare()
        try:
            fit = training.fit(prepared)
        except (optuna.TrialPruned, ConfigError):  # the latter has diverged
            study.tell(trial, state=TrialState.PRUNED)
            return
        trial.set_user_attr("epochs", len(fit.history))
        trial.set_user_attr("cpu_seconds", round(time.process_time() - began, 1))
        study.tell(trial, fit.validation_mae)

    @staticmethod
    def _give_back(study: optuna.Study, number: int, settings: Mapping[str, Any]) -> None:
        """Give up an unfinished trial, whose settings are the next to be tried."""
        if study.tell(number, state=TrialState.FAIL, skip_if_finished=True).state == TrialState.FAIL:
            study.enqueue_trial(dict(settings))

    def _write(self, study: optuna.Study) -> None:
        """Write the table of trials and, if one was trained to its end, the best settings."""
        names = list(self.space)
        with replacing(self.folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["trial", "state", "validation_mae", "epochs", "cpu_seconds", *names])
            for one in study.get_trials(deepcopy=False, states=_DONE):
                facts = (one.user_attrs.get("epochs"), one.user_attrs.get("cpu_seconds"))
                mae = one.value if one.state == TrialState.COMPLETE else None
                writer.writerow(
                    [one.number, one.state.name.lower(), mae, *facts, *(one.params[name] for name in names)]
                )
        if (best := best_trial(study)) is not None:
            with replacing(self.folder / BEST) as temporary:
                temporary.write_text(self._as_config(study, best), encoding="utf-8")

    def _as_config(self, study: optuna.Study, best: FrozenTrial) -> str:
        """Return a config file of the settings of a trial."""
        trials = len(study.get_trials(deepcopy=False, states=_DONE))
        lines = [
            f"# The best of {trials} trials of {self.minutes_each:g} CPU minutes: number {best.number}, "
            f"validation MAE {best.value:.4g}.",
            "",
            f"targets = {json.dumps(list(self.base.targets))}",
            f"protocol = {json.dumps(self.base.protocol)}",
        ]
        for table in ("model", "training"):
            lines += ["", f"[{table}]"]
            # JSON's numbers, words and texts are TOML's.
            lines += [
                f"{name.partition('.')[2]} = {json.dumps(value)}"
                for name, value in best.params.items()
                if name.startswith(f"{table}.")
            ]
        return "\n".join(lines) + "\n"


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the trial with the smallest validation error; None where none was trained to its end."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(complete, key=lambda trial: trial.values[0], default=None)


def _setting(config: RunConfig, name: str) -> Any:
    table, _, field = name.partition(".")
    return getattr(getattr(config, table), field)


def _hash(*arrays: np.ndarray[Any, Any]) -> str:
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()
