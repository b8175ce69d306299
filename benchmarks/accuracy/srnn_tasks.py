"""Experiments of the tasks of a Structural-RNN: runs by model, fold and seed, and the tables made of them."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.command import Command
from benchmarks.harness.page import page, table
from benchmarks.harness.store import Run, Store
from benchmarks.harness.workbench import CONFIGS, SHARED
from runtime.timing import environment
from stunet_deploy.checkpoint import Checkpoint
from training.tasks.learning import Report, count_parameters
from training.tasks.settings import TaskConfig, read_task_config

#: Heading of a table → column → number.
Sections = dict[str, dict[str, float]]
#: The fold of a task without folds.
WHOLE = "all"
#: Updates between two lines of progress.
PROGRESS = 100


@dataclass(frozen=True)
class TaskScores:
    """The scores of one run.

    Attributes:
        scores: numbers of the tables, as JSON.
        checkpoint: the trained model, ready for export; None for a baseline that is not trained.
    """

    scores: Mapping[str, Any]
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Experiment:
    """A task with the models that are compared on it.

    Attributes:
        task: its name, with which its page begins after ``srnn-``.
        title: of its page.
        notes: paragraph under the title.
        models: rows of its tables.
        run: (options, config, model, fold, seed, report) -> scores.
        sections: (fold, scores) -> numbers of the tables.
        folds: parts that are left out or tested in turn.
        unseeded: models among ``models`` in which nothing is random.
        published: a row of figures by section, as printed elsewhere.
        mean: whether the columns, the folds, are also averaged.
    """

    task: str
    title: str
    notes: str
    models: tuple[str, ...]
    run: Callable[[Namespace, Any, str, str, int, Report], TaskScores]
    sections: Callable[[str, Mapping[str, Any]], Sections]
    folds: tuple[str, ...] = (WHOLE,)
    unseeded: tuple[str, ...] = ()
    published: Mapping[str, Mapping[str, str]] | None = None
    mean: bool = False

    @property
    def module(self) -> str:
        """What ``python -m`` runs."""
        return f"benchmarks.accuracy.srnn_{self.task}"

    @property
    def name(self) -> str:
        """Name of its page and of its stored runs."""
        return f"srnn-{self.task}"

    def jobs(self, seeds: int, models: Sequence[str] = (), folds: Sequence[str] = ()) -> list[tuple[str, str, int]]:
        """Return the (model, fold, seed) of the tables, all of the first seed before those of the second."""
        return [
            (model, fold, seed)
            for seed in range(seeds)
            for fold in folds or self.folds
            for model in models or self.models
            if seed == 0 or model not in self.unseeded
        ]

    def identity(self, config: Any, model: str, fold: str, seed: int) -> Run:
        """Return the entries by which a stored run is found again."""
        settings = {} if model in self.unseeded else task_settings(config)
        return {"task": self.name, "model": model, "fold": fold, "seed": seed, "config": settings}


def task_config(options: Namespace) -> TaskConfig:
    """Return the config file of a task; with few updates for a quick run."""
    config = read_task_config(options.config)
    return replace(config, training=replace(config.training, updates=2, sequences=20)) if options.quick else config


def task_settings(config: TaskConfig) -> Run:
    """Return the settings of a config file of a task."""
    return asdict(config) | {"st_graph": Path(config.st_graph).name}


def reproduce(experiment: Experiment, doc: str | None, arguments: Sequence[str] | None = None) -> None:
    """Do the runs of an experiment that are missing, and write its page.

    Args:
        experiment: to be run.
        doc: help of the command.
        arguments: of the command line; those of the process by default.
    """
    command = Command(experiment.module, doc, experiment.name)
    command.option("--data", SHARED, "folder of the data files (default: STUNET_DATA)")
    command.option("--config", CONFIGS / "tasks" / f"{experiment.task}.toml", "TOML (default: the reduced size)")
    command.option("--seeds", 3, "number of seeds", quick=1)
    command.option("--models", experiment.models, "rows of the tables", choices=experiment.models)
    command.option("--folds", experiment.folds, "folds or scenes", choices=experiment.folds)
    command.option("--threads", 1, "CPU threads of torch")
    command.option("--checkpoints", None, "folder to keep every model in, for stunet-export", kind=Path)
    command.run(partial(measure, experiment), lambda result: report(experiment, result["runs"]), arguments)


def measure(experiment: Experiment, options: Namespace) -> dict[str, Any]:
    """Do the runs that are missing, store each as it ends, and return all stored runs of the same settings."""
    torch.set_num_threads(options.threads)
    config = task_config(options)
    store = Store(options.out / f"{experiment.name}.json")
    jobs = experiment.jobs(options.seeds, options.models, options.folds)
    for number, job in enumerate(jobs, 1):
        known = experiment.identity(config, *job)
        label = f"{number}/{len(jobs)} {job[0]}, {job[1]}, seed {job[2]}"
        if store.find(known):
            print(f"{label}: stored", file=sys.stderr)
            continue
        store.add(run_once(experiment, options, config, known, label))
        print(f"{label}: done", file=sys.stderr)
    jobs = experiment.jobs(1 + max(run["seed"] for run in store.runs))
    return {"runs": [run for job in jobs for run in store.find(experiment.identity(config, *job))]}


def run_once(experiment: Experiment, options: Namespace, config: Any, known: Run, label: str) -> Run:
    """Do one run and return it with where and how long it ran."""
    losses: list[float] = []

    def progress(number: int, loss: float) -> None:
        losses.append(loss)
        if (number + 1) % PROGRESS == 0:
            print(f"{label}: update {number + 1}, error {sum(losses[-PROGRESS:]) / PROGRESS:.4f}", file=sys.stderr)

    begin = time.process_time()
    found = experiment.run(options, config, known["model"], known["fold"], known["seed"], progress)
    measured: Run = {
        "scores": found.scores,
        "parameters": 0 if found.checkpoint is None else count_parameters(found.checkpoint.model),
        "cpu_seconds": time.process_time() - begin,
    }
    if options.checkpoints is not None and found.checkpoint is not None:
        options.checkpoints.mkdir(parents=True, exist_ok=True)
        found.checkpoint.save(options.checkpoints / "{task}-{model}-{fold}-{seed}.pt".format(**known))
    where = environment()
    return known | measured | {"commit": where["commit"], "cpu": where["cpu"]}


def report(experiment: Experiment, runs: Sequence[Run]) -> str:
    """Return the page of an experiment: mean and standard deviation over the seeds.

    A number is averaged over the seeds that have it in every fold it is of.
    """
    numbers: dict[str, dict[str, dict[str, list[float]]]] = {}
    for model in experiment.models:
        for seed in sorted({one["seed"] for one in runs if one["model"] == model}):
            merged: Sections = {}
            for one in runs:
                if (one["model"], one["seed"]) == (model, seed):
                    for section, values in experiment.sections(one["fold"], one["scores"]).items():
                        merged.setdefault(section, {}).update(values)
            for section, values in merged.items():
                if experiment.mean and len(values) == len(experiment.folds):
                    values["mean"] = float(np.mean(list(values.values())))
                for column, number in values.items():
                    numbers.setdefault(section, {}).setdefault(model, {}).setdefault(column, []).append(number)
    # The page is of all stored runs, whatever the last command asked for.
    blocks = [f"`python -m {experiment.module}`. {experiment.notes}", _sizes(experiment, runs)]
    for section, found in numbers.items():
        columns = max((list(cells) for cells in found.values()), key=len)
        rows = [[model, *(_cell(cells.get(column, [])) for column in columns)] for model, cells in found.items()]
        if printed := (experiment.published or {}).get(section):
            rows.append(["*published*", *(printed.get(column, "") for column in columns)])
        blocks += [f"## {section}", table(["model", *columns], rows)]
    return page(experiment.title, *blocks)


def _sizes(experiment: Experiment, runs: Sequence[Run]) -> str:
    rows = []
    for model in experiment.models:
        if found := [one for one in runs if one["model"] == model]:
            minutes = np.mean([one["cpu_seconds"] for one in found]) / 60
            rows.append([model, f"{found[0]['parameters']:,}", len(found), f"{minutes:.1f}"])
    return table(["model", "parameters", "runs", "CPU minutes a run"], rows)


def _cell(numbers: Sequence[float]) -> str:
    if not numbers:
        return "–"
    spread = f" ±{np.std(numbers, ddof=1):.2f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.2f}{spread}"
