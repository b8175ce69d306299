"""Experiments of the tasks of a Structural-RNN: runs by model, fold and seed, and the tables made of them."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from stunet_deploy.errors import StunetError
from training.tasks.learning import Report, count_parameters
from training.tasks.settings import TaskConfig, read_task_config

#: Heading of a table → column → number.
Sections = dict[str, dict[str, float]]
#: The fold of a task without folds.
WHOLE = "all"


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
        run: (data folder, config, model, fold, seed, report) -> scores.
        sections: (fold, scores) -> numbers of the tables.
        folds: parts that are left out or tested in turn.
        unseeded: models among ``models`` in which nothing is random.
        published: a row of figures by section, as printed elsewhere.
        mean: whether the columns, the folds, are also averaged.
        read: config file -> config.
        settings: (config, model, fold) -> everything that a run depends on.
        every: (number, name) of the updates, or epochs, between two lines of progress.
    """

    task: str
    title: str
    notes: str
    models: tuple[str, ...]
    run: Callable[[Path, Any, str, str, int, Report], TaskScores]
    sections: Callable[[str, Mapping[str, Any]], Sections]
    folds: tuple[str, ...] = (WHOLE,)
    unseeded: tuple[str, ...] = ()
    published: Mapping[str, Mapping[str, str]] | None = None
    mean: bool = False
    read: Callable[[Path], Any] = read_task_config
    settings: Callable[[Any, str, str], Run] = lambda config, model, fold: task_settings(config)
    every: tuple[int, str] = (100, "update")

    @property
    def page(self) -> str:
        """Name of its page."""
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
        """Return the entries by which a stored run is found again, as JSON."""
        settings = {} if model in self.unseeded else self.settings(config, model, fold)
        known = {"task": self.page, "model": model, "fold": fold, "seed": seed, "config": settings}
        return dict(json.loads(json.dumps(known)))


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
    command = Command(f"benchmarks.accuracy.srnn_{experiment.task}", doc, experiment.page)
    command.option("--data", SHARED, "folder of the data files (default: STUNET_DATA)")
    config = CONFIGS / "tasks" / f"{experiment.task}.toml"
    command.option("--config", config, "TOML of the task (default: the reduced size)")
    command.option("--seeds", 3, "number of seeds", quick=1)
    command.option("--models", experiment.models, "only these rows", choices=experiment.models)
    command.option("--folds", experiment.folds, "only these folds or scenes", choices=experiment.folds)
    command.option("--threads", 1, "CPU threads of torch")
    command.option("--checkpoints", None, "folder to keep every model in, for stunet-export", kind=Path)
    try:
        command.run(
            lambda options: {"runs": measure(experiment, options)},
            lambda result: report(experiment, result["runs"]),
            arguments,
        )
    except StunetError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


def measure(experiment: Experiment, options: Namespace) -> list[Run]:
    """Do the runs that are missing, store each as it ends, and return all stored runs of the same settings."""
    torch.set_num_threads(options.threads)
    config = experiment.read(options.config)
    store = Store(options.out / f"{experiment.page}.json")
    jobs = experiment.jobs(options.seeds, options.models, options.folds)
    for number, job in enumerate(jobs, 1):
        known = experiment.identity(config, *job)
        label = f"{number}/{len(jobs)} {job[0]}, {job[1]}, seed {job[2]}"
        if store.find(known):
            print(f"{label}: stored", file=sys.stderr)
            continue
        run = run_once(experiment, options, config, known, label)
        store.add(run)
        print(f"{label}: {run['cpu_seconds']:.0f} s", file=sys.stderr)
    order = experiment.jobs(1 + max(run["seed"] for run in store.runs))
    kept = [run for run in store.runs if experiment.identity(config, *_job(run)).items() <= run.items()]
    return sorted(kept, key=lambda run: order.index(_job(run)))


def _job(run: Run) -> tuple[str, str, int]:
    return run["model"], run["fold"], run["seed"]


def run_once(experiment: Experiment, options: Namespace, config: Any, known: Run, label: str) -> Run:
    """Do one run and return it with where and how long it ran."""
    losses: list[float] = []
    every, unit = experiment.every

    def progress(number: int, loss: float) -> None:
        losses.append(loss)
        if (number + 1) % every == 0:
            print(f"{label}: {unit} {number + 1}, error {sum(losses[-every:]) / every:.4f}", file=sys.stderr)

    begin = time.process_time()
    found = experiment.run(options.data, config, known["model"], known["fold"], known["seed"], progress)
    measured: Run = {
        "scores": json.loads(json.dumps(found.scores)),
        "parameters": 0 if found.checkpoint is None else count_parameters(found.checkpoint.model),
        "cpu_seconds": time.process_time() - begin,
    }
    if options.checkpoints is not None and found.checkpoint is not None:
        options.checkpoints.mkdir(parents=True, exist_ok=True)
        found.checkpoint.save(options.checkpoints / "{task}-{model}-{fold}-{seed}.pt".format(**known))
    where = environment()
    return known | measured | {"commit": where["commit"], "cpu": where["cpu"]}


def report(experiment: Experiment, runs: Iterable[Run]) -> str:
    """Return the tables of an experiment as a page: mean and standard deviation over the seeds.

    A number is averaged over the seeds that have it in every fold it is of.
    """
    numbers: dict[str, dict[str, dict[str, list[float]]]] = {}
    runs = list(runs)
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
    blocks = []
    for section, rows in numbers.items():
        columns = max((list(cells) for cells in rows.values()), key=len)
        lines = [[model, *(_cell(cells.get(column, [])) for column in columns)] for model, cells in rows.items()]
        if printed := (experiment.published or {}).get(section):
            lines.append(["*published*", *(printed.get(column, "") for column in columns)])
        blocks += [f"## {section}", table(["model", *columns], lines)]
    return page(
        experiment.title,
        f"`python -m benchmarks.accuracy.srnn_{experiment.task}`. {experiment.notes}",
        table(["model", "parameters", "runs", "CPU minutes a run"], _sizes(experiment, runs)),
        *blocks,
    )


def _sizes(experiment: Experiment, runs: Sequence[Run]) -> list[list[object]]:
    rows: list[list[object]] = []
    for model in experiment.models:
        if found := [one for one in runs if one["model"] == model]:
            minutes = np.mean([one["cpu_seconds"] for one in found]) / 60
            rows.append([model, f"{found[0]['parameters']:,}", len(found), f"{minutes:.1f}"])
    return rows


def _cell(numbers: Sequence[float]) -> str:
    if not numbers:
        return "–"
    spread = f" ±{np.std(numbers, ddof=1):.2f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.2f}{spread}"
