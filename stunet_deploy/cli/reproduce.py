"""``stunet reproduce``: the tables of a Structural-RNN's tasks, run by run."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet_deploy.cli.console import Console
from stunet_deploy.errors import ConfigError

if TYPE_CHECKING:
    from training.tasks.learning import Outcome
    from training.tasks.reproduction import Experiment, Run

HELP = (
    "Train and score the models of a Structural-RNN task and write its tables; runs that are stored are not repeated."
)
EXAMPLE = "example: stunet reproduce srnn-anticipation --data DIR --seeds 3"
CONFIGS = Path("benchmarks", "configs", "tasks")
RESULTS = Path("benchmarks", "results")
TASKS = ("srnn-motion", "srnn-trajectories", "srnn-anticipation", "srnn-activity", "srnn-traffic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("task", choices=TASKS, help="what to reproduce, see docs/reference/srnn-tasks.md")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data files (default: $STUNET_DATA, or ../shared/data)"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"TOML (default: that of the task in {CONFIGS}, a reduced size)"
    )
    parser.add_argument("--seeds", type=_count, default=3, metavar="N", help="number of seeds (default: 3)")
    parser.add_argument("--models", nargs="+", default=[], metavar="M", help="only these rows of the tables")
    parser.add_argument("--folds", nargs="+", default=[], metavar="F", help="only these folds or scenes")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="CPU threads of torch (default: 1)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help=f"folder of runs and tables (default: {RESULTS})"
    )
    parser.add_argument("--checkpoints", type=Path, metavar="DIR", help="also keep every model, for stunet-export")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Do the runs that are missing and write the tables of all that are stored."""
    import torch

    from training.tasks.reproduction import EXPERIMENTS, identity, run_file, stored, tables, write

    experiment = EXPERIMENTS[arguments.task]
    _check("--models", arguments.models, experiment.models)
    _check("--folds", arguments.folds, experiment.folds)
    torch.set_num_threads(arguments.threads)
    config = experiment.read(arguments.config or CONFIGS / experiment.config)
    data = (arguments.data or Path(os.environ.get("STUNET_DATA", "../shared/data"))) / experiment.file
    wanted = experiment.jobs(arguments.seeds, arguments.models, arguments.folds)
    done: list[Run] = []
    for number, (model, fold, seed) in enumerate(wanted, 1):
        known = identity(experiment, config, model, fold, seed)
        path = run_file(arguments.out, experiment, model, fold, seed)
        found = stored(path, known)
        label = f"{number}/{len(wanted)} {model}, {fold}, seed {seed}"
        if found is None:
            found = _measure(experiment, config, data, known, label, arguments.checkpoints, console)
            write(path, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
            console.say(f"{label}: {found['cpu_seconds']:.0f} s")
        else:
            console.say(f"{label}: stored")
        done.append(found)
    text = tables(experiment, done)
    write(arguments.out / f"{experiment.name}.md", text)
    answer = {"task": experiment.name, "runs": done}
    write(arguments.out / f"{experiment.name}.json", json.dumps(answer, indent=1, ensure_ascii=False) + "\n")
    console.answer(answer, text)
    console.next(f"read {arguments.out / experiment.name}.md")
    return 0


def _measure(
    experiment: Experiment,
    config: Any,
    data: Path,
    known: Run,
    label: str,
    checkpoints: Path | None,
    console: Console,
) -> Run:
    """Do one run and return it with where and how long it ran."""
    from runtime.timing import environment

    losses: list[float] = []
    every, unit = experiment.every

    def progress(number: int, loss: float) -> None:
        losses.append(loss)
        if (number + 1) % every == 0:
            console.say(f"{label}: {unit} {number + 1}, error {sum(losses[-every:]) / every:.4f}")

    begin = time.process_time()
    outcome: Outcome = experiment.run(data, config, known["model"], known["fold"], known["seed"], progress)
    seconds = time.process_time() - begin
    if checkpoints is not None and outcome.checkpoint is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        outcome.checkpoint.save(checkpoints / "{task}-{model}-{fold}-{seed}.pt".format(**known))
    where = environment()
    scores = json.loads(json.dumps(outcome.scores))
    measured = {"parameters": outcome.parameters, "cpu_seconds": seconds}
    return known | {"scores": scores, **measured, "commit": where["commit"], "cpu": where["cpu"]}


def _check(option: str, given: list[str], known: tuple[str, ...]) -> None:
    if unknown := [one for one in given if one not in known]:
        raise ConfigError(f"{option} {unknown[0]}", f"of {', '.join(known)}", f"correct {option}")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a number of 1 or more")
    return number
