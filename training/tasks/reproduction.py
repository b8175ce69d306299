"""The tables of the tasks: which runs they need, the runs that are stored, and the text made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stunet_deploy.errors import DataError
from stunet_deploy.files import replacing
from training.tasks.activity import model as activity_model
from training.tasks.anticipation import model as anticipation_model
from training.tasks.anticipation.data import FOLDS
from training.tasks.learning import Outcome
from training.tasks.motion import model as motion_model
from training.tasks.motion.data import HORIZONS, RATE
from training.tasks.settings import TaskConfig, read_task_config
from training.tasks.traffic import experiment as traffic_model
from training.tasks.trajectories import model as trajectories_model
from training.tasks.trajectories.data import SCENES

#: A stored run: what it is known by, its scores, and where and how long it ran.
Run = dict[str, Any]
#: Heading of a table → column → number.
Sections = dict[str, dict[str, float]]
Progress = Callable[[int, float], None]
WHOLE = "all"


@dataclass(frozen=True)
class Experiment:
    """What one command reproduces.

    Attributes:
        name: on the command line.
        title: of its page.
        file: the data file it needs; empty where the data are generated, or each fold has a file of its own.
        models: rows of its tables.
        unseeded: models among them in which nothing is random.
        folds: what is left out or tested in turn.
        run: (data file, config, model, fold, seed, progress) -> outcome.
        sections: (fold, scores) -> numbers of the tables.
        notes: said under the title.
        published: a row of figures by section, as printed elsewhere.
        mean: whether the columns, the folds, are also averaged.
        read: config file -> config.
        settings: (config, model, fold) -> what a run depends on.
        every: (number, name) of the updates, or epochs, between two lines of progress.
    """

    name: str
    title: str
    file: str
    models: tuple[str, ...]
    unseeded: tuple[str, ...]
    folds: tuple[str, ...]
    run: Callable[[Path, Any, str, str, int, Progress], Outcome]
    sections: Callable[[str, Mapping[str, Any]], Sections]
    notes: str
    published: Mapping[str, Mapping[str, str]]
    mean: bool = False
    read: Callable[[Path], Any] = read_task_config
    settings: Callable[[Any, str, str], Run] = lambda config, model, fold: _task_settings(config)
    every: tuple[int, str] = (100, "update")

    @property
    def config(self) -> str:
        """Name of the config file at the documented reduced size."""
        return f"{self.name.removeprefix('srnn-')}.toml"

    def jobs(self, seeds: int, models: Sequence[str] = (), folds: Sequence[str] = ()) -> list[tuple[str, str, int]]:
        """Return the (model, fold, seed) that the tables need, all of the first seed before the second's."""
        return [
            (model, fold, seed)
            for seed in range(seeds)
            for fold in folds or self.folds
            for model in models or self.models
            if seed == 0 or model not in self.unseeded
        ]


def _task_settings(config: TaskConfig) -> Run:
    return asdict(config) | {"st_graph": Path(config.st_graph).name}


def identity(experiment: Experiment, config: Any, model: str, fold: str, seed: int) -> Run:
    """Return what a run is known by, as JSON."""
    settings = {} if model in experiment.unseeded else experiment.settings(config, model, fold)
    known = {"task": experiment.name, "model": model, "fold": fold, "seed": seed, "config": settings}
    return dict(json.loads(json.dumps(known)))


def run_file(folder: Path, experiment: Experiment, model: str, fold: str, seed: int) -> Path:
    """Return where a run is stored."""
    return folder / experiment.name / f"{model}-{fold}-{seed}.json"


def stored(path: Path, known: Run) -> Run | None:
    """Return the run of a file if it is one of these settings; None if it is absent or of others.

    Raises:
        DataError: the file is no stored run.
    """
    if not path.is_file():
        return None
    try:
        found: Run = json.loads(path.read_text(encoding="utf-8"))
        same = all(found[key] == value for key, value in known.items())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} ({error})", "a run stored by 'stunet reproduce'", "remove the file") from error
    return found if same else None


def write(path: Path, text: str) -> None:
    """Write a file whole, its folder made first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def tables(experiment: Experiment, runs: Iterable[Run]) -> str:
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
    lines = [f"# {experiment.title}", "", experiment.notes, "", *_sizes(experiment, runs)]
    for section, rows in numbers.items():
        columns = max((list(cells) for cells in rows.values()), key=len)
        lines += ["", f"## {section}", "", f"| model | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
        for model, cells in rows.items():
            lines.append(f"| {model} | {' | '.join(_cell(cells.get(column, [])) for column in columns)} |")
        if section in experiment.published:
            printed = experiment.published[section]
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


def _motion_sections(fold: str, scores: Mapping[str, Any]) -> Sections:
    by_action = dict(scores["euler error"])
    ordered = {"mean over the actions": by_action.pop("mean"), **dict(sorted(by_action.items()))}
    return {
        action: {f"{round(1000 * frame / RATE)} ms": errors[str(frame)] for frame in HORIZONS if str(frame) in errors}
        for action, errors in ordered.items()
    }


def _trajectory_sections(fold: str, scores: Mapping[str, Any]) -> Sections:
    return {"ADE, metres": {fold: scores["ADE"]}, "FDE, metres": {fold: scores["FDE"]}}


def _traffic_sections(fold: str, scores: Mapping[str, Any]) -> Sections:
    return {
        f"{traffic_model.WEEKS[fold]}, {regime}": {
            f"{error} {horizon}": number
            for error, numbers in scores[regime].items()
            for horizon, number in numbers.items()
        }
        for regime in ("window", "stream")
    }


def _anticipation_sections(fold: str, scores: Mapping[str, Any]) -> Sections:
    columns = {"precision": "precision", "recall": "recall", "time, s": "time", "F1": "f1"}
    columns |= {"false alarms": "false_alarms"}
    return {f"fold {fold}": {column: scores[key] for column, key in columns.items()}}


MOTION = Experiment(
    "srnn-motion",
    "Motion forecasting on CMU motion capture",
    "cmu-mocap.npz",
    motion_model.MODELS,
    ("zero-velocity",),
    (WHOLE,),
    lambda path, config, model, fold, seed, progress: motion_model.run_motion(path, config, model, seed, progress),
    _motion_sections,
    "Euler-angle error (radians; lower is better), 50 frames seen at 25 frames/s. 38 public sequences of 8 actions, "
    "split by sequence. The figures of the S-RNN paper are of Human3.6M and do not compare.",
    {},
)
TRAJECTORIES = Experiment(
    "srnn-trajectories",
    "Pedestrian trajectories on ETH and UCY, one scene left out",
    "eth-ucy.npz",
    trajectories_model.MODELS,
    ("constant-velocity",),
    tuple(SCENES),
    trajectories_model.run_trajectories,
    _trajectory_sections,
    "8 intervals of 0.4 s seen, 12 forecast, one forecast per person; every track that is there for all 20 intervals "
    "is scored. `lstm` is the same model without neighbours.",
    {},
    mean=True,
)
ANTICIPATION = Experiment(
    "srnn-anticipation",
    "Anticipating driver manoeuvres on Brain4Cars",
    "brain4cars.npz",
    anticipation_model.MODELS,
    (),
    tuple(map(str, FOLDS)),
    anticipation_model.run_anticipation,
    _anticipation_sections,
    "Threshold chosen on held-out training recordings, never on the test. The public test files of the two folds share "
    "93 sequences: they are not independent. The published row is over all five original folds, its threshold and "
    "checkpoint chosen on the test sequences.",
    {f"fold {fold}": {"precision": "0.90", "recall": "0.87", "time, s": "3.2"} for fold in FOLDS},
)
ACTIVITY = Experiment(
    "srnn-activity",
    "Human-object activities, GENERATED by a known rule",
    "",
    activity_model.MODELS,
    ("rule",),
    (WHOLE,),
    lambda path, config, model, fold, seed, progress: activity_model.run_activity(config, model, seed, progress),
    lambda fold, scores: {"macro F1": dict(scores)},
    "Nothing here is recorded: the sequences have the structure of CAD-120, which is not at hand. `rule` "
    "knows the rule and what happens now without noise. `lstm` is the same model with every node by itself.",
    {},
)
TRAFFIC = Experiment(
    "srnn-traffic",
    "Traffic on one week: Structural-RNN beside ST-UNet",
    "",
    traffic_model.MODELS,
    (traffic_model.PERSISTENCE,),
    tuple(traffic_model.WEEKS),
    traffic_model.run_traffic,
    _traffic_sections,
    "Errors in mph over observed labels, `window` from zero state over 12 intervals, `stream` with the state carried. "
    "Both models have the same split, seeds and minutes of one CPU core. One week of METR-LA is split 70/10/20 "
    "(protocol A), one week of PeMSD7(M) by days 5/1/1 (protocol B); neither compares with figures of the full sets.",
    {},
    read=traffic_model.read_traffic_config,
    settings=lambda config, model, fold: config.settings(model, fold),
    every=(1, "epoch"),
)
EXPERIMENTS = {one.name: one for one in (MOTION, TRAJECTORIES, ANTICIPATION, ACTIVITY, TRAFFIC)}
