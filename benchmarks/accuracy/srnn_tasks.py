"""Experiments of the tasks of a Structural-RNN: runs by model, fold and seed, and the tables made of them."""

from __future__ import annotations

import argparse
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

from benchmarks.harness.workbench import RESULTS, ROOT, SHARED, write_results
from runtime.timing import environment
from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.errors import StunetError
from training.tasks.learning import Report, count_parameters
from training.tasks.settings import TaskConfig, read_task_config

#: A stored run: its identity, its scores, and where and how long it ran.
Run = dict[str, Any]
#: Heading of a table → column → number.
Sections = dict[str, dict[str, float]]
#: The fold of a task without folds.
WHOLE = "all"
CONFIGS = ROOT / "benchmarks" / "configs" / "tasks"


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
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the data files (default: STUNET_DATA)")
    parser.add_argument(
        "--config", type=Path, default=CONFIGS / f"{experiment.task}.toml", help="TOML (default: the reduced size)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument(
        "--models", nargs="+", choices=experiment.models, default=experiment.models, help="only these rows"
    )
    parser.add_argument(
        "--folds", nargs="+", choices=experiment.folds, default=experiment.folds, help="only these folds or scenes"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: 1)")
    parser.add_argument("--checkpoints", type=Path, help="folder to keep every model in, for stunet-export")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the page and the stored runs")
    options = parser.parse_args(arguments)
    try:
        runs = measure(experiment, options)
    except StunetError as error:
        parser.exit(error.exit_code, f"{error}\n")
    text = report(experiment, runs)
    write_results(options.out, experiment.page, {"runs": runs}, text, indent=1)
    print(text)


def measure(experiment: Experiment, options: Namespace) -> list[Run]:
    """Do the runs that are missing, store each as it ends, and return all stored runs of the same settings."""
    torch.set_num_threads(options.threads)
    config = experiment.read(options.config)
    path = options.out / f"{experiment.page}.json"
    runs: list[Run] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    jobs = experiment.jobs(options.seeds, options.models, options.folds)
    for number, job in enumerate(jobs, 1):
        known = experiment.identity(config, *job)
        label = f"{number}/{len(jobs)} {job[0]}, {job[1]}, seed {job[2]}"
        if any(known.items() <= run.items() for run in runs):
            print(f"{label}: stored", file=sys.stderr)
            continue
        runs.append(run_once(experiment, options, config, known, label))
        write_results(options.out, experiment.page, {"runs": runs}, report(experiment, runs), indent=1)
        print(f"{label}: {runs[-1]['cpu_seconds']:.0f} s", file=sys.stderr)
    order = experiment.jobs(1 + max(run["seed"] for run in runs))
    kept = [run for run in runs if experiment.identity(config, *_job(run)).items() <= run.items()]
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
    """Return the tables of an experiment as Markdown: mean and standard deviation over the seeds.

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
    command = f"`python -m benchmarks.accuracy.srnn_{experiment.task}`"
    lines = [f"# {experiment.title}", "", f"{command}. {experiment.notes}", "", *_sizes(experiment, runs)]
    for section, rows in numbers.items():
        columns = max((list(cells) for cells in rows.values()), key=len)
        lines += ["", f"## {section}", "", f"| model | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
        for model, cells in rows.items():
            lines.append(f"| {model} | {' | '.join(_cell(cells.get(column, [])) for column in columns)} |")
        if printed := (experiment.published or {}).get(section):
            lines.append(f"| *published* | {' | '.join(printed.get(column, '') for column in columns)} |")
    return "\n".join(lines) + "\n"


def _sizes(experiment: Experiment, runs: Sequence[Run]) -> list[str]:
    lines = ["| model | parameters | runs | CPU minutes a run |", "| --- | --- | --- | --- |"]
    for model in experiment.models:
        found = [one for one in runs if one["model"] == model]
        if found:
            minutes = np.mean([one["cpu_seconds"] for one in found]) / 60
            lines.append(f"| {model} | {found[0]['parameters']:,} | {len(found)} | {minutes:.1f} |")
    return lines


def _cell(numbers: Sequence[float]) -> str:
    if not numbers:
        return "–"
    spread = f" ±{np.std(numbers, ddof=1):.2f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.2f}{spread}"
